"""Launches, bytes and operations of a step, counted without a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_map

from benchmarks import traffic
from benchmarks.networks import SETTINGS
from benchmarks.reference import reference
from benchmarks.traffic import Cost, Counter
from model import gpu

N, C, D, T, V = 2, 3, 5, 4, 7
FLOAT = 4  # bytes


def count(work, *args) -> dict[str, Cost]:
    """The costs of a function of tensors without data."""
    args = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, args)
    with Counter() as counter:
        work(*args)
    return dict(counter.costs)


def test_a_convolution_reads_its_map_and_weights_and_adds_its_bias_in_a_launch_of_its_own():
    x, weight, bias = torch.zeros(N, C, T, V), torch.zeros(D, C, 1, 1), torch.zeros(D)
    y, flops = N * D * T * V, 2 * N * D * C * T * V
    alone = FLOAT * (x.numel() + weight.numel() + y)
    assert count(torch.conv2d, x, weight) == {"convolutions": Cost(1, alone, flops)}
    assert count(torch.conv2d, x, weight, bias) == {"convolutions": Cost(2, alone + FLOAT * (D + 2 * y), flops)}


@pytest.mark.parametrize(("needs_input", "has_bias", "launches"), [(True, True, 3), (True, False, 2), (False, True, 2)])
def test_the_gradients_of_a_convolution_are_a_launch_each(needs_input, has_bias, launches):
    conv = nn.Conv2d(C, D, 1, bias=has_bias).to("meta")
    y = conv(torch.zeros(N, C, T, V, device="meta", requires_grad=needs_input))
    found = count(y.backward, torch.zeros_like(y))["convolutions"]
    x, y, weight = FLOAT * N * C * T * V, FLOAT * N * D * T * V, FLOAT * C * D
    expected = (y + x + weight) + needs_input * (y + weight + x) + has_bias * (y + FLOAT * D)
    assert (found.launches, found.bytes) == (launches, expected)


def test_views_and_allocations_cost_nothing_and_what_is_repeated_is_read_once():
    x = torch.zeros(N, C)
    assert count(lambda x: x.t().unsqueeze(0).expand(9, -1, -1).detach().view(9, C, N), x) == {}
    assert count(lambda x: torch.empty_like(x), x) == {}
    wide = count(lambda x: x[None].expand(9, -1, -1) + 1, x)
    assert wide == {"pointwise": Cost(1, FLOAT * (N * C + 9 * N * C), 0)}


def test_operations_in_place_read_and_write_and_fills_only_write():
    x = torch.zeros(N, C)
    size = FLOAT * N * C
    assert count(lambda x: x.add_(x), x)["pointwise"].bytes == 3 * size
    assert count(lambda x: x.copy_(x), x)["copies"].bytes == 2 * size
    assert count(lambda x: torch.ones_like(x), x)["pointwise"].bytes == size
    assert count(lambda x: x.zero_(), x)["pointwise"].bytes == size
    assert count(lambda x: torch.add(x, x, out=torch.empty_like(x)), x)["pointwise"].bytes == 3 * size


def test_a_batch_norm_reads_its_input_twice_in_both_directions():
    norm, x = nn.BatchNorm2d(C).to("meta"), torch.zeros(N, C, 16, 16, device="meta", requires_grad=True)
    size = FLOAT * x.numel()
    with Counter() as counter:
        y = norm(x)
    assert counter.costs["norms"].launches == 2 and counter.costs["norms"].bytes // size == 3
    assert count(y.backward, torch.zeros_like(y))["norms"].bytes // size == 5


def test_the_step_of_ctrgcn_moves_about_half_the_bytes_of_the_literal_equations():
    setting = SETTINGS["CTR-GCN"]
    found = {}
    for side in ("reference", "project"):
        model = setting.build(torch.device("cpu"))
        model = reference(model) if side == "reference" else model
        found[side] = traffic.total(traffic.training_step(model, *setting.clips(64, traffic.META)).values())
    literal, ours = found["reference"], found["project"]
    assert literal.bytes == pytest.approx(139.0e9, rel=0.01) and literal.launches == pytest.approx(2300, rel=0.03)
    assert ours.bytes <= 73e9 and ours.launches <= 1450 and ours.flops <= 710e9


def test_a_step_in_bfloat16_has_the_same_launches_and_moves_half_the_bytes():
    setting = SETTINGS["CTR-GCN, NW-UCLA"]
    single, half = (
        traffic.total(
            traffic.training_step(setting.build(torch.device("cpu")).to(dtype), data.to(dtype), label).values()
        )
        for dtype in (torch.float32, torch.bfloat16)
        for data, label in [setting.clips(16, traffic.META)]
    )
    assert half.launches - single.launches in (0, 1) and half.bytes == pytest.approx(single.bytes / 2, rel=0.02)
    assert half.flops == single.flops


@pytest.mark.skipif(not gpu.can_load_block(), reason="triton is not installed, or too old")
def test_triton_kernels_read_their_inputs_and_write_their_results_without_topologies():
    from model.kernels import products

    R, K = 6, 2
    weight, psi, phi, A = (torch.zeros(shape) for shape in ((K, C, R + 2), (N, K, R, V), (N, K, R, V), (K, V, V)))
    maps, bias, Z = torch.zeros(N, T, V, K, C), torch.zeros(K, C), torch.zeros(N, T, V, C)
    given = weight, psi, phi, A, maps, bias
    inputs = sum(x.numel() for x in given)
    topologies, sums = 2 * N * K * C * (R + 2) * V * V, 2 * N * K * C * V * V * T
    forward = count(products.refined_products, *given)
    assert forward == {"triton": Cost(1, FLOAT * (inputs + Z.numel()), topologies + sums)}
    backward = count(products.gradients, *given, Z)["triton"]
    both = weight.numel() + psi.numel() + phi.numel() + Z.numel()  # read by both kernels
    partial = N * (weight.numel() + psi.numel() // N)  # one tile of at most 8 joints, written and read
    assert backward == Cost(6, FLOAT * (2 * inputs + Z.numel() + both + 2 * partial), 3 * topologies + 2 * sums)
    assert products.TARGETS == traffic.TARGETS


@pytest.mark.skipif(not gpu.can_load_block(), reason="triton is not installed, or too old")
def test_kernels_of_norms_read_each_map_once_and_launch_once_for_each_map_and_each_combination_of_sums():
    from model.kernels import norms

    xs, wide, vector, statistics = [torch.zeros(9, 2), torch.zeros(9, 3)], *(torch.zeros(n, 5) for n in (9, 1, 3))
    L, C = wide.shape
    found = [
        count(norms.statistics, xs, 1e-5),
        count(norms.relu_of_norms, xs, [statistics, vector[0], vector[0]], wide, []),
        count(norms.masked_gradient, wide, wide, xs, statistics, None, None),
        count(norms.norm_gradient, wide, xs, statistics, vector[0], vector[0], vector[0]),
        count(norms.sum_of_gradients, [wide, wide, wide], torch.zeros(1, 3, C)),
    ]
    maps, vectors = (1, 3, 4, 3, 4), (3, 5, 3 + 2, 3 + 3, 3)
    launches = (3, 2, 3, 2, 1)
    assert found == [
        {"triton": Cost(n, FLOAT * (m * L * C + v * C))} for n, m, v in zip(launches, maps, vectors, strict=True)
    ]


def test_convolutions_keep_the_memory_format_of_their_input():
    x = torch.zeros(2, 3, 4, 5, device="meta").contiguous(memory_format=torch.channels_last).requires_grad_()
    with traffic.Counter():
        y = F.conv2d(x, torch.zeros(6, 3, 1, 1, device="meta"))
        y.sum().backward()
    assert traffic.is_channels_last(y) and traffic.is_channels_last(x.grad)
    with traffic.Counter():
        assert F.conv2d(x.detach().contiguous(), torch.zeros(6, 3, 1, 1, device="meta")).is_contiguous()


def test_launches_do_not_depend_on_the_batch_and_bytes_grow_with_it():
    setting = SETTINGS["CTR-GCN, NW-UCLA"]
    one, two = (
        traffic.total(
            traffic.training_step(setting.build(torch.device("cpu")), *setting.clips(n, traffic.META)).values()
        )
        for n in (16, 32)
    )
    assert one.launches == two.launches and 1.9 < two.bytes / one.bytes < 2 and 1.95 < two.flops / one.flops <= 2


def test_the_slower_of_memory_and_arithmetic_counts_for_each_kind_and_the_host_for_each_launch():
    args = traffic.build_parser().parse_args("--bandwidth 2 --launch 5 --convolutions 10 --products 1".split())
    bound_by_memory = {"convolutions": Cost(3, int(1.4e12), int(1e12))}  # 1.4 TB at 70 % of 2 TB/s
    assert traffic.predict(bound_by_memory, args) == pytest.approx((1.0, 15e-6))
    both = bound_by_memory | {"products": Cost(1, 1, int(3e12)), "sums": Cost(1, int(1.6e12), 0)}
    assert traffic.predict(both, args) == pytest.approx((1.0 + 3.0 + 1.0, 25e-6))


def test_the_program_prints_both_sides_and_refuses_unknown_names(capsys):
    assert traffic.main(["--only", "CTR-GCN, NW-UCLA", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    assert "CTR-GCN, NW-UCLA, reference, 2 clips of 52 frames" in out and "this project, 2 clips" in out
    assert out.count("\ntotal ") == 2 and out.count("predicted: GPU") == 2
    assert traffic.main(["--only", "CTR"]) == 2 and "unknown network CTR" in capsys.readouterr().err
    assert traffic.main(["--bandwidth", "0"]) == 2
    assert "--bandwidth: expected a number above 0, got 0.0" in capsys.readouterr().err

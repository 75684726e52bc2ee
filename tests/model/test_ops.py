"""The kernels of the graph convolutions compute the equations in their docstrings, in the promised memory layout."""

import copy

import pytest
import torch
from torch import nn

from model import blocks, norms, ops
from tests.model.zoo import NETWORKS, build, clip


def channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


def random_map(N=2, C=6, T=5, V=7):
    return torch.randn(N, C, T, V).double().to(memory_format=torch.channels_last).requires_grad_()


def convs(K, C_in=6, C_out=4):
    return [nn.Conv2d(C_in, C_out, 1).double() for _ in range(K)]


@pytest.mark.parametrize("rows", [1, 2])
def test_aggregation_takes_rows_as_sources_and_columns_as_targets(rows):
    x, A = random_map(), torch.randn(rows, 3, 7, 7).double()
    expected = torch.einsum("nctv,nkvw->nkctw", x, A.expand(2, -1, -1, -1)).flatten(1, 2)
    assert torch.allclose(ops.aggregate(x, A), expected)


def test_aggregation_can_lead_to_another_number_of_joints():
    x, A = random_map(), torch.randn(1, 3, 7, 4).double()
    assert torch.allclose(ops.aggregate(x, A), torch.einsum("nctv,kvw->nkctw", x, A[0]).flatten(1, 2))


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize(("G", "H", "K"), [(2, 2, 1), (2, 2, 3), (2, 6, 1)])
def test_heads_are_convolved_in_groups_and_mixed_with_their_own_topologies(clips, G, H, K):
    x, conv = random_map(C=8), nn.Conv2d(8, 24, 1, groups=G, bias=False).double()
    A = torch.randn(clips, H, 4, K, 7).double()
    z = ops.conv_heads(x, conv.weight, G)
    assert z.shape == (G, 2, 5, 7, 24 // G)
    assert torch.allclose(z.permute(1, 0, 4, 2, 3).flatten(1, 2), conv(x))
    expected = torch.einsum("nhukv,nhkctv->nhctu", A.expand(2, -1, -1, -1, -1), conv(x).unflatten(1, (H, K, -1)))
    y = ops.mix_heads(z, A)
    assert torch.allclose(y, expected.flatten(1, 2)) and channels_last(y)
    y.square().sum().backward()
    assert channels_last(x.grad)


def test_norms_side_by_side_are_those_of_their_channels_statistics_included():
    together, alone = ([nn.BatchNorm2d(3).double(), nn.BatchNorm2d(2).double()] for _ in range(2))
    x = random_map(C=5)
    expected = torch.cat([norm(part) for norm, part in zip(alone, x.split([3, 2], 1), strict=True)], 1)
    assert torch.allclose(norms.norm_each(x, together), expected)
    for a, b in zip(together, alone, strict=True):
        assert all(torch.allclose(v, b.state_dict()[key]) for key, v in a.state_dict().items())
        a.eval(), b.eval()
    expected = torch.cat([norm(part) for norm, part in zip(alone, x.split([3, 2], 1), strict=True)], 1)
    assert torch.allclose(norms.norm_each(x, together), expected)
    assert norms.norm_each(x, [nn.Identity(), nn.Identity()]) is x


@pytest.mark.parametrize("pointwise", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_bias_before_a_norm_is_added_in_evaluation_and_only_shifts_the_running_mean_in_training(pointwise, frozen):
    pairs = [(conv, nn.BatchNorm2d(4).double()) for conv in convs(2 if pointwise else 1)]
    pairs[0][0].bias.requires_grad_(not frozen)
    alone, x = copy.deepcopy(pairs), random_map()

    def together():
        return norms.pointwise_norm(x, *zip(*pairs, strict=True)) if pointwise else norms.conv_norm(x, *pairs[0])

    for _ in range(2):
        found, expected = together(), torch.cat([norm(conv(x)) for conv, norm in alone], 1)
        assert torch.allclose(found, expected)
    found.square().sum().backward()
    assert frozen == (pairs[0][0].bias.grad is None) and all(not c.bias.grad.any() for c, _ in pairs[frozen:])
    for (_, found), (_, expected) in zip(pairs, alone, strict=True):
        assert all(torch.allclose(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    for _, norm in (*pairs, *alone):
        norm.eval()
    found, expected = together(), torch.cat([norm(conv(x)) for conv, norm in alone], 1)
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert all(c.bias.grad.any() for c, _ in pairs[frozen:])


def test_mixing_joints_takes_rows_as_targets():
    x, A = random_map(), torch.randn(4, 7).double()
    assert torch.allclose(ops.mix_joints(x, A), torch.einsum("wv,nctv->nctw", A, x))


def test_convolutions_after_the_aggregation_are_summed_over_the_subsets():
    x, A, W = random_map(), torch.randn(2, 3, 7, 7).double(), convs(3)
    expected = sum(conv(torch.einsum("nctv,nvw->nctw", x, A[:, k])) for k, conv in enumerate(W))
    assert torch.allclose(ops.aggregate_then_conv(x, A, W), expected)


def test_a_convolution_before_the_aggregation_is_computed_after_it():
    x, A, conv = random_map(), torch.randn(3, 7, 7).double(), nn.Conv2d(6, 3 * 4, 1).double()
    expected = torch.einsum("nkctv,kvw->nctw", conv(x).unflatten(1, (3, -1)), A)
    assert torch.allclose(ops.conv_then_aggregate(x, conv, A), expected)


def test_affinities_are_means_over_channels_and_frames():
    x, theta, phi = random_map(), convs(3), convs(3)
    expected = [torch.einsum("nrtv,nrtw->nvw", a(x), b(x)) / 20 for a, b in zip(theta, phi, strict=True)]
    assert torch.allclose(ops.affinity(x, theta, phi), torch.stack(expected, dim=1))


def test_affinities_in_float16_do_not_overflow_in_a_sum_over_many_frames():
    theta, phi = ([nn.Conv2d(1, 16, 1).half()] for _ in range(2))
    for conv in (*theta, *phi):
        nn.init.constant_(conv.weight, 5)
        nn.init.zeros_(conv.bias)
    E = ops.affinity(torch.ones(1, 1, 300, 2).half(), theta, phi)  # a sum of 4800 times 25, above the largest float16
    assert torch.allclose(E.float(), torch.tensor(25.0), rtol=0.01)


@pytest.mark.parametrize("compiling", [False, True])
def test_products_with_refined_topologies_are_the_equation_and_so_are_all_gradients(compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    x, A, alpha, M = random_map(), torch.randn(3, 7, 7), torch.tensor([0.7]), torch.randn(2, 3, 3, 7, 7)
    xi, T = convs(3, 3), convs(3)
    A, alpha, M = (value.double().requires_grad_() for value in (A, alpha, M))
    matrices, mean = ops.matrices_and_mean(x)
    found = ops.refined_products(A, alpha, xi, M, ops.conv_subsets(matrices, T))
    R = [A[k] + alpha * conv(M[:, k]).transpose(2, 3) for k, conv in enumerate(xi)]
    expected = sum(torch.einsum("ncij,nctj->ncit", R_k, conv(x)) for R_k, conv in zip(R, T, strict=True))
    assert torch.allclose(found, expected) and torch.allclose(mean, x.mean(2))
    leaves = [A, alpha, M, x, *(p for conv in (*xi, *T) for p in conv.parameters())]
    weight = torch.randn_like(expected)
    sums = [(Z * weight).sum() + mean.square().sum() for Z, mean in ((found, mean), (expected, x.mean(2)))]
    gradients = [torch.autograd.grad(total, leaves) for total in sums]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    assert compiling or channels_last(gradients[0][3])


def test_an_alpha_of_zero_leaves_the_shared_topology():
    A, M, T = torch.randn(2, 7, 7), torch.randn(2, 2, 3, 7, 7), torch.randn(2, 4, 2, 7, 5)
    found = ops.refined_products(A, torch.zeros(1), [nn.Conv2d(3, 4, 1) for _ in A], M, T)
    assert torch.allclose(found, torch.einsum("kij,nckjt->ncit", A, T), atol=1e-5)


@pytest.mark.parametrize("C", [3, 8])
def test_matrices_have_channels_of_ones_behind_them_up_to_a_multiple_of_eight(C):
    x = random_map(C=C)
    y, _ = ops.matrices_and_mean(x)
    assert y.shape[1] % 8 == 0 and y.shape[1] > C and y.is_contiguous()
    assert torch.equal(y[:, :C], x.transpose(2, 3)) and (y[:, C:] == 1).all()


@pytest.mark.parametrize("width", [3, 6, 8])
def test_padded_attention_is_the_equation_and_so_are_its_gradients(width):
    given = [torch.randn(2, 4, 5, width).double() for _ in range(3)] + [torch.randn(4, 5, 5).double()]
    found, expected = ([x.clone().requires_grad_() for x in given] for _ in range(2))
    y = ops.padded_attention(*found, 0.3, 0.0)
    q, k, v, bias = expected
    z = (0.3 * q @ k.transpose(2, 3) + bias).softmax(3) @ v
    factor = torch.randn_like(z)
    (y * factor).sum().backward()
    (z * factor).sum().backward()
    torch.testing.assert_close(y, z)
    for x, other in zip(found, expected, strict=True):
        torch.testing.assert_close(x.grad, other.grad)


def test_transposed_matrices_are_a_view_whose_gradient_is_matrices():
    y = torch.randn(2, 3, 7, 5).double().requires_grad_()
    weight = random_map(C=3).detach()
    assert ops.transposed(y).data_ptr() == y.data_ptr()
    (ops.transposed(y) * weight).sum().backward()
    assert torch.equal(y.grad, weight.transpose(2, 3)) and y.grad.is_contiguous()


def test_matrices_and_back_give_the_same_map_and_the_same_gradient():
    x = random_map()
    matrices = ops.to_matrices(x)
    assert torch.equal(matrices[1, 2], x[1, 2].t()) and matrices.is_contiguous()
    y = ops.from_matrices(matrices)
    assert torch.equal(y, x) and channels_last(y)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight) and channels_last(x.grad)


def test_concatenated_maps_each_get_their_part_of_the_gradient():
    maps = [random_map(C=C) for C in (2, 3)]
    weight = torch.randn(2, 5, 5, 7).double()
    (ops.concat_channels(*maps) * weight).sum().backward()
    assert torch.equal(torch.cat([x.grad for x in maps], dim=1), weight)
    assert all(channels_last(x.grad) for x in maps)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "make",
    [lambda s: blocks.MultiScaleTemporalConv(12, 12, 5, s, (1, 2)), lambda s: blocks.MultiBranchTemporalConv(12, s)],
)
def test_branches_that_share_their_first_convolution_equal_branches_run_one_by_one(make, stride):
    branches = make(stride).double().branches
    x = random_map(C=12)
    together, alone = blocks.run_branches(x, branches), torch.cat([branch(x) for branch in branches], dim=1)
    assert torch.allclose(together, alone)
    weight = torch.randn_like(alone)
    gradients = [torch.autograd.grad((y * weight).sum(), [x, *branches.parameters()]) for y in (together, alone)]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_and_their_gradients_keep_the_channels_last_through_the_whole_network(name):
    model, lost = build(name).train(), []

    def look(key):
        def hook(module, args, output):
            lost.extend([f"{key}: input"] * (not channels_last(args[0])))
            output.register_hook(lambda grad: lost.extend([f"{key}: gradient"] * (not channels_last(grad))))

        return hook

    for key, module in model.named_modules():
        matrices = name == "ctrgcn" and key.endswith("gcn1.bn")  # this map has one matrix per channel
        if isinstance(module, nn.BatchNorm2d | nn.MaxPool2d) and not matrices:
            module.register_forward_hook(look(key))
    model(clip(name)).sum().backward()
    assert not lost


@pytest.mark.parametrize("channels", [3, 12, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_strided_convolution_equals_a_plain_one_in_training_and_evaluation(channels, stride):
    conv, x = blocks.StridedConv(channels, 4, stride), random_map(2, channels, 53, 20).detach().float()
    plain = nn.Conv2d(channels, 4, 1, (stride, 1)).double()
    plain.load_state_dict(conv.state_dict())
    for training in (True, False):
        mine, theirs = x.clone().requires_grad_(training), x.double().requires_grad_(training)
        conv.train(training).requires_grad_(training)
        y, expected = conv(mine), plain(theirs)
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)
        if training:
            y.square().sum().backward()
            expected.square().sum().backward()
            torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)
            for name, parameter in conv.named_parameters():
                torch.testing.assert_close(
                    parameter.grad.double(), plain.get_parameter(name).grad, rtol=1e-4, atol=1e-3
                )

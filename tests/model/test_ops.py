"""The kernels of the graph convolutions compute the equations in their docstrings, in the promised memory layout."""

import pytest
import torch
from torch import nn

from model import blocks, ops
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
    assert torch.allclose(blocks.norm_each(x, together), expected)
    for a, b in zip(together, alone, strict=True):
        assert all(torch.allclose(v, b.state_dict()[key]) for key, v in a.state_dict().items())
        a.eval(), b.eval()
    expected = torch.cat([norm(part) for norm, part in zip(alone, x.split([3, 2], 1), strict=True)], 1)
    assert torch.allclose(blocks.norm_each(x, together), expected)
    assert blocks.norm_each(x, [nn.Identity(), nn.Identity()]) is x


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


def test_refined_topologies_are_the_shared_one_plus_alpha_times_the_correlations():
    A, alpha, M, xi = (
        torch.randn(7, 7).double(),
        torch.tensor([0.7]).double(),
        torch.randn(2, 3, 7, 7).double(),
        convs(1, 3)[0],
    )
    assert torch.allclose(ops.refine(A, alpha, xi, M), A + 0.7 * xi(M))
    assert torch.equal(ops.refine(A, 0 * alpha, xi, M), A.expand(2, 4, -1, -1))


def test_products_of_every_channel_are_added_up():
    R, x = torch.randn(2, 3, 7, 7).double(), torch.randn(2, 3, 7, 5).double()
    expected = torch.einsum("ncuv,ncvt->ncut", R, x)
    assert torch.allclose(ops.sum_of_products([R], [x]), expected)
    assert torch.allclose(ops.sum_of_products([R, 2 * R], [x, x]), 3 * expected)


def test_matrices_and_back_are_the_same_map_and_the_same_gradient():
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
    together, alone = ops.run_branches(x, branches), torch.cat([branch(x) for branch in branches], dim=1)
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
        if isinstance(module, nn.BatchNorm2d | nn.MaxPool2d):
            module.register_forward_hook(look(key))
    model(clip(name)).sum().backward()
    assert not lost

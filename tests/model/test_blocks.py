"""The shared vocabulary: products over joints, branches, and the order of maps in memory."""

import pytest
import torch
from torch import nn

from model import blocks, products
from tests.model.test_networks import clip
from tests.model.zoo import NETWORKS, build


def channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


def random_map(N=2, C=6, T=5, V=7):
    return torch.randn(N, C, T, V).double().to(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("rows", [1, 2])
def test_gathering_takes_rows_as_sources_and_columns_as_targets(rows):
    x, A = random_map(), torch.randn(rows, 3, 7, 7).double()
    expected = torch.einsum("nctv,nkvw->nkctw", x, A.expand(2, -1, -1, -1)).flatten(1, 2)
    assert torch.allclose(products.gather(x, A), expected)


def test_gathering_may_lead_to_another_number_of_joints():
    x, A = random_map(), torch.randn(1, 3, 7, 4).double()
    assert torch.allclose(products.gather(x, A), torch.einsum("nctv,kvw->nkctw", x, A[0]).flatten(1, 2))


def test_spreading_after_the_convolution_equals_gathering_before_it():
    x, A, conv = random_map(), torch.randn(3, 7, 7).double(), nn.Conv2d(6, 3 * 4, 1).double()
    expected = torch.einsum("nkctv,kvw->nctw", conv(x).unflatten(1, (3, -1)), A)
    assert torch.allclose(products.spread(x, A, conv), expected)


def test_affinities_are_means_over_channels_and_frames():
    x = random_map()
    conv_a, conv_b = ([nn.Conv2d(6, 4, 1).double() for _ in range(3)] for _ in range(2))
    expected = torch.stack([torch.einsum("nrtv,nrtw->nvw", a(x), b(x)) / 20 for a, b in zip(conv_a, conv_b, strict=True)], dim=1)
    assert torch.allclose(products.affinity(x, conv_a, conv_b), expected)


def test_time_last_and_back_is_the_same_map_and_the_same_gradient():
    x = random_map()
    matrices = products.TimeLast.apply(x)
    assert torch.equal(matrices[8], x[1, 2].t())
    y = products.from_time_last(matrices, 2)
    assert torch.equal(y, x) and channels_last(y)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight) and channels_last(x.grad)


def test_maps_side_by_side_each_get_their_part_of_the_gradient():
    maps = [random_map(C=C) for C in (2, 3)]
    weight = torch.randn(2, 5, 5, 7).double()
    (products.SideBySide.apply(*maps) * weight).sum().backward()
    assert torch.equal(torch.cat([x.grad for x in maps], dim=1), weight)
    assert all(channels_last(x.grad) for x in maps)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "make", [lambda s: blocks.MultiScaleTemporalConv(12, 12, 5, s, (1, 2)), lambda s: blocks.MultiScaleTemporalUnit(12, s)]
)
def test_branches_that_share_their_first_convolution_equal_branches_run_by_themselves(make, stride):
    branches = make(stride).double().branches
    x = random_map(C=12)
    together, alone = products.run_branches(x, branches), torch.cat([branch(x) for branch in branches], dim=1)
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

"""The two-stream network of ST-GCN and the five networks of Multi-Branch ST-GCN."""

import pytest
import torch

from model import mbstgcn
from model.stgcn import Model as STGCN
from model.stgcn import TwoStream, motion
from tests.model.golden import fill_model
from tests.model.zoo import build

ARGS = (60, 25, 2, "graph.ntu_rgb_d.Graph", {"labeling_mode": "stgcn_spatial"})
KINDS = {"st_gcn": ("se", "bn"), "mix": ("se", "bn"), "se": ("se",), "gaosi": (), "4branch": ("se", "bn")}
VARIANTS = list(KINDS)


def network(variant: str) -> torch.nn.Module:
    return build("mbstgcn", "kinetics", variant=variant)


def test_the_two_streams_are_added():
    model = fill_model(TwoStream(*ARGS))
    assert sum(p.numel() for p in model.parameters()) == 6197664
    assert {key.split(".")[0] for key in model.state_dict()} == {"origin_stream", "motion_stream"}
    data = torch.randn(2, 3, 20, 25, 2).double()
    with torch.no_grad():
        expected = model.origin_stream(data) + model.motion_stream(motion(data))
        assert torch.allclose(model(data), expected, rtol=1e-12)
        assert model.features(data).shape == (2, 512, 5, 25, 2)


@pytest.mark.parametrize("T", [1, 2, 3, 6])
def test_the_motion_is_half_a_second_difference_and_0_at_both_ends(T):
    x = torch.randn(1, 3, T, 4, 2)
    m = motion(x)
    for t in range(T):
        expected = x[:, :, t] - (x[:, :, t - 1] + x[:, :, t + 1]) / 2 if 0 < t < T - 1 else torch.zeros(1, 3, 4, 2)
        torch.testing.assert_close(m[:, :, t], expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_named_parameters_of_a_variant_get_no_gradient(variant):
    model = fill_model(network(variant)).train()
    model(torch.randn(2, 3, 12, 18, 2).double()).square().sum().backward()
    dead = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert dead == {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    parts = {tuple(key.split(".")[1:3]) for key in dead}
    others = {
        (str(i), f"{kind}{w}")
        for i, width in enumerate(mbstgcn.WIDTHS)
        for w in (64, 128, 256)
        if w != width
        for kind in KINDS[variant]
    }
    assert parts == others | ({(str(i), "tcn") for i in range(10)} if variant == "st_gcn" else set())
    if variant == "st_gcn":
        assert sum(p.numel() for key, p in model.named_parameters() if key in dead) == 2447232


def test_the_noise_is_added_to_the_topology_before_the_mask():
    model = fill_model(network("gaosi"))
    plain = fill_model(build("stgcn", "kinetics"))
    own = {k: v for k, v in model.state_dict().items() if k not in ("noise_matrix", "study_variable.0")}
    plain.load_state_dict(own)
    plain.A.copy_(model.A + model.study_variable[0].detach() * model.noise_matrix)
    data = torch.randn(2, 3, 12, 18, 2).double()
    with torch.no_grad():
        assert torch.allclose(model(data), plain(data), rtol=1e-12)


@pytest.mark.parametrize(("variant", "mean"), [("st_gcn", 0.05), ("mix", 0.03)])
def test_the_noise_is_the_topology_plus_random_numbers_of_the_published_distribution(variant, mean):
    noise = torch.cat([(model := network(variant)).noise_matrix - model.A for _ in range(20)])
    assert abs(float(noise.mean()) - mean) < 0.01 and abs(float(noise.std()) - 0.2) < 0.01
    assert "noise_matrix" in model.state_dict()


def test_the_first_block_has_no_residual_even_if_the_data_has_its_width():
    wide = (STGCN(*ARGS, in_channels=64), mbstgcn.Model(*ARGS, in_channels=64))
    assert all(model.st_gcn_networks[0].residual is None for model in wide)


def test_the_keys_are_those_of_the_fork():
    keys = set(network("st_gcn").state_dict())
    for key in (
        "A",
        "noise_matrix",
        "study_variable.0",
        "edge_importance.9",
        "st_gcn_networks.0.se256.fc.2.weight",
        "st_gcn_networks.9.bn64.running_mean",
        "st_gcn_networks.4.tcn.2.weight",
        "st_gcn_networks.4.residual.1.weight",
        "st_gcn_networks.4.mstcn.branches.3.3.conv.bias",
        "st_gcn_networks.4.mstcn.branches.3.3.bn.weight",
        "st_gcn_networks.4.mstcn.branches.5.weight",
        "st_gcn_networks.4.mstcn.transform.2.weight",
        "st_gcn_networks.4.mstcn.bn.weight",
    ):
        assert key in keys
    four = set(network("4branch").state_dict())
    assert {
        "st_gcn_networks.3.split.weight",
        "st_gcn_networks.3.tcn4.2.weight",
        "st_gcn_networks.3.conact.weight",
    } <= four
    assert "st_gcn_networks.3.conact.bias" not in four


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant: expected st_gcn, mix, gaosi, 4branch or se, got 'both'"):
        network("both")

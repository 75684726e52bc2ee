"""Properties of single networks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import blocks
from model.blocks import DropPath
from model.tsgcnext import ChannelNorm
from tests.model.golden import fill_model
from tests.model.zoo import build

GRAPHS = Path(__file__).parents[1] / "graph" / "golden" / "graphs.npz"


def test_stgcn_drops_values_in_all_blocks_but_the_first():
    rates = [block.tcn[4].p for block in build("stgcn", dropout=0.5).st_gcn_networks]
    assert rates == [0] + [0.5] * 9


@pytest.mark.parametrize("name", ["ctrgcn", "tsgcnext"])
def test_data_of_one_person_can_have_joints_and_channels_on_one_axis(name):
    model = build(name, "ucla", num_person=1).eval()
    data = torch.randn(2, 3, 20, 20, 1)
    with torch.no_grad():
        assert torch.equal(model(data[..., 0].permute(0, 2, 3, 1).reshape(2, 20, 60)), model(data))
    with pytest.raises(ValueError, match=r"V = 20 \(num_point\), got \(2, 20, 59\)"):
        model(torch.zeros(2, 20, 59))


def test_joints_and_channels_of_two_persons_on_one_axis_are_refused():
    with pytest.raises(ValueError, match="M = 1"):
        build("ctrgcn")(torch.zeros(2, 20, 75))


@pytest.mark.parametrize("name", ["ctrgcn", "aagcn", "baseline"])
def test_a_graph_that_is_not_adaptive_is_not_a_parameter_and_not_saved(name):
    model = build(name, adaptive=False)
    assert not any("PA" in key for key in model.state_dict())
    assert model(torch.randn(2, 3, 8, 25, 2)).isfinite().all()


@pytest.mark.parametrize("name", ["ctrgcn", "aagcn", "stgcnpp"])
@pytest.mark.parametrize("channels", [[], [64, 32], [4], [64.0]])
def test_impossible_widths_are_refused(name, channels):
    with pytest.raises(ValueError, match="channels: expected non-decreasing integer widths >= 8"):
        build(name, channels=channels)


def test_branches_that_cannot_share_the_width_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        build("ctrgcn", channels=[30])


def test_the_stride_is_two_where_the_width_grows():
    assert list(blocks.block_table([64, 64, 128], 3)) == [(3, 64, 1), (64, 64, 1), (64, 128, 2)]


def test_ctrgcn_adjacency_has_rows_as_targets_so_that_the_root_sums_its_children():
    assert build("ctrgcn").l2.gcn1.PA[1, 20].sum() == 4


def test_ctrgcn_graph_convolution_is_the_equation_of_the_paper():
    gcn = fill_model(build("ctrgcn")).l2.gcn1
    x = torch.randn(2, 64, 4, 25).double()
    Z = 0
    for A, s in zip(gcn.PA, gcn.convs, strict=True):
        psi, phi = s.conv1(x).mean(2), s.conv2(x).mean(2)
        Q = s.conv4(torch.tanh(psi[..., None] - phi[:, :, None]))
        Z = Z + torch.einsum("ncij,nctj->ncti", A + gcn.alpha * Q, s.conv3(x))
    with torch.no_grad():
        assert torch.allclose(gcn(x), torch.relu(gcn.bn(Z) + x))


def test_baseline_columns_have_nearly_unit_length():
    gcn = build("baseline").l1.gcn1
    with torch.no_grad():
        gcn.PA[:, 7, 3] = 2.0
    assert gcn.topology()[0, 7, 3].item() == pytest.approx(2 / (5**0.5 + 1e-4))
    assert torch.allclose(gcn.topology().norm(dim=1), torch.ones(3, 25), rtol=1e-3)


def test_dgstgcn_blocks_start_from_one_random_draw_that_follows_from_the_seed():
    layers = build("dgstgcn").backbone["gcn"]
    torch.manual_seed(0)
    again = build("dgstgcn").backbone["gcn"]
    assert all(torch.equal(block.gcn.A, again[0].gcn.A) for block in layers)
    assert layers[0].gcn.A.shape == (8, 25, 25)


def test_dgstgcn_graphs_have_affinities_whose_sources_sum_to_one():
    gcn = build("dgstgcn").backbone["gcn"][1].gcn
    with torch.no_grad():
        gcn.A.zero_()
        gcn.beta[0] = 1
        topology = gcn.topology(torch.randn(2, 64, 4, 25))
    assert topology.shape == (2, 8, 8, 25, 25)
    assert torch.allclose(topology.sum(-2), torch.ones(2, 8, 8, 25))


@pytest.mark.parametrize(("body", "length"), [("coco", 25), ("ntu_rgb_d", 25)])
def test_dgstgcn_has_25_coefficients_of_the_mean_joint_for_every_smaller_body(body, length):
    assert all(block.tcn.add_coeff.shape == (length,) for block in build("dgstgcn", body).backbone["gcn"])


@pytest.mark.parametrize("num_filter", [0, 65])
def test_dgstgcn_refuses_an_impossible_number_of_groups(num_filter):
    with pytest.raises(ValueError, match=f"num_filter: expected 1 to 64, the first width, got {num_filter}"):
        build("dgstgcn", num_filter=num_filter)


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    x = torch.ones(20000, 1, 1, 2)
    y = DropPath(0.25).train()(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(y[..., 0], y[..., 1])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(DropPath(0.25).eval()(x), x)


def test_tsgcnext_drop_paths_rise_evenly_and_widths_double_at_the_end_of_a_stage():
    model = build("tsgcnext", drop_out=0.4, depths=[4, 3, 2])
    layers = [model.get_submodule(f"l{i}") for i in range(2, 11)]
    assert [layer.drop_path.rate for layer in layers] == pytest.approx([0.05 * i for i in range(9)])
    assert [layer.norm.normalized_shape[0] for layer in layers] == [96] * 4 + [192] * 3 + [384] * 2


def test_tsgcnext_mixes_three_of_four_hidden_channels():
    block = build("tsgcnext").l2.double()
    u = torch.randn(2, 96, 3, 25).double()
    h = block.pwconv1(u.permute(0, 2, 3, 1)).unflatten(-1, (96, 4))
    mixed = torch.stack([*(torch.einsum("uk,ntkc->ntuc", block.PA[i], h[..., i]) for i in range(3)), h[..., 3]], dim=-1)
    expected = block.pwconv2(torch.nn.functional.gelu(mixed.flatten(-2))).permute(0, 3, 1, 2)
    assert torch.allclose(block.mix(u), expected)


def test_channel_norm_makes_every_joint_and_frame_a_unit_row():
    y = ChannelNorm(6)(5 + 3 * torch.randn(2, 6, 5, 7))
    assert torch.allclose(y.mean(1), torch.zeros(2, 5, 7), atol=1e-6)
    assert torch.allclose(y.var(1, correction=0), torch.ones(2, 5, 7), atol=1e-5)


def test_tsgcnext_with_two_channels_leaves_out_the_third():
    model = build("tsgcnext", "coco", in_channels=2).eval()
    data = torch.randn(1, 3, 16, 17, 2)
    with torch.no_grad():
        assert torch.equal(model(data), model(data[:, :2]))


@pytest.mark.parametrize(("unify", "body"), [("coco", "coco"), ("ntu", "ntu_rgb_d")])
def test_tsgcnext_unify_selects_rows_and_columns_of_the_common_joints(unify, body):
    model = build("tsgcnext", body, num_point=13, unify=unify).eval()
    with np.load(GRAPHS) as graphs:
        assert np.array_equal(
            model.l2.PA.detach().numpy(), graphs[f"tsgcnext/unify13/{unify}/spatial"].astype(np.float32)
        )
    assert model(torch.zeros(1, 3, 16, 13, 2)).shape == (1, 5)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"unify": "coco"}, "num_point"),
        ({"unify": "hand", "num_point": 13}, "unify"),
        ({"depths": []}, "depths"),
        ({"depths": [2, 0, 2]}, "depths"),
        ({"drop_out": 1.0}, "drop_out"),
        ({"graph_args": {"labeling_mode": "distance"}}, "3 subsets, got 2; set labeling_mode"),
    ],
)
def test_tsgcnext_refuses_impossible_arguments(changed, word):
    with pytest.raises(ValueError, match=word):
        build("tsgcnext", "coco", **changed)


def test_fewer_stages_of_tsgcnext_need_fewer_frames():
    assert build("tsgcnext", depths=[1, 1], base_channels=32).eval()(torch.zeros(1, 3, 8, 25, 2)).shape == (1, 5)


@pytest.mark.parametrize("mode", ["spatial", "uniform"])
def test_msg3d_refuses_any_but_the_binary_graph(mode):
    with pytest.raises(ValueError, match="set labeling_mode to binary"):
        build("msg3d", graph_args={"labeling_mode": mode})

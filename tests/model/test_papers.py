"""What one paper has and the others have not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model import blocks, products
from model.tsgcnext import ChannelNorm, DropPath
from tests.model.golden import fill_model
from tests.model.zoo import build

GRAPHS = Path(__file__).parents[1] / "graph" / "golden" / "graphs.npz"


def test_stgcn_scores_every_joint_and_frame_and_their_mean_is_the_logits():
    model = fill_model(build("stgcn"))
    data = torch.randn(2, 3, 9, 25, 2).double()
    with torch.no_grad():
        output, feature = model.extract_feature(data)
        assert output.shape == (2, 5, 3, 25, 2)
        assert feature.shape == (2, 256, 3, 25, 2)
        assert torch.allclose(output.mean((2, 3, 4)), model(data))


def test_stgcn_drops_values_in_all_blocks_but_the_first():
    rates = [block.tcn[4].p for block in build("stgcn", dropout=0.5).st_gcn_networks]
    assert rates == [0] + [0.5] * 9


@pytest.mark.parametrize("name", ["ctrgcn", "tsgcnext"])
def test_one_person_may_come_with_joints_and_channels_side_by_side(name):
    model = build(name, "ucla", num_person=1).eval()
    data = torch.randn(2, 3, 20, 20, 1)
    with torch.no_grad():
        assert torch.equal(model(data[..., 0].permute(0, 2, 3, 1).reshape(2, 20, 60)), model(data))
    with pytest.raises(ValueError, match="59 features"):
        model(torch.zeros(2, 20, 59))


def test_side_by_side_joints_of_two_persons_are_refused():
    with pytest.raises(ValueError, match="M = 1"):
        build("ctrgcn")(torch.zeros(2, 20, 75))


@pytest.mark.parametrize("name", ["ctrgcn", "aagcn", "baseline"])
def test_a_graph_that_is_not_adaptive_is_no_parameter_and_not_saved(name):
    model = build(name, adaptive=False)
    assert not any("PA" in key for key in model.state_dict())
    assert model(torch.randn(2, 3, 8, 25, 2)).isfinite().all()


@pytest.mark.parametrize("name", ["ctrgcn", "aagcn", "stgcnpp"])
@pytest.mark.parametrize("channels", [[], [64, 32], [4], [64.0]])
def test_impossible_widths_are_refused(name, channels):
    with pytest.raises(ValueError, match="channels: found"):
        build(name, channels=channels)


def test_branches_that_cannot_share_the_width_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        build("ctrgcn", channels=[30])


def test_the_stride_is_two_where_the_width_grows():
    assert list(blocks.unit_table([64, 64, 128], 3)) == [(3, 64, 1), (64, 64, 1), (64, 128, 2)]


def test_ctrgcn_topologies_without_alpha_are_the_skeleton_with_sums_of_children():
    gcn = build("ctrgcn").l2.gcn1
    for PA, topology in zip(gcn.PA, gcn.topologies(torch.randn(2, 64, 25, 4)), strict=True):
        assert torch.equal(topology, PA.expand(2 * 64, -1, -1))
    assert gcn.PA[1, 20].sum() == 4  # the root, row of targets, sums the four joints that hang on it


def test_ctrgcn_topologies_are_refined_by_the_differences_of_joints():
    gcn = build("ctrgcn").l2.gcn1.double()
    x = torch.randn(2, 64, 4, 25).double()
    torch.nn.init.constant_(gcn.alpha, 0.7)
    torch.nn.init.normal_(gcn.convs[1].conv4.bias)
    target, source = (conv(x).mean(2) for conv in (gcn.convs[1].conv1, gcn.convs[1].conv2))
    expected = gcn.PA[1] + 0.7 * gcn.convs[1].conv4(torch.tanh(target[..., None] - source[:, :, None]))
    assert torch.allclose(list(gcn.topologies(x.transpose(2, 3)))[1], expected.flatten(0, 1))


def test_baseline_columns_have_nearly_unit_length():
    gcn = build("baseline").l1.gcn1
    x = torch.zeros(1, 3, 1, 25)
    x[0, :, 0, 7] = 1
    with torch.no_grad():
        gcn.PA[:, 7, 3] = 2.0
        gcn.conv_d[0].weight.fill_(1)
        for conv in list(gcn.conv_d)[1:]:
            conv.weight.zero_()
        y = products.aggregate(x, (gcn.PA / (gcn.PA.norm(dim=1, keepdim=True) + 1e-4))[None], gcn.conv_d)
    assert y[0, 0, 0, 3].item() == pytest.approx(3 * 2 / (5**0.5 + 1e-4))


def test_dgstgcn_stages_start_from_one_draw_that_the_seed_decides():
    stages = build("dgstgcn").backbone["gcn"]
    torch.manual_seed(0)
    again = build("dgstgcn").backbone["gcn"]
    assert all(torch.equal(stage.gcn.A, again[0].gcn.A) for stage in stages)
    assert stages[0].gcn.A.shape == (8, 25, 25)


def test_dgstgcn_graphs_have_affinities_whose_sources_sum_to_one():
    gcn = build("dgstgcn").backbone["gcn"][1].gcn
    with torch.no_grad():
        gcn.A.zero_()
        gcn.beta[0] = 1
        topology = gcn.topology(torch.randn(2, 64, 4, 25))
    assert topology.shape == (2, 8, 8, 25, 25)
    assert torch.allclose(topology.sum(-2), torch.ones(2, 8, 8, 25))


@pytest.mark.parametrize(("body", "length"), [("coco", 25), ("ntu_rgb_d", 25)])
def test_dgstgcn_has_25_shares_of_the_mean_joint_for_every_smaller_body(body, length):
    assert all(stage.tcn.add_coeff.shape == (length,) for stage in build("dgstgcn", body).backbone["gcn"])


@pytest.mark.parametrize("num_filter", [0, 65])
def test_dgstgcn_refuses_an_impossible_number_of_groups(num_filter):
    with pytest.raises(ValueError, match="num_filter"):
        build("dgstgcn", num_filter=num_filter)


def test_drop_path_drops_whole_persons_and_keeps_the_mean():
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
def test_tsgcnext_unify_takes_rows_and_columns_of_the_common_joints(unify, body):
    model = build("tsgcnext", body, num_point=13, unify=unify).eval()
    with np.load(GRAPHS) as graphs:
        assert np.array_equal(model.l2.PA.detach().numpy(), graphs[f"tsgcnext/unify13/{unify}/spatial"].astype(np.float32))
    assert model(torch.zeros(1, 3, 16, 13, 2)).shape == (1, 5)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"unify": "coco"}, "num_point"),
        ({"unify": "hand", "num_point": 13}, "unify"),
        ({"depths": []}, "depths"),
        ({"depths": [2, 0, 2]}, "depths"),
        ({"drop_out": 1.0}, "drop_out"),
        ({"graph_args": {"labeling_mode": "distance"}}, "3; set labeling_mode"),
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

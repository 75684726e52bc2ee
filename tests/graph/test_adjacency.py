"""Adjacency tensors against reference records, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from graph import adjacency, coco, ntu_rgb_d, ntu_rgb_d_tips, ucla
from graph.body import BodyGraph, Skeleton
from graph.skeleton import build_graph

GOLDEN = Path(__file__).parent / "golden"
HOPS = [(1, 1), (2, 1), (3, 1), (2, 2), (4, 2)]
STRATEGIES = {"spatial": "stgcn_spatial", "distance": "distance", "uniform": "uniform"}


@pytest.fixture(scope="module")
def records():
    with np.load(GOLDEN / "graphs.npz") as file:
        return {name: file[name] for name in file.files}


def tensor(body, **graph_args):
    return build_graph(f"graph.{body}.Graph", graph_args).A


@pytest.mark.parametrize(
    ("record", "body"),
    [
        ("agcn/ntu_rgb_d/spatial", "ntu_rgb_d"),
        ("agcn/kinetics/spatial", "kinetics"),
        ("ctrgcn/ntu_rgb_d/spatial", "ntu_rgb_d"),
        ("ctrgcn/ucla/spatial", "ucla"),
        ("tsgcnext/ntu_rgb_d/spatial", "ntu_rgb_d"),
        ("tsgcnext/ucla/spatial", "ucla"),
        ("tsgcnext/coco/spatial", "coco"),
        ("pyskl/coco/spatial", "coco"),
        ("pyskl/openpose/spatial", "kinetics"),
        ("pyskl/handmp/spatial", "hand"),
    ],
)
def test_spatial_is_identity_inward_outward(records, record, body):
    assert np.array_equal(tensor(body), records[record])


@pytest.mark.parametrize("body", ["ntu", "coco", "ucla"])
def test_the_start_of_tsgcnext_is_the_spatial_tensor(body):
    with np.load(GOLDEN / "tsgcnext_adjacency.npz") as file:
        assert np.array_equal(tensor("ntu_rgb_d" if body == "ntu" else body), file[f"PA/{body}"])


@pytest.mark.parametrize("hop", HOPS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("layout", "body"), [("openpose", "kinetics"), ("ntu-rgb+d", "ntu_rgb_d")])
def test_strategies_of_stgcn_for_all_hops_and_dilations(records, layout, body, strategy, hop):
    max_hop, dilation = hop
    found = tensor(body, labeling_mode=STRATEGIES[strategy], max_hop=max_hop, dilation=dilation)
    assert np.array_equal(found, records[f"stgcn/{layout}/{strategy}/hop{max_hop}_dil{dilation}"])


@pytest.mark.parametrize("max_hop", [1, 2, 3])
@pytest.mark.parametrize(("layout", "body"), [("coco", "coco"), ("handmp", "hand")])
def test_the_spatial_strategy_of_stgcn_on_coco_and_hand(records, layout, body, max_hop):
    found = tensor(body, labeling_mode="stgcn_spatial", max_hop=max_hop)
    assert np.array_equal(found, records[f"pyskl/{layout}/stgcn_spatial/hop{max_hop}"])


@pytest.mark.parametrize(
    ("layout", "center", "parents"),
    [
        ("stgcn_fork/rat", 1, (1, 1, 0, 0, 6, 6, 3, 6, 6, 6, 9, 10)),
        ("stgcn/ntu_edge", 2, (1, 1, 1, 2, 1, 4, 5, 6, 1, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 21, 7, 23, 11)),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_custom_body_gives_the_published_tensors(records, layout, center, parents, strategy):
    class Graph(BodyGraph):
        skeleton = Skeleton("custom", tuple(map(str, range(len(parents)))), parents, parents, center)

    for max_hop, dilation in HOPS:
        found = Graph(STRATEGIES[strategy], max_hop, dilation).A
        assert np.array_equal(found, records[f"{layout}/{strategy}/hop{max_hop}_dil{dilation}"])


@pytest.mark.parametrize(("layout", "body"), [("openpose", "kinetics"), ("ntu-rgb+d", "ntu_rgb_d")])
@pytest.mark.parametrize("max_hop", [1, 2, 3, 4])
def test_hop_distances_end_at_max_hop(records, layout, body, max_hop):
    graph = build_graph(f"graph.{body}.Graph")
    found = adjacency.hop_distance(graph.skeleton.inward, graph.num_node, max_hop)
    assert np.array_equal(found, records[f"stgcn/{layout}/hop_distance/hop{max_hop}"])


@pytest.mark.parametrize("body", ["ntu_rgb_d", "kinetics"])
def test_msg3d_pairs_at_every_distance(records, body):
    A = tensor(body, labeling_mode="binary")
    assert A.shape[0] == 1
    assert np.array_equal(A[0], records[f"msg3d/{body}/A_binary"])
    for k, record in enumerate(records[f"msg3d/{body}/k_adjacency_self"]):
        assert np.array_equal(adjacency.k_adjacency(A[0], k), record)
    for window in (3, 5):
        assert np.array_equal(adjacency.windowed(A[0], window), records[f"msg3d/{body}/g3d_window{window}_A_large"])


@pytest.mark.parametrize(
    ("body", "name", "gcn", "g3d"), [("ntu_rgb_d", "ntu60", 13, 6), ("kinetics", "kinetics", 8, 8)]
)
def test_msg3d_scales_in_double_precision(body, name, gcn, g3d):
    A = tensor(body, labeling_mode="binary")[0]
    with np.load(GOLDEN / "msg3d_adjacency.npz") as file:
        for nodes, scales, record in (
            (A, gcn, "gcn"),
            (adjacency.windowed(A, 3), g3d, "g3d_w3"),
            (adjacency.windowed(A, 5), g3d, "g3d_w5"),
        ):
            found = adjacency.disentangled(nodes, scales).reshape(-1, len(nodes))
            assert np.array_equal(found.astype(np.float32), file[f"msg3d_{name}_a64/A_{record}"])
            assert np.abs(found - file[f"msg3d_{name}/A_{record}"]).max() < 1e-7  # the original's float32 power


@pytest.mark.parametrize(
    ("layout", "body", "joints"), [("coco", "coco", coco.COMMON_JOINTS), ("ntu", "ntu_rgb_d", ntu_rgb_d.COMMON_JOINTS)]
)
def test_the_common_joints_of_coco_and_ntu(records, layout, body, joints):
    assert np.array_equal(tensor(body)[:, joints][:, :, joints], records[f"tsgcnext/unify13/{layout}/spatial"])


@pytest.mark.parametrize("body", ["coco", "coco20", "hand", "kinetics", "ntu_rgb_d", "uav", "ucla"])
def test_the_weights_of_every_joint_sum_to_one_in_the_modes_of_stgcn(body):
    for mode in ("stgcn_spatial", "distance", "uniform"):
        total = tensor(body, labeling_mode=mode, max_hop=3).sum(axis=(0, 1))
        assert total == pytest.approx(1)


@pytest.mark.parametrize(
    ("graph_args", "words"),
    [
        ({"labeling_mode": "spacial"}, ["'spacial'", "did you mean spatial"]),
        ({"max_hop": 2}, ["max_hop", "no effect", "stgcn_spatial"]),
        ({"labeling_mode": "binary", "dilation": 2}, ["dilation", "no effect"]),
        ({"labeling_mode": "distance", "max_hop": 0}, ["max_hop", "from 1 to 25"]),
        ({"labeling_mode": "distance", "max_hop": 10**9}, ["max_hop", "from 1 to 25"]),
        ({"labelling_mode": "distance"}, ["graph_args", "labelling_mode"]),
    ],
)
def test_wrong_graph_arguments_are_refused_with_what_was_expected(graph_args, words):
    with pytest.raises(ValueError) as error:
        build_graph("graph.ntu_rgb_d.Graph", graph_args)
    assert all(word in str(error.value) for word in words)


@pytest.fixture(scope="module")
def new_records():
    with np.load(GOLDEN / "graphs_gcn.npz") as file:
        return dict(file)


@pytest.mark.parametrize(("name", "body"), [("ntu", "ntu_rgb_d_tips"), ("ucla", "ucla")])
def test_hierarchies_and_steps_are_the_published_ones_to_the_last_bit(new_records, name, body):
    centers = [0, 1, 20] if name == "ntu" else [0, 1, 2]
    for center in centers:
        found = tensor(body, labeling_mode="hierarchy", center=center)
        np.testing.assert_array_equal(found, new_records[f"hd_gcn/{name}/com{center + 1}"])
    np.testing.assert_array_equal(tensor(body, labeling_mode="hierarchy"), found)  # the center of the body
    steps = adjacency.steps(tensor(body, labeling_mode="binary")[0])
    np.testing.assert_array_equal(steps, new_records[f"block_gcn/{name}/hops"])


def test_steps_along_a_long_chain_are_counted():
    chain = np.eye(1000, k=1) + np.eye(1000, k=-1)
    place = np.arange(1000)
    assert np.array_equal(adjacency.steps(chain), abs(place[:, None] - place))


def test_steps_without_a_path_are_infinite():
    assert adjacency.steps(np.zeros((2, 2))).tolist() == [[0, np.inf], [np.inf, 0]]


def test_given_levels_make_the_same_hierarchy_as_the_center_that_they_follow_from():
    levels = adjacency.levels_from(1, ucla.SKELETON.inward, 20)
    found = tensor("ucla", labeling_mode="hierarchy", levels=levels)
    np.testing.assert_array_equal(found, tensor("ucla", labeling_mode="hierarchy", center=1))


@pytest.mark.parametrize(
    ("graph_args", "message"),
    [
        ({"center": 1}, "center, levels: expected none with labeling_mode spatial"),
        ({"labeling_mode": "hierarchy", "center": 20}, "center: expected a joint from 0 to 19"),
        ({"labeling_mode": "hierarchy", "center": 1, "levels": [[0]]}, "or none with levels"),
        ({"labeling_mode": "hierarchy", "levels": [list(range(20))]}, "levels: expected two or more lists"),
        ({"labeling_mode": "hierarchy", "levels": [[0], [1, 2]]}, "each joint from 0 to 19 once"),
        ({"labeling_mode": "hierarchy", "levels": [[0], "ab", list(range(1, 20))]}, "levels: expected two or more"),
        ({"labeling_mode": "hierarchy", "levels": 3}, "levels: expected two or more lists"),
        ({"labeling_mode": "hierarchy", "max_hop": 2}, "max_hop"),
    ],
)
def test_impossible_hierarchies_are_refused(graph_args, message):
    with pytest.raises(ValueError, match=message):
        tensor("ucla", **graph_args)


def test_finger_tips_are_connected_to_the_hand_in_the_body_of_the_newer_networks():
    changed = [j for j in range(25) if ntu_rgb_d_tips.PARENTS[j] != ntu_rgb_d.PARENTS[j]]
    assert changed == [21, 23] and [ntu_rgb_d_tips.PARENTS[j] for j in changed] == [7, 11]

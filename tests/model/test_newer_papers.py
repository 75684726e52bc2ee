"""Properties of HD-GCN, BlockGCN and Hyper-GCN."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model import blockgcn, hypergcn
from model.hdgcn import EdgeConv, edge_convs
from tests.model.golden import Case, deviation, fill_model
from tests.model.zoo import build, narrow
from torchlight.objective import Classification

GRAPHS = Path(__file__).parents[1] / "graph" / "golden" / "graphs_gcn.npz"


def test_edge_convs_are_the_equation_of_the_paper():
    layers = [fill_model(EdgeConv(4)) for _ in range(2)]
    f = torch.randn(3, 2, 4, 7).double()
    found = edge_convs(f, layers, 5)
    for n, a, i in np.ndindex(3, 2, 7):
        points = f[n, a].t()  # (P, C)
        near = (points - points[i]).square().sum(1).argsort()[:5]
        pairs = torch.cat([points[near] - points[i], points[i].expand(5, -1)], 1)  # (k, 2 C)
        rows = layers[a].conv(pairs.t()[None, :, None])[0, :, 0]
        assert near[0] == i and torch.allclose(found[n, a, :, i], F.leaky_relu(rows, 0.2).amax(1))


def test_hdgcn_graph_convolution_is_the_equation_of_the_paper():
    gcn = fill_model(build("hdgcn")).l2.gcn1
    x = torch.randn(2, 64, 4, 25).double()
    h = []
    for a, layer in enumerate(gcn.conv):
        d = F.relu(gcn.conv_down[a](x))
        s = [layer[j](torch.einsum("vu,nctu->nctv", gcn.PA[a, j], d)) for j in range(3)]
        e = edge_convs(d.mean(2).unsqueeze(1), [layer[3]], 5).squeeze(1)
        h.append(torch.cat([*s, e.unsqueeze(2).expand(-1, -1, 4, -1)], dim=1))
    h = torch.stack(h, 2)  # (N, C, L, T, V)
    Z = (h * gcn.aha(h.amax(3))[..., None, None]).sum(2)
    with torch.no_grad():
        assert torch.allclose(gcn(x), F.relu(gcn.bn(Z) + gcn.down(x)))


def test_the_last_layer_of_hdgcn_has_a_second_name_that_is_loaded_last_and_trained_once():
    model = build("hdgcn")
    state = model.state_dict()
    first, second = "l3.gcn1.conv.5.1.0.weight", "l3.gcn1.conv_d.1.0.weight"
    assert torch.equal(state[first], state[second])
    assert not any(".conv_d." in name for name, _ in model.named_parameters())
    model.load_state_dict(state | {first: torch.zeros_like(state[first]), second: torch.ones_like(state[first])})
    assert (model.l3.gcn1.conv[5][1][0].weight == 1).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"graph_args": {"labeling_mode": "spatial"}}, "graph_args: expected labeling_mode hierarchy"),
        (
            {"graph_args": {"labeling_mode": "hierarchy", "levels": [[0], list(range(1, 25))]}},
            "expected a hierarchy of 3 or more layers and 5 or more joints, got 1 layers",
        ),
    ],
)
def test_hdgcn_refuses_graphs_without_enough_layers(changed, message):
    with pytest.raises(ValueError, match=message):
        build("hdgcn", **changed)


def test_published_topology_features_and_death_times_are_those_of_the_record():
    case = Case("block_gcn_ntu60")
    model, joints = case.build().eval(), case.input()
    D = blockgcn.pairwise(joints.mean((2, 4)).transpose(1, 2))
    death = blockgcn.spanning_tree(blockgcn.pairwise(D / D.max())).sort(1).values
    assert deviation(death.numpy(), case.record["extra/deaths"]) < 1e-7
    with torch.no_grad():
        assert deviation(model.topo(joints).numpy(), case.record["extra/topology"]) < 1e-9


def test_the_spanning_tree_is_the_one_that_a_search_over_all_edges_finds():
    D = blockgcn.pairwise(torch.randn(4, 6, 3).double())
    for one, found in zip(D, blockgcn.spanning_tree(D), strict=True):
        group, lengths = list(range(6)), []  # Kruskal
        for i, j in sorted(itertools.combinations(range(6), 2), key=lambda pair: one[pair]):
            if group[i] != group[j]:
                lengths.append(float(one[i, j]))
                group = [group[i] if g == group[j] else g for g in group]
        assert sorted(found.tolist()) == pytest.approx(lengths)


def test_topology_features_of_a_clip_without_any_distance_are_finite():
    for shared in (False, True):
        phi = blockgcn.Topology(shared)(torch.zeros(2, 3, 4, 25, 2))
        assert phi.isfinite().all() and phi.shape == (2, 64)


def test_published_topology_features_leave_out_joints_that_coincide():
    topology = blockgcn.Topology(shared=True)
    joints = torch.randn(2, 3, 4, 6, 2)
    joints[0, :, :, 1] = joints[0, :, :, 0]
    D = blockgcn.pairwise(joints.mean((2, 4)).transpose(1, 2))
    death = blockgcn.spanning_tree(blockgcn.pairwise(D / D.max()))
    phi = topology.pl(death)
    with torch.no_grad():
        found = topology(joints)
        assert torch.allclose(found[1], phi[1].sum(1))
        assert torch.allclose(found[0], phi[0][:, death[0] > 0].sum(1) + 1, atol=1e-5)


def test_published_rows_get_the_topology_features_of_another_clip():
    own, published = (fill_model(build("blockgcn", topology=name)) for name in ("per_clip", "published"))
    data = torch.randn(3, 3, 8, 25, 2).double()
    with torch.no_grad():
        assert not torch.allclose(published(data)[:1], published(data[:1]))
        assert torch.allclose(published(data[:1]), own(data[:1]))


def test_blockgcn_computes_topology_features_from_the_appended_joints_alone():
    model = fill_model(build("blockgcn", in_channels=6, joint_channels=3))
    seen = []
    model.topo.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    data = torch.randn(2, 6, 8, 25, 2).double()
    with torch.no_grad():
        model(data)
    assert torch.equal(seen[0], data[:, 3:]) and model.to_joint_embedding.in_features == 3


def test_blockgcn_has_a_gradient_where_the_encodings_of_distances_are_zero():
    model = build("blockgcn").train()
    F.cross_entropy(model(torch.randn(2, 3, 8, 25, 2)), torch.tensor([0, 1])).backward()
    assert model.l2.gcn1.rpe.grad.isfinite().all() and model.l2.gcn1.rpe.grad.any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"joint_channels": 3}, "joint_channels: expected 0 to 2"), ({"topology": "x"}, "topology")],
)
def test_blockgcn_refuses_impossible_arguments(changed, message):
    with pytest.raises(ValueError, match=message):
        build("blockgcn", **changed)


@pytest.mark.parametrize(("name", "body"), [("ntu", "ntu_rgb_d_tips"), ("ucla", "ucla")])
@pytest.mark.parametrize("hyper_joints", [0, 1, 3])
def test_virtual_joints_are_connected_as_published(name, body, hyper_joints):
    V = 25 if name == "ntu" else 20
    model = build("hypergcn", hyper_joints=hyper_joints, num_point=V, graph=f"graph.{body}.Graph")
    with np.load(GRAPHS) as graphs:
        expected = graphs[f"hyper_gcn/{name}/virtual{hyper_joints}"]
    assert all(np.array_equal(one, expected) for one in model.l4.gcn1.PA.numpy())


def test_hypergcn_topology_is_the_equation_of_the_paper():
    gcn = fill_model(build("hypergcn")).l2.gcn1
    gcn.alpha.data.fill_(0.7)
    x = torch.randn(2, 128, 28).double()
    f = gcn.to_V(x).unflatten(1, (8, -1))
    distance = (f.unsqueeze(-1) - f.unsqueeze(-2)).norm(dim=2)  # (N, H, W, W)
    near = distance.argsort(-1)[..., :9]
    nine = torch.full_like(distance, -torch.inf).scatter(-1, near, -distance.gather(-1, near))
    H, w = nine.softmax(-1), torch.tanh(gcn.to_W(x))
    E = H * w.unsqueeze(2)
    G = torch.einsum("nkue,nke,nkve->nkuv", E / (E.abs().sum(-1, keepdim=True) + 1e-8), w / (H.sum(2) + 1e-8), H)
    S = gcn.PA * gcn.edge_importance
    assert torch.allclose(gcn.topology(x), S / (S.abs().sum(-1, keepdim=True) + 1e-8) + 0.7 * G)


@pytest.mark.parametrize("name", ["hyper_gcn_ntu60_base", "hyper_gcn_ucla"])
def test_the_loss_with_the_divergence_of_virtual_joints_is_the_published_one(name):
    case = Case(name)
    model = case.build().train()
    batch = {"data": case.input(), "label": torch.tensor(case.meta["labels"])}
    assert deviation(model.penalty().detach().numpy(), case.record["extra/divergence"]) < 1e-9
    logits = model(batch["data"])
    loss = F.cross_entropy(logits, batch["label"], label_smoothing=0.1) + model.penalty()
    loss.backward()
    assert deviation(loss.detach().numpy(), case.record["extra/loss_total"]) < 1e-9
    norms = {name: 0.0 if p.grad is None else float(p.grad.norm()) for name, p in model.named_parameters()}
    found = [norms[name] for name in case.meta["grad_norm_names"]]
    assert deviation(found, np.maximum(case.record["extra/grad_norm_total"], 0)) < 1e-9
    loss, _, terms = Classification(label_smoothing=0.1, penalty=1)(case.build().train(), batch)
    assert deviation(loss.detach().numpy(), case.record["extra/loss_total"]) < 1e-6  # the cross entropy is float32
    assert deviation(terms["penalty"].detach().numpy(), case.record["extra/divergence"]) < 1e-9


@pytest.mark.parametrize("hyper_joints", [0, 1])
def test_fewer_than_two_virtual_joints_have_no_divergence(hyper_joints):
    model = build("hypergcn", hyper_joints=hyper_joints)
    loss, _, _ = Classification(penalty=1)(model, {"data": torch.randn(2, 3, 8, 25, 2), "label": torch.tensor([0, 1])})
    loss.backward()
    assert loss.isfinite() and model.penalty() == 0
    assert model.l2.gcn1.hyper_joint.grad.isfinite().all()


def test_positive_cosines_of_virtual_joints_are_penalized_and_negative_ones_are_not():
    assert hypergcn.divergence(torch.tensor([[1.0, 0], [0, 2], [-1, 0]])) == pytest.approx(0, abs=1e-6)
    assert hypergcn.divergence(torch.tensor([[1.0, 0], [3, 0], [0, 1]])) == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"graph_args": {"labeling_mode": "spatial"}}, "set labeling_mode to binary"),
        ({"hyper_joints": -1}, "hyper_joints: expected 0 or more"),
        ({"size": "small"}, "size: expected base or large, got 'small'"),
    ],
)
def test_hypergcn_refuses_impossible_arguments(changed, message):
    with pytest.raises(ValueError, match=message):
        build("hypergcn", **changed)


def test_a_training_pass_of_blockgcn_has_more_than_one_clip_of_one_person(monkeypatch):
    narrow("blockgcn", monkeypatch)
    model, clip = build("blockgcn", num_person=1), torch.randn(1, 3, 13, 25, 1)
    with pytest.raises(ValueError, match="expected 2 or more clips in a training pass, got 1; .* raise batch_size"):
        model(clip)
    assert model(clip.repeat(2, 1, 1, 1, 1)).shape == (2, 5) and model.eval()(clip).shape == (1, 5)

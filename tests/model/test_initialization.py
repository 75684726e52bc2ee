"""Initial weights, by their statistics."""

import math

import pytest
import torch
from torch import nn

from tests.model.zoo import NETWORKS, build, clip


def assert_normal(values, std, mean=0.0):
    """Mean and spread within five standard errors."""
    count = values.numel()
    assert values.mean().item() == pytest.approx(mean, abs=5 * std / math.sqrt(count))
    assert values.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * count))


def fan_out(conv):
    return math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]))


def default_bound(layer):
    return 1 / math.sqrt(layer.weight[0].numel())


def assert_default(layer):
    """PyTorch's default: weight and bias uniform within 1 / sqrt(fan in)."""
    bound = default_bound(layer)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert 0 < layer.bias.abs().max() <= bound


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fresh_network_trains_on_finite_logits_of_moderate_size(name):
    logits = build(name).train()(clip(name, frames=16))
    assert logits.abs().max() < 100


def test_stgcn_convolutions_and_norms():
    model = build("stgcn")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert_normal(module.weight, 0.02)
            assert not module.bias.any()
    norms = torch.cat([m.weight for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)])
    assert_normal(norms, 0.02, mean=1)
    assert all((mask == 1).all() for mask in model.edge_importance)


@pytest.mark.parametrize("name", ["agcn", "aagcn", "baseline", "ctrgcn", "hdgcn"])
def test_networks_in_the_frame_of_2s_agcn_start_with_fan_out_and_without_their_graph_branch(name):
    model = build(name, num_class=60)
    for block in (model.l1, model.l5, model.l10):
        assert (block.gcn1.bn.weight == torch.tensor(1e-6)).all()
        for conv in block.tcn1.modules():
            if isinstance(conv, nn.Conv2d):
                assert_normal(conv.weight, fan_out(conv))
                assert conv.bias is None or not conv.bias.any()
    for block in (model.l5, model.l8):
        assert_normal(block.residual.conv.weight, fan_out(block.residual.conv))
        assert_normal(block.gcn1.down[0].weight, fan_out(block.gcn1.down[0]))
        assert (block.residual.bn.weight == 1).all() and (block.gcn1.down[1].weight == 1).all()
    assert_normal(model.fc.weight, math.sqrt(2 / 60))
    assert 0 < model.fc.bias.abs().max() <= 1 / 16
    assert (model.data_bn.weight == 1).all()


@pytest.mark.parametrize("name", ["agcn", "aagcn", "baseline"])
def test_subset_convolutions_of_2s_agcn_are_smaller(name):
    for block in (build(name).l1, build(name).l9):
        for conv in block.gcn1.conv_d:
            assert_normal(conv.weight, math.sqrt(2 / (conv.out_channels * conv.in_channels * 3)))
        assert (block.tcn1.bn.weight == 1).all()


def test_agcn_masks_start_small_and_embeddings_fan_out():
    gcn = build("agcn").l4.gcn1
    assert (gcn.PA == torch.tensor(1e-6)).all()
    assert_normal(gcn.conv_a[0].weight, math.sqrt(2 / 16))
    assert_normal(gcn.conv_b[2].weight, math.sqrt(2 / 16))


def test_aagcn_starts_from_the_skeleton_with_attention_factors_of_one_and_a_half():
    gcn = build("aagcn").l4.gcn1
    assert torch.equal(gcn.PA[0], torch.eye(25)) and gcn.alpha == 0
    assert_normal(gcn.conv_sa.weight, math.sqrt(2 / (65 * 25)))
    assert_normal(gcn.fc1c.weight, math.sqrt(2 / 64))
    for zero in (gcn.conv_ta.weight, gcn.fc2c.weight, gcn.conv_ta.bias, gcn.fc2c.bias, gcn.conv_sa.bias, gcn.fc1c.bias):
        assert not zero.any()


def test_aagcn_spatial_attention_has_an_odd_kernel_on_every_body():
    kernels = {
        body: build("aagcn", body).l1.gcn1.conv_sa.kernel_size[0] for body in ("coco", "kinetics", "ucla", "ntu_rgb_d")
    }
    assert kernels == {"coco": 17, "kinetics": 17, "ucla": 19, "ntu_rgb_d": 25}


def test_ctrgcn_temporal_norms_are_spread_and_alpha_is_zero():
    model = build("ctrgcn")
    temporal = [
        m.weight
        for i in range(1, 11)
        for m in model.get_submodule(f"l{i}.tcn1").modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    assert_normal(torch.cat(temporal), 0.02, mean=1)
    gcn = model.l8.gcn1
    assert gcn.alpha == 0 and torch.equal(gcn.PA[0], torch.eye(25))
    for conv in (gcn.convs[1].conv1, gcn.convs[1].conv2, gcn.convs[1].conv3, gcn.convs[1].conv4):
        assert_normal(conv.weight, fan_out(conv))
        assert not conv.bias.any()


def test_ctrgcn_embeddings_have_at_least_eight_channels():
    for channels in (2, 3, 6, 9):
        assert build("ctrgcn", in_channels=channels).l1.gcn1.convs[0].conv1.out_channels == 8


def test_baseline_topologies_start_as_identities():
    assert torch.equal(build("baseline").l3.gcn1.PA, torch.eye(25).repeat(3, 1, 1))


def test_dgstgcn_starts_from_a_noisy_constant_graph_alone():
    model = build("dgstgcn")
    block = model.backbone["gcn"][4]
    assert_normal(block.gcn.A, 0.02, mean=0.04)
    assert not block.gcn.alpha.any() and not block.gcn.beta.any() and not block.tcn.add_coeff.any()
    for conv in (block.gcn.pre[0], block.gcn.post, block.residual.conv, block.tcn.branches[1][3].conv):
        assert_default(conv)


@pytest.mark.parametrize("name", ["dgstgcn", "stgcnpp"])
def test_the_head_of_pyskl_starts_small(name):
    head = build(name, num_class=60).cls_head["fc_cls"]
    assert_normal(head.weight, 0.01)
    assert not head.bias.any()


def test_stgcnpp_starts_from_the_skeleton_with_default_convolutions():
    block = build("stgcnpp").backbone["gcn"][7]
    assert torch.equal(block.gcn.A[0], torch.eye(25))
    assert_default(block.gcn.conv)
    assert_default(block.tcn.transform[2])
    assert (block.gcn.bn.weight == 1).all()


def test_tsgcnext_stem_keeps_the_default_and_blocks_are_truncated_normal():
    model = build("tsgcnext", num_class=60)
    assert_default(model.l1[0])
    for layer in (model.l3.dwconv, model.l3.pwconv1, model.l3.pwconv2, model.l3.down[1]):
        assert_normal(layer.weight, 0.02)
        assert not layer.bias.any()
    assert (model.l3.gamma == torch.tensor(1e-6)).all() and model.l3.alpha == 0
    assert torch.equal(model.l3.PA[0], torch.eye(25))
    assert_normal(model.fc.weight, math.sqrt(2 / 60))


def test_skateformer_keeps_the_defaults_of_layers_and_its_tables_are_truncated_normal():
    model = build("skateformer")
    block = model.stages[2]["blocks"][0]
    for layer in (model.stem[2], block.downsample.reduction, block.transformer.tconv, block.transformer.mapping):
        assert_default(layer)
    assert_default(block.transformer.mlp.fc1)
    assert_default(model.head)
    for table in (model.joint_person_embedding, block.transformer.gconv, block.transformer.attention[1].bias()):
        assert_normal(table, 0.02)
    assert (block.transformer.norm_1.weight == 1).all() and (block.downsample.bn.weight == 1).all()


def test_msg3d_learned_masks_start_near_zero():
    model = build("msg3d")
    for mask in (model.sgcn1[0].A_res, model.gcn3d2.gcn3d[1].gcn3d[1].A_res):
        assert 0.9e-6 < mask.abs().max() <= 1e-6
    assert_default(model.sgcn2[1].residual.conv)
    assert_default(model.fc)


def temporal_norms(model, blocks):
    parts = [model.get_submodule(f"l{i}.tcn1") for i in range(1, blocks + 1)]
    return torch.cat([m.weight for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d)])


def test_hdgcn_starts_from_its_hierarchy_with_fan_out_everywhere_but_in_the_last_layer_of_the_attention():
    model = build("hdgcn")
    gcn = model.l9.gcn1
    assert_normal(temporal_norms(model, 10), 0.02, mean=1)
    assert torch.equal(gcn.PA[0, 0].diagonal().nonzero()[:, 0], torch.tensor([1, 2, 4, 8, 20]))
    for conv in (gcn.conv_down[0][0], gcn.conv[2][1][0], gcn.conv[3][3].conv[0], gcn.aha.conv_down[0]):
        assert_normal(conv.weight, fan_out(conv))
        assert conv.bias is None or not conv.bias.any()
    assert_default(gcn.aha.aggregate)
    assert not model.l2.tcn1.branches[0][3].bias.any()


def test_blockgcn_starts_from_identities_without_distances_and_with_its_graph_branch():
    model = build("blockgcn", num_class=60)
    gcn = model.l6.gcn1
    assert torch.equal(gcn.fc1, torch.eye(25).repeat(3, 8, 1, 1)) and not gcn.rpe.any()
    assert (gcn.bn.weight == 1).all()
    assert_normal(gcn.fc2[1].weight, math.sqrt(2 / 256))
    assert_normal(temporal_norms(model, 10), 0.02, mean=1)
    assert_normal(model.pos_embedding, 1)
    assert (model.topo.pl.sharpness == 3).all() and 0 <= model.topo.pl.centres.min() < model.topo.pl.centres.max() <= 1
    assert_default(model.t3.mlp)
    assert_default(model.to_joint_embedding)
    assert_normal(model.fc.weight, math.sqrt(2 / 60))


def test_hypergcn_virtual_joints_start_equal_unless_the_configuration_says_otherwise():
    model = build("hypergcn", num_class=60)
    gcn = model.l8.gcn1
    assert torch.equal(gcn.hyper_joint, gcn.hyper_joint[:1].expand(3, -1))
    assert_normal(torch.cat([model.get_submodule(f"l{i}").gcn1.hyper_joint[0] for i in range(1, 10)]), 1)
    assert model.penalty().item() == pytest.approx(1)
    assert 0 <= build("hypergcn", distinct=True).penalty() < 0.2
    assert gcn.alpha == 1 and (gcn.edge_importance == 1).all() and (gcn.bn.weight == torch.tensor(1e-6)).all()
    for conv, std in ((gcn.to_V, math.sqrt(8 / 256)), (gcn.to_W[0], math.sqrt(8 / 256)), (gcn.to_W[2], 0.5)):
        assert_normal(conv.weight, std)
        assert not conv.bias.any()
    assert_normal(gcn.conv_d.weight, math.sqrt(2 / 256))
    assert_normal(temporal_norms(model, 9), 0.02, mean=1)

"""Sizes that the papers' code and published weights have."""

import pytest

from tests.model.zoo import build

KINETICS = {"body": "kinetics", "num_class": 400}
DKE9 = {"channels": [64] * 4 + [128] * 3 + [256] * 2}
DKE7 = {"channels": [64] * 4 + [128] * 3}
S8 = {"channels": [64] * 3 + [128] * 3 + [256] * 2}
NTU_SCALES = {"num_gcn_scales": 13, "num_g3d_scales": 6}
UCLA = {"body": "ucla", "num_person": 1, "num_class": 10}
AROUND_SPINE = {"graph_args": {"labeling_mode": "hierarchy", "center": 1}}
TIPS = {"graph": "graph.ntu_rgb_d_tips.Graph"}
LARGE = TIPS | {"size": "large"}

PARAMETERS = [
    ("stgcn", {}, 3098832),
    ("stgcn", KINETICS, 3177140),
    ("stgcn", {"graph_args": {"labeling_mode": "distance"}}, 2873894),
    ("stgcn", {"graph_args": {"labeling_mode": "uniform"}}, 2648956),
    ("stgcn", {"edge_importance_weighting": False}, 3080082),
    *(
        ("mbstgcn", {"body": "kinetics", "num_class": 5, "variant": variant}, count)
        for variant, count in (
            ("st_gcn", 3819342),
            ("mix", 3192106),
            ("se", 3183145),
            ("gaosi", 3075626),
            ("4branch", 1750314),
        )
    ),
    ("agcn", {}, 3469510),
    ("agcn", {"num_class": 120}, 3484930),
    ("agcn", KINETICS, 3547776),
    ("aagcn", {}, 3781668),
    ("aagcn", {"num_class": 120}, 3797088),
    ("aagcn", KINETICS, 3848670),
    ("aagcn", {"attention": False}, 3469520),
    ("aagcn", S8 | {"attention": False}, 2522696),
    ("aagcn", S8 | {"attention": False, "num_class": 120}, 2538116),
    ("aagcn", S8, 2753848),
    ("aagcn", S8 | {"num_class": 120}, 2769268),
    ("baseline", {}, 2092902),
    ("baseline", {"num_class": 120}, 2108322),
    ("ctrgcn", {}, 1446672),
    ("ctrgcn", {"num_class": 120}, 1462092),
    ("ctrgcn", UCLA, 1426892),
    ("ctrgcn", DKE9, 1064444),
    ("ctrgcn", DKE9 | {"num_class": 120}, 1079864),
    ("ctrgcn", DKE7, 372788),
    ("ctrgcn", DKE7 | {"num_class": 120}, 380528),
    ("dgstgcn", {}, 1701172),
    ("dgstgcn", {"num_class": 120}, 1716592),
    ("dgstgcn", {"body": "coco"}, 1674244),
    ("stgcnpp", {}, 1403144),
    ("stgcnpp", {"num_class": 120}, 1418564),
    ("stgcnpp", {"body": "coco"}, 1393016),
    ("stgcnpp", {"body": "coco", "num_class": 120}, 1408436),
    ("tsgcnext", {}, 4232316),
    ("tsgcnext", {"num_class": 120}, 4255416),
    ("tsgcnext", {"body": "coco"}, 4223148),
    ("tsgcnext", {"body": "coco", "num_class": 120}, 4246248),
    ("tsgcnext", {"body": "coco", "in_channels": 2}, 4222696),
    ("tsgcnext", UCLA, 4206811),
    ("tsgcnext", {"depths": [4, 3, 2]}, 3787644),
    ("tsgcnext", {"depths": [4, 3, 2], "num_class": 120}, 3810744),
    ("tsgcnext", {"depths": [4, 3, 2], "body": "coco"}, 3778476),
    ("tsgcnext", {"depths": [4, 3, 2], "body": "coco", "num_class": 120}, 3801576),
    ("tsgcnext", {"depths": [4, 3, 2]} | UCLA, 3762139),
    ("skateformer", {}, 3616083),
    ("skateformer", {"num_class": 120}, 3627663),
    ("skateformer", {"num_class": 11}, 3606626),
    ("skateformer", {"num_class": 26}, 3609521),
    ("skateformer", UCLA | {"mlp_ratio": 1.0}, 1925921),
    ("msg3d", NTU_SCALES, 3194595),
    ("msg3d", NTU_SCALES | {"num_class": 120}, 3217695),
    ("msg3d", KINETICS | {"num_gcn_scales": 8, "num_g3d_scales": 8}, 3144328),
    ("hdgcn", TIPS, 1659980),
    ("hdgcn", TIPS | {"num_class": 120}, 1675400),
    ("hdgcn", TIPS | AROUND_SPINE, 1659980),
    ("hdgcn", UCLA, 1606450),
    ("hdgcn", UCLA | AROUND_SPINE, 1453282),
    ("blockgcn", TIPS, 1372780),
    ("blockgcn", TIPS | {"num_class": 120}, 1388200),
    ("blockgcn", UCLA, 1297370),
    ("hypergcn", TIPS, 1041677),
    ("hypergcn", TIPS | {"num_class": 120}, 1057097),
    ("hypergcn", UCLA, 1002147),
    ("hypergcn", LARGE, 2305293),
    ("hypergcn", LARGE | {"num_class": 120}, 2336073),
    ("hypergcn", UCLA | {"size": "large"}, 2252963),
]

ENTRIES = [
    ("stgcn", {}, 172),
    ("agcn", {}, 352),
    ("aagcn", {}, 442),
    ("aagcn", S8 | {"attention": False}, 298),
    ("baseline", {}, 232),
    ("ctrgcn", {}, 822),
    ("ctrgcn", DKE9, 744),
    ("ctrgcn", DKE7, 574),
    ("dgstgcn", {}, 832),
    ("stgcnpp", {}, 692),
    ("tsgcnext", {}, 120),
    ("tsgcnext", {"depths": [4, 3, 2]}, 120),
    ("skateformer", {}, 214),
    ("msg3d", {}, 810),
    ("hdgcn", {}, 3017),
    ("hdgcn", UCLA | AROUND_SPINE, 2677),
    ("blockgcn", {}, 703),
    ("hypergcn", {}, 607),
    ("hypergcn", {"size": "large"}, 614),
]


@pytest.mark.parametrize(("name", "changed", "count"), PARAMETERS)
def test_a_network_has_as_many_parameters_as_published(name, changed, count):
    assert sum(p.numel() for p in build(name, **({"num_class": 60} | changed)).parameters()) == count


@pytest.mark.parametrize(("name", "changed", "count"), ENTRIES)
def test_a_state_dict_has_as_many_entries_as_published(name, changed, count):
    assert len(build(name, **changed).state_dict()) == count

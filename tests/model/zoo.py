"""Every network, on any body, in few words."""

import pkgutil

from torch import nn

NETWORKS = {
    "stgcn": {"graph_args": {"labeling_mode": "stgcn_spatial"}},
    "agcn": {},
    "aagcn": {},
    "baseline": {},
    "ctrgcn": {},
    "dgstgcn": {},
    "stgcnpp": {},
    "tsgcnext": {},
    "msg3d": {"graph_args": {"labeling_mode": "binary"}, "num_gcn_scales": 5, "num_g3d_scales": 3},
}
PER_PERSON_NORM = ("agcn", "aagcn", "baseline", "ctrgcn", "tsgcnext", "msg3d")
SHARED_NORM = ("stgcn", "dgstgcn", "stgcnpp")
BODIES = {"coco": 17, "kinetics": 18, "ucla": 20, "hand": 21, "ntu_rgb_d": 25}
MIN_FRAMES = dict.fromkeys(NETWORKS, 1) | {"tsgcnext": 16}


def build(name: str, body: str = "ntu_rgb_d", num_person: int = 2, num_class: int = 5, **changed) -> nn.Module:
    args = {"num_class": num_class, "num_point": BODIES[body], "num_person": num_person, "graph": f"graph.{body}.Graph"}
    return pkgutil.resolve_name(f"model.{name}.Model")(**(args | NETWORKS[name] | changed))

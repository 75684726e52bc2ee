"""A configuration file for every checkpoint of PYSKL in the zoo, written from the published constructs."""

import inspect
import re

import pytest

from tests.torchlight import test_pyskl_config as forms
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.zoo import catalog

ROWS = [entry for entry in catalog.entries().values() if entry.family == "pyskl" and entry.network != "posec3d"]
STRONG = "dict(type='RandomRot', theta=0.2), dict(type='RandomScale', scale=0.1),"
MODES = {"stgcn": "stgcn_spatial", "msg3d": "binary_adj"}
OTHER = {"data_path", "skeleton", "random_rot", "random_scale"}  # places, and what tests do not depend on


def file_of(entry: catalog.Entry) -> str:
    """The file of an entry in the form of its network."""
    is_flat = entry.pose == "hrnet2d"
    kind = "stgcn_vanilla" if entry.variant == "vanilla" else entry.network
    text = forms.FILES[kind]
    if kind != "dgstgcn":
        layout = "coco" if is_flat else "nturgb+d"
        normalize = "PreNormalize2D" if is_flat else "PreNormalize3D"
        streams = f"dict(type='{normalize}'), "
        streams += STRONG if entry.variant == "strong-augmentation" else ""
        streams += f"dict(type='GenSkeFeat', dataset='{layout}', feats=['{entry.stream}']),"
        backbone = re.search(r"backbone=dict\((.*), graph_cfg", forms.FILES[kind])[1]
        text = forms.config(backbone, layout, MODES.get(entry.network, "spatial"), streams)
        text = forms.as_vanilla(text) if kind == "stgcn_vanilla" else text
    else:
        text = text.replace("modality = 'jm'", f"modality = '{entry.stream}'")
        text = (
            text
            if entry.split != "xview"
            else text.replace("dict(type='PreNormalize3D', align_spine=False)", "dict(type='PreNormalize3D')")
        )
    num_class = {"ntu60": 60, "ntu120": 120}[entry.dataset]
    return text.replace("num_classes=60", f"num_classes={num_class}").replace("xsub_", f"{entry.split}_")


def with_defaults(path: str, arguments: dict) -> dict:
    """All arguments of a class, those that are not given with their defaults."""
    parameters = inspect.signature(import_object(path)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty} | arguments


@pytest.mark.parametrize("entry", ROWS, ids=[entry.name for entry in ROWS])
def test_the_file_of_an_entry_describes_the_network_and_the_clips_of_the_zoo(entry, tmp_path):
    (tmp_path / "j.py").write_text(file_of(entry))
    theirs = load_config(tmp_path / "j.py", {"phase": "test"})
    ours = load_config(None, {"weights": f"zoo:{entry.name}", "phase": "test"})
    assert (theirs.model, theirs.modality) == (ours.model, ours.modality)
    assert with_defaults(theirs.model, theirs.model_args) == with_defaults(ours.model, ours.model_args)
    clips = [with_defaults(c.feeder, c.test_feeder_args) for c in (theirs, ours)]
    assert {k: v for k, v in clips[0].items() if k not in OTHER} == {
        k: v for k, v in clips[1].items() if k not in OTHER
    }
    body = {"3d": "graph.ntu_rgb_d", "hrnet2d": "graph.coco"}[entry.pose]
    assert clips[0]["skeleton"] == body and clips[1]["skeleton"] in ("", body)


def test_every_published_file_of_the_graph_networks_is_covered():
    assert len(ROWS) == 208  # 192, and 16 with strong augmentation

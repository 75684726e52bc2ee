"""A new network is one file in model/ and one in config/: tests, sizes, documentation and benchmarks find it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.feeders.synthetic import random_clips, write_store

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "config", "data", "docs", "feeders", "graph", "model", "tests", "torchlight")
IGNORED = shutil.ignore_patterns("__pycache__", "*.clips", "raw", "*.pkl", "*.npy", "results", "*.png")

NETWORK = '''"""NewNet: A Network That Exists Only in a Test.

Nobody. arXiv 2401.00001, 2024.

Nothing was published.

Shapes, 64 frames of NTU RGB+D: (N, 3, 64, 25, 2) -> (2N, 16, 64, 25) -> (N, 60)
"""

import torch.nn.functional as F
from torch import nn

from model import blocks, network, ops
from model.fuse_norms import fuse_norms

EXAMPLE = {"width": 16}


class GraphConv(nn.Module):
    norm_after = {"conv_d": "bn"}
    topologies = ("A",)

    def __init__(self, in_channels, out_channels, A):
        super().__init__()
        self.register_buffer("A", A)
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in A)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return F.relu(self.bn(ops.aggregate_then_conv(x, self.A.unsqueeze(0), self.conv_d)))


class Model(network.BlockNetwork):
    for_inference = fuse_norms

    def __init__(self, num_class, num_point, num_person, graph, width, graph_args=None, in_channels=3):
        A = network.load_graph(graph, graph_args, num_point)
        tcn = blocks.TemporalConv(width, width, 3, 1, 1)
        block = blocks.Block(GraphConv(in_channels, width, A), tcn, in_channels, width, 1, first=True)
        super().__init__([block], width, num_class, num_point, num_person, in_channels, 0)
'''
RECIPE = "# A recipe.\nbase: ../base/ucla.yaml\nmodel: model.newnet.Model\nmodel_args: {width: 16}\n"
PAGE = """
import runpy
try:
    runpy.run_module("benchmarks.models_page", run_name="__main__")
except SystemExit as end:
    assert not end.code
"""
BENCHMARK = """
from benchmarks import networks, reference
setting = networks.SETTINGS["NewNet"]
assert (setting.model, setting.frames, setting.args["width"]) == ("newnet", 52, 16)
assert not reference.has_reference(setting.build("cpu"))
"""


def run(*command: str, cwd: Path) -> str:
    """Output of Python with these arguments, which has to succeed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with one more network and one more recipe, and a prepared clip store for it."""
    copy = tmp_path_factory.mktemp("project")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=IGNORED)
    for recipe in (copy / "config").glob("*/**/*.yaml"):  # sizes of many networks, which take long
        if recipe.parent.name != "base" and recipe != copy / "config/NW-UCLA/ctrgcn.yaml":
            recipe.unlink()
    for file in ("main.py", "pyproject.toml"):
        shutil.copy(ROOT / file, copy / file)
    (copy / "model/newnet.py").write_text(NETWORK)
    (copy / "config/NW-UCLA/newnet.yaml").write_text(RECIPE)
    clips, _ = random_clips([60, 70, 80], V=20)
    store = copy / "data/NW-UCLA/ctrgcn.clips"
    splits = {"xview": {"train": [0, 1], "test": [2]}}
    facts = {"num_class": 10, "skeleton": "graph.ucla", "window": 80}
    write_store(store, [clip[:1] for clip in clips], np.array([0, 9, 1]), [(0,)] * 3, splits, pad="zero", **facts)
    return copy


def test_the_page_of_networks_and_the_benchmark_show_it(project):
    run("-c", PAGE + BENCHMARK, cwd=project)
    page = (project / "docs/models.md").read_text()
    assert "| `newnet` |  |  |  | 1,330 / 0.001 G / 52 |" in page
    assert "*NewNet: A Network That Exists Only in a Test.*" in page
    assert "    python main.py --config config/NW-UCLA/newnet.yaml" in page


def test_the_tests_of_all_networks_run_on_it_and_pass(project):
    files = ("tests/model", "tests/test_layers.py")
    found = run(
        "-m", "pytest", *files, "-k", "newnet or network_file_imports", "-p", "no:cacheprovider", "-vv", cwd=project
    )
    for test in (
        "test_the_header_names_the_paper",
        "test_every_parameter_gets_a_gradient",
        "test_a_network_for_inference_gives_the_same_logits",
        "test_maps_and_their_gradients_keep_the_channels_last",
        "test_a_fresh_network_trains",
        "test_a_norm_per_person_distinguishes",
        "test_a_network_file_imports_no_other_network_file",
    ):
        assert test in found
    assert found.count("PASSED") >= 20


def test_its_size_is_printed_by_the_recipe(project):
    found = run("main.py", "--config", "config/NW-UCLA/newnet.yaml", "--phase", "model_size", cwd=project)
    assert "1,330" in found

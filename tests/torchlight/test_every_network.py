"""Every network in model/ goes through the phases, as student and as teacher, without special cases."""

import math
import os
import shutil

import numpy as np
import pytest
import yaml

from model import catalog
from tests.feeders.synthetic import write_store
from tests.model.zoo import min_frames
from tests.torchlight import tiny
from torchlight.training import teacher


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory):
    """A store of eight training and four test clips of 20 joints."""
    draw = np.random.default_rng(0)
    clips = [draw.normal(size=(1, T, 20, 3)).astype(np.float32) for T in draw.integers(8, 30, 12)]
    splits = {"xview": {"train": np.arange(8), "test": np.arange(8, 12)}}
    facts = {"num_class": 5, "skeleton": "graph.ucla"}
    path = tmp_path_factory.mktemp("data") / "few.clips"
    return write_store(path, clips, np.arange(12) % 5, [(0,)] * 12, splits, **facts)


@pytest.fixture
def one_rank(monkeypatch):
    """The environment of a process group of one process, so that networks are wrapped for several devices."""
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(tiny.free_port()))
    monkeypatch.setattr(os, "_exit", lambda code: None)  # how a rank leaves


def options(name: str, store) -> dict:
    """Two epochs of two steps."""
    network = catalog.load(name)
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
    return tiny.options(store) | {
        "feeder_args": {"data_path": str(store), "window_size": max(16, min_frames(name))},
        "train_feeder_args": {},
        "test_feeder_args": {},
        "model": f"model.{name}.Model",
        "model_args": {**args, **getattr(network, "EXAMPLE", {})},
        "batch_size": 4,
        "test_batch_size": 4,
        "base_lr": 0.001,
    }


@pytest.mark.parametrize("name", catalog.networks())
def test_a_network_trains_resumes_predicts_reports_and_distills(name, few_clips, tmp_path, main, one_rank, monkeypatch):
    monkeypatch.setattr(teacher, "CHANCE_FACTOR", -1)  # the teacher has hardly learned

    def call(*words):
        code, out, error = main("--config", config, *words)
        assert code == 0, error
        return out

    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(options(name, few_clips)))
    call("--work-dir", run, "--keep", 2)
    shutil.copytree(run, tmp_path / "resumed")
    for file in ("last.pt", "epoch_2.pt"):
        (tmp_path / "resumed" / file).unlink()
    assert "resumed from" in call("--work-dir", tmp_path / "resumed", "--keep", 2, "--resume", "true")
    assert tiny.same_run(run, tmp_path / "resumed")

    weights = run / "last.pt"
    call("--phase", "test", "--weights", weights, "--work-dir", run, "--save-score", "true")
    call("--phase", "report", "--work-dir", run)
    np.savez(tmp_path / "clip.npz", keypoint=np.random.default_rng(0).normal(size=(1, 20, 20, 3)))
    call("--phase", "predict", "--weights", weights, "--source", tmp_path / "clip.npz")

    given = options(name, few_clips)
    teaching = given | {
        "teacher": {"model": given["model"], "model_args": given["model_args"], "weights": str(weights)},
        "objective": "torchlight.distillation.DecoupledKnowledge",
        "objective_args": {"warm_up_epoch": 1},
        "num_epoch": 1,
        "precision": "bfloat16",
    }
    config.write_text(yaml.safe_dump(teaching))
    call("--work-dir", tmp_path / "student")
    assert all(math.isfinite(value) for value in tiny.metrics(tmp_path / "student")[0].values())

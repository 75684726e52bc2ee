"""Every network in model/ runs all phases, as student and as teacher, without special cases."""

import math
import os
import pickle
import shutil

import numpy as np
import pytest
import yaml

from model import catalog
from tests.feeders.synthetic import write_store
from tests.model.zoo import narrow
from tests.torchlight import tiny
from torchlight.training import checkpoint, teacher


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory):
    """A store of four training and two test clips of 20 joints."""
    draw = np.random.default_rng(0)
    clips = [draw.normal(size=(1, T, 20, 3)).astype(np.float32) for T in draw.integers(8, 30, 6)]
    splits = {"xview": {"train": np.arange(4), "test": np.arange(4, 6)}}
    facts = {"num_class": 5, "skeleton": "graph.ucla"}
    path = tmp_path_factory.mktemp("data") / "few.clips"
    return write_store(path, clips, np.arange(6) % 5, [(0,)] * 6, splits, **facts)


@pytest.fixture(scope="module")
def few_poses(tmp_path_factory):
    """A file of eight training and four test clips of 17 joints in pictures."""
    draw = np.random.default_rng(0)
    names, rows = [f"c{i}" for i in range(12)], []
    for i, T in enumerate(draw.integers(8, 30, 12)):
        rows.append({"frame_dir": names[i], "label": i % 5, "img_shape": (240, 320)})
        rows[-1] |= {"keypoint": draw.uniform(50, 200, (1, T, 17, 2)), "keypoint_score": draw.uniform(0, 1, (1, T, 17))}
    path = tmp_path_factory.mktemp("data") / "few.pkl"
    path.write_bytes(pickle.dumps({"split": {"train": names[:8], "val": names[8:]}, "annotations": rows}))
    return path


@pytest.fixture
def one_rank(monkeypatch):
    """The environment of a process group of one process, so that networks are wrapped for several devices."""
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(tiny.free_port()))
    monkeypatch.setattr(os, "_exit", lambda code: None)  # how a rank leaves


def options(name: str, few: dict, store, poses) -> dict:
    """Two epochs of two steps of two clips; `few`: arguments that make the network small."""
    network = catalog.load(name)
    if hasattr(network.Model, "takes_heatmaps"):
        args = {"num_class": 5, "num_point": 17, "num_person": 1, "graph": "graph.coco.Graph", "in_channels": 17}
        return tiny.options(store) | {
            "feeder": "feeders.feeder_heatmap.Feeder",
            "feeder_args": {"data_path": str(poses), "window_size": 3, "size": 16},
            "train_feeder_args": {},
            "test_feeder_args": {"num_clips": 2, "mirror": True},
            "model": f"model.{name}.Model",
            "model_args": args | {"width": 4, "blocks": [1, 1, 1]},
            "batch_size": 4,
            "base_lr": 0.001,
        }
    args = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
    return tiny.options(store) | {
        "feeder_args": {"data_path": str(store), "window_size": 16},
        "train_feeder_args": {},
        "test_feeder_args": {},
        "model": f"model.{name}.Model",
        "model_args": args | catalog.example_args(name) | few,
        "batch_size": 2,
        "test_batch_size": 2,
        "base_lr": 0.001,
    }


@pytest.mark.parametrize("name", catalog.networks())
def test_a_network_trains_resumes_predicts_reports_and_distills(
    name, few_clips, few_poses, tmp_path, main, one_rank, monkeypatch
):
    monkeypatch.setattr(teacher, "CHANCE_FACTOR", -1)  # the teacher has hardly learned

    def call(*words):
        code, out, error = main("--config", config, *words)
        assert code == 0, error
        return out

    config, run = tmp_path / "config.yaml", tmp_path / "run"
    given = options(name, narrow(name, monkeypatch), few_clips, few_poses)
    config.write_text(yaml.safe_dump(given))
    call("--work-dir", run, "--keep", 2)
    shutil.copytree(run, tmp_path / "resumed")
    for file in ("last.pt", "epoch_2.pt"):
        (tmp_path / "resumed" / file).unlink()
    assert "resumed from" in call("--work-dir", tmp_path / "resumed", "--keep", 2, "--resume", "true")
    straight, resumed = (checkpoint.load(folder / "last.pt") for folder in (run, tmp_path / "resumed"))
    assert all(tiny.equal(straight[key], resumed[key]) for key in ("model", "optimizer", "rng"))

    weights = run / "last.pt"
    call("--phase", "test", "--weights", weights, "--work-dir", run, "--save-score", "true")
    call("--phase", "report", "--work-dir", run)
    V = given["model_args"]["num_point"]
    np.savez(tmp_path / "clip.npz", keypoint=np.random.default_rng(0).normal(size=(1, 20, V, 3)))
    more = ("--image-size", 320, 240) if V == 17 else ()  # of 2-D poses
    call("--phase", "predict", "--weights", weights, "--source", tmp_path / "clip.npz", *more)

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

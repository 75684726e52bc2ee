"""A tiny benchmark and synthetic run directories of networks on it, for the tests of fusion, report and clusters."""

import json
from pathlib import Path

import numpy as np
import torch
import yaml

from feeders.clip_store import FORMAT
from torchlight.training.scores import write_scores

CLASSES = ["wave", "clap", "jump", "sit down", "stand up", "throw", "kick"]
NAMES = np.array([f"clip_{i:03d}" for i in range(60)])
LABEL = np.arange(60) * 5 % 7


def write_store(folder: Path) -> Path:
    """A clip store of 20-joint clips of 12 frames: two training clips, then the 60 test clips in the order of NAMES."""
    folder.mkdir(parents=True)
    names, N, T = np.array(["first", "second", *NAMES]), len(NAMES) + 2, 12
    random = np.random.default_rng(0)
    pose = random.normal(size=(1, 20, 3))
    np.save(folder / "frames.npy", (pose + 0.1 * random.normal(size=(N * T, 20, 3))).astype(np.float32))
    np.savez(
        folder / "index.npz",
        **{"name": names, "label": np.array([0, 1, *LABEL]), "start": np.arange(N) * T, "length": np.full(N, T)},
        **{"valid": np.full(N, T), "persons": np.zeros((N, 1), np.int64)},
        **{"split/xview/train": np.arange(2), "split/xview/test": np.arange(2, N)},
    )
    facts = {
        "num_class": len(CLASSES),
        "num_point": 20,
        "num_person": 1,
        "channels": 3,
        "class_names": CLASSES,
        "skeleton": "graph.ucla",
    }
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, **facts}))
    return folder


def make_scores(seed: int, strength: float = 2.0) -> np.ndarray:
    """Logits (60, 7) of a network that is often correct."""
    return np.random.default_rng(seed).normal(size=(60, 7)) + strength * np.eye(7)[LABEL]


def write_run(folder: Path, store: Path, modality: str = "joint", seed: int = 0) -> Path:
    """A run directory with a configuration, curves, scores and weights."""
    folder.mkdir(parents=True)
    config = {
        "feeder": "feeders.feeder_ucla.Feeder",
        "train_feeder_args": {"data_path": str(store)},
        "test_feeder_args": {"data_path": str(store)},
        "model": "model.ctrgcn.Model",
        "model_args": {"num_class": 7, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"},
        "modality": modality,
        "num_epoch": 3,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "environment.json").write_text(
        json.dumps({"command": "main.py --phase train", "torch": "2.6", "data": {"frames.npy": "00"}})
    )
    lines = [
        {
            "epoch": e,
            "lr": 0.1 / e,
            "train_loss": 2 / e,
            "train_top1": 20.0 * e,
            "test_loss": 2.5 / e,
            "test_top1": 15.0 * e,
            "test_top5": 90.0,
        }
        for e in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_scores(folder / "epoch1_test_score.pkl", NAMES, make_scores(seed))
    weights = {f"l{i}.gcn1.PA": torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(i)) for i in (1, 2, 10)}
    torch.save({"model": weights | {"fc.weight": torch.zeros(7, 4)}, "epoch": 3}, folder / "last.pt")
    return folder

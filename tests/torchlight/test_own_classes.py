"""A feeder and an objective that inherit from nothing of ours go through training, test and report."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.torchlight.own_classes import ArrayFeeder, FocalLoss
from torchlight.contract import DescribedFeeder, MovableFeeder, missing_attributes
from torchlight.training.scores import read_scores

ROOT = Path(__file__).resolve().parents[2]
C, T, V, M = 3, 8, 5, 1


@pytest.fixture
def arrays(tmp_path):
    """40 training and 20 test clips of 3 classes that differ in one joint."""
    random = np.random.default_rng(0)
    parts = {}
    for part, number in (("train", 40), ("test", 20)):
        label = np.arange(number) % 3
        data = random.normal(size=(number, C, T, V, M)).astype(np.float32)
        data[np.arange(number), :, :, label] += 2
        parts |= {f"{part}_data": data, f"{part}_label": label}
    np.savez(tmp_path / "clips.npz", **parts)
    return tmp_path / "clips.npz"


@pytest.fixture
def config(tmp_path, arrays):
    options = {
        "feeder": "tests.torchlight.own_classes.ArrayFeeder",
        "train_feeder_args": {"data_path": str(arrays)},
        "test_feeder_args": {"data_path": str(arrays)},
        "model": "tests.torchlight.parts.Plain",
        "model_args": {"num_class": 3, "num_point": V, "num_person": M},
        "objective": "tests.torchlight.own_classes.FocalLoss",
        "objective_args": {"gamma": 1.0},
        "work_dir": str(tmp_path / "run"),
        "batch_size": 8,
        "num_epoch": 3,
        "device": "cpu",
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(options))
    return tmp_path / "own.yaml"


def test_the_classes_inherit_from_nothing_of_ours():
    for own in (ArrayFeeder, FocalLoss):
        assert not [base for base in own.__mro__[1:] if base.__module__.split(".")[0] in ("feeders", "torchlight")]


def test_a_foreign_feeder_and_objective_train_test_and_report(config, main, tmp_path):
    run = tmp_path / "run"
    code, _, err = main("--config", config, "--phase", "train")
    assert code == 0, err
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs] == [1, 2, 3] and epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert epochs[-1]["train_probability"] > epochs[0]["train_probability"]  # the objective's own term is logged
    code, _, err = main("--config", config, "--phase", "test", "--weights", run / "last.pt", "--save-score", "true")
    assert code == 0, err
    scores = read_scores(run / "epoch1_test_score.pkl")
    assert set(scores) == {f"test_{i}" for i in range(20)} and scores["test_0"].shape == (3,)
    code, _, err = main("--phase", "report", "--work-dir", run)
    assert code == 0, err
    page = (run / "report.html").read_text()
    assert "Confusion matrix" in page and "the feeder has no skeleton" in page


def test_a_foreign_feeder_needs_none_of_the_optional_attributes(arrays):
    feeder = ArrayFeeder(str(arrays), "train", "joint", seed=1)
    assert not missing_attributes(feeder)
    assert not isinstance(feeder, DescribedFeeder) and not isinstance(feeder, MovableFeeder)


def test_an_error_of_a_foreign_feeder_is_one_line_with_the_option_that_caused_it(config, main):
    code, _, err = main("--config", config, "--modality", "bone")
    assert code == 2 and err.strip() == "error: train_feeder_args: modality: expected joint, got bone"


def test_the_page_prints_these_classes():
    source = (ROOT / "tests/torchlight/own_classes.py").read_text().split('"""', 2)[2].strip()
    assert source in (ROOT / "docs/architecture.md").read_text()

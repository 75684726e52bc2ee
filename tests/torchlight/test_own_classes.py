"""A feeder and an objective that do not inherit from this project: training, test, report and prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.torchlight.own_classes import ArrayFeeder, FocalLoss
from torchlight.contract import ClipFeeder, DescribedFeeder, MovableFeeder, SizedFeeder, missing_attributes
from torchlight.predict import Recognizer
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


def test_the_classes_do_not_inherit_from_this_project():
    for own in (ArrayFeeder, FocalLoss):
        assert not [base for base in own.__mro__[1:] if base.__module__.split(".")[0] in ("feeders", "torchlight")]


def test_a_custom_feeder_and_objective_train_test_and_report(config, main, tmp_path):
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


def test_a_custom_feeder_and_objective_predict_files_and_arrays_as_the_test_phase(config, main, arrays, tmp_path):
    last = tmp_path / "run" / "last.pt"
    assert main("--config", config, "--phase", "train", "--num-epoch", 1)[0] == 0
    assert main("--config", config, "--phase", "test", "--weights", last, "--save-score")[0] == 0
    scores = read_scores(tmp_path / "run" / "epoch1_test_score.pkl")
    with np.load(arrays) as file:
        clips = file["test_data"][..., 0].transpose(0, 2, 3, 1)  # (N, T, V, C)
    (tmp_path / "raw").mkdir()
    for i in range(6):
        np.savez(tmp_path / "raw" / f"test_{i}.npz", keypoint=clips[i])
    arrays.unlink()  # the checkpoint says what prediction needs
    options = ("--phase", "predict", "--weights", last, "--config", config, "--source", tmp_path / "raw")
    code, _, err = main(*options, "--output", tmp_path / "out.jsonl")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()[1:]]
    recognizer = Recognizer(last, config=config, device="cpu")
    for i, row in enumerate(rows):
        (found,) = recognizer.predict(clips[i])
        assert np.allclose(found.scores, scores[f"test_{i}"], atol=1e-6)
        assert row["label"] == str(scores[f"test_{i}"].argmax()) and row["source"].endswith(f"test_{i}.npz")
    code, _, err = main("--phase", "predict", "--weights", last, "--source", tmp_path / "raw")
    assert code == 2 and "expected a class of this project" in err  # a checkpoint alone runs no foreign class


def test_longer_clips_are_sampled_to_the_frames_of_the_training():
    clip = np.arange(30, dtype=np.float32).reshape(1, 10, 1, 3)
    feeder = ArrayFeeder.from_clips([clip], {"window": 4, "num_class": 2}, part="test", modality="joint", seed=1)
    assert feeder.batch([0], 0)["data"].shape == (1, 3, 4, 1, 1)
    assert feeder.batch([0], 0)["data"][0, 0, :, 0, 0].tolist() == [0, 9, 18, 27]


def test_a_custom_feeder_needs_none_of_the_optional_attributes(arrays):
    feeder = ArrayFeeder(str(arrays), "train", "joint", seed=1)
    assert not missing_attributes(feeder) and isinstance(feeder, ClipFeeder) and isinstance(feeder, SizedFeeder)
    assert not isinstance(feeder, DescribedFeeder) and not isinstance(feeder, MovableFeeder)


def test_an_error_of_a_custom_feeder_is_one_line_with_the_option_that_caused_it(config, main):
    code, _, err = main("--config", config, "--modality", "bone")
    assert code == 2 and err.strip() == "error: train_feeder_args: modality: expected joint, got bone"


def test_the_page_prints_these_classes():
    source = (ROOT / "tests/torchlight/own_classes.py").read_text().split('"""', 2)[2].strip()
    assert source in (ROOT / "docs/architecture.md").read_text()

"""Errors that were found by measurements."""

import numpy as np
import pytest
import torch

from data.known_facts import known_facts
from feeders.feeder_heatmap import Feeder as Heatmaps
from feeders.feeder_pyskl import Feeder as Pyskl
from feeders.feeder_ucla import Feeder
from tests.data.conftest import cli  # noqa: F401
from tests.torchlight.predict.conftest import save_stream
from torchlight.predict import Recognizer, Settings
from torchlight.training import checkpoint


def checkpoint_without_facts(folder, train, test):
    options = {"feeder": "feeders.feeder_ucla.Feeder", "train_feeder_args": train, "test_feeder_args": test}
    path, config = save_stream(folder, "graph.ucla.Graph", 1, 20, **options)
    content = checkpoint.load(path)
    del content["clips"]
    torch.save(content, path)
    return path, config


def test_a_checkpoint_without_facts_takes_the_window_from_training_clips_and_not_from_test_clips(
    ucla_raw,
    tmp_path,
    cli,  # noqa: F811
):
    assert cli("NW-UCLA", "--raw", ucla_raw, "--out", tmp_path / "u.clips") == 0
    there = {"data_path": str(tmp_path / "u.clips"), "split": "xview", "window_size": 8}
    train, test = (np.percentile(Feeder(**there, part=part).frames, (10, 50, 90)) for part in ("train", "test"))
    found = Recognizer(checkpoint_without_facts(tmp_path, there, there)[0], device="cpu").streams[0].facts
    assert found["lengths"] == train.tolist() != test.tolist()
    gone = there | {"data_path": str(tmp_path / "gone.clips")}
    recognizer = Recognizer(*checkpoint_without_facts(tmp_path, gone, there), device="cpu")
    with pytest.raises(ValueError, match="window: expected a number of seconds"):
        recognizer.predict(np.ones((40, 20, 3)).cumsum(0), Settings(window=0))


def test_the_persons_of_a_published_network_of_kinetics_400_are_those_of_its_test():
    counts = [known_facts("data/kinetics/k400_hrnet.pkl", kind.detected)["num_person"] for kind in (Heatmaps, Pyskl)]
    assert counts == [10, 2] and known_facts("data/ntu/ntu60_hrnet.pkl", 10)["num_person"] == 2

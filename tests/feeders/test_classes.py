"""Feeders of some of the classes of a benchmark."""

import numpy as np
import pytest

from feeders.feeder_ucla import Feeder
from tests.feeders.synthetic import random_clips, write_store

LABELS = [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.fixture
def path(tmp_path):
    clips = [clip[:1] for clip in random_clips(range(10, 18), 20)[0]]
    splits = {"xview": {"train": np.arange(4), "test": np.arange(8)}}
    names = ["sit", "stand", "walk", "wave"]
    return write_store(
        tmp_path / "u.clips", clips, LABELS, [(0,)] * 8, splits, num_class=4, class_names=names, skeleton="graph.ucla"
    )


def test_the_clips_of_the_named_classes_are_kept_and_numbered_in_the_given_order(path):
    every, some = Feeder(str(path), part="test"), Feeder(str(path), part="test", classes=[3, 1])
    assert some.name.tolist() == [name for name, k in zip(every.name, LABELS, strict=True) if k in (1, 3)]
    assert some.label.tolist() == [1, 0, 1, 0]
    assert (some.num_class, some.class_names) == (2, ["wave", "stand"]) and some.manifest["num_class"] == 2
    kept = [i for i, k in enumerate(LABELS) if k in (1, 3)]
    np.testing.assert_array_equal(some.batch([0, 1, 2, 3], 0)["data"], every.batch(kept, 0)["data"])
    assert (every.num_class, every.manifest["num_class"]) == (4, 4)


@pytest.mark.parametrize("classes", [[1, 1], [4], [-1]])
def test_classes_that_do_not_exist_or_appear_twice_are_refused(path, classes):
    with pytest.raises(ValueError, match=r"classes: expected different numbers from 0 to 3, got"):
        Feeder(str(path), part="test", classes=classes)


def test_classes_without_clips_are_refused(tmp_path):
    clips = [clip[:1] for clip in random_clips([9], 20)[0]]
    splits = {"xview": {"train": np.arange(1), "test": np.arange(1)}}
    path = write_store(tmp_path / "u.clips", clips, [0], [(0,)], splits, num_class=2, skeleton="graph.ucla")
    with pytest.raises(ValueError, match=r"classes: expected classes with clips, got none of \[1\]"):
        Feeder(str(path), part="test", classes=[1])


def test_a_sample_of_clips_has_the_given_number_of_each_class_and_larger_samples_contain_smaller_ones(tmp_path):
    clips, _ = random_clips([9] * 40, 20)
    labels = np.arange(40) % 4
    store = write_store(
        tmp_path / "many.clips",
        [clip[:1] for clip in clips],
        labels,
        [(0,)] * 40,
        {"xview": {"train": np.arange(40), "test": np.arange(4)}},
        skeleton="graph.ucla",
    )
    draws = {
        (number, seed): set(Feeder(str(store), clips_per_class=number, seed=seed, classes=[3, 1]).name)
        for number in (2, 5, 50)
        for seed in (1, 2)
    }
    few = Feeder(str(store), clips_per_class=2, seed=1, classes=[3, 1])
    assert sorted(few.label) == [0, 0, 1, 1] and all(few.batch([0, 1, 2, 3], 0)["label"].numpy() == few.label)
    assert draws[2, 1] < draws[5, 1] < draws[50, 1] == draws[50, 2] and draws[2, 1] != draws[2, 2]

"""Small clip stores and files in published formats, with random numbers."""

import pickle

import numpy as np
import pytest
import torch

from tests.feeders.synthetic import random_clips, write_store


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def store(tmp_path):
    """Ten clips of 25 joints, 5 to 210 frames: seven training and three test clips."""
    clips, persons = random_clips([5, 40, 64, 65, 90, 130, 210, 33, 71, 100], 25)
    splits = {"xsub": {"train": [6, 0, 1, 2, 3, 4, 5], "test": [9, 7, 8]}}
    return write_store(
        tmp_path / "ntu.clips", clips, np.arange(10) % 4, persons, splits, num_class=4, skeleton="graph.ntu_rgb_d"
    )


@pytest.fixture
def ucla_store(tmp_path):
    clips = [clip[:1] for clip in random_clips([1, 20, 52, 120, 7], 20)[0]]
    splits = {"xview": {"train": [0, 1, 2, 3], "test": [4, 3]}}
    return write_store(tmp_path / "ucla.clips", clips, [0, 1, 2, 0, 1], [(0,)] * 5, splits)


@pytest.fixture
def kinetics_store(tmp_path):
    clips, persons = random_clips([30, 80, 55, 80], 18)
    splits = {"all": {"train": [0, 1, 2], "test": [3]}}
    return write_store(tmp_path / "k.clips", clips, [0, 1, 2, 3], persons, splits, window=80, pad="zero")


@pytest.fixture
def pickle_file(tmp_path):
    """A pickle in the format of PYSKL: 25 joints in 3-D."""

    def write(records, split, name="own.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps({"split": split, "annotations": records}))
        return path

    return write

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders.feeder_kinetics import Feeder
from feeders.modality import derive
from feeders.random_numbers import RandomNumbers
from feeders.transforms import choose_frames, choose_map, extent, pad_map, random_move, shift_map
from graph.kinetics import SKELETON
from tests.feeders.synthetic import random_clips, write_store


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "ntu.npz") as file:
        arrays = {key: value for key, value in file.items() if key.startswith("tools_")}
        return arrays | json.loads(str(file["meta"]))["tools"]


@pytest.fixture
def x(record):
    return torch.from_numpy(record["tools_input"])[None]


def test_a_chosen_window_is_the_published_one(record, x):
    for size in (30, 64):
        time = choose_map(50, size, torch.tensor([record[f"random_choose_{size}_begin"]]))
        np.testing.assert_array_equal(choose_frames(x, time)[0], record[f"tools_random_choose_{size}"])


def test_padding_is_the_published_one(record, x):
    np.testing.assert_array_equal(
        choose_frames(x, pad_map(torch.tensor([50]), 64, "zero"))[0], record["tools_auto_pad_64"]
    )


def test_a_shift_is_the_published_one(record, x):
    first, last = extent(x)
    time = shift_map(first, last, 50, torch.tensor([record["random_shift_bias"]]))
    np.testing.assert_array_equal(choose_frames(x, time)[0], record["tools_random_shift"])


def test_a_move_is_the_published_one(record, x):
    drawn = {key: torch.tensor([value], dtype=torch.float64) for key, value in record["random_move"].items()}
    shift = torch.stack([drawn["tx"], drawn["ty"]], 1)
    found = random_move(x, drawn["angle"], drawn["scale"], shift)[0]
    np.testing.assert_allclose(found, record["tools_random_move"], rtol=0, atol=2e-6)


def test_repetition_loops_each_clip():
    time = pad_map(torch.tensor([2, 3, 7]), 6, "repeat")
    assert time.tolist() == [[0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5]]


def test_empty_clips_have_no_extent():
    x = torch.zeros(2, 3, 9, 4, 2)
    x[1, 0, 3:5, 1, 1] = 1
    first, last = extent(x)
    assert (first.tolist(), last.tolist()) == ([0, 3], [0, 5])


def test_testing_yields_all_frames_and_appends_zeros(kinetics_store):
    feeder = Feeder(str(kinetics_store), "all", "train")
    data = feeder.batch([0, 1, 2], 0)["data"]
    assert data.shape[1:] == feeder.shape == (3, 80, 18, 2)
    assert (data[0, :, 30:] == 0).all() and (data[0, :, :30, :, 0] != 0).all() and (data[0, ..., 1] == 0).all()
    longer = Feeder(str(kinetics_store), "all", "train", window_size=90)
    assert torch.equal(longer.batch([0, 1, 2], 0)["data"][:, :, :80], data) and longer.shape[1] == 90


def test_clips_of_a_store_with_pad_repeat_are_looped(tmp_path):
    clips, persons = random_clips([4, 9], 18)
    store = write_store(
        tmp_path / "r.clips", clips, [0, 1], persons, {"all": {"train": [0, 1]}}, window=12, pad="repeat"
    )
    data = Feeder(str(store), "all", "train").batch([0, 1], 0)["data"]
    assert torch.equal(data[0, :, 4:8], data[0, :, :4]) and torch.equal(data[1, :, 9:], data[1, :, :3])


@pytest.mark.parametrize("modality", ["bone", "joint_motion", "bone_motion"])
def test_bones_and_motions_come_before_the_window(kinetics_store, modality):
    args = dict(split="all", part="train", window_size=20, random_choose=True)
    joints = Feeder(str(kinetics_store), "all", "train").batch([0, 1, 2], 4)["data"]
    feeder = Feeder(str(kinetics_store), modality=modality, **args)
    found = feeder.batch([0, 1, 2], 4)["data"]
    whole = derive(joints, modality, SKELETON.bone_parents)
    begin = RandomNumbers(0, 4, torch.arange(3)).integer(0, 61)
    assert torch.equal(found, torch.stack([x[:, b : b + 20] for x, b in zip(whole, begin[:, 0], strict=True)]))


def test_windows_start_everywhere_and_shifts_lose_no_frame(kinetics_store):
    feeder = Feeder(
        str(kinetics_store), "all", "train", repeat=300, window_size=60, random_choose=True, random_shift=True
    )
    shifted = Feeder(str(kinetics_store), "all", "train", repeat=900, random_shift=True).batch(range(0, 2700, 3), 0)[
        "data"
    ]
    assert feeder.batch(range(9), 0)["data"].shape == (9, 3, 60, 18, 2)
    first, last = extent(shifted)
    assert (last - first == 30).all() and set(first.tolist()) == set(range(51))


def test_a_move_does_not_change_the_score(kinetics_store):
    plain, moved = (
        Feeder(str(kinetics_store), "all", "train", random_move=move).batch(range(3), 0)["data"]
        for move in (False, True)
    )
    assert torch.equal(plain[:, 2], moved[:, 2]) and not torch.equal(plain[:, :2], moved[:, :2])
    again = Feeder(str(kinetics_store), "all", "train", random_move=True, modality="bone", also=["joint"]).batch(
        range(3), 0
    )
    assert torch.equal(again["data_joint"], moved)


@pytest.mark.parametrize("size, choose", [(-1, False), (0, True), (40, False)])
def test_a_wrong_window_is_refused(kinetics_store, size, choose):
    with pytest.raises(ValueError, match=f"window_size: expected .*got {size}"):
        Feeder(str(kinetics_store), "all", "train", window_size=size, random_choose=choose)


def test_joints_are_not_appended_to_moved_clips(kinetics_store):
    with pytest.raises(ValueError, match="append_joints: expected false with random_move"):
        Feeder(str(kinetics_store), "all", "train", random_move=True, append_joints=True)

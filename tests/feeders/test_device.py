"""Batches made on a fake GPU: they equal those of the CPU, contain no tensor of the host and cause no host sync."""

from pathlib import Path

import numpy as np
import pytest
import torch

from feeders import (
    clip_part,
    feeder_heatmap,
    feeder_kinetics,
    feeder_ntu,
    feeder_pyskl,
    feeder_skateformer,
    feeder_skateformer_ucla,
    feeder_ucla,
)
from feeders.batch_feeder import BatchFeeder
from tests.feeders.synthetic import random_clips, write_store
from tests.pretend import OnGpu, gpu
from torchlight.system.modalities import COORDINATES
from torchlight.training.loader import ChunkedBatches

CUDA = torch.device("cuda:0")
PYSKL = dict(random_rot=0.3, random_scale=0.1, random_noise=0.01)
KINETICS = dict(window_size=50, random_choose=True, random_shift=True, random_move=True)
RECIPES = {
    "ntu": (feeder_ntu, "store", dict(p_interval=[0.5, 1], random_rot=True)),
    "ntu, 13 joints": (feeder_ntu, "store", dict(unify=True)),
    "ntu, test": (feeder_ntu, "store", dict(part="test")),
    "ucla": (feeder_ucla, "ucla_store", {}),
    "ucla, test": (feeder_ucla, "ucla_store", dict(part="test")),
    "kinetics": (feeder_kinetics, "kinetics_store", KINETICS),
    "kinetics, test": (feeder_kinetics, "kinetics_store", dict(part="test", window_size=100)),
    "pyskl": (feeder_pyskl, "store", PYSKL),
    "pyskl, decoded": (feeder_pyskl, "store", dict(sampling="uniform_decode", p_interval=[0.5, 1])),
    "pyskl, padded": (feeder_pyskl, "store", dict(sampling="pad", num_person=3)),
    "pyskl, 2-D": (feeder_pyskl, "kinetics_store", dict(pre_normalize="2d")),
    "pyskl, test": (feeder_pyskl, "store", dict(part="test", num_clips=2)),
    "skateformer": (feeder_skateformer, "store", dict(p_interval=[0.5, 1])),
    "skateformer, test": (feeder_skateformer, "store", dict(part="test")),
    "skateformer_ucla": (feeder_skateformer_ucla, "ucla_store", {}),
}
SPLITS = {"store": "xsub", "ucla_store": "xview", "kinetics_store": "all"}


@pytest.fixture(params=RECIPES)
def make(request):
    module, store, arguments = RECIPES[request.param]
    path = request.getfixturevalue(store)
    return lambda: module.Feeder(
        str(path), SPLITS[store], **{"part": "train", "repeat": 2, "also": COORDINATES[1:], **arguments}
    )


def on_gpu(feeder: BatchFeeder, monkeypatch, indices, epoch: int) -> tuple[dict, list[str]]:
    """A batch made on the fake GPU and copied back, and the operations that made the host wait."""
    with gpu(monkeypatch) as device:
        feeder.to(CUDA)
        feeder.batch(indices, epoch)  # small tables are copied once
        device.waits.clear()
        batch, waits = feeder.batch(indices, epoch), list(device.waits)
        assert feeder.device == CUDA and all(
            isinstance(x, OnGpu) for x in batch.values() if isinstance(x, torch.Tensor)
        )
        return {key: x.cpu() if isinstance(x, OnGpu) else x for key, x in batch.items()}, waits


def test_a_batch_made_on_a_gpu_equals_that_of_the_cpu_without_host_syncs(make, monkeypatch):
    feeder = make()
    indices = range(max(len(feeder) - 1, 1))
    expected = feeder.batch(indices, 3)
    found, waits = on_gpu(feeder, monkeypatch, indices, 3)
    assert found.keys() == expected.keys() and found.get("clips") == expected.get("clips")
    for key in expected.keys() - {"clips"}:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-5)
    sampled_by_numpy = isinstance(feeder, feeder_pyskl.Feeder) and not feeder.train and feeder.sampling != "pad"
    assert bool(waits) == sampled_by_numpy, waits


def equal(one: dict, other: dict) -> bool:
    """Whether two batches are the same to the bit."""
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key]
        for key in one
    )


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_batches_that_are_made_together_are_bit_identical_to_those_made_separately(make, size):
    feeder = make()
    order = torch.randperm(len(feeder), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[i : i + 2] for i in range(0, len(order), 2)]  # the last one may be smaller
    found = ChunkedBatches(feeder, batches, 3, size)
    assert len(found) == len(batches)
    for indices, batch in zip(batches, found, strict=True):
        assert equal(batch, feeder.batch(indices, 3))


def test_a_gpu_makes_many_batches_with_the_operations_of_one(store, monkeypatch):
    feeder = feeder_ntu.Feeder(str(store), "xsub", "train", repeat=8, window_size=16)
    batches, counts = [[i, i + 1] for i in range(0, 8, 2)], []
    with gpu(monkeypatch) as device:
        feeder.to(CUDA)
        for size in (8, 2):
            device.count = 0
            assert len(list(ChunkedBatches(feeder, batches, 0, size))) == 4
            counts.append(device.count)
    assert counts[0] * 3 < counts[1]


def test_clips_of_one_array_are_read_on_a_gpu_as_on_the_cpu(monkeypatch):
    clips = clip_part.ArrayPart(
        Path("x.npy"), np.random.default_rng(0).normal(size=(3, 3, 5, 18, 2)), list("abc"), [0, 1, 0], {}
    )
    clip, time = torch.tensor([2, 0]), torch.tensor([[0, 3, -1], [1, 1, 2]])
    expected = clips.take(clip, time)
    with gpu(monkeypatch):
        assert torch.equal(clips.to(CUDA).take(clip.to(CUDA), time.to(CUDA)).cpu(), expected)


def test_a_clip_without_persons_is_empty_on_a_gpu_too(tmp_path, monkeypatch):
    clips = [
        *random_clips([6], 18)[0],
        np.zeros((0, 6, 18, 3), np.float32),
    ]  # it would begin after the last frame of the file
    store = write_store(tmp_path / "none.clips", clips, [0, 0], [(0, -1), (-1, -1)], {"all": {"test": [0, 1]}})
    batch, _ = on_gpu(feeder_kinetics.Feeder(str(store), "all", "test"), monkeypatch, [0, 1], 0)
    assert (batch["data"][1] == 0).all() and (batch["data"][0, ..., 0] != 0).all()


def held(store) -> int:
    """How many arrays of frames of this store are on the GPU."""
    return sum(str(store) in file for _, file, _ in clip_part.FRAMES_ON_DEVICE)


def test_the_parts_of_one_store_share_its_frames_on_a_gpu_until_both_are_deleted(store, monkeypatch):
    train, test = (feeder_ntu.Feeder(str(store), "xsub", part) for part in ("train", "test"))
    with gpu(monkeypatch):
        train.to(CUDA)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (0, 2**34))  # no memory is left
        assert test.to(CUDA).clips.frames is train.clips.frames
        assert held(store) == 1
        del train, test
        assert held(store) == 0


def test_clips_that_do_not_fit_stay_in_main_memory_with_a_warning(store, monkeypatch, caplog):
    feeder = feeder_ntu.Feeder(str(store), "xsub", "train")
    with gpu(monkeypatch):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (feeder.clips.frames.nbytes * 4 - 1, 2**34))
        assert feeder.to(CUDA).device == torch.device("cpu") and "do not fit on cuda:0 together" in caplog.text
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (feeder.clips.frames.nbytes * 4, 2**34))
        assert feeder.to(CUDA).device == CUDA


def test_the_fake_gpu_refuses_what_a_real_one_refuses(monkeypatch):
    with gpu(monkeypatch) as device:
        x = torch.arange(3.0).to(CUDA)
        assert (x + torch.tensor(1.0))[torch.tensor([0, 2])].cpu().tolist() == [1, 3]
        for mixed in (
            lambda: x + torch.ones(3),
            lambda: torch.ones(3)[x.long()],
            lambda: torch.where(x > 1, torch.ones(3), x),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        device.waits.clear()
        for waiting in (
            lambda: int(x.max()),
            lambda: x.nonzero(),
            lambda: x[x > 1],
            lambda: x.cpu(),
            lambda: torch.ones(3).to(CUDA),
        ):
            waiting()
            assert len(device.waits) == 1, device.waits
            device.waits.clear()


@pytest.mark.parametrize("part", ["train", "test"])
def test_heatmaps_are_drawn_on_a_gpu(part, pickle_file, monkeypatch):
    rows = [
        {"frame_dir": str(i), "label": 0, "keypoint": 100 + 30 * clip[..., :2], "img_shape": (240, 320)}
        | {"keypoint_score": np.abs(clip[..., 2])}
        for i, clip in enumerate(random_clips([9, 30, 5], 17)[0])
    ]
    file = str(pickle_file(rows, {"train": ["0", "1", "2"], "val": ["0", "1", "2"]}))
    more = {"num_clips": 2, "mirror": True} if part == "test" else {"repeat": 2}
    feeder = feeder_heatmap.Feeder(file, part=part, also=["limb"], window_size=6, size=16, **more)
    expected = feeder.batch([0, 1, 2], 3)
    found, waits = on_gpu(feeder, monkeypatch, [0, 1, 2], 3)
    for key in expected.keys() - {"clips"}:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-5)
    assert bool(waits) == (part == "test"), waits  # PYSKL's test frames are drawn by NumPy

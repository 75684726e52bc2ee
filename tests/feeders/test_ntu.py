import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feeders.feeder_ntu import Feeder
from feeders.transforms import blend, crop_center, crop_random, random_rotation, resize_map
from tests.model.golden import fill

MODALITIES = ("joint", "bone", "joint_motion", "bone_motion")


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "ntu.npz") as file:
        return dict(file)


@pytest.fixture
def npz(record, tmp_path):
    """The recorded clips in the published file format."""
    x, y = record["ntu_input"], np.eye(60)[json.loads(str(record["meta"]))["ntu"]["labels"]]
    np.savez(tmp_path / "NTU60_CS.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return str(tmp_path / "NTU60_CS.npz")


@pytest.fixture
def coco_npz(record, tmp_path):
    x = record["coco_input"]
    np.savez_compressed(tmp_path / "coco.npz", x_test=x, y_test=np.eye(60)[:2])
    return str(tmp_path / "coco.npz")


@pytest.mark.parametrize("modality", MODALITIES)
def test_test_clips_are_the_published_ones_to_the_last_bit(record, npz, modality):
    feeder = Feeder(npz, part="test", modality=modality, window_size=64, p_interval=[0.95])
    batch = feeder.batch(range(7), 0)
    np.testing.assert_array_equal(batch["data"].numpy(), record[f"ntu_{modality}"])
    assert batch["label"].tolist() == [0, 0, 50, 5, 6, 49, 0] and feeder.name[6] == "test_6" and feeder.num_class == 60


def test_a_window_of_256_frames_is_the_published_one(record, npz):
    feeder = Feeder(npz, part="test", window_size=256, p_interval=[0.95])
    np.testing.assert_array_equal(feeder.batch([0, 3], 0)["data"].numpy(), record["ntu_joint_w256"])


def test_the_published_random_numbers_give_the_published_training_crops(record, npz):
    drawn = json.loads(str(record["meta"]))["ntu"]["train_crop"]
    clips = Feeder(npz, part="test", p_interval=[0.95]).clips
    valid = torch.tensor([d["valid"] for d in drawn])
    assert torch.equal(clips.valid, valid)
    p = torch.tensor([d["u"] for d in drawn], dtype=torch.float64) * 0.5 + 0.5
    length = torch.tensor([d["length"] for d in drawn])
    u = (torch.tensor([d["bias"] for d in drawn]) + 0.5).double() / (valid - length + 1)
    begin, found = crop_random(valid, p, u)
    assert torch.equal(found, length) and begin.tolist() == [d["bias"] for d in drawn]
    early, late, weight = resize_map(length, 64)
    clip = torch.arange(7)
    x = blend(clips.take(clip, begin[:, None] + early), clips.take(clip, begin[:, None] + late), weight)
    np.testing.assert_array_equal(x.numpy(), record["ntu_train_crop"])


def test_a_rotation_by_the_published_angles_is_the_published_one(record):
    angles = torch.tensor([json.loads(str(record["meta"]))["ntu"]["random_rot_angles"]], dtype=torch.float64)
    x = torch.from_numpy(record["ntu_random_rot_in"])[None]
    found = random_rotation(x, angles)[0].numpy()
    np.testing.assert_allclose(found, record["ntu_random_rot_out"], rtol=0, atol=2e-7)  # products round by CPU


def test_a_rotation_on_a_gpu_uses_no_matrix_product_that_could_be_rounded_to_tf32(monkeypatch):
    x, angles = torch.randn(2, 3, 4, 5, 1), torch.rand(2, 3)
    expected = random_rotation(x, angles)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    monkeypatch.setattr(torch.Tensor, "__matmul__", None)
    torch.testing.assert_close(random_rotation(x, angles), expected)


def test_unify_keeps_the_published_thirteen_joints(record, npz, coco_npz):
    feeder = Feeder(npz, part="test", p_interval=[0.95], unify=True)
    np.testing.assert_array_equal(feeder.batch([0, 2], 0)["data"].numpy(), record["ntu_unify"])
    assert feeder.shape == (3, 64, 13, 2) and feeder.num_point == 13
    flat = Feeder(coco_npz, part="test", p_interval=[0.95], unify=True, skeleton="graph.coco")
    np.testing.assert_array_equal(flat.batch([0, 1], 0)["data"].numpy(), record["coco_unify"])


@pytest.mark.parametrize("modality", MODALITIES)
def test_seventeen_joints_are_read_as_in_tsgcnext(record, coco_npz, modality):
    feeder = Feeder(coco_npz, part="test", modality=modality, p_interval=[0.95], skeleton="graph.coco")
    np.testing.assert_array_equal(feeder.batch([0, 1], 0)["data"].numpy(), record[f"coco_{modality}"])


@pytest.mark.parametrize("window", [1, 52, 64, 256])
def test_resizing_equals_that_of_torch_up_to_rounding(window):
    draw = torch.Generator().manual_seed(0)
    for L in (1, 2, 3, 63, 64, 65, 128, 301):
        x = torch.randn(1, 3, L, 5, 2, generator=draw)
        early, late, weight = resize_map(torch.tensor([L]), window)
        found = blend(x[:, :, early[0]], x[:, :, late[0]], weight)
        expected = F.interpolate(x.permute(0, 1, 3, 4, 2).flatten(1, 3), size=window, mode="linear").view(
            1, 3, 5, 2, window
        )
        torch.testing.assert_close(found, expected.permute(0, 1, 4, 2, 3), rtol=0, atol=5e-7)
        if L == window:
            assert torch.equal(found, x)


def test_the_middle_crop_is_a_fortieth_on_either_side():
    n = torch.arange(1, 2000)
    begin, length = crop_center(n, 0.95)
    assert torch.equal(begin, n // 40) and torch.equal(length, n - 2 * (n // 40))


def test_random_crops_stay_inside_and_keep_at_least_64_frames(store):
    n = torch.randint(1, 400, (5000,), generator=torch.Generator().manual_seed(0))
    u, v = torch.rand(2, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    begin, length = crop_random(n, 0.5 + 0.5 * u, v)
    assert (
        (begin >= 0).all()
        and (begin + length <= n).all()
        and (length >= n.clamp(max=64)).all()
        and (length >= n // 2).all()
    )
    assert (begin + length == n).any() and (begin == 0).any()


def test_a_rotation_keeps_lengths_and_absent_persons(store):
    still = Feeder(str(store), "xsub", "train", window_size=32, p_interval=[1.0])
    rotated = Feeder(str(store), "xsub", "train", window_size=32, p_interval=[1.0], random_rot=True)
    x, y = still.batch(range(7), 0)["data"], rotated.batch(range(7), 0)["data"]
    torch.testing.assert_close(x.norm(dim=1), y.norm(dim=1), rtol=0, atol=1e-5)
    assert (y[1, ..., 1] == 0).all() and not torch.allclose(x, y)


STREAMS = {  # of the published feeders: skeleton of the bones, modalities relative to the chest
    "hd_gcn": ("", []),
    "block_gcn": ("", ["joint", "bone", "joint_motion", "bone_motion"]),
    "hyper_gcn": ("graph.ntu_rgb_d_tips", ["joint", "bone", "bone_motion"]),
}


@pytest.fixture(scope="module")
def stream_records():
    with np.load(Path(__file__).parent / "golden" / "streams_gcn.npz") as file:
        return dict(file)


@pytest.fixture
def two_clips(tmp_path):
    """Two clips of 33 and 21 frames, the second with one person, in the published file format."""
    x = fill("input:streams_gcn", (2, 40, 150), "input").astype(np.float32)
    x[0, 33:] = x[1, 21:] = x[1, :, 75:] = 0
    np.savez(tmp_path / "two.npz", x_test=x, y_test=np.eye(60)[:2])
    return str(tmp_path / "two.npz")


@pytest.mark.parametrize("network", STREAMS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_streams_relative_to_the_chest_are_those_of_the_published_feeders(network, modality, stream_records, two_clips):
    skeleton, relative = STREAMS[network]
    if network == "hd_gcn" and modality.endswith("motion"):
        pytest.skip("HD-GCN has no motion streams")
    record = "hyper_gcn/joint" if (network, modality) == ("block_gcn", "joint") else f"{network}/{modality}"
    args = {"part": "test", "modality": modality, "window_size": 8, "skeleton": skeleton, "relative": relative}
    found = Feeder(two_clips, **args).batch([0, 1], 0)["data"].numpy()
    np.testing.assert_allclose(found, stream_records[record], rtol=0, atol=1e-6)


@pytest.mark.parametrize("modality", MODALITIES)
def test_appended_joints_are_the_augmented_joints_whatever_the_modality(modality, stream_records, two_clips):
    args = {"part": "test", "modality": modality, "window_size": 8, "relative": MODALITIES}
    feeder = Feeder(two_clips, append_joints=True, **args)
    found = feeder.batch([0, 1], 0)["data"].numpy()
    assert feeder.shape == (6, 8, 25, 2) and feeder.channels == 3
    np.testing.assert_array_equal(found[:, :3], Feeder(two_clips, **args).batch([0, 1], 0)["data"].numpy())
    np.testing.assert_allclose(found[:, 3:], stream_records["hd_gcn/joint"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", ["all", 1.5, [], [0.5, 0.7, 1], [0.0], [1.0, 0.5], [0.5, 1.5]])
def test_a_wrong_interval_is_refused(store, p):
    with pytest.raises(ValueError, match="p_interval: expected .* got"):
        Feeder(str(store), "xsub", "test", p_interval=p)


def test_an_empty_clip_is_refused_by_its_name(record, tmp_path):
    x = record["ntu_input"].copy()
    x[2] = 0
    np.savez(tmp_path / "own.npz", x_test=x, y_test=np.eye(60)[:7])
    with pytest.raises(ValueError, match="got 1 without \\(test_2"):
        Feeder(str(tmp_path / "own.npz"), part="test")


def test_a_rotation_of_two_dimensional_data_is_refused(coco_npz):
    with pytest.raises(ValueError, match="random_rot: expected clips with x, y and z"):
        Feeder(coco_npz, part="test", random_rot=True, skeleton="graph.coco")


def test_joints_are_dropped_in_intervals_of_training_clips_independently_of_the_batch(npz):
    settings = {"data_path": npz, "window_size": 64, "p_interval": [0.95]}
    whole = Feeder(**settings).batch([0, 2, 4], 1)["data"]
    dropped = Feeder(**settings, drop_joints=0.5)
    found = dropped.batch([0, 2, 4], 1)["data"]
    lost = ((found == 0) & (whole != 0)).any(1)[..., 0]  # (N, T, V) of the first person
    joints = lost.any(1)
    assert 0.3 < joints.float().mean() < 0.7 and torch.equal(found[found != 0], whole[found != 0])
    starts = (lost[:, 1:] & ~lost[:, :-1]).sum(1) + lost[:, 0]
    assert starts.max() == 1  # one stretch each
    assert torch.equal(dropped.batch([2], 1)["data"][0], found[1])
    assert not torch.equal(dropped.batch([2], 2)["data"][0] == 0, found[1] == 0)
    test = {**settings, "part": "test"}
    assert torch.equal(Feeder(**test, drop_joints=0.5).batch([0], 0)["data"], Feeder(**test).batch([0], 0)["data"])

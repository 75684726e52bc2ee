from pathlib import Path

import numpy as np
import pytest
import torch

from feeders.feeder_pyskl import Feeder
from feeders.modality import derive
from feeders.pyskl_transforms import gaussian_noise, normalize_2d, normalize_3d, random_rotate, random_scale
from feeders.random_numbers import RandomNumbers
from feeders.sampling import uniform_test, uniform_train
from graph import coco, coco20, ntu_rgb_d
from tests.feeders.synthetic import random_clips, write_store

WORDS = {"b": "bone", "jm": "joint_motion", "bm": "bone_motion"}


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "pyskl.npz") as file:
        return dict(file)


def clip(array, dtype=torch.float64):
    """(M, T, V, C) array -> (1, C, T, V, M)"""
    return torch.from_numpy(array).to(dtype).permute(3, 1, 2, 0)[None]


def back(x):
    """(1, C, T, V, M) -> (M, T, V, C) array"""
    return x[0].permute(3, 1, 2, 0).numpy()


@pytest.mark.parametrize("name", "abcd")
def test_three_dimensional_clips_are_normalized_as_published(record, name):
    padded = torch.nn.functional.pad(clip(record[f"{name}_input"]), (0, 0, 0, 0, 0, 7))
    for spine, key in ((False, "prenorm_nospine"), (True, "prenorm")):
        x, length = normalize_3d(padded, spine)
        T = int(length)
        x = back(x[:, :, :T])
        assert T == record[f"{name}_prenorm_nospine"].shape[1]
        if spine:
            np.testing.assert_allclose([x.sum(), (x**2).sum()], record[f"{name}_prenorm_sum"], rtol=1e-10)
            x = x[:, record[f"{name}_prenorm_frames"]]
        np.testing.assert_allclose(x, record[f"{name}_{key}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", "abcd")
@pytest.mark.parametrize("key", WORDS)
def test_streams_of_three_dimensional_clips_are_the_published_ones(record, name, key):
    found = derive(clip(record[f"{name}_prenorm_nospine"]), WORDS[key], ntu_rgb_d.SKELETON.bone_parents)
    np.testing.assert_array_equal(back(found), record[f"{name}_{key}"])


@pytest.mark.parametrize("body, skeleton", [("ntu", ntu_rgb_d), ("coco20", coco20)])
@pytest.mark.parametrize("key, modality", [("k", "kbone"), ("km", "kbone_motion"), ("b_skeletonagent", "bone")])
def test_k_bones_and_their_motion_are_the_published_ones(body, skeleton, key, modality):
    with np.load(Path(__file__).parent / "golden" / "kbone.npz") as record:
        if f"{body}_{key}" in record:
            found = derive(clip(record[f"{body}_j"]), modality, skeleton.SKELETON.bone_parents)
            np.testing.assert_allclose(back(found), record[f"{body}_{key}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 10])
def test_mmaction2_samples_other_frames_than_pyskl(n):
    with np.load(Path(__file__).parent / "golden" / "mmaction2_sampling.npz") as record:
        lengths = sorted({int(key.split("_")[0].removeprefix("len")) for key in record.files})
        for T in lengths:
            found = uniform_test(T, 100, n, draw_share=False)
            np.testing.assert_array_equal(found, record[f"len{T}_test_{n}"])
            assert T <= 101 or not np.array_equal(found, uniform_test(T, 100, n))
    assert len(lengths) == 8


def test_the_sampling_of_mmaction2_takes_the_whole_clip(tmp_path):
    clips, persons = random_clips([150, 130], 25)
    splits = {"xsub": {"train": np.arange(2), "test": np.arange(2)}}
    path = str(write_store(tmp_path / "n.clips", clips, [0, 1], persons, splits))
    args = dict(split="xsub", part="test", pre_normalize="", sampling="uniform_mmaction2")
    found = Feeder(path, **args).batch([0], 0)["data"]
    frames = uniform_test(150, 100, 1, draw_share=False)
    np.testing.assert_array_equal(found[0, :, :, :, 0].permute(1, 2, 0).numpy(), clips[0][0][frames])
    with pytest.raises(ValueError, match=r"p_interval: expected \[1\] for the sampling of mmaction2"):
        Feeder(path, **args, p_interval=[0.5, 1])


def test_a_mean_score_makes_the_published_bones_of_twenty_joints():
    with np.load(Path(__file__).parent / "golden" / "kbone.npz") as record:
        found = derive(clip(record["coco20_j"]), "bone", coco20.SKELETON.bone_parents, score=(True, False))
        np.testing.assert_allclose(back(found), record["coco20_b"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name, image", [("p", (1080, 1920)), ("q", (480, 640))])
def test_two_dimensional_clips_and_their_streams_are_the_published_ones(record, name, image):
    raw = np.concatenate([record[f"{name}_keypoint"], record[f"{name}_keypoint_score"][..., None]], -1)
    x = clip(raw, torch.float32)
    fixed = normalize_2d(x, torch.tensor([image]))
    np.testing.assert_allclose(back(fixed), record[f"{name}_prenorm2d"], rtol=0, atol=1e-6)
    published = clip(record[f"{name}_prenorm2d"], torch.float32)
    for key, word in WORDS.items():
        found = derive(published, word, coco.SKELETON.bone_parents, score=(True, True))
        np.testing.assert_allclose(back(found), record[f"{name}_{key}"], rtol=0, atol=1e-6)


def test_test_frames_are_the_published_ones(record):
    lengths = {name: record[f"{name}_prenorm_nospine"].shape[1] for name in "abcd"} | {
        f"len{T}": T for T in (100, 101, 199, 200, 300)
    }
    compared = 0
    for name, T in lengths.items():
        for inside, kind in ((False, "uniform"), (True, "uniformdecode")):
            for n, p, suffix in ((1, (1, 1), "1"), (10, (1, 1), "10"), (3, (0.5, 1), "3_p05")):
                if f"{name}_{kind}_test_{suffix}" in record:
                    np.testing.assert_array_equal(
                        uniform_test(T, 100, n, p, inside), record[f"{name}_{kind}_test_{suffix}"]
                    )
                    compared += 1
    assert compared == 4 * 6 + 5 * 3


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("p", [(1, 1), (0.5, 1)])
def test_training_frames_are_in_order_and_cover_the_clip_evenly(p, inside):
    T = torch.tensor([5, 16, 20, 31, 32, 50, 200]).repeat(4000)
    time = uniform_train(T, 16, RandomNumbers(0, 0, torch.arange(len(T))), p, inside).view(4000, 7, 16)
    assert (time >= 0).all() and (time < T[:7, None]).all()
    for i in range(1 if p == (1, 1) else 4, 7):
        steps = time[:, i].diff(dim=1)
        assert (steps > 0).all()
        assert len(time[:, i].unique()) == T[i]
    if p == (1, 1):
        assert (time[:, 1] == torch.arange(16)).all()
        share = (
            torch.bincount(time[:, 2].flatten()) / 4000
        )  # 20 frames, 16 kept: each with the same chance but near the ends
        assert (share[4:16] - 0.8).abs().max() < 0.05
        segment = torch.bincount(time[:, 4, 3], minlength=32)
        assert segment[6:8].sum() == 4000 and (segment[6:8] / 4000 - 0.5).abs().max() < 0.03
    circle = time[:, 0].diff(dim=1)
    assert ((circle == 1) | (circle < 0)).all()


def test_augmentations_with_the_published_random_numbers_are_the_published_ones(record):
    x = clip(record["a_prenorm_nospine"][:, :3])
    draw = np.random.RandomState(0)
    rotated = random_rotate(x, torch.from_numpy(draw.uniform(-0.3, 0.3, 3))[None])
    np.testing.assert_allclose(back(rotated), record["aug_rot_theta0.3_seed0"], rtol=0, atol=1e-12)
    draw = np.random.RandomState(0)
    scaled = random_scale(x, 1 + torch.tensor([[draw.uniform(-1, 1) * 0.1 for _ in range(3)]], dtype=torch.float64))
    np.testing.assert_allclose(back(scaled), record["aug_scale0.1_seed0"], rtol=0, atol=1e-12)
    draw = np.random.RandomState(0)
    normal = torch.from_numpy(draw.randn(3, 25))[None, ..., None]
    direction = torch.from_numpy(draw.uniform(-1, 1, (3, 75))).view(1, 3, 3, 25, 1)
    noisy = gaussian_noise(x, 0.01, normal, direction)
    np.testing.assert_allclose(back(noisy), record["aug_noise_frame_seed0"], rtol=0, atol=1e-9)


def annotations(record, names):
    return [
        dict(frame_dir=name, label=i, total_frames=record[f"{name}_input"].shape[1], keypoint=record[f"{name}_input"])
        for i, name in enumerate(names)
    ]


def test_ten_clips_of_a_pickle_are_the_published_ones(record, pickle_file):
    path = pickle_file(annotations(record, "abcd"), {"xsub_train": ["a"], "xsub_val": ["d", "c", "b", "a"]})
    feeder = Feeder(str(path), "xsub", "test", num_clips=10, align_spine=False)
    assert list(feeder.name) == list("abcd") and feeder.shape == (3, 100, 25, 2)
    batch = feeder.batch(range(4), 0)
    assert (
        batch["clips"] == 10 and batch["data"].shape == (40, 3, 100, 25, 2) and batch["label"].tolist() == [0, 1, 2, 3]
    )
    rows = batch["data"].view(4, 10, 3, 100, 25, 2).permute(0, 1, 5, 3, 4, 2).double()  # (clip, n, M, T, V, C)
    weight = torch.arange(rows[0, 0].numel()).double().mul(0.37).cos().view(rows[0, 0].shape)
    for i, name in enumerate("abcd"):
        check = torch.stack([rows[i].sum((1, 2, 3, 4)), (rows[i] * weight).sum((1, 2, 3, 4))], 1)
        np.testing.assert_allclose(check, record[f"{name}_format_10_check"], rtol=0, atol=1e-6)
    one = Feeder(str(path), "xsub", "test", align_spine=False).batch(range(3), 0)["data"]
    for i, name in enumerate("abc"):
        np.testing.assert_array_equal(one[i].permute(3, 1, 2, 0), record[f"{name}_format_1"][0])


def test_two_dimensional_pickles_give_the_published_clips(record, pickle_file):
    images = {"p": (1080, 1920), "q": (480, 640)}
    records = [
        dict(
            frame_dir=n,
            label=0,
            keypoint=record[f"{n}_keypoint"],
            keypoint_score=record[f"{n}_keypoint_score"],
            img_shape=images[n],
        )
        for n in "pq"
    ]
    path = pickle_file(records, {"train1": [], "test1": ["p", "q"]})
    args = dict(split="1", part="test", window_size=16, num_clips=2, pre_normalize="2d", skeleton="graph.coco")
    data = Feeder(str(path), **args).batch([0, 1], 0)["data"]
    found = data.view(2, 2, 3, 16, 17, 2).permute(0, 1, 5, 3, 4, 2).numpy()
    for i, name in enumerate("pq"):
        np.testing.assert_allclose(found[i], record[f"{name}_format_len16_clips2"], rtol=0, atol=1e-6)


def test_motions_are_those_of_the_whole_clip_at_the_sampled_frames(record, pickle_file):
    path = pickle_file(annotations(record, "abcd"), {"xsub_train": list("abcd"), "xsub_val": []})
    data = Feeder(
        str(path), "xsub", "train", "bone_motion", also=["joint"], align_spine=False, random_rot=0.3, random_scale=0.1
    )
    batch = data.batch(range(4), 3)
    plain = Feeder(str(path), "xsub", "train", "bone_motion", align_spine=False).batch(range(4), 3)["data"]
    time = uniform_train(torch.tensor([37, 64, 97, 136]), 100, RandomNumbers(0, 3, torch.arange(4)))
    for i, name in enumerate("abcd"):
        expected = torch.from_numpy(record[f"{name}_bm"]).float()[:, time[i]].permute(3, 1, 2, 0)
        assert torch.equal(plain[i, ..., : expected.shape[-1]], expected)
    assert batch["data_joint"].shape == (4, 3, 100, 25, 2) and not torch.equal(batch["data"], plain)


def test_padding_keeps_the_first_frames(record, pickle_file):
    path = pickle_file(annotations(record, "ab"), {"train": ["a", "b"], "val": []})
    data = Feeder(str(path), window_size=50, sampling="pad", align_spine=False).batch([0, 1], 0)["data"]
    np.testing.assert_array_equal(data[0, :, :37, :, 0].permute(1, 2, 0), record["a_prenorm_nospine"][0])
    assert (data[0, :, 37:] == 0).all() and torch.equal(
        data[1, :, :, :, 1].permute(1, 2, 0), torch.from_numpy(record["b_prenorm_nospine"][1, :50]).float()
    )


def test_noise_of_a_clip_does_not_depend_on_longer_clips_in_the_batch(record, pickle_file):
    path = pickle_file(annotations(record, "abcd"), {"train": list("abcd"), "val": []})
    feeder = Feeder(str(path), random_noise=0.01)
    torch.testing.assert_close(feeder.batch([0], 0)["data"][0], feeder.batch([3, 0], 0)["data"][1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "args, text",
    [
        ({"sampling": "all"}, "sampling: expected uniform, uniform_decode, .* got 'all'"),
        ({"pre_normalize": "4d"}, "pre_normalize: expected 3d, 2d, .* or '', got '4d'"),
        ({"num_clips": 10}, "num_clips: expected 1 unless testing .* got 10"),
        ({"num_person": 0}, "num_person: expected an integer from 1 to 100, got 0"),
        ({"split": "xview"}, "split: expected xview_train or trainxview, got none of them; did you mean xsub_train"),
        ({"skeleton": "graph.coco"}, "expected clips of 17 joints as in the skeleton coco, got 25"),
    ],
)
def test_data_that_does_not_fit_is_refused(record, pickle_file, args, text):
    path = pickle_file(annotations(record, "ab"), {"xsub_train": ["a"], "xsub_val": ["b"]})
    with pytest.raises(ValueError, match=text):
        Feeder(str(path), **{"split": "xsub", **args})


def test_2d_skeletons_keep_scores_and_are_not_rotated(tmp_path):
    clips, persons = random_clips([9, 12], 21)
    store = write_store(
        tmp_path / "hand.clips", clips, [0, 1], persons, {"own": {"train": [0, 1]}}, skeleton="graph.hand"
    )
    with pytest.raises(ValueError, match="pre_normalize, random_rot: expected .* got other values for hand data"):
        Feeder(str(store), "own")
    plain = Feeder(str(store), "own", pre_normalize="", window_size=8, modality="bone").batch([0, 1], 0)["data"]
    joints = Feeder(str(store), "own", pre_normalize="", window_size=8).batch([0, 1], 0)["data"]
    torch.testing.assert_close(plain[:, 2, :, 0], joints[:, 2, :, 0])  # the root keeps its score


def test_the_first_of_two_equally_present_persons_stays_first_and_an_empty_clip_stays_empty():
    x = torch.randn(2, 3, 6, 25, 2, dtype=torch.float64)
    x[0, :, 4:, :, 0] = x[0, :, :2, :, 1] = 0  # four frames each
    x[1] = 0
    y, length = normalize_3d(x, align_spine=False)
    assert length.tolist() == [4, 0] and (y[1] == 0).all() and (y[0, :, 4:] == 0).all()
    torch.testing.assert_close(y[0, :, :4, :, 0], x[0, :, :4, :, 0] - x[0, :, :1, 1:2, 0])


def test_middle_joints_are_added_to_coco_only(record, pickle_file):
    path = pickle_file(annotations(record, "ab"), {"xsub_train": ["a"], "xsub_val": ["b"]})
    with pytest.raises(ValueError, match="middle_joints: expected clips of the skeleton coco, got ntu_rgb_d"):
        Feeder(str(path), "xsub", "test", middle_joints=True)


@pytest.mark.parametrize("name", ["hand", "ucla"])
def test_a_skeleton_of_your_own_is_not_a_built_in_body_because_of_its_name(tmp_path, name):
    V = {"hand": 21, "ucla": 20}[name]
    path = tmp_path / f"{name}.yaml"
    path.write_text(f"joints: {[f'j{i}' for i in range(V)]}\nbones: {[[i, i - 1] for i in range(1, V)]}\n")
    clips, persons = random_clips([20], V)
    split = {"own": {"test": np.arange(1)}}
    store = write_store(tmp_path / "own.clips", clips, [0], persons, split, skeleton=str(path))
    arguments = {"data_path": str(store), "split": "own", "part": "test", "window_size": 20}
    feeder = Feeder(**arguments, modality="bone", pre_normalize="")
    z = torch.from_numpy(clips[0][0, :, :, 2])
    torch.testing.assert_close(feeder.batch([0], 0)["data"][0, 2, :, 1:, 0], z[:, 1:] - z[:, :-1])  # no score
    if name == "ucla":
        with pytest.raises(
            ValueError, match="align_spine: expected false for skeletons other than graph.ntu_rgb_d and"
        ):
            Feeder(**arguments)

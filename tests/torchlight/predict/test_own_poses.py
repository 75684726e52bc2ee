"""A network that was trained on a store of pose files predicts these files with the scores of the test phase."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.poses.read import read
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from graph.skeleton import find_skeleton
from tests.data import pose_files
from tests.torchlight.predict.conftest import save_stream, scores_of_test
from torchlight.config.options import ConfigError
from torchlight.predict import Recognizer
from torchlight.predict.clips import Settings, clips_of_file

GRAPHS = {  # skeleton -> graph, its arguments, joints
    "kinect_v2_25": ("graph.ntu_rgb_d.Graph", {}, 25),
    "coco_17": ("graph.coco.Graph", {}, 17),
    "mediapipe": ("graph.custom.Graph", {"skeleton": "mediapipe_pose_33"}, 33),
}
NTU = {"feeder": "feeders.feeder_ntu.Feeder", "test_feeder_args": {"window_size": 16}, "modality": "bone"}
PYSKL = {
    "feeder": "feeders.feeder_pyskl.Feeder",
    "test_feeder_args": {"window_size": 16, "pre_normalize": "2d", "num_clips": 2},
}
HEATMAPS = {
    "feeder": "feeders.feeder_heatmap.Feeder",
    "test_feeder_args": {"window_size": 4, "size": 16, "num_clips": 2, "mirror": True},
    "network": {"model": "model.posec3d.Model", "in_channels": 17, "network": "c3d", "width": 4},
}


def check(tmp_path, cli, skeleton, files, *options, persons=1, feeder=NTU) -> set[str]:
    """Prepare `files` of `tmp_path/raw`, the first for training, make a checkpoint, and compare; the names of the test
    clips."""
    rows = [f"{file.stem},{'ab'[i % 2]},{'test' if i else 'train'}" for i, file in enumerate(files)]
    (tmp_path / "raw" / "labels.csv").write_text("\n".join(["name,label,split", *rows]))
    store = tmp_path / "s.clips"
    arguments = ("--raw", tmp_path / "raw", "--skeleton", skeleton, "--out", store, "--persons", persons, "--strict")
    assert cli("custom", *arguments, *options) == 0
    graph, graph_args, joints = GRAPHS[skeleton]
    settings = feeder | {"test_feeder_args": feeder["test_feeder_args"] | {"data_path": str(store), "split": "own"}}
    path, config = save_stream(tmp_path, graph, persons, joints, graph_args=graph_args, **settings)
    expected = scores_of_test(path, config)
    recognizer = Recognizer(path, device="cpu")
    found = {}
    for prediction in recognizer.predict(files):
        file, mark, part = prediction.source.partition("#")
        found[Path(file).stem + mark + part] = prediction.scores
    assert found.keys() == expected.keys() | {files[0].stem}
    for name, scores in expected.items():
        assert np.allclose(found[name], scores, rtol=1e-5, atol=1e-5 * abs(scores).max()), name
    assert np.ptp(np.stack(list(expected.values())), 0).max() > 1e-4  # the clips differ
    return set(expected)


def forms(raw: Path) -> list[Path]:
    files = [pose_files.openpose(raw / "first"), pose_files.openpose(raw / "folder", 1)]
    files += [pose_files.mediapipe(raw / "mediapipe"), pose_files.coco_results(raw / "results")]
    return [*files, pose_files.pyskl(raw / "pickle", ("one", "two")), pose_files.table(raw / "table")]


@pytest.mark.parametrize("recipe", ["centered", "plain"])
@pytest.mark.parametrize("skeleton", ["kinect_v2_25", "coco_17"])
def test_pose_files_of_every_form_equal_the_test_phase(skeleton, recipe, tmp_path, cli):
    found = check(tmp_path, cli, skeleton, forms(tmp_path / "raw"), "--recipe", recipe, persons=2)
    assert found == {"folder", "mediapipe", "results", "pickle#one", "pickle#two", "table"}


@pytest.mark.parametrize("feeder", [PYSKL, HEATMAPS], ids=["joints", "heatmaps"])
def test_poses_in_pictures_of_any_size_equal_the_test_phase(feeder, tmp_path, cli):
    check(tmp_path, cli, "coco_17", forms(tmp_path / "raw"), "--recipe", "plain", persons=2, feeder=feeder)
    store = ClipStore(tmp_path / "s.clips")
    assert store.manifest["images"] and len({tuple(size) for size in store.image.tolist()}) > 1


def test_pictures_of_unknown_size_are_not_kept_and_heatmaps_of_them_are_refused(tmp_path, cli):
    raw = tmp_path / "raw"
    files = forms(raw)
    np.savez(raw / "own.npz", keypoint=np.ones((1, 5, 17, 3), np.float32))
    with pytest.raises(ConfigError, match="expected poses in pixels and the image size of every clip"):
        check(tmp_path, cli, "coco_17", [*files, raw / "own.npz"], "--recipe", "plain", persons=2, feeder=HEATMAPS)
    store = ClipStore(tmp_path / "s.clips")
    assert "images" not in store.manifest and store.image is None


def test_a_layout_without_a_module_and_a_frame_rate_equal_the_test_phase(tmp_path, cli):
    (tmp_path / "raw").mkdir()
    files = [pose_files.mediapipe(tmp_path / "raw" / f"m{seed}", seed) for seed in range(3)]
    check(tmp_path, cli, "mediapipe", files, "--frame-rate", 25)


def test_files_that_were_read_in_another_layout_equal_the_test_phase(tmp_path, cli):
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed in range(3):  # 17 joints that are not those of COCO
        np.savez(raw / f"h{seed}.npz", keypoint=pose_files.people(17, seed, 3)[1], rate=60.0, units="m")
    check(tmp_path, cli, "kinect_v2_25", sorted(raw.glob("*.npz")), "--layout", "h36m_17")


def write_own(path: Path, data: np.ndarray, joints: tuple[str, ...]) -> None:
    """Coordinates (T, V, C) of one person in the format of the suffix."""
    if path.suffix == ".npz":
        np.savez(path, keypoint=data, rate=15.0)
    elif path.suffix == ".npy":
        np.save(path, data)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"skeletons": data.tolist()}))
    else:
        head = ",".join(f"{joint}_{axis}" for joint in joints for axis in "xyz"[: data.shape[-1]])
        path.write_text("\n".join([head, *(",".join(map(str, row)) for row in data.reshape(len(data), -1))]))


@pytest.mark.parametrize(("body", "channels"), [("coco_17", 2), ("coco_17", 3), ("kinect_v2_25", 3)])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".csv"])
def test_windows_of_coordinates_of_the_clips_are_parts_of_the_whole_clip(suffix, body, channels, tmp_path):
    skeleton = find_skeleton(body)
    data = np.random.default_rng(0).uniform(100, 900, (60, skeleton.num_joint, channels))  # pixels or millimeters
    path = tmp_path / f"clip{suffix}"
    write_own(path, data, skeleton.joints)
    facts = {"recipe": "plain", "channels": channels, "num_person": 1, "rate": 15.0, "missing": "interpolate"}
    recipe = Recipe(skeleton, facts)
    (whole,) = clips_of_file(path, recipe, Settings(), None)
    assert np.allclose(whole.prepared.frames[0], data)
    for settings in (
        Settings(rate=15),
        Settings(persons="each"),
        Settings(layout=body),
        Settings(image_size=(999, 999)),
    ):
        (found,) = clips_of_file(path, recipe, settings, None)
        assert np.array_equal(found.prepared.frames, whole.prepared.frames)
    found = clips_of_file(path, recipe, Settings(window=2, stride=1), None)
    assert [clip.begin for clip in found] == [0, 1, 2]
    for clip, begin in zip(found, (0, 15, 30), strict=True):
        assert np.array_equal(clip.prepared.frames, whole.prepared.frames[:, begin : begin + 30])


def test_a_person_of_zeros_in_an_array_gets_no_prediction_of_its_own(tmp_path):
    data = np.stack([np.ones((20, 17, 2)), np.zeros((20, 17, 2))])
    np.savez(tmp_path / "clip.npz", keypoint=data)
    recipe = Recipe(find_skeleton("graph.coco"), {"recipe": "plain", "channels": 2, "num_person": 2})
    (clip,) = clips_of_file(tmp_path / "clip.npz", recipe, Settings(persons="each"), None)
    assert clip.person == "1"


def test_the_third_channel_of_an_array_in_a_layout_of_two_dimensions_is_the_score(tmp_path):
    data = np.random.default_rng(0).uniform(0.1, 0.9, (20, 17, 3))
    np.savez(tmp_path / "clip.npz", keypoint=data, layout="coco_17")
    ((_, found),) = read(tmp_path / "clip.npz")
    assert np.allclose(found.points[0], data[..., :2]) and np.allclose(found.score[0], data[..., 2])


@pytest.mark.parametrize("stated", [True, False])
def test_heatmaps_of_arrays_use_the_image_size_in_the_file_or_the_stated_one(stated, tmp_path, cli):
    (tmp_path / "raw").mkdir()
    files = [tmp_path / "raw" / f"own{seed}.npz" for seed in range(3)]
    for seed, file in enumerate(files):
        points = np.concatenate([pose_files.people(17, seed)[:1], np.ones((1, pose_files.FRAMES, 17, 1))], -1)
        np.savez(file, keypoint=points, **({"image_size": [1000, 800]} if stated else {}))
    options = () if stated else ("--image-size", 1000, 800)
    check(tmp_path, cli, "coco_17", files, "--recipe", "plain", *options, persons=2, feeder=HEATMAPS)
    assert ClipStore(tmp_path / "s.clips").image.tolist() == [[800, 1000]] * 3

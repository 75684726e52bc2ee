"""A network that was trained on a store of pose files predicts these files with the scores of the test phase."""

from pathlib import Path

import numpy as np
import pytest

from feeders.clip_store import ClipStore
from tests.data import pose_files
from tests.torchlight.predict.conftest import save_stream, scores_of_test
from torchlight.config.options import ConfigError
from torchlight.predict import Recognizer

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
    with pytest.raises(ConfigError, match="expected poses in pixels with the size of the picture of every clip"):
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

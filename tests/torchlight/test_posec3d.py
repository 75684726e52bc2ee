"""PoseConv3D through the command line: published files, two streams, poses from a video, data that give no heatmaps."""

import pickle

import numpy as np
import pytest
import torch
import yaml

from data.poses import video
from tests.data.people import Capture, Recorded
from tests.data.test_video import Estimator
from tests.model.golden import fill
from tests.torchlight.predict.conftest import save_stream
from torchlight.config.imports import import_object
from torchlight.fusion import fuse
from torchlight.predict import Recognizer
from torchlight.training import engine, scores

ARGS = {"num_class": 5, "num_point": 17, "num_person": 1, "graph": "graph.coco.Graph", "in_channels": 17}
FEEDER = {"window_size": 4, "size": 16, "num_clips": 2, "mirror": True}


def write_poses(path, channels=2, joints=17, size=(240, 320)):
    draw = np.random.default_rng(0)
    rows = []
    for i in range(4):
        rows.append(
            {"frame_dir": f"c{i}", "label": i, "keypoint": draw.uniform(20, 200, (1 + i % 2, 9, joints, channels))}
        )
        rows[-1] |= {} if channels == 3 else {"keypoint_score": draw.uniform(0, 1, (1 + i % 2, 9, joints))}
        rows[-1] |= {} if size is None else {"img_shape": size}
    names = [row["frame_dir"] for row in rows]
    path.write_bytes(pickle.dumps({"split": {"train": names, "val": names}, "annotations": rows}))
    return path


def configuration(folder, data, **changes):
    options = {"model": "model.posec3d.Model", "model_args": ARGS | {"network": "x3d"}, "num_epoch": 1, "batch_size": 4}
    options |= {"feeder": "feeders.feeder_heatmap.Feeder", "feeder_args": {"data_path": str(data)}, "device": ["cpu"]}
    options |= {"test_feeder_args": FEEDER, "train_feeder_args": {"window_size": 4, "size": 16}}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(options | changes))
    return file


def published():
    """The weights of X3D-shallow as PYSKL writes them, filled by name."""
    model = import_object("model.posec3d.Model")(**ARGS, network="x3d")
    state = model.state_dict()
    floating = {key: torch.from_numpy(fill(key, x.shape)).float() for key, x in state.items() if x.is_floating_point()}
    model.load_state_dict(state | floating)
    return model.eval()


def test_published_files_of_both_streams_are_tested_with_their_rows_and_fused(tmp_path, main):
    model, data = published(), write_poses(tmp_path / "poses.pkl")
    torch.save({"meta": {"epoch": 24}, "state_dict": model.state_dict()}, tmp_path / "joint.pth")
    config, feeder = configuration(tmp_path, data), import_object("feeders.feeder_heatmap.Feeder")
    for stream in ("joint", "limb"):
        place = tmp_path / "runs" / stream
        flags = ("--modality", stream, "--work-dir", place, "--save-score", "true", "--phase", "test")
        code, _, error = main("--config", config, "--weights", tmp_path / "joint.pth", *flags)
        assert code == 0, error
        found = scores.read_scores(place / scores.SCORE_FILE)
        batch = feeder(str(data), part="test", modality=stream, **FEEDER).batch(range(4), 0)
        with torch.no_grad():
            expected = engine.for_inference(model)(batch["data"]).softmax(1).unflatten(0, (4, 4)).mean(1).numpy()
        np.testing.assert_allclose(np.stack([found[f"c{i}"] for i in range(4)]), expected, rtol=1e-4)
    assert fuse.preset_weights("posec3d", ["limb", "joint"]) == [1, 1]


def test_a_file_of_another_network_names_the_one_that_it_fits(tmp_path, main):
    torch.save({"state_dict": published().state_dict()}, tmp_path / "x3d.pth")
    config = configuration(tmp_path, write_poses(tmp_path / "p.pkl"), model_args=ARGS | {"network": "c3d"})
    code, _, error = main(
        "--config", config, "--phase", "test", "--weights", tmp_path / "x3d.pth", "--work-dir", tmp_path
    )
    assert code == 2 and error.count("\n") == 1
    assert "network: expected the arguments of the weights; the file contains PYSKL PoseConv3D, which fits" in error


def test_persons_in_a_video_are_predicted_from_their_heatmaps_whatever_their_number(tmp_path, main, monkeypatch):
    recorded, numbers = Recorded(), range(80, 140)
    network = {"model": "model.posec3d.Model", "in_channels": 17, "network": "c3d", "width": 4}
    paths = []
    for stream in ("joint", "limb"):
        (tmp_path / stream).mkdir()
        arguments = FEEDER | {"data_path": str(write_poses(tmp_path / stream / "poses.pkl"))}
        options = {"feeder": "feeders.feeder_heatmap.Feeder", "test_feeder_args": arguments, "modality": stream}
        paths.append(save_stream(tmp_path / stream, "graph.coco.Graph", 2, 17, network=network, **options)[0])
    (tmp_path / "walk.mp4").touch()
    capture = Capture([number - numbers[0] for number in numbers])
    real = video.Camera
    monkeypatch.setattr(video, "Camera", lambda source: real(source, open_capture=lambda _: capture))
    monkeypatch.setattr(video, "PoseEstimator", lambda models, persons, flat: Estimator(recorded, numbers[0]))
    _, recording = video.read_video(tmp_path / "walk.mp4", flat=True)
    recognizer = Recognizer(paths, device="cpu", preset="posec3d")
    (found,) = recognizer.predict(recording)
    assert found.probabilities.shape == (4,) and np.isfinite(found.probabilities).all()
    seen = recognizer.streams[0].recipe.whole(recording)[0]
    assert seen.image == (recorded.size[1], recorded.size[0]) and seen.frames.shape[2:] == (17, 3)
    assert len(seen.frames) == 2 and seen.frames[..., 0].max() > 300  # pixels
    for path in paths:  # an exported file takes heatmaps, which the recognizer draws as for the checkpoint
        code, out, error = main("--phase", "export", "--weights", path, "--output", path.with_suffix(".onnx"))
        assert code == 0 and "input: data (1, 17, 4, 16, 16); output: logits (1, 4)" in out, error
    again = Recognizer([path.with_suffix(".onnx") for path in paths], device="cpu", preset="posec3d")
    assert np.allclose(again.predict(recording)[0].probabilities, found.probabilities, atol=1e-4)


@pytest.mark.parametrize(
    ("poses", "changes", "text"),
    [
        (
            {"channels": 3, "joints": 25},
            {},
            "got 3 channels of ntu_rgb_d; project 3-D joints to an image fi",
        ),
        (
            {"size": None},
            {},
            "expected poses in pixels and the image size of every clip (img_shape), got none",
        ),
        ({"joints": 18}, {"modality": "limb"}, "modality: expected joint for the skeleton kinetics, got limb"),
        ({}, {"modality": "bone"}, "modality: expected joint or limb, got 'bone'"),
        ({}, {"model": "model.ctrgcn.Model", "model_args": ARGS}, "expected V = 17 (num_point), got V = 16"),
        ({}, {"model_args": ARGS | {"in_channels": 3}}, "model_args.in_channels: expected 17, because the data has 17"),
    ],
)
def test_data_that_give_no_heatmaps_end_with_one_line_and_exit_code_2(poses, changes, text, tmp_path, main):
    config = configuration(tmp_path, write_poses(tmp_path / "poses.pkl", **poses), **changes)
    code, _, error = main("--config", config, "--work-dir", tmp_path / "run")
    lines = {line.split(": ", 2)[-1] for line in error.splitlines()}  # both parts may have one and the same mistake
    assert code == 2 and text in error and len(lines) == 1, error
    assert "Traceback" not in error and not (tmp_path / "run" / "last.pt").exists()

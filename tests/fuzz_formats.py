"""The file formats that `tests.fuzz` mutates: valid content, a writer for any types, and the reader of this project."""

import importlib.util
import json
import pickle
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from data.poses import read as poses
from feeders import feeder_kinetics, feeder_ntu, feeder_pyskl, feeder_ucla
from feeders.clip_store import FORMAT
from graph.skeleton import find_skeleton
from model.ctrgcn import Model as Network
from tests.fuzz import Format
from torchlight.config.options import Config
from torchlight.predict import Recognizer, Settings
from torchlight.runtime.seed import rng_state, set_rng_state
from torchlight.training import optim, resume
from torchlight.training.checkpoint import load, load_weights
from torchlight.training.clip_facts import plain
from torchlight.training.run_dir import LAST, read_environment, read_metrics
from torchlight.training.scores import read_scores

FRAMES, CLASSES = 6, 4


def random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def check_batches(feeder: Any) -> None:
    """Batches of the first clips are finite and have the shape that the feeder states."""
    for epoch in range(2):
        batch = feeder.batch(range(min(len(feeder), 4)), epoch)
        assert batch["data"].shape[1:] == feeder.shape and bool(batch["data"].isfinite().all()), "not finite"
        assert 0 <= int(batch["label"].min()) and int(batch["label"].max()) < feeder.num_class, "label out of range"
    assert feeder.class_names is None or len(feeder.class_names) == feeder.num_class, "class names"


def dump(value: Any, path: Path, rng: random.Random) -> None:
    path.write_bytes(pickle.dumps(value, rng.randrange(6)))


def as_array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # nested lists of different lengths
        found = np.empty((), object)
        found[()] = value
        return found


def store_content() -> dict:
    names = np.array([f"a01_s{i:02d}" for i in range(5)])
    index = {
        "name": names,
        "label": np.arange(5) % CLASSES,
        "start": np.arange(5) * FRAMES,
        "length": np.full(5, FRAMES),
    }
    index |= {"valid": np.full(5, FRAMES), "persons": np.array([[0, -1]] * 5)}
    index |= {"target": np.eye(CLASSES, dtype=np.float32)[np.arange(5) % CLASSES], "group": names}
    index |= {"split/xview/train": np.arange(3), "split/xview/test": np.arange(3, 5)}
    manifest = {"format": FORMAT, "num_class": CLASSES, "num_point": 20, "num_person": 2, "channels": 3}
    manifest |= {
        "class_names": ["a", "b", "c", "d"],
        "targets": "multi-label",
        "skeleton": "graph.ucla",
        "pad": "zero",
        "window": 10,
        "up": "y",
    }
    return {"manifest": manifest, "frames": random_frames(5 * FRAMES, 20, 3), "index": index}


def write_clip_store(tree: Any, folder: Path, rng: random.Random) -> None:
    (folder / "manifest.json").write_text(json.dumps(tree["manifest"]), errors="surrogatepass")
    np.save(folder / "frames.npy", as_array(tree["frames"]))
    save = rng.choice((np.savez, np.savez, np.savez_compressed))
    save(folder / "index.npz", **{str(key): as_array(value) for key, value in tree["index"].items()})


def read_clip_store(folder: Path) -> None:
    for part in ("train", "test"):
        check_batches(feeder_ucla.Feeder(str(folder), "xview", part, window_size=8))
        check_batches(feeder_kinetics.Feeder(str(folder), "xview", part))


def npz_content() -> dict:
    part = {"x_test": random_frames(4, FRAMES, 150), "y_test": np.eye(CLASSES)}
    return part | {"x_train": random_frames(4, FRAMES, 150), "y_train": np.eye(CLASSES)}


def write_npz(tree: Any, folder: Path, rng: random.Random) -> None:
    save = rng.choice((np.savez, np.savez_compressed))
    save(folder / "own.npz", **{str(key): as_array(value) for key, value in tree.items()})


def read_npz(folder: Path) -> None:
    for part in ("train", "test"):
        check_batches(feeder_ntu.Feeder(str(folder / "own.npz"), "", part, window_size=8))


def npy_content() -> dict:
    return {"data": random_frames(4, 3, FRAMES, 18, 2), "labels": ([f"c{i}.json" for i in range(4)], [0, 1, 2, 3])}


def write_npy(tree: Any, folder: Path, rng: random.Random) -> None:
    np.save(folder / "val_data_joint.npy", as_array(tree["data"]))
    dump(tree["labels"], folder / "val_label.pkl", rng)


def read_npy(folder: Path) -> None:
    check_batches(feeder_kinetics.Feeder(str(folder / "val_data_joint.npy"), "", "test"))


def pyskl_content() -> dict:
    def record(i: int) -> dict:
        clip = {"frame_dir": f"c{i}", "label": i % CLASSES, "img_shape": (480, 640), "total_frames": FRAMES}
        keypoint = np.abs(random_frames(1 + i % 2, FRAMES, 17, 2)).astype(np.float16)
        return clip | {"keypoint": keypoint, "keypoint_score": np.full((1 + i % 2, FRAMES, 17), 0.5, np.float16)}

    names = [f"c{i}" for i in range(6)]
    return {"split": {"xsub_train": names[:3], "xsub_val": names[3:]}, "annotations": [record(i) for i in range(6)]}


def dump_file(tree: Any, folder: Path, rng: random.Random) -> None:
    dump(tree, folder / "own.pkl", rng)


def read_pyskl(folder: Path) -> None:
    arguments = {"window_size": 8, "pre_normalize": "2d", "skeleton": "graph.coco"}
    for part in ("train", "test"):
        check_batches(feeder_pyskl.Feeder(str(folder / "own.pkl"), "xsub", part, **arguments))


def detections_content() -> dict:
    records = [
        {"frame_dir": f"c{i}", "label": i, "raw_file": "part.pkl", "frame_inds": np.arange(9) // 3} for i in (0, 1)
    ]
    found = {f"c{i}": {"keypoint": np.abs(random_frames(9, 17, 3)).astype(np.float16)} for i in (0, 1)}
    return {"annotations": {"split": {"val": ["c0", "c1"]}, "annotations": records}, "detections": found}


def write_detections(tree: Any, folder: Path, rng: random.Random) -> None:
    dump(tree["annotations"], folder / "own.pkl", rng)
    dump(tree["detections"], folder / "part.pkl", rng)


def read_detections(folder: Path) -> None:
    arguments = {"window_size": 8, "pre_normalize": "", "middle_joints": True, "sample_first": True}
    check_batches(feeder_pyskl.Feeder(str(folder / "own.pkl"), "", "test", **arguments))


def scores_content() -> dict:
    return {f"c{i}": row for i, row in enumerate(random_frames(5, CLASSES))}


def read_score_file(folder: Path) -> None:
    found = read_scores(folder / "own.pkl")
    assert all(row.ndim == 1 and np.isfinite(row).all() for row in found.values()), "not finite"


def training() -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler]:
    """A network of one layer after a step, its optimizer and scaler."""
    model = nn.Linear(3, 2)
    optimizer = optim.build_optimizer(Config(), model)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, torch.amp.GradScaler("cpu", enabled=True)


def checkpoint_content() -> dict:
    model, optimizer, scaler = training()
    content = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    content |= {"epoch": 1, "step": 2, "best": {"test": {"top1": 50.0, "epoch": 1}}, "config": Config().to_yaml()}
    return content | {"rng": [rng_state()], "sums": [{"loss": torch.ones(2, dtype=torch.float64)}]}


def write_checkpoint(tree: Any, folder: Path, rng: random.Random) -> None:
    torch.save(tree, folder / LAST)


def read_checkpoint(folder: Path) -> None:
    """As `--resume`: whatever passes the checks loads into the objects of a run."""
    model, optimizer, scaler = training()
    arguments = {"model": model, "averaged": False, "optimizer": optimizer, "scaler": scaler, "steps": 5}
    path, content = resume.read_newest(folder, Config(), lambda found: resume.check_content(found, **arguments))
    model.load_state_dict(content["model"])
    optim.load_state(optimizer, content["optimizer"])
    scaler.load_state_dict(content["scaler"])
    set_rng_state(content["rng"][0])
    optimizer.step()


def read_weights(folder: Path) -> None:
    """As `--weights`."""
    load(folder / LAST)
    load_weights(nn.Linear(3, 2), folder / LAST)


def safetensors_content() -> dict:
    places = {"weight": ([2, 3], 0, 24), "bias": ([2], 24, 32)}
    header = {name: {"dtype": "F32", "shape": s, "data_offsets": [a, b]} for name, (s, a, b) in places.items()}
    return header | {"__metadata__": {"format": "pt"}}


def write_safetensors(tree: Any, folder: Path, rng: random.Random) -> None:
    header = json.dumps(tree).encode()
    (folder / "own.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))


def read_safetensors(folder: Path) -> None:
    load_weights(nn.Linear(3, 2), folder / "own.safetensors")


def stream_content() -> dict:
    """A small trained stream; the configuration is a mapping here, so that its fields are mutated too."""
    args = {"num_class": 3, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "channels": [8, 8]}
    config = replace(Config(), model="model.ctrgcn.Model", model_args=args, feeder="feeders.feeder_ucla.Feeder")
    config.test_feeder_args = {"data_path": "data/x.clips", "window_size": 8}
    body = plain(asdict(find_skeleton("graph.ucla")))
    facts = {"num_class": 3, "class_names": ["a", "b", "c"], "num_person": 1, "channels": 3, "recipe": "ctrgcn"}
    facts |= {"skeleton": "graph.ucla", "body": body, "lengths": [5.0, 8.0, 12.0], "pad": None, "window": 12}
    network = Network(**args).state_dict()
    return {"config": yaml.safe_load(config.to_yaml()), "clips": facts, "model": dict(network)}


def write_stream(tree: Any, folder: Path, rng: random.Random) -> None:
    if isinstance(tree, dict) and isinstance(tree.get("config"), dict):
        tree = tree | {"config": yaml.dump(tree["config"])}
    torch.save(tree, folder / LAST)


def read_stream(folder: Path) -> None:
    """As `--phase predict`."""
    recognizer = Recognizer(folder / LAST, device="cpu")
    x = np.random.default_rng(0).normal(size=(9, 20, 3)).astype(np.float32)
    (found,) = recognizer.predict(x)
    assert np.isfinite(found.probabilities).all() and abs(found.probabilities.sum() - 1) < 1e-3, "no probabilities"
    recognizer.predict(x, Settings(window=0.1))


def records_content() -> list:
    return [{"epoch": i + 1, "lr": 0.1, "train_loss": 1.5, "test_top1": 20.0 + i} for i in range(4)]


def write_metrics(tree: Any, folder: Path, rng: random.Random) -> None:
    lines = tree if isinstance(tree, list | tuple) else [tree]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), errors="surrogatepass")


def environment_content() -> dict:
    return {"command": "main.py", "devices": 1, "data": {"frames.npy": "0123"}, "cpu_threads": 2, "device": "CPU"}


def write_environment(tree: Any, folder: Path, rng: random.Random) -> None:
    (folder / "environment.json").write_text(json.dumps(tree), errors="surrogatepass")


def read_records(folder: Path) -> None:
    epochs = [line["epoch"] for line in read_metrics(folder)]
    assert epochs == sorted(set(epochs)), "epochs do not rise"


def poses_content() -> dict:
    """Forms of pose files, two persons in four frames."""
    flat = [float(i % 7) for i in range(51)]
    person = {"keypoints": [[1.0, 2.0]] * 17, "keypoint_scores": [0.9] * 17, "bbox_score": 0.9}
    marks = [{"x": 0.1 * i, "y": 0.2, "z": 0.0, "visibility": 0.9} for i in range(33)]
    keypoints = {"x": [1.0] * 17, "y": [2.0] * 17, "visible": [0.9] * 17}
    bodies = [{"body_id": 1, "joint_positions": [[1.0, 2.0, 3.0]] * 26}]
    azure = {"k4abt_sdk_version": "1.1", "joint_names": [str(i) for i in range(26)]}
    azure["frames"] = [{"timestamp_usec": 33333 * t, "bodies": bodies} for t in range(4)]
    people = [{"pose": [0.5] * 36, "score": [0.9] * 18}]
    return {
        "alphapose": [{"image_id": f"{t}.jpg", "keypoints": flat, "score": 1.0, "idx": 1} for t in range(4)],
        "mmpose": [{"frame_id": t, "instances": [person]} for t in range(4)],
        "ultralytics": [[{"box": {}, "track_id": 1, "confidence": 0.9, "keypoints": keypoints}] for t in range(4)],
        "mediapipe": [{"frame": t, "pose_landmarks": marks} for t in range(4)],
        "azure": azure,
        "kinetics": {"data": [{"frame_index": t, "skeleton": people} for t in range(4)], "label_index": 1},
        "skeletons": {"skeletons": [[[1.0, 2.0, 3.0]] * 20] * 4},
    }


def write_poses(tree: Any, folder: Path, rng: random.Random) -> None:
    name = rng.choice(sorted(map(str, tree)))
    (folder / "clip.json").write_text(json.dumps(tree[name]), errors="surrogatepass")


def read_poses(folder: Path) -> None:
    for _, recording in poses.read(folder / "clip.json"):
        assert recording.points.ndim == 4 and not np.isinf(recording.points).any(), "not a recording"


FORMATS = {
    "poses": Format(poses_content, write_poses, read_poses),
    "clip_store": Format(store_content, write_clip_store, read_clip_store),
    "npz": Format(npz_content, write_npz, read_npz),
    "npy": Format(npy_content, write_npy, read_npy),
    "pyskl": Format(pyskl_content, dump_file, read_pyskl),
    "detections": Format(detections_content, write_detections, read_detections),
    "scores": Format(scores_content, dump_file, read_score_file),
    "checkpoint": Format(checkpoint_content, write_checkpoint, read_checkpoint),
    "weights": Format(checkpoint_content, write_checkpoint, read_weights),
    "predict": Format(stream_content, write_stream, read_stream),
    "metrics": Format(records_content, write_metrics, read_records),
    "environment": Format(environment_content, write_environment, lambda folder: read_environment(folder) and None),
}
if importlib.util.find_spec("safetensors"):  # optional
    FORMATS["safetensors"] = Format(safetensors_content, write_safetensors, read_safetensors)

"""Writers of pose files of other programs: one person sways, another one stands still."""

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from graph.layouts import find_layout

FRAMES, SIZE = 14, (960, 540)


def people(V: int, seed: int = 0, dims: int = 2) -> np.ndarray:
    """(2, T, V, dims), pixels or meters: the first person stands still, the second one sways."""
    draw = np.random.default_rng([V, seed])
    scale = (40, 120) if dims == 2 else (0.3, 0.8, 0.2)
    body = draw.uniform(-1, 1, (V, dims)) * scale
    sway = np.sin(np.arange(FRAMES) / (3 + seed)) * scale[0] / 2
    points = np.stack([np.stack([body] * FRAMES), np.stack([body * (1.1, *[1] * (dims - 1)) + x for x in sway])])
    place = (200, 270) if dims == 2 else (0, 0, 3)
    points[0] += place
    points[1] += (place[0] + 300, *place[1:])
    return points.astype(np.float32)


def triples(points: np.ndarray, score: float = 0.5) -> list[float]:
    """x, y and score of all joints of one person, as a flat list."""
    return np.concatenate([points, np.full((len(points), 1), score)], 1).round(3).ravel().tolist()


def openpose(path: Path, seed: int = 0, V: int = 25) -> Path:
    """A folder of JSON files; the persons change places, and a joint is missing in two frames."""
    points = people(V, seed)
    points[:, :, 1] = (points[:, :, 2] + points[:, :, 5]) / 2  # the neck of BODY_25
    points[1, 4:6, 7] = 0
    path.mkdir(parents=True)
    for t in range(FRAMES):
        found = [{"person_id": [-1], "pose_keypoints_2d": triples(p[t])} for p in points[:: 1 if t % 2 else -1]]
        (path / f"v_{t:012}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": found}))
    return path


def mediapipe(path: Path, seed: int = 0) -> Path:
    """World landmarks of one person, at 15 frames per second."""
    points = people(33, seed, 3)[1]
    points -= (points[:, 23:24] + points[:, 24:25]) / 2
    marks = [[dict(zip("xyz", map(float, joint), strict=True), visibility=0.9) for joint in frame] for frame in points]
    rows = [{"frame": t, "timestamp_ms": t * 1000 / 15, "pose_world_landmarks": m} for t, m in enumerate(marks)]
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows))
    return path


def coco_results(path: Path, seed: int = 0) -> Path:
    """COCO results of both persons."""
    rows = [
        {"image_id": t, "category_id": 1, "keypoints": triples(p[t]), "score": 0.9}
        for t in range(FRAMES)
        for p in people(17, seed)
    ]
    path = path.with_suffix(".json")
    path.write_text(json.dumps(rows))
    return path


def pyskl(path: Path, names: tuple[str, ...] = ("one", "two", "nobody")) -> Path:
    """A pickle of several clips; `nobody` has no person."""
    clips = []
    for seed, name in enumerate(names):
        points = people(17, seed)[: 1 + seed % 2] * (name != "nobody")
        clip = {"frame_dir": name, "label": 0, "img_shape": SIZE[::-1], "total_frames": FRAMES, "keypoint": points}
        clips.append(clip | {"keypoint_score": np.full(points.shape[:3], 0.8, np.float32)})
    path = path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps({"split": {"train": list(names)}, "annotations": clips}))
    return path


def table(path: Path, seed: int = 0) -> Path:
    """A CSV file with columns named after the joints of COCO, in a different spelling, and two empty cells."""
    joints = [name.title().replace(" ", "_") for name in find_layout("coco_17").skeleton.joints]
    head = [f"{joint}_{axis}" for joint in joints for axis in ("x", "y", "score")]
    rows: list[list] = [triples(frame) for frame in people(17, seed)[1]]
    rows[5][3:5] = ["", ""]
    path = path.with_suffix(".csv")
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


FORMS: dict[str, Callable[..., Path]] = {
    "openpose": openpose,
    "mediapipe": mediapipe,
    "coco": coco_results,
    "pyskl": pyskl,
    "table": table,
}

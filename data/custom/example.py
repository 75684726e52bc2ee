"""An example of custom data: clips of a 13-joint body that performs four actions.

    python data/custom/example.py --out data/custom/raw
    python data/custom/example.py --deeplabcut --out data/deeplabcut/raw

Writes body.yaml (joints, bones, mirror pairs), labels.csv (name, label, group), stick.yaml (a configuration) and for
each clip an .npz file, or a DeepLabCut table with the pixels of a 720 x 540 image; see docs/custom_skeleton.md.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import program, say
from data.demo.make import perform, performer
from graph.ntu_rgb_d import COMMON_JOINTS
from torchlight.system.command import Parser
from torchlight.system.files import atomic
from torchlight.system.text import counted
from torchlight.system.yaml_files import parse_yaml

BODY = """\
name: stick figure
joints: [head, left shoulder, right shoulder, left elbow, right elbow, left wrist, right wrist,
         left hip, right hip, left knee, right knee, left ankle, right ankle]
bones:
  - [left shoulder, head]
  - [right shoulder, head]
  - [left elbow, left shoulder]
  - [right elbow, right shoulder]
  - [left wrist, left elbow]
  - [right wrist, right elbow]
  - [left hip, left shoulder]
  - [right hip, right shoulder]
  - [left knee, left hip]
  - [right knee, right hip]
  - [left ankle, left knee]
  - [right ankle, right knee]
left: [left shoulder, left elbow, left wrist, left hip, left knee, left ankle]
right: [right shoulder, right elbow, right wrist, right hip, right knee, right ankle]
"""
CONFIG = """\
feeder: feeders.feeder_ntu.Feeder
feeder_args: {data_path: STORE, split: own, window_size: 32}
train_feeder_args: {p_interval: [0.5, 1], AUGMENTATION}
test_feeder_args: {p_interval: [0.95]}

model: model.ctrgcn.Model
model_args:
  num_class: 4
  num_point: 13
  num_person: 1
  graph: graph.custom.Graph
  graph_args: {skeleton: BODY}
  channels: [16, 16, 32, 32]

objective_args: {class_weight: balanced, label_smoothing: 0.1}
batch_size: 16
base_lr: 0.05
num_epoch: 20
step: [15]
"""
WIDTH, HEIGHT, SCALE = 720, 540, 130  # pixels of the image, and of a meter in it
ACTIONS = {"wave": 0, "clap": 1, "march": 2, "kick": 3}  # numbers of the actions in data/demo/figure.py


def make(out: Path, subjects: int = 8, takes: int = 3, seed: int = 0, deeplabcut: bool = False) -> int:
    """Write the example and return the number of clips."""
    out.mkdir(parents=True, exist_ok=True)
    store, body = out.parent / "stick.clips", out / "body.yaml"
    augmentation = "drop_joints: 0.1" if deeplabcut else "random_rot: true, drop_joints: 0.1"
    config = CONFIG.replace("STORE", str(store)).replace("BODY", str(body)).replace("AUGMENTATION", augmentation)
    for path, text in ((body, BODY), (out / "stick.yaml", config)):
        with atomic(path, "w") as file:
            file.write(text)
    rows = []
    for subject in range(subjects):
        bones = performer(np.random.default_rng([seed, subject]))
        for action, number in ACTIONS.items():
            for take in range(takes):
                rng = np.random.default_rng([seed, subject, number, take])
                poses = perform(number, bones, int(rng.integers(30, 50)), rng)[:, COMMON_JOINTS]
                poses = (poses + rng.normal(0, 0.01, poses.shape)).astype(np.float32)
                name = f"subject{subject}_{action}_{take}"
                if deeplabcut:
                    write_table(out / f"{name}.csv", poses, rng)
                else:
                    np.savez_compressed(out / f"{name}.npz", keypoint=poses)
                rows.append((name, action, f"subject{subject}"))
    with atomic(out / "labels.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", "label", "group"), *rows])
    return len(rows)


def write_table(path: Path, poses: np.ndarray, rng: np.random.Generator) -> None:
    """Write poses (T, V, 3) in meters as a DeepLabCut table: an image from the front, in which 5 % of the key points
    have a low likelihood."""
    T, V, _ = poses.shape
    middle = poses.mean((0, 1))
    x, y = WIDTH / 2 - SCALE * (poses[..., 0] - middle[0]), HEIGHT / 2 - SCALE * (poses[..., 1] - middle[1])
    likelihood = np.where(rng.random((T, V)) < 0.05, 0.1, 0.95)
    joints = parse_yaml(BODY, "body.yaml")["joints"]
    heads = [("bodyparts", *np.repeat(joints, 3)), ("coords", *("x", "y", "likelihood") * V)]
    cells = np.stack([x, y, likelihood], -1).reshape(T, -1).round(3).tolist()
    with atomic(path, "w") as file:
        rows = [("scorer", *["example"] * (3 * V)), *heads, *([t, *row] for t, row in enumerate(cells))]
        csv.writer(file, lineterminator="\n").writerows(rows)


def main(argv: list[str] | None = None) -> int:
    """Write the example; the exit code of the process."""
    return program(_act, argv)


def _act(argv: list[str]) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = Path(__file__).parent / "raw"
    parser.option("out", type=Path, default=place, metavar="DIR", help="folder of the files (data/custom/raw)")
    parser.switch("deeplabcut", help="write DeepLabCut tables")
    args = parser.parse_args(argv)
    say(f"wrote {counted(make(args.out, deeplabcut=args.deeplabcut), 'clip')} to {args.out}")


if __name__ == "__main__":
    sys.exit(main())

"""An example of custom data: clips of a 13-joint body that does four actions.

    python data/custom/example.py --out data/custom/raw

Writes body.yaml (joints, bones, mirror pairs), labels.csv (name, label, group) and one .npz per clip; see
docs/custom_skeleton.md.
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
ACTIONS = {"wave": 0, "clap": 1, "march": 2, "kick": 3}  # numbers of the actions in data/demo/figure.py


def make(out: Path, subjects: int = 8, takes: int = 3, seed: int = 0) -> int:
    """Write the example and return the number of clips."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / "body.yaml", "w") as file:
        file.write(BODY)
    rows = []
    for subject in range(subjects):
        bones = performer(np.random.default_rng([seed, subject]))
        for action, number in ACTIONS.items():
            for take in range(takes):
                rng = np.random.default_rng([seed, subject, number, take])
                poses = perform(number, bones, int(rng.integers(30, 50)), rng)[:, COMMON_JOINTS]
                name = f"subject{subject}_{action}_{take}"
                np.savez_compressed(
                    out / f"{name}.npz", keypoint=(poses + rng.normal(0, 0.01, poses.shape)).astype(np.float32)
                )
                rows.append((name, action, f"subject{subject}"))
    with atomic(out / "labels.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", "label", "group"), *rows])
    return len(rows)


def main(argv: list[str] | None = None) -> int:
    """Write the example; the exit code of the process."""
    return program(_act, argv)


def _act(argv: list[str]) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = Path(__file__).parent / "raw"
    parser.option("out", type=Path, default=place, metavar="DIR", help="folder of the files (data/custom/raw)")
    args = parser.parse_args(argv)
    say(f"wrote {counted(make(args.out), 'clip')} to {args.out}")


if __name__ == "__main__":
    sys.exit(main())

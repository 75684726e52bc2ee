"""An example of own data: clips of a 13-joint body that does four actions.

    python data/custom/example.py --out data/custom/raw

Writes body.yaml (joints, bones, mirror pairs), labels.csv (name, label, group) and one .npz per clip, as docs/custom_skeleton.md explains.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.demo.make import perform, performer
from graph.ntu_rgb_d import COMMON_JOINTS

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
ACTIONS = {"wave": 0, "clap": 1, "march": 2, "kick": 3}  # numbers of the demonstration figure's actions


def make(out: Path, subjects: int = 8, takes: int = 3, seed: int = 0) -> int:
    """Write the example; the number of clips."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "body.yaml").write_text(BODY)
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
    with open(out / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("name", "label", "group"), *rows])
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "raw", metavar="DIR", help="(data/custom/raw)"
    )
    args = parser.parse_args()
    print(f"wrote {make(args.out)} clips to {args.out}")

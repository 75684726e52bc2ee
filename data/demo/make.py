"""A small synthetic action dataset in NTU RGB+D's file format, for trying all programs without a download.

    python data/demo/make.py --out data/demo/raw
    python data/ntu/prepare.py --raw data/demo/raw --classes data/demo/classes.txt --out data/demo/ctrgcn.clips

Ten performers of different proportions perform eight actions (classes.txt) in front of three cameras: 240 clips of 40
to 60 frames with sensor noise. Orientation, position, speed and phase are random; some recordings have a false second
body. The same seed gives the same files. The splits of NTU apply: the training clips are those of performers 1, 2, 4,
5, 8 and 9 (xsub) or cameras 2 and 3 (xview).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import program, say, whole_number
from data.demo.figure import ACTIONS, BONES, ONCE, pose, rotations
from torchlight.system.command import Parser
from torchlight.system.text import counted

SETUP = 3  # NTU's skip list has no recording of this setup with these performers and actions
CAMERAS = {1: 0.0, 2: 0.8, 3: -0.8}  # yaw in radians
NOISE = 0.006  # meters
FALSE_BODY = 0.12  # share of the one-person recordings that have a false body
REST = " 0 0 0 0 0 0 0 0 2\n"  # depth and color pixels, orientation and state; no reader uses these fields

Body = tuple[int, int, np.ndarray]  # id, first frame, poses (k, 25, 3)


def write_recording(path: Path, bodies: Sequence[Body], frames: int, rest: str = REST) -> None:
    """Write bodies in NTU RGB+D's raw file format."""
    joint = "%.7g %.7g %.7g" + rest
    lines = [f"{frames}\n"]
    for t in range(frames):
        present = [(body, poses[t - start]) for body, start, poses in bodies if start <= t < start + len(poses)]
        lines.append(f"{len(present)}\n")
        for body, joints in present:
            lines.append(f"{body} 0 1 1 1 1 0 0 0 2\n25\n" + joint * 25 % tuple(joints.ravel().tolist()))
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:  # a full disk, for example; the error of a write does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error


def performer(rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Bone vectors of one person with random lengths of body, arms, legs and trunk, equal on both sides."""
    size = rng.uniform(0.85, 1.12)
    own = {"trunk": rng.uniform(0.92, 1.08), "arm": rng.uniform(0.9, 1.1), "leg": rng.uniform(0.92, 1.08)}
    arm, leg = {5, 6, 7, 9, 10, 11, 21, 22, 23, 24}, {13, 14, 15, 17, 18, 19}
    part = {joint: "arm" if joint in arm else "leg" if joint in leg else "trunk" for joint in BONES}
    return {joint: np.array(bone) * size * own[part[joint]] for joint, (_, bone) in BONES.items()}


def perform(action: int, bones: dict[int, np.ndarray], frames: int, rng: np.random.Generator) -> np.ndarray:
    """One performance, (frames, 25, 3) in meters, facing -z, feet at about y = -0.9."""
    speed = rng.uniform(0.8, 1.25)
    start = rng.uniform(-0.4, 0.2) if action in ONCE else rng.uniform(0, 2 * np.pi)
    phase = start + np.linspace(0, 2 * np.pi * ACTIONS[action].cycles * speed, frames)
    angles, height = ACTIONS[action].angles(phase)
    sway = np.cumsum(rng.normal(0, 0.012, (frames, 3)), axis=0) * 0.3  # no person is completely still
    angles = {joint: angle * rng.uniform(0.8, 1.15) + rng.normal(0, 0.06, 3) for joint, angle in angles.items()}
    return pose(angles, height, bones) + sway[:, None] * (0.3, 0.1, 0.3)


def scene(action: int, people: list[dict], bones: dict, frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The one or two persons of a recording, in room coordinates."""
    place = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.1), rng.uniform(-0.4, 0.4)])
    facing = rotations(np.array([[0, rng.uniform(-0.4, 0.4), 0]]))[0]
    actors = [perform(action, bones, frames, rng)]
    if ACTIONS[action].partner:
        other = perform(action, people[rng.integers(len(people))], frames, rng)
        quarter = rotations(np.array([[0, np.pi / 2, 0]]))[0]
        actors = [actors[0] @ quarter.T + (0.45, 0, 0), other @ quarter + (-0.45, 0, 0)]
    return [actor @ facing.T + place for actor in actors]


def false_body(frames: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """First frame and poses of a false body: a short burst of noise, or a flat piece of furniture."""
    if rng.random() < 0.5:
        k = int(rng.integers(3, 11))
        return int(rng.integers(frames - k)), rng.normal(0, 0.3, (k, 25, 3)) + (0.8, 0, 0)
    return 0, rng.normal(0, 1, (1, 25, 3)) * (0.5, 0.08, 0.3) + (-0.9, -0.5, 0.3) + rng.normal(0, 0.01, (frames, 25, 3))


def make(
    out: Path, seed: int = 0, performers: int = 10, replications: int = 1, frames: tuple = (40, 60), rest: str = REST
) -> int:
    """Write the dataset and return the number of files."""
    out.mkdir(parents=True, exist_ok=True)
    people = [performer(np.random.default_rng([seed, p])) for p in range(1, performers + 1)]
    written = 0
    for p, bones in enumerate(people, 1):
        for r in range(1, replications + 1):
            for action in range(len(ACTIONS)):
                rng = np.random.default_rng([seed, p, r, action])
                T = int(rng.integers(frames[0], frames[1] + 1))
                bodies = [(0, actor) for actor in scene(action, people, bones, T, rng)]
                if len(bodies) == 1 and rng.random() < FALSE_BODY:
                    bodies.append(false_body(T, rng))
                for camera, yaw in CAMERAS.items():
                    view = rotations(np.array([[0, yaw + rng.normal(0, 0.05), 0]]))[0]
                    seen = []
                    for number, (start, poses) in enumerate(bodies):
                        noisy = poses @ view.T + (0, 0, 3.2) + rng.normal(0, NOISE, poses.shape)
                        seen.append((72057594037930000 + number, start, noisy))
                    write_recording(
                        out / f"S{SETUP:03d}C{camera:03d}P{p:03d}R{r:03d}A{action + 1:03d}.skeleton", seen, T, rest
                    )
                    written += 1
    return written


def main(argv: list[str] | None = None) -> int:
    """Write the dataset; the exit code of the process."""
    return program(_act, argv)


def _act(argv: list[str]) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = Path(__file__).parent / "raw"
    parser.option("out", type=Path, default=place, metavar="DIR", help="folder of the files (data/demo/raw)")
    parser.option("seed", type=whole_number(0, 2**63 - 1), default=0, help="seed of the random numbers (%(default)s)")
    number = whole_number(1, 999)  # NTU's file names have three digits for each
    parser.option("performers", type=number, default=10, help="number of performers (%(default)s)")
    help = "how often each performer repeats each action (%(default)s)"
    parser.option("replications", type=number, default=1, help=help)
    args = parser.parse_args(argv)
    written = make(args.out, args.seed, args.performers, args.replications)
    say(f"wrote {counted(written, 'recording')} to {args.out}")


if __name__ == "__main__":
    sys.exit(main())

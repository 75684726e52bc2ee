"""Fuzzing of the raw file readers: each damaged file must be refused with a reason or give a valid clip.

python -m tests.data.fuzz --count 1000
"""

import argparse
import importlib
import io
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from data.clip import BadFile, Clip, check_clip
from data.custom.labels import LabelTable
from data.demo.make import make
from data.kinetics.poses import JOINTS
from data.ntu.benchmark import read_clip as read_ntu
from data.recipes import Recipe
from graph.skeleton import find_skeleton
from graph.skeleton_file import read_skeleton
from tests.damage import damage
from tests.data import pose_files

SECONDS = 10  # a file that takes longer counts as a hang
WORDS = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e400",
    b"999999999",
    b"99999999999999999999",
    b"[]",
    b"{}",
    b"null",
    b'"x"',
    b"\x00",
    b"\xff",
    b"\n",
    b" ",
)
Format = tuple[str, bytes, Callable[[Path], list[Clip]], dict]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Apply one to three random changes: cut, remove or duplicate a piece, change a byte, or replace a word."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(6)
        if kind < 4:
            data = damage(data, kind, a, b, rng)
        else:
            end = a + next((i for i, byte in enumerate(data[a : a + 40]) if byte in b" ,\n]}"), 1)
            data = data[:a] + rng.choice(WORDS) + data[end:]
    return data


def formats(folder: Path) -> list[Format]:
    """For every raw format: the name of a valid file, its bytes, its reader, and facts that its clips must match."""
    rng = np.random.default_rng(0)
    make(folder / "ntu", performers=1, frames=(12, 12))
    recording = folder / "ntu" / "S003C001P001R001A008.skeleton"
    ntu_facts = {"num_point": 25, "channels": 3, "num_class": 60, "num_person": 2}
    found: list[Format] = [
        (recording.name, recording.read_bytes(), partial(read_ntu, recipe, False), ntu_facts)
        for recipe in ("ctrgcn", "agcn", "stgcn")
    ]

    ucla = importlib.import_module("data.NW-UCLA.prepare")
    record = {"file_name": "a02_s01_e00_v01", "skeletons": rng.normal(size=(6, 20, 3)).round(5).tolist(), "label": 2}
    facts = {"num_point": 20, "channels": 3, "num_class": 10, "num_person": 1}
    found.append(("a02_s01_e00_v01.json", json.dumps(record).encode(), ucla.read_clip, facts))

    kinetics = importlib.import_module("data.kinetics.prepare")
    (folder / "kinetics_train").mkdir()
    label = {"has_skeleton": True, "label": "x", "label_index": 3}
    (folder / "kinetics_train_label.json").write_text(json.dumps({"clip": label}))
    person = {"pose": rng.random(2 * JOINTS).round(3).tolist(), "score": rng.random(JOINTS).round(3).tolist()}
    frames = [{"frame_index": t, "skeleton": [person] * (t % 4)} for t in range(1, 9)]
    clip = json.dumps({"data": frames, "label": "x", "label_index": 3}).encode()
    facts = {"num_point": JOINTS, "channels": 3, "num_class": 400, "num_person": 2}
    found.append(("kinetics_train/clip.json", clip, partial(kinetics.read_clip, True, 5, 2, True), facts))

    (folder / "body.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    skeleton = read_skeleton(folder / "body.yaml")
    table = LabelTable({"clip": 1}, {"clip": "train"}, ["a", "b"])
    poses = rng.normal(size=(9, 3, 3)).round(4)
    own = importlib.import_module("data.custom.prepare")
    facts = {"num_point": 3, "channels": 3, "num_class": 2, "num_person": 2}
    recipe = Recipe(skeleton, facts | {"recipe": "centered"})
    read_own = partial(own.read_clips, recipe, table.label)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, keypoint=poses)
    found.append(("clip.npz", buffer.getvalue(), read_own, facts))
    buffer = io.BytesIO()
    np.save(buffer, poses)
    found.append(("clip.npy", buffer.getvalue(), read_own, facts))
    found.append(("clip.json", json.dumps({"skeletons": poses.tolist()}).encode(), read_own, facts))
    header = ",".join(f"{joint}_{axis}" for joint in skeleton.joints for axis in "xyz")
    rows = "\n".join(",".join(map(str, row)) for row in poses.reshape(9, 9))
    found.append(("clip.csv", f"{header}\n{rows}\n".encode(), read_own, facts))

    for form in ("mediapipe", "coco", "pyskl", "table"):  # their joints are mapped to those of the body
        body, part = (
            ("graph.ntu_rgb_d", {"num_point": 25}) if form == "mediapipe" else ("graph.coco", {"num_point": 17})
        )
        poses_of = Recipe(find_skeleton(body), facts | part | {"recipe": "centered", "rate": 30.0})
        file = pose_files.FORMS[form](folder / form)
        found.append((file.name, file.read_bytes(), partial(own.read_clips, poses_of, {form: 1}), facts | part))

    dlc = importlib.import_module("data.deeplabcut.prepare")
    parts = ",".join(f"{joint},{joint},{joint}" for joint in skeleton.joints)
    text = f"scorer{',net' * 9}\nbodyparts,{parts}\ncoords{',x,y,likelihood' * 3}\n"
    text += "\n".join(f"{t}," + ",".join(map(str, row)) for t, row in enumerate(poses.reshape(9, 9)))
    for missing in ("zero", "interpolate", "hold"):
        how = dlc.Reading(1, missing, 0.0 if missing == "zero" else 0.5)
        read_dlc = partial(dlc.read_clips, skeleton.joints, (720, 540), 1, 0, how, table)
        found.append((f"dlc_{missing}/clip.csv", text.encode(), read_dlc, facts | {"num_person": 1}))
    return found


def outcome(path: Path, read: Callable[[Path], list[Clip]], facts: dict) -> str:
    """`clip`, `refused`, or a description of a failure."""
    try:
        for clip in read(path):
            if isinstance(clip, Clip):  # readers also return recordings that are left out
                check_clip(clip, facts)
        return "clip"
    except BadFile as error:
        return "refused" if str(error) and "\n" not in str(error) else "refused without a line of reason"
    except Exception as error:
        return f"CRASH {type(error).__name__}: {error}"


def fuzz(folder: Path, count: int, seed: int = 0) -> dict[str, Counter]:
    """The outcomes of `count` mutations of each format."""
    results = {}
    for number, (name, data, read, facts) in enumerate(formats(folder)):
        rng = random.Random(f"{seed} {number}")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        assert outcome(path, read, facts) == "clip", (name, outcome(path, read, facts))
        counts = results.setdefault(f"{number} {name}", Counter())
        for _ in range(count):
            path.write_bytes(mutate(data, rng))
            signal.alarm(SECONDS)
            counts[outcome(path, read, facts)] += 1
            signal.alarm(0)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = fuzz(Path(folder), args.count, args.seed)
    for name, counts in results.items():
        print(f"{name:<40}", ", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return 1 if any(set(counts) - {"clip", "refused"} for counts in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

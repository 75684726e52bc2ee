"""Custom data -> clip store, from pose files of any program or from arrays of a custom skeleton.

    python data/custom/prepare.py --raw clips --skeleton kinect_v2_25 --out data/custom/mine.clips

--skeleton is a body layout of graph/layouts.yaml, a module such as graph.coco, or a YAML file with joints and bones.
The raw folder contains pose files in any format of docs/poses.md. Their joints are mapped to the skeleton, and missing
joints are filled. Files with exactly the joints of the skeleton are read without conversion: .npz with the array
`keypoint` or .json with the list "skeletons", both of the shape (frames, joints, coordinates) or (persons, frames,
joints, coordinates), or .csv with a row per frame and the columns <joint>_x, <joint>_y (and <joint>_z). Labels are in
labels.csv or are the names of the folders; docs/custom_skeleton.md has an example. Recipes: centered (the origin is the
skeleton's center joint in the first frame), plain (coordinates unchanged).
"""

import argparse
import dataclasses
import os
import re
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, whole_number
from data.clip import BadFile, Clip, LeftOut, without_empty_tracks
from data.custom import labels
from data.custom.labels import TABLE, LabelTable, key_of, read_labels, say_tree
from data.custom.own_files import MAX_JSON_BYTES, as_recording, own_facts, own_frames, read_own
from data.poses.convert import MAX_GAP, MISSING
from data.poses.read import is_recording, read_each
from data.poses.recording import PoseFileError, Recording
from data.raw_files import SUFFIXES, bad_file, clip_name, find_files
from data.recipes import CUSTOM, Recipe
from data.store import RawSource
from feeders.clip_store import MAX_PIXELS
from graph.body import Skeleton
from graph.layouts import find_layout, layouts
from graph.skeleton import find_skeleton, skeleton_name
from torchlight.system.command import Parser
from torchlight.system.text import quote

MAX_PERSONS = 100
RATE = 30.0  # frames per second of clips of a known body, as in the benchmarks
TEXT = (".json", ".csv", ".trc", ".bvh")  # files that are read into memory as a whole


def arguments(parser: Parser) -> None:
    """Options of custom skeletons."""
    parser.option("skeleton", type=Path, metavar="NAME", help="the body: a layout, a module of graph/ or a YAML file")
    labels.arguments(parser)
    parser.option(
        "persons",
        type=whole_number(1, MAX_PERSONS),
        default=1,
        metavar="N",
        help="maximum number of persons in a clip; those who move the most are kept (%(default)s)",
    )
    parser.option(
        "channels",
        type=int,
        choices=(2, 3, 4),
        default=3,
        help="numbers per joint; the third one of a 2-D layout and the fourth one are the score (%(default)s)",
    )
    parser.option(
        "missing",
        choices=MISSING,
        default=MISSING[0],
        help=f"joints that were not seen are interpolated over {MAX_GAP} s and then completed, held at their last "
        "position, set to 0, or interpolated and marked by 0 in the last channel, which otherwise contains the score "
        "or 1 (%(default)s)",
    )
    parser.option("layout", metavar="NAME", help="the body layout of all pose files; overrides the one in the files")
    parser.option(
        "frame-rate",
        type=frame_rate,
        metavar="FPS",
        help="frame rate of the clips; recordings with other rates are resampled "
        f"({RATE:g} for a known body, else as recorded)",
    )
    parser.option(
        "image-size",
        type=whole_number(1, MAX_PIXELS),
        nargs=2,
        metavar=("W", "H"),
        help="image size in pixels of 2-D poses in files that do not state it",
    )
    parser.option("up", choices=("y", "-y", "z"), help="axis that points up, for drawing (-y for a 2-D layout, else y)")


def frame_rate(text: str) -> float:
    """The type of an option that takes frames per second."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number from 0.1 to 1000, got {quote(text)}")
    return number


def source(args: Namespace) -> RawSource:
    """All pose files, and folders that are one recording, below --raw. Raises ValueError."""
    if args.skeleton is None:
        raise ValueError(f"--skeleton: expected a YAML file or a body layout, got none; known: {', '.join(layouts())}")
    if len(args.raw) != 1:
        raise ValueError(f"--raw: expected one folder, got {len(args.raw)}")
    if is_recording(args.raw[0]):
        raise ValueError(
            f"--raw: expected a folder of recordings, got the frames of one or more in {args.raw[0]}; give the folder "
            "above it, or one folder for the frames of each recording"
        )
    name = skeleton_name(str(args.skeleton))
    skeleton = find_skeleton(name)
    say_tree(name, skeleton)
    pattern = f"(?i:.*({'|'.join(map(re.escape, SUFFIXES))}))"
    files = [file for file in find_files(args.raw, pattern, is_clip=is_recording) if file.name != TABLE]
    table = read_labels(args.raw[0], files, args)
    facts = {"benchmark": args.out.stem, "recipe": args.recipe, "skeleton": name}
    facts |= {"num_point": skeleton.num_joint, "num_person": args.persons, "channels": args.channels}
    facts |= {"pad": "zero", "window": None, "joints": skeleton.joints, "missing": args.missing, **table.facts}
    facts |= {"score": True} if has_score(skeleton, args) else {}
    facts |= {} if args.layout is None else {"layout": find_layout(args.layout).name}
    facts |= {} if args.image_size is None else {"image_size": args.image_size}
    recipe = Recipe(skeleton, facts)
    if args.image_size is not None and not recipe.body.is_flat:
        raise ValueError(f"--image-size: expected none for the 3-D body {skeleton.name}, got {args.image_size}")
    rate = args.frame_rate or (None if recipe.is_own else RATE)
    facts |= {} if rate is None else {"rate": rate}
    facts |= {"images": True} if recipe.body.is_flat and args.recipe == "plain" else {}
    facts["up"] = args.up or ("-y" if recipe.body.is_flat and not recipe.is_own else "y")
    read = partial(read_clips, recipe, table.label)
    body = {"body": dataclasses.asdict(skeleton)}
    return RawSource(files, read, partial(split, table), facts, partial(columns, table), body)


def has_score(skeleton: Skeleton, args: Namespace) -> bool:
    """Whether the last channel is a score or mask; raises ValueError for an impossible number of channels."""
    recipe = Recipe(skeleton, {"recipe": args.recipe})
    flat, solid = "3 (x, y, mask)", "4 (x, y, z, mask)"
    if recipe.is_own:
        scored, expected = args.channels == 4 or (args.channels == 3 and args.missing == "mask"), f"{flat} or {solid}"
    elif recipe.body.is_flat:
        scored, expected = args.channels == 3, flat
    else:
        scored, expected = args.channels == 4, solid
    if args.channels == 4 and not scored:
        raise ValueError(f"--channels: expected 2 or 3 for the 2-D body {skeleton.name}, got 4")
    if args.missing == "mask" and not scored:
        raise ValueError(f"--channels: expected {expected} with --missing mask, got {args.channels}")
    return scored


def split(table: LabelTable, names: np.ndarray, _: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The parts of the clips, which are sorted by name."""
    return table.split([table.part[key_of(name, table.part)] for name in names])


def columns(table: LabelTable, names: np.ndarray) -> dict[str, np.ndarray]:
    """Further columns of the clips, which are sorted by name."""
    return table.columns([key_of(name, table.label) for name in names])


def read_clips(recipe: Recipe, label: dict[str, int], path: Path) -> list[Clip | LeftOut]:
    """A file, or a folder that is one recording, as clips: one for each recording in it.

    Raises:
        BadFile: the file cannot be read, or none of its recordings can become a clip.
    """
    name, persons = clip_name(path), recipe.facts["num_person"]
    is_folder = path.is_dir() and is_recording(path)
    data = None if is_folder or recipe.layout else read_own(path, recipe.skeleton, recipe.facts["channels"])
    with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers; the clip is checked
        if data is None:
            return _read_poses(recipe, label, path)
        facts = own_facts(path, recipe.body)
        if np.isnan(data).any():
            try:
                return [_pose_clip(recipe, label, name, as_recording(data, facts))]
            except PoseFileError as error:
                raise BadFile(str(error)) from error
    if name not in label:
        raise BadFile(f"not in {TABLE}")
    if not 0 < len(data) <= persons or not data.shape[1]:
        V, C = data.shape[2:]
        expected = f"(up to {persons} persons, frames, {V} joints, {C} coordinates)"
        raise BadFile(f"expected an array {expected}, got {data.shape}")
    clip = _clip(name, label[name], own_frames(data, recipe.body, recipe.facts["recipe"]), persons)
    clip.image = recipe.image(recipe.with_size(facts))
    seen = data.any(-1)  # joints of these files that were not seen are all zero
    if not seen.any():
        raise BadFile("expected at least one joint, got only zeros")
    clip.missing = 1 - float(seen[seen.any(-1)].mean())
    return [clip]


def _read_poses(recipe: Recipe, label: dict[str, int], path: Path) -> list[Clip | LeftOut]:
    name = clip_name(path)
    if path.suffix.lower() in TEXT and path.is_file() and (size := os.path.getsize(path)) > MAX_JSON_BYTES:
        raise BadFile(f"expected at most {MAX_JSON_BYTES} bytes, got {size}")
    try:
        found = read_each(path)
    except ValueError as error:
        raise bad_file(path, error) from error
    made: list[Clip | LeftOut] = []
    for part, recording in found:
        whole = name if part in (path.stem, path.name) else f"{name}#{part}"
        try:
            made.append(_pose_clip(recipe, label, whole, recording))
        except ValueError as error:
            reason = str(bad_file(path, error))
            if len(found) == 1:
                raise BadFile(reason) from error
            made.append(LeftOut(f"{path.name}#{part}", reason))
    return made


def _pose_clip(recipe: Recipe, label: dict[str, int], name: str, recording: Recording | PoseFileError) -> Clip:
    """A recording as a clip; raises ValueError."""
    key = key_of(name, label)
    if key is None:
        raise BadFile(f"not in {TABLE}")
    if isinstance(recording, PoseFileError):
        raise recording
    prepared, found = recipe.whole(recording)
    clip = _clip(name, label[key], prepared.frames, recipe.facts["num_person"])
    clip.guessed, clip.image, clip.missing = tuple(found.facts.guessed), prepared.image, prepared.missing
    return clip


def _clip(name: str, label: int, tracks: np.ndarray, persons: int) -> Clip:
    slots = tuple(range(len(tracks))) + (-1,) * (persons - len(tracks))
    return without_empty_tracks(Clip(name, label, tracks, slots))


BENCHMARK = Benchmark("custom", CUSTOM, source, arguments)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))

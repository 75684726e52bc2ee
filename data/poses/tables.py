"""Poses in text tables: DeepLabCut and SLEAP CSV, MediaPipe and FreeMoCap CSV, one column per coordinate, and TRC."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.poses.recording import Detection, Detections, Facts, PoseFileError, Recording, frame_range
from graph.layouts import TO_KINECT, find_layout, layout_of_names
from torchlight.system.files import read_text
from torchlight.system.text import counted

MAX_BYTES = 512 * 2**20
ONE_ANIMAL = "one"  # name of the individual in files without names
SINGLE = "single"  # the name in DeepLabCut for points that do not belong to an individual
LIKELIHOOD = 0.6  # DeepLabCut's default cutoff; points with a lower likelihood count as not seen
# Median absolute values of landmarks of MediaPipe
AT_ORIGIN = 0.01  # hips of world landmarks, meters
MAX_SHARE, MIN_LARGE = 2, 10  # shares of the image; pixels and millimeters
# Names of columns
SCORES = ("visibility", "score", "c", "conf", "confidence", "likelihood")
FRAME = ("frame", "frame_idx", "frame_index", "frame_number", "frame_num", "frame_no", "frame_id")
PERSON = ("person", "person_id", "person_idx", "track", "track_id", "subject", "subject_id", "body_id")
TIME = {"timestamp_ms": 1e-3, "time_ms": 1e-3, "timestamp_us": 1e-6, "timestamp_s": 1.0, "time_s": 1.0, "seconds": 1.0}
TIME |= {"time": 0.0, "timestamp": 0.0}  # seconds per unit; 0: the unit is not known
COLUMN = re.compile(rf"(.+)[._]([xyz]|{'|'.join(SCORES)})")
DECODER = re.compile(r"([xyzv])(\d+)", re.ASCII)


def read_rows(path: Path) -> list[list[str]]:
    """The cells of a CSV file; raises PoseFileError if it is not a table."""
    text = read_text(path, MAX_BYTES)
    try:
        return [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise PoseFileError(f"{path}: not a table of text ({error})") from error


def numbers(rows: Sequence[Sequence[str]], path: Path) -> np.ndarray:
    """Cells as float64, empty ones as NaN; raises PoseFileError that names the first row with other content."""
    width = len(rows[0]) if rows else 0
    table = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        if len(row) != width:
            raise PoseFileError(f"{path}: row {i + 1}: expected {counted(width, 'cell')}, got {len(row)}")
        try:
            table[i] = [float(cell) if cell.strip() else np.nan for cell in row]
        except ValueError as error:
            raise PoseFileError(f"{path}: row {i + 1}: expected numbers ({error})") from error
    return table


def at_frames(index: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, ...) at their frame numbers (n,) -> (T, ...) with NaN for missing frames, and the numbers (T,).

    Raises:
        PoseFileError: the numbers are not whole, or a number occurs twice.
    """
    if not np.isfinite(index).all() or (index != np.round(index)).any():
        raise PoseFileError("expected whole frame numbers, got others")
    order = index.astype(np.int64)
    found, counts = np.unique(order, return_counts=True)
    if len(found) < len(order):
        twice = int(counts.argmax())
        raise PoseFileError(f"expected one row for each frame, got {counts[twice]} for frame {found[twice]}")
    frames = frame_range(order)
    out = np.full((len(frames), *values.shape[1:]), np.nan, np.float32)
    out[order - order.min()] = values
    return out, frames


def read_deeplabcut(path: Path, rows: list[list[str]]) -> Recording:
    """DeepLabCut: header rows scorer, [individuals,] bodyparts, coords; then a frame number and x, y, likelihood of
    each point."""
    heads = {row[0].strip().lower(): row for row in rows[:4]}
    if "coords" not in heads or "bodyparts" not in heads:
        raise PoseFileError(f"{path}: expected the header rows scorer, bodyparts and coords")
    coords, parts = [word.strip() for word in heads["coords"]], heads["bodyparts"]
    if "likelihood" not in coords:
        raise PoseFileError(f"{path}: expected predictions of DeepLabCut, got manual labels (no likelihood)")
    table = numbers(rows[list(heads).index("coords") + 1 :], path)
    persons = heads.get("individuals", [ONE_ANIMAL] * len(coords))
    columns = {(persons[i], parts[i], coords[i]): i for i in range(1, len(coords))}
    return deeplabcut_recording(table, columns, table[:, 0])


def deeplabcut_recording(table: np.ndarray, columns: dict[tuple[str, str, str], int], index: np.ndarray) -> Recording:
    """A table (n, columns) as a recording. columns: (individual, point, coordinate) -> column. index: frame numbers
    (n,)."""
    columns = {key: place for key, place in columns.items() if key[0] != SINGLE}
    names = list(dict.fromkeys(person for person, _, _ in columns))
    joints = list(dict.fromkeys(joint for _, joint, _ in columns))
    points = np.full((len(names), len(table), len(joints), 2), np.nan)
    score = np.zeros(points.shape[:3])
    for m, person in enumerate(names):
        for v, joint in enumerate(joints):
            if (person, joint, "x") in columns:
                points[m, :, v] = table[:, [columns[person, joint, "x"], columns[person, joint, "y"]]]
                score[m, :, v] = np.nan_to_num(table[:, columns[person, joint, "likelihood"]])
    placed, frames = at_frames(index, points.transpose(1, 0, 2, 3))
    scores, _ = at_frames(index, score.transpose(1, 0, 2))
    facts = Facts("DeepLabCut", joints=tuple(joints), cutoff=LIKELIHOOD)
    scores = np.nan_to_num(scores).transpose(1, 0, 2)
    return Recording(placed.transpose(1, 0, 2, 3), scores, tuple(names), frames, facts)


def read_sleap(path: Path, rows: list[list[str]]) -> Detections:
    """SLEAP analysis CSV: track, frame_idx, instance.score, then NODE.x, NODE.y, NODE.score; a row per animal and
    frame. Several animals of a frame without a track have no id."""
    head, body = rows[0], rows[1:]
    joints = [name.removesuffix(".x") for name in head if name.endswith(".x")]
    table = numbers([row[1:] for row in body], path)
    place = {name: i - 1 for i, name in enumerate(head)}
    tracks = [row[0].strip() for row in body]
    numbered = table[:, place["frame_idx"]].astype(np.int64).tolist()
    unnamed = [number for track, number in zip(tracks, numbered, strict=True) if not track]
    is_one = len(set(unnamed)) == len(unnamed)  # all rows without a track are those of one animal
    frames: dict[int, list[Detection]] = {}
    for row, track, number in zip(table, tracks, numbered, strict=True):
        points = np.array([[row[place[f"{joint}.x"]], row[place[f"{joint}.y"]]] for joint in joints], np.float32)
        score = [row[place[f"{joint}.score"]] if f"{joint}.score" in place else 0 for joint in joints]
        scores = np.nan_to_num(np.array(score, np.float32))
        confidence = float(np.nan_to_num(row[place["instance.score"]])) if "instance.score" in place else 1.0
        found = Detection(points, scores if scores.any() else None, track if track or is_one else None, confidence)
        frames.setdefault(number, []).append(found)
    return Detections(frames, Facts("SLEAP", joints=tuple(joints), start=0))


def read_columns(path: Path, rows: list[list[str]]) -> Recording | Detections:
    """A column per coordinate, JOINT_x, JOINT_y[, JOINT_z][, JOINT_visibility], and optionally columns for the number
    of the frame, from 0 or 1, for the person and for the time: MediaPipe, FreeMoCap, custom tables."""
    head = [name.strip() for name in rows[0]]
    place = {match.groups(): i for i, name in enumerate(head) if (match := COLUMN.fullmatch(name))}
    joints = [joint for joint, word in place if word == "x"]
    if not joints:
        raise PoseFileError(f"{path}: expected columns such as nose_x and nose_y, got {', '.join(head[:6])}")
    table, index, facts = numbered_rows(path, rows, set(place.values()), "table of columns")
    dims = 3 if (joints[0], "z") in place else 2
    missing = [f"{joint}_{axis}" for joint in joints for axis in "xyz"[:dims] if (joint, axis) not in place]
    if missing:
        raise PoseFileError(f"{path}: expected the columns {', '.join(missing[:6])}")
    points = np.stack([table[:, [place[joint, axis] for axis in "xyz"[:dims]]] for joint in joints], 1)
    seen = next((word for word in SCORES if (joints[0], word) in place), None)
    score = np.stack([table[:, place[joint, seen]] for joint in joints], 1) if seen else None
    facts.joints = tuple(joint.removeprefix("body_") for joint in joints)
    facts.start = int(index.min() == 1)
    if (person := find_column(head, PERSON)) is None:
        return one_person(points, score, index, facts)
    frames: dict[int, list[Detection]] = {}
    for i, number in enumerate(index.astype(np.int64).tolist()):
        found = Detection(points[i].astype(np.float32), None if score is None else np.nan_to_num(score[i]))
        found.track = rows[i + 1][person].strip() or None
        others = frames.setdefault(number, [])
        if found.track is not None and found.track in [other.track for other in others]:
            raise PoseFileError(f"{path}: expected one row for {head[person]} {found.track} in frame {number}, got two")
        others.append(found)
    return Detections(frames, mediapipe_facts(points, facts))


def find_column(head: Sequence[str], names: Iterable[str]) -> int | None:
    """The place of the first column with one of these names, None if there is none."""
    return next((i for i, name in enumerate(head) if name.lower() in names), None)


def numbered_rows(path: Path, rows: list[list[str]], used: set[int], form: str) -> tuple[np.ndarray, np.ndarray, Facts]:
    """The used columns as numbers (n, columns), the others NaN; the frame number of each row (n,); and the rate.

    Frame numbers come from a column for the frame or for the time; without both, rows are consecutive frames.

    Raises:
        PoseFileError: a used cell is not a number, or a frame number is missing.
    """
    head = [name.strip() for name in rows[0]]
    person, frame, time = find_column(head, PERSON), find_column(head, FRAME), find_column(head, TIME)
    used = used | {i for i in (frame, time) if i is not None}
    table = numbers([[cell if i in used else "" for i, cell in enumerate(row)] for row in rows[1:]], path)
    facts = Facts(form)
    if others := [name for i, name in enumerate(head) if i not in used | {person} and name]:
        facts.guessed.append(f"ignored columns: {', '.join(others[:6])}{', ...' if len(others) > 6 else ''}")
    index = np.arange(len(table), dtype=float) if frame is None else table[:, frame]
    if not np.isfinite(index).all() or (index != np.round(index)).any():
        raise PoseFileError(f"{path}: expected whole frame numbers in the column {head[frame]}, got others")
    if time is not None and np.isfinite(table[:, time]).all():
        distinct, place = np.unique(table[:, time], return_inverse=True)
        step = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 0.0
        unit = TIME[head[time].lower()] or next((u for u in (1.0, 1e-3, 1e-6) if step * u <= 1), 1e-9)
        frames = np.unique(index)
        if frame is None and step:
            steps = np.diff(distinct) / step  # frames without a person may be missing
            index = np.concatenate([[0], np.rint(steps).clip(1).cumsum()])[place]
            facts.rate = round(1 / (step * unit), 3)
        elif step and len(frames) > 1:
            facts.rate = round(float(np.ptp(frames) / (np.ptp(distinct) * unit)), 3)
    elif frame is None and person is not None:
        seen: Counter[str] = Counter()
        for i, row in enumerate(rows[1:]):  # the rows of each person are consecutive frames
            index[i] = seen[row[person].strip()]
            seen[row[person].strip()] += 1
        facts.guessed.append("the rows of each person are interpreted as consecutive frames")
    return table, index, facts


def one_person(points: np.ndarray, score: np.ndarray | None, index: np.ndarray, facts: Facts) -> Recording:
    """A recording of one person: points (n, V, C), scores (n, V) or None, frame numbers (n,)."""
    placed, frames = at_frames(index, points)
    scores = None if score is None else np.nan_to_num(at_frames(index, score)[0])[None]
    return Recording(placed[None], scores, ("1",), frames, mediapipe_facts(placed, facts))


def assume_axes(facts: Facts) -> None:
    """Set the axes of 3-D points if the file does not state them: those of the 3-D layout, otherwise Kinect's."""
    layout = find_layout(facts.layout) if facts.layout else layout_of_names(facts.joints)
    known = layout is not None and layout.dims == 3 and layout.axes in TO_KINECT
    facts.axes = layout.axes if known else "kinect"
    origin = f"those of {layout.name} ({facts.axes})" if known else "those of Kinect (y up)"
    facts.guessed.append(f"the file does not state its axes: {origin} are assumed")


def mediapipe_facts(points: np.ndarray, facts: Facts) -> Facts:
    """Units, axes and layout of one person's points (T, V, C), if they are MediaPipe's 33; single outliers, such as
    joints outside the image, do not matter.

    Raises:
        PoseFileError: the range of the numbers fits none of the formats.
    """
    if points.shape[1] != 33:
        if points.shape[2] == 3:
            facts.units = "unknown"
            assume_axes(facts)
        return facts
    facts.layout = "mediapipe_pose_33"
    hips = [_typical(points[:, 23, axis] + points[:, 24, axis]) / 2 for axis in range(2)]
    sizes = [_typical(points[..., axis]) for axis in range(points.shape[2])]
    if points.shape[2] == 3 and max(hips) <= AT_ORIGIN:
        facts.axes, facts.units = "camera", "m"
        facts.guessed.append("world landmarks of MediaPipe, meters, from hips at the origin")
    elif max(sizes[:2]) <= MAX_SHARE:
        facts.axes, facts.units = "image", "share"
        facts.guessed.append("image landmarks of MediaPipe, shares of width and height, from the range of the numbers")
    elif points.shape[2] == 3 and min(sizes) > MIN_LARGE:
        facts.axes, facts.units = "world_z_up", "mm"
        facts.guessed.append("FreeMoCap body, millimeters, z up, from the range of the numbers")
    elif points.shape[2] == 2 or (min(sizes[:2]) > MIN_LARGE and sizes[2] <= MAX_SHARE):
        facts.axes, facts.units = "image", "px"
        facts.guessed.append("image landmarks of MediaPipe in pixels, from the range of the numbers")
    else:
        got = ", ".join(f"{size:.3g}" for size in sizes)
        raise PoseFileError(
            f"expected landmarks of MediaPipe or FreeMoCap, got coordinates of about {got}; use an .npz file with "
            "keypoint, layout, axes and units"
        )
    return facts


def _typical(values: np.ndarray) -> float:
    """The median of the absolute values without NaN; 0 if there are none."""
    known = np.abs(values[~np.isnan(values)])
    return float(np.median(known)) if len(known) else 0.0


def read_decoder(path: Path, rows: list[list[str]]) -> Recording:
    """MediaPipe as `class, x1, y1, z1, v1, x2, ...`, numbered from 0 or 1, in any order; frames without a person are
    missing in such files."""
    head = [name.strip() for name in rows[0]]
    place = {(m[1], int(m[2])): i for i, name in enumerate(head) if (m := DECODER.fullmatch(name))}
    joints = sorted({joint for _, joint in place})
    axes = [axis for axis in "xyzv" if axis in "xy" or (axis, joints[0]) in place]
    missing = [f"{axis}{joint}" for joint in joints for axis in axes if (axis, joint) not in place]
    if missing:
        raise PoseFileError(f"{path}: expected the columns {', '.join(missing[:6])}")
    table, index, facts = numbered_rows(path, rows, set(place.values()), "MediaPipe table")
    values = np.stack([table[:, [place[axis, joint] for axis in axes]] for joint in joints], 1)
    if find_column(head, (*FRAME, *TIME)) is None:
        facts.guessed.append(
            "rows are interpreted as consecutive frames; such tables leave out frames without a person"
        )
    dims = len(axes) - ("v" in axes)
    return one_person(values[..., :dims], values[..., dims] if "v" in axes else None, index, facts)


def read_trc(path: Path) -> Recording:
    """TRC (OpenSim, Pose2Sim, Sports2D, OpenCap): tab-separated, marker names in line 4, then frame, time, x y z of
    each; y is up."""
    lines = read_text(path, MAX_BYTES).splitlines()
    if len(lines) < 6:
        raise PoseFileError(f"{path}: expected five header lines and frames, got {counted(len(lines), 'line')}")
    facts_line = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    joints = [name.strip() for name in lines[3].split("\t")[2:] if name.strip()]
    width = 2 + 3 * len(joints)
    rows = [line.rstrip("\r\n").split("\t") for line in lines[5:] if line.strip()]
    table = numbers([(row + [""] * width)[:width] for row in rows], path)
    units = facts_line.get("Units", "").strip() or "unknown"
    facts = Facts("TRC", joints=tuple(joints), axes="y_up", units=units)
    try:
        facts.rate = float(facts_line.get("DataRate", ""))
    except ValueError:
        facts.guessed.append("no frame rate in the header")
    points, frames = at_frames(table[:, 0], table[:, 2:].reshape(len(table), len(joints), 3))
    return Recording(points[None], None, ("1",), frames, facts)


def read_csv(path: Path) -> Recording | Detections:
    """A CSV file in any of the formats above, recognized by its header.

    Raises:
        PoseFileError: the file is damaged or in an unknown format.
    """
    rows = read_rows(path)
    if len(rows) < 2:
        raise PoseFileError(f"{path}: expected a header and frames, got {counted(len(rows), 'row')}")
    head = [cell.strip() for cell in rows[0]]
    if head[0] == "scorer":
        return read_deeplabcut(path, rows)
    if head[:2] == ["track", "frame_idx"]:
        return read_sleap(path, rows)
    if any(DECODER.fullmatch(name) for name in head):
        return read_decoder(path, rows)
    return read_columns(path, rows)

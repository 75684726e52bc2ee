"""Key points in images as JSON or text: OpenPose, AlphaPose, COCO results, ultralytics (YOLO-pose), MMPose,
Kinetics-Skeleton."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.poses.recording import Detection, Detections, Facts, PoseFileError, flat_points
from graph.layouts import layout_of_names
from torchlight.system.files import read_json, read_text

NUMBER = re.compile(r"\d+", re.ASCII)
LAST_NUMBER = re.compile(r"[-_. ]*\d+\D*$", re.ASCII)  # with the separator before and the text after it
LAYOUTS = {17: "coco_17", 18: "openpose_18", 26: "halpe_26", 133: "coco_wholebody_133"}
HALPE_FULL = 136  # joints; the first 26 are those of halpe_26
# Joint 1 is the neck if its median distance from the middle of the shoulders is at most this, in body heights.
BODY_25B_NECK = 0.03
TOLERANCE = 0.02  # joints may lie this far outside the image


def last_number(name: str) -> int | None:
    """The last number in a file name, or None.

    >>> last_number("cam01.0012.json"), last_number("a_000000000012_keypoints.json")
    (12, 12)
    """
    numbers = NUMBER.findall(Path(name).name.rpartition(".")[0] or name)
    return int(numbers[-1]) if numbers else None


def by_video(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of single frames by the name of their video, which precedes the number of the frame. If no number is
    repeated, all files are of one video.

    >>> [*by_video([Path("a_01.json"), Path("a_02.json"), Path("b_01.json")])]
    ['a', 'b']
    """
    numbers, videos = [last_number(file.name) for file in files], {}
    for file in files:
        videos.setdefault(LAST_NUMBER.sub("", file.stem), []).append(file)
    are_repeated = None not in numbers and len(set(numbers)) < len(numbers)
    return videos if are_repeated and len(videos) < len(files) else {"": list(files)}


def read_folder(
    path: Path, suffix: str, read: Callable[[list[Path]], Detections]
) -> Detections | list[tuple[str, Detections]]:
    """The files of a folder, one or more per frame, as one recording or as those of several videos with their names."""
    videos = by_video(sorted(file for file in path.glob(f"*{suffix}") if not file.name.startswith(".")))
    found = [(name, read(files)) for name, files in videos.items()]
    return found if len(found) > 1 else found[0][1]


def layout_of(detections: dict[int, list[Detection]], facts: Facts) -> None:
    """Set the layout in `facts` from the number of joints, and for 25 joints from the position of joint 1.

    Of HALPE_FULL joints, those of the body are kept.
    """
    persons = [person for found in detections.values() for person in found]
    count = len(persons[0].points) if persons else 0
    facts.layout = LAYOUTS.get(count)
    if count == 25:
        x = np.stack([person.points[:, :2] for person in persons])
        height = np.nanmax(x[..., 1], 1) - np.nanmin(x[..., 1], 1)
        offset = np.linalg.norm(x[:, 1] - (x[:, 2] + x[:, 5]) / 2, axis=1) / np.maximum(height, 1e-6)
        neck = not np.nanmedian(offset) > BODY_25B_NECK
        facts.layout = "openpose_body_25" if neck else "openpose_body_25b"
        facts.guessed.append(f"layout {facts.layout}, from the position of joint 1 relative to the shoulders")
    elif count == HALPE_FULL:
        for person in persons:
            person.points, person.score = person.points[:26], None if person.score is None else person.score[:26]
        facts.layout = "halpe_26"
        facts.guessed.append(
            f"layout halpe_26, the first 26 of {HALPE_FULL} joints; the face and the hands are not used"
        )
    elif facts.layout:
        facts.guessed.append(f"layout {facts.layout}, from the number of joints")


def read_openpose(path: Path) -> Detections | list[tuple[str, Detections]]:
    """A folder of OpenPose JSON files, one per frame, of one or more videos."""
    return read_folder(path, ".json", _openpose)


def _openpose(files: list[Path]) -> Detections:
    """The frames of one video."""
    numbers = [last_number(file.name) for file in files]
    if len(files) == 1 or None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(len(files)))
    return _openpose_frames(
        {number: (str(file), read_json(file)) for number, file in sorted(zip(numbers, files, strict=True))}
    )


def read_openpose_list(path: Path, frames: list[Any]) -> Detections:
    """A list of objects {people} of OpenPose, one per frame. DWPose in ComfyUI writes them with the size of the images
    (canvas_width, canvas_height)."""
    return _openpose_frames({number: (f"{path}: frame {number}", frame) for number, frame in enumerate(frames)})


def _openpose_frames(contents: dict[int, tuple[str, Any]]) -> Detections:
    """Frame number -> (origin for messages, {people}); all-zero joints were not seen."""
    facts = Facts("OpenPose")
    frames: dict[int, list[Detection]] = {}
    for number, (origin, content) in contents.items():
        people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(people, list):
            raise PoseFileError(f"{origin}: expected an object with the list people")
        size = content.get("canvas_width"), content.get("canvas_height")
        if all(type(side) is int and side > 0 for side in size):
            facts.image_size = size
        frames[number] = []
        for person in people:
            flat = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
            if flat:
                points = flat_points(flat, 3, f"{origin}: people")
                frames[number].append(Detection(points[:, :2], points[:, 2], confidence=float(points[:, 2].mean())))
    _from_shares(frames, facts)
    layout_of(frames, facts)
    return Detections(frames, facts)


def _from_shares(frames: dict[int, list[Detection]], facts: Facts) -> None:
    """Coordinates of OpenPose's --keypoint_scale 3 (0 to 1) and 4 (-1 to 1) as shares of the image, in place."""
    persons = [person.points for found in frames.values() for person in found]
    low = min((np.nanmin(points, initial=0) for points in persons), default=0)
    high = max((np.nanmax(np.abs(points), initial=0) for points in persons), default=np.inf)
    if high > 1 + TOLERANCE:
        return
    if low < -TOLERANCE:
        for points in persons:
            points[:] = (points + 1) / 2
    facts.units, scale = "share", "-1 to 1" if low < -TOLERANCE else "0 to 1"
    facts.guessed.append(f"coordinates from {scale} across the image, from the range of the numbers")


def read_coco_results(path: Path, entries: list[Any]) -> Detections:
    """A list of {image_id, keypoints, score} per person and frame: AlphaPose (with box, idx or a file name as
    image_id) or COCO results."""
    alpha = any("idx" in entry or "box" in entry or isinstance(entry.get("image_id"), str) for entry in entries)
    facts = Facts("AlphaPose", start=0) if alpha else Facts("COCO results")
    frames: dict[int, list[Detection]] = {}
    for i, entry in enumerate(entries):
        origin = f"{path}: entry {i}"
        points = flat_points(entry.get("keypoints") or [], 3, origin)
        image = entry.get("image_id")
        number = image if isinstance(image, int) else last_number(str(image))
        if number is None:
            raise PoseFileError(f"{origin}: expected an image_id with a frame number, got {image!r}")
        track = None
        if "idx" in entry:
            flat = np.ravel(np.asarray(entry["idx"], float))  # files contain 1, [0.0] or [[0.0], [0.0]]
            track = str(int(flat[0])) if len(flat) else None
        found = Detection(points[:, :2], points[:, 2], track, float(entry.get("score", 0.0)))
        frames.setdefault(number, []).append(found)
    persons = [person for found in frames.values() for person in found]
    if len({person.track for person in persons}) == 1 and len(persons) > len(frames):
        for person in persons:
            person.track = None  # without tracking, the number of every person is 0
    numbers = sorted(frames)
    if not alpha and len(numbers) > 1 and np.median(np.diff(numbers)) > 1:
        frames = {i: frames[number] for i, number in enumerate(numbers)}
        facts.guessed.append("image ids are not consecutive; they are interpreted as frames in this order")
    layout_of(frames, facts)
    return Detections(frames, facts)


def read_ultralytics(path: Path, content: list[list[Any]]) -> Detections:
    """A list of frames; a frame is a list of persons with `box` and `keypoints` {x, y, visible}, as written by
    `Results.to_json`."""
    facts = Facts("ultralytics results")
    frames: dict[int, list[Detection]] = {}
    for number, found in enumerate(content):
        frames[number] = []
        for person in found:
            k = person.get("keypoints") if isinstance(person, dict) else None
            if not isinstance(k, dict) or "x" not in k:
                raise PoseFileError(
                    f"{path}: frame {number}: expected persons with keypoints, got none; use a pose model"
                )
            try:
                points = np.array([k["x"], k["y"]], np.float32).T
            except (KeyError, TypeError, ValueError) as error:
                raise PoseFileError(f"{path}: frame {number}: expected equally long lists x and y") from error
            score = np.array(k["visible"], np.float32) if k.get("visible") else None
            points[(points == 0).all(1)] = np.nan
            track = str(person["track_id"]) if "track_id" in person else None
            frames[number].append(Detection(points, score, track, float(person.get("confidence", 1.0))))
    seen = [person.points for found in frames.values() for person in found]
    if seen and np.nanmax(np.abs(np.concatenate(seen))) <= 2:
        facts.units = "share"
    layout_of(frames, facts)
    return Detections(frames, facts)


def read_mmpose(path: Path, content: Any) -> Detections:
    """MMPose 1.x: {meta_info, instance_info} written by the demo, or the list of frames (or of the instances in one
    image) written by the inferencer."""
    facts = Facts("MMPose")
    entries = content["instance_info"] if isinstance(content, dict) else content
    names = content.get("meta_info", {}).get("keypoint_id2name", {}) if isinstance(content, dict) else {}
    if entries and "instances" not in entries[0]:
        entries = [{"frame_id": 0, "instances": entries}]
    frames: dict[int, list[Detection]] = {}
    for i, entry in enumerate(entries):
        number = int(entry.get("frame_id", i))
        frames[number] = []
        for person in entry.get("instances", []):
            try:
                points = np.array(person["keypoints"], np.float32)
                score = np.array(person["keypoint_scores"], np.float32) if "keypoint_scores" in person else None
            except (KeyError, TypeError, ValueError) as error:
                raise PoseFileError(f"{path}: frame {number}: expected instances with keypoints") from error
            if points.ndim != 2 or points.shape[1] not in (2, 3):
                raise PoseFileError(f"{path}: frame {number}: expected keypoints (V, 2 or 3), got {points.shape}")
            track = str(person["track_id"]) if "track_id" in person else None
            confidence = float(np.ravel(person.get("bbox_score", 1.0))[0])
            frames[number].append(Detection(points, score, track, confidence))
    facts.joints = tuple(names[str(i)] for i in range(len(names)) if str(i) in names)
    solid = any(person.points.shape[1] == 3 for found in frames.values() for person in found)
    if facts.joints:
        named = layout_of_names(facts.joints)
        facts.layout = named.name if named else None
    elif not solid:  # 17 joints in 3-D may be those of COCO or of Human3.6M
        layout_of(frames, facts)
    if solid:
        facts.axes, facts.units = "camera", "unknown"
        facts.guessed.append("the file does not state its axes: those of the camera (y down) are assumed")
    return Detections(frames, facts)


def read_yolo_labels(path: Path) -> Detections | list[tuple[str, Detections]]:
    """A folder of YOLO-pose text files NAME_FRAME.txt of one or more videos, a person per row: class, box (4), x y [c]
    per joint, [confidence], [track]."""
    return read_folder(path, ".txt", _yolo_labels)


def _yolo_labels(files: list[Path]) -> Detections:
    """The frames of one video."""
    facts = Facts("YOLO-pose labels", units="share", start=1)  # no file is written for frames without a person
    rows: dict[int, list[tuple[Path, list[float]]]] = {}
    for file in files:
        found = rows.setdefault(last_number(file.name) or 0, [])
        for line in filter(str.strip, read_text(file).splitlines()):
            try:
                found.append((file, [float(word) for word in line.split()]))
            except ValueError as error:
                raise PoseFileError(f"{file}: expected numbers, got {line[:60]!r}") from error
    last = [row[-1] for found in rows.values() for _, row in found if (len(row) - 5) % 17 == 1]
    has_ids = bool(last) and max(last) > 1 and all(number >= 1 and number.is_integer() for number in last)
    if has_ids:
        facts.guessed.append("the last number of a row is the track id, because all of them are whole numbers")
    frames = {number: [_yolo_person(row, file, has_ids) for file, row in found] for number, found in rows.items()}
    layout_of(frames, facts)
    return Detections(frames, facts)


def _yolo_person(row: list[float], file: Path, has_ids: bool) -> Detection:
    """One row. has_ids: whether a single number after the joints is the track id, not the confidence."""
    width, further = divmod(len(row) - 5, 17)  # with or without a confidence per joint
    if width not in (2, 3) or further > 2:
        raise PoseFileError(f"{file}: expected 17 key points in a row, got {len(row)} numbers")
    points = np.array(row[5 : 5 + 17 * width], np.float32).reshape(17, width)
    is_tracked = further == 2 or (further == 1 and has_ids)
    confidence = row[-further] if further - is_tracked else 1.0
    xy, score = points[:, :2].copy(), points[:, 2] if width == 3 else None
    xy[(xy == 0).all(1)] = np.nan
    return Detection(xy, score, str(int(row[-1])) if is_tracked else None, confidence)


def read_kinetics(path: Path, content: dict[str, Any]) -> Detections:
    """Kinetics-Skeleton: {"data": [{"frame_index", "skeleton": [{"pose": [x, y, ...], "score": [...]}]}]}, shares of
    the image."""
    facts = Facts("Kinetics-Skeleton", layout="openpose_18", units="share")
    frames: dict[int, list[Detection]] = {}
    for i, entry in enumerate(content["data"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("skeleton"), list):
            raise PoseFileError(f"{path}: data {i}: expected an object with the list skeleton")
        found = frames.setdefault(int(entry.get("frame_index", i)), [])
        for person in entry["skeleton"]:
            points = flat_points(person.get("pose") or [], 2, f"{path}: data {i}", unseen_zero=False)
            score = np.asarray(person.get("score") or [], np.float32)
            if len(score) != len(points):
                raise PoseFileError(f"{path}: data {i}: expected {len(points)} scores, got {len(score)}")
            points[score == 0] = np.nan
            found.append(Detection(points, score, None, float(score.mean())))
    return Detections(frames, facts)

"""Reads any pose file or folder as recordings; the format is recognized by the content.

for name, recording in read("clip.json"):
    print(name, recording.points.shape, recording.facts.layout)
"""

import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from data.poses import array_files, hdf5_files, image_files, sensor_files, tables
from data.poses.recording import Detections, PoseFileError, Recording
from data.poses.tracking import track
from feeders.clip_store import FRAMES, MANIFEST
from torchlight.system.files import open_regular, read_json

# exceptions that readers raise for a damaged file
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
HDF5, NUMPY, ZIP, PICKLE = b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"PK\x03\x04", b"\x80"
JSON_LIMIT = 512 * 2**20


def read(path: str | Path, cutoff: float | None = None) -> list[tuple[str, Recording]]:
    """[(name, recording)] of a pose file or a folder that is one recording; most files contain one.

    Persons without ids are tracked; `facts.guessed` lists the assumptions. cutoff: see `read_each`.

    Raises:
        ValueError: the file cannot be read, is in an unknown format, or contains no person. The message names the file.
    """
    found = []
    for name, recording in read_each(path, cutoff):
        if isinstance(recording, PoseFileError):
            raise recording
        found.append((name, recording))
    return found


def read_each(path: str | Path, cutoff: float | None = None) -> list[tuple[str, Recording | PoseFileError]]:
    """Like `read`, but for a recording that cannot be used, the result contains the error.

    cutoff: the lowest likelihood of points that were seen, instead of the default of the format (DeepLabCut: 0.6).

    Raises:
        ValueError: the file cannot be read or is in an unknown format.
    """
    path = Path(path)
    reader = recognize(path)
    try:
        found = reader(path)
    except DAMAGE as error:
        raise _error(path, error) from error
    return [_finished(path, cutoff, *item) for item in (found if isinstance(found, list) else [(path.stem, found)])]


def _finished(
    path: Path, cutoff: float | None, name: str, found: Recording | Detections
) -> tuple[str, Recording | PoseFileError]:
    try:
        return name, finish(found, cutoff)
    except DAMAGE as error:
        return name, _error(path, error)


def _error(path: Path, error: Exception) -> PoseFileError:
    """An error of a reader as one line that names the file."""
    reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    known = isinstance(error, PoseFileError)
    origin = "" if reason.startswith(str(path)) else f"{path}: {'' if known else 'damaged or in another format: '}"
    return PoseFileError(origin + " ".join(reason.split()))


def finish(found: Recording | Detections, cutoff: float | None = None) -> Recording:
    """A recording with identities, checked; persons without ids are tracked. cutoff: see `read_each`."""
    if isinstance(found, Detections):
        found = found.to_recording() if found.identified else track(found)
    if found.facts.cutoff is not None and found.score is not None:
        if cutoff is None:
            cutoff = found.facts.cutoff
            found.facts.guessed.append(f"points with a likelihood below {cutoff} count as not seen")
        found.points[found.score < cutoff] = np.nan
    return found.check()


Reader = Callable[[Path], Any]
LABELS = "labels.csv"  # the table of the labels of recordings


def recognize(path: Path) -> Reader:
    """The reader of a file or folder, selected by its content.

    Raises:
        PoseFileError: the format is not supported; the message names the format if it is recognized.
    """
    if path.is_dir():
        return _recognize_folder(path)
    with open_regular(path) as file:
        head = file.read(4096)
    if not head:
        raise PoseFileError(f"{path}: expected a pose file, got an empty file")
    if head.startswith(HDF5):
        return hdf5_files.read_hdf5
    if head.startswith(NUMPY):
        return array_files.read_npy
    if head.startswith(ZIP):
        return _recognize_zip(path)
    if head[:1] == PICKLE or head[:2] in (b"(d", b"}q", b"(l", b"]q"):
        return array_files.read_pyskl
    if path.suffix.lower() == ".c3d" and head[1:2] == b"P":
        return sensor_files.read_c3d
    if path.suffix.lower() == ".pose":
        return read_pose_format
    return _recognize_text(path, head)


def _read_json(path: Path) -> Any:
    return read_json_form(path, read_json(path, JSON_LIMIT))


def form_of(path: Path) -> str:
    """The raw format of a benchmark that a file is in: "ntu", "kinetics", "skeletons" or "pyskl"; "" for all others."""
    try:
        reader = recognize(path)
        content = read_json(path, JSON_LIMIT) if reader is _read_json else None
    except ValueError:
        return ""
    if isinstance(content, dict):
        is_kinetics = isinstance(content.get("data"), list) and "label_index" in content
        return "kinetics" if is_kinetics else "skeletons" if "skeletons" in content else ""
    return {sensor_files.read_ntu: "ntu", array_files.read_pyskl: "pyskl"}.get(reader, "")


def is_recording(folder: Path) -> bool:
    """Whether a folder as a whole is one recording."""
    try:
        return bool(_recognize_folder(folder))
    except (OSError, ValueError):
        return False


def describes_recordings(file: Path) -> bool:
    """Whether a file beside recordings contains their labels or a body."""
    return file.name == LABELS or file.suffix.lower() in (".yaml", ".yml")


def is_clip_store(folder: Path) -> bool:
    """Whether a folder contains prepared clips rather than recordings."""
    return (folder / MANIFEST).is_file() and (folder / FRAMES).is_file()


def _recognize_folder(path: Path) -> Reader:
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    kinds = {file.suffix.lower() for file in files}
    if ".json" in kinds:
        frames = [file for file in files if file.suffix.lower() == ".json"]
        if _are_openpose([file for file in frames if file.stem.endswith("_keypoints")] or frames):
            return image_files.read_openpose
    if kinds == {".txt"} and all(image_files.last_number(file.name) is not None for file in files):
        return image_files.read_yolo_labels
    raise PoseFileError(
        f"{path}: expected a folder of OpenPose JSON files or of YOLO-pose label files, got {len(files)} other files"
    )


def _are_openpose(files: Sequence[Path]) -> bool:
    """Whether files are frames of OpenPose, judged by the first that is not damaged, of at most three."""
    for file in files[:3]:
        with suppress(ValueError):
            content = read_json(file, JSON_LIMIT)
            return isinstance(content, dict) and "people" in content
    return False


def _recognize_zip(path: Path) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise PoseFileError(f"{path}: not a readable archive ({error})") from error
    if any(name.endswith(".npy") for name in names):
        return array_files.read_npz
    raise PoseFileError(f"{path}: expected an .npz file, got an archive of {', '.join(names[:4])}")


def _recognize_text(path: Path, head: bytes) -> Reader:
    text = head.decode("utf-8-sig", "replace").lstrip()
    if text.startswith("HIERARCHY"):
        return sensor_files.read_bvh
    if text.startswith("PathFileType"):
        return tables.read_trc
    if text.startswith(("{", "[")):
        return _read_json
    lines = text.splitlines()
    if path.suffix.lower() == ".skeleton" or (
        len(lines) > 3 and lines[0].isdigit() and lines[1].isdigit() and lines[3].strip() == "25"
    ):
        return sensor_files.read_ntu
    if lines and "," in lines[0]:
        return tables.read_csv
    raise PoseFileError(f"{path}: expected a pose file, got {head[:30]!r}; see docs/poses.md for the supported formats")


def read_json_form(path: Path, content: Any) -> Any:
    """The recording in a JSON value, recognized by its keys; raises PoseFileError for other content."""
    if isinstance(content, dict):
        if "people" in content:
            return image_files.read_openpose_list(path, [content])
        if "k4abt_sdk_version" in content or {"joint_names", "frames"} <= content.keys():
            return sensor_files.read_azure(path, content)
        if "instance_info" in content:
            return image_files.read_mmpose(path, content)
        if isinstance(content.get("data"), list) and "label_index" in content:
            return image_files.read_kinetics(path, content)
        if "skeletons" in content:
            return sensor_files.read_skeletons(path, content)
        if {"version", "bodies"} <= content.keys():
            raise PoseFileError(
                f"{path}: expected AlphaPose's list of persons, got its cmu format; run AlphaPose without --format cmu"
            )
        if {"images", "annotations"} <= content.keys():
            raise PoseFileError(f"{path}: expected a recording, got COCO annotations of images")
        raise PoseFileError(
            f"{path}: expected poses in a known format, got an object with {', '.join(list(content)[:6])}"
        )
    filled = [item for item in content if item] if isinstance(content, list) else []
    if not filled:
        raise PoseFileError(f"{path}: expected poses, got an empty {type(content).__name__}")
    first = filled[0]
    if isinstance(first, list):
        return image_files.read_ultralytics(path, content)
    if isinstance(first, dict) and all(isinstance(item, dict) for item in content):
        if "people" in first:
            return image_files.read_openpose_list(path, content)
        if "instances" in first or "keypoint_scores" in first:
            return image_files.read_mmpose(path, content)
        if {"pose_landmarks", "pose_world_landmarks", "landmarks"} & first.keys():
            return sensor_files.read_mediapipe(path, content)
        if "keypoints" in first:
            return image_files.read_coco_results(path, content)
        raise PoseFileError(f"{path}: expected poses in a known format, got objects with {', '.join(list(first)[:6])}")
    raise PoseFileError(f"{path}: expected poses in a known format, got a list of {type(first).__name__}")


def read_pose_format(path: Path) -> Recording:
    """pose-format (.pose); needs the package pose-format."""
    from data.poses.recording import Facts

    try:
        from pose_format import Pose
    except ImportError:
        raise PoseFileError(f"{path}: .pose files need the package pose-format; pip install pose-format") from None
    try:
        pose = Pose.read(path.read_bytes())
        data, confidence = (
            np.ma.filled(pose.body.data, np.nan),
            np.asarray(pose.body.confidence),
        )  # (T, M, V, C), (T, M, V)
        joints = [f"{part.name} {point}" for part in pose.header.components for point in part.points]
        size, rate = (pose.header.dimensions.width, pose.header.dimensions.height), float(pose.body.fps)
    except Exception as error:  # the package raises any exception for a damaged file
        raise PoseFileError(f"{path}: not a readable .pose file ({type(error).__name__}: {error})") from error
    facts = Facts("pose-format", joints=tuple(joints), rate=rate, image_size=size)
    points = data.transpose(1, 0, 2, 3).astype(np.float32)
    score = confidence.transpose(1, 0, 2).astype(np.float32)
    points[score == 0] = np.nan
    return Recording(points, score, tuple(str(m + 1) for m in range(len(points))), np.arange(points.shape[1]), facts)

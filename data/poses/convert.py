"""Conversion of a recording in any layout to the body of a trained network: joints, axes, units, missing values and
frame rate.

Each computation and assumption is added to `facts.guessed` as one sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.poses.recording import Facts, PoseFileError, Recording
from graph.body import Skeleton
from graph.layouts import (
    LayoutMap,
    find_layout,
    find_map,
    layout_of_names,
    nearest_layout,
    parse_map,
    to_axes,
    words_of,
)
from torchlight.system.text import quote

MISSING = ("interpolate", "hold", "zero", "mask")  # how missing joints are handled
MAX_GAP = 0.3  # seconds; missing joints are interpolated over gaps up to this length
PER_METER = {"m": 1, "cm": 100, "mm": 1000}  # units of a file
BODY_HEIGHT = 1.6  # meters from the head joint to the feet, for files without units
SAME_RATE = 0.02  # relative difference of frame rates that is ignored
# common sizes, for files without one: the first that contains all joints
IMAGE_SIZES = ((1280, 720), (1920, 1080), (720, 1280), (1080, 1920), (3840, 2160), (2160, 3840))


@dataclass(frozen=True)
class Body:
    """What the coordinates of a network's clips mean.

    is_flat: whether they are x, y (and a score) in an image. Otherwise they are x, y, z in meters and Kinect axes (y
    up). is_own: whether the body is custom; its clips have the axes and units of the custom data.
    """

    skeleton: Skeleton
    is_flat: bool
    is_own: bool = False

    @property
    def layout(self) -> str | None:
        """The name of the skeleton's layout; None for a custom body."""
        return None if self.is_own else find_layout(self.skeleton.name).name


def to_body(recording: Recording, body: Body, layout: str | None = None, mirror: bool = False) -> Recording:
    """The recording with the joints, axes and units of a body; joints that were not seen stay NaN.

    layout: overrides the layout of the file. mirror: exchange left and right, for mirrored images.

    Raises:
        PoseFileError: there is no map from the layout of the file to the body.
    """
    facts = replace(recording.facts, guessed=list(recording.facts.guessed))
    if body.is_flat and recording.image is not None:  # exact, unlike a projection
        facts.axes, facts.units = "image", "px"
        recording = replace(recording, points=recording.image, facts=facts, image=None)
    points, score = to_joints(recording, facts, body, layout)
    depth = points.shape[-1] == 3 and facts.axes != "image"
    if not body.is_own:
        if body.is_flat:
            points = _to_pixels(_project(points, facts) if depth else points[..., :2], facts)
        else:
            points = _to_meters(points if depth else _without_depth(points, facts), facts)
    elif points.shape[-1] != (2 if body.is_flat else 3):
        expected, got = (2, 3) if body.is_flat else (3, 2)
        raise PoseFileError(
            f"expected {expected} coordinates for each joint of {body.skeleton.name}, got {got}; see --channels"
        )
    if mirror:
        points, score = _mirror(points, score, body, facts)
    return Recording(points.astype(np.float32), score, recording.tracks, recording.frames, facts)


def to_joints(
    recording: Recording, facts: Facts, body: Body, layout: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Points and scores of the body's joints; sets `facts.imputed`, the names of those that no sensor measured."""
    points, score, skeleton = recording.points, recording.score, body.skeleton
    if layout is not None:
        facts.layout = find_layout(layout).name
        if find_layout(layout).num_joint != points.shape[2]:
            expected = find_layout(layout).num_joint
            raise PoseFileError(f"layout: expected {expected} joints as in {facts.layout}, got {points.shape[2]}")
    expected = find_layout(facts.layout).num_joint if facts.layout else len(facts.joints) or points.shape[2]
    if points.shape[2] != expected:
        what = f" as in {facts.layout}" if facts.layout else ""
        raise PoseFileError(f"expected poses of {expected} joints{what}, got {points.shape[2]}")
    names = [words_of(name) for name in facts.joints]
    own = [words_of(name) for name in skeleton.joints]
    if facts.layout is None and names and (found := layout_of_names(facts.joints)) is not None:
        facts.layout = found.name
    if facts.layout is None and len(set(names)) == len(names) and set(own) <= set(names):
        order = [names.index(name) for name in own]
        return points[:, :, order], None if score is None else score[:, :, order]
    if facts.layout is None and names and (near := nearest_layout(plain_names(facts.joints))) is not None:
        layout_found, places = near
        points, score = _take(points, score, places)
        facts.layout = layout_found.name
        missing = [layout_found.skeleton.joints[i] for i, place in enumerate(places) if place < 0]
        text = f", without {', '.join(missing)}" if missing else ""
        facts.guessed.append(f"the names of the joints are those of {facts.layout}{text}")
    if facts.layout is None and not names and points.shape[2] == skeleton.num_joint:
        facts.guessed.append(f"the joints are taken in the order of {skeleton.name}")
        return points, score
    if facts.layout is None:
        given = f"the joints {', '.join(facts.joints[:6])} ..." if names else f"{points.shape[2]} joints without names"
        raise PoseFileError(
            f"expected a layout with a map to {body.layout or skeleton.name}, got {given}; give --layout"
        )
    found = find_body_map(facts.layout, body)
    imputed = found.imputed
    if imputed:
        facts.imputed = imputed
        facts.guessed.append(
            f"{len(imputed)} of {skeleton.num_joint} joints were not measured: {', '.join(imputed)} ({facts.layout} to "
            f"{found.target.name})"
        )
    return found.apply(points, score)


def plain_names(joints: Sequence[str]) -> list[str]:
    """Names without the preceding name of a group: `NOSE` for `POSE_LANDMARKS NOSE` in .pose files, `Hips` for
    `mixamorig:Hips`."""
    mark = ":" if all(":" in name for name in joints) else " "
    groups = [name.partition(mark)[0] for name in joints]
    grouped = all(mark in name for name in joints) and len(set(groups)) * 3 <= len(joints)
    seen: set[str] = set()
    names = []
    for name in joints:
        short = name.partition(mark)[2] if grouped else name
        names.append(name if short in seen else short)  # a later group may repeat the names of the first
        seen.add(short)
    return names


def _take(points: np.ndarray, score: np.ndarray | None, places: list[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Joints in another order; those at -1 are missing."""
    lost = np.array(places) < 0
    points = points[:, :, places].copy()
    points[:, :, lost] = np.nan
    if score is not None:
        score = np.where(lost, 0, score[:, :, places])
    return points, score


def find_body_map(source: str, body: Body) -> LayoutMap:
    """The map from a layout to a body; raises PoseFileError if there is none."""
    if not body.is_own:
        try:
            return find_map(source, body.layout)
        except ValueError as error:
            raise PoseFileError(str(error)) from error
    for name, steps in body.skeleton.maps:
        if find_layout(name).name == find_layout(source).name:
            return parse_map(find_layout(source), body.skeleton, steps)
    known = ", ".join(name for name, _ in body.skeleton.maps) or "none"
    raise PoseFileError(
        f"expected a recording of the joints of {body.skeleton.name} or of a layout that its `maps` names ({known}), "
        f"got {source}"
    )


def _to_meters(points: np.ndarray, facts: Facts) -> np.ndarray:
    """3-D points in meters and Kinect axes."""
    points = to_axes(points, facts.axes, "kinect")
    facts.axes = "kinect"
    if facts.units.lower() in PER_METER:
        points = points / PER_METER[facts.units.lower()]
    else:
        points = points * (BODY_HEIGHT / body_height(points))
        reason = "the file has no units" if facts.units in ("unknown", "px") else f"the units are {quote(facts.units)}"
        facts.guessed.append(f"{reason}: the body is scaled to {BODY_HEIGHT} m from head to feet")
    facts.units = "m"
    return points


def _without_depth(points: np.ndarray, facts: Facts) -> np.ndarray:
    """Image points as 3-D points with z = 0, in Kinect axes: x to the left of the image, y up."""
    if facts.units == "share":
        points = _to_pixels(points[..., :2], facts)
    x, y = points[..., 0], points[..., 1]
    facts.axes, facts.units = "kinect", "unknown"
    facts.guessed.append("the poses have no depth (z = 0); networks of 3-D poses recognize them with low accuracy")
    return np.stack([-x, -y, np.where(np.isnan(x), np.nan, 0)], -1)


def _project(points: np.ndarray, facts: Facts) -> np.ndarray:
    """3-D points as an upright image without perspective: the body fills half of the height of 1920 x 1080."""
    points = to_axes(points, facts.axes, "kinect")
    size = IMAGE_SIZES[1]
    scale = size[1] / 2 / body_height(points)
    middle = np.nanmedian(points.reshape(-1, 3), 0)
    image = np.stack([-(points[..., 0] - middle[0]), -(points[..., 1] - middle[1])], -1) * scale
    facts.axes, facts.units, facts.image_size = "image", "px", size
    facts.guessed.append("3-D poses were projected to an image without perspective")
    return image + np.array(size) / 2


def _to_pixels(points: np.ndarray, facts: Facts) -> np.ndarray:
    """Image points in pixels; sets the image size if it is not known."""
    size = facts.image_size
    if size is None:
        size = assumed_size(points, facts)
        facts.guessed.append(f"the file has no image size: {size[0]} x {size[1]} is assumed")
    facts.image_size = size
    if facts.units == "share":
        points, facts.units = points * np.array(size, np.float32), "px"
    return points


def assumed_size(points: np.ndarray, facts: Facts) -> tuple[int, int]:
    """Width and height of the image of points (..., 2) if they are not known: the first common size that contains all
    points."""
    if facts.units == "share":
        return IMAGE_SIZES[1]
    high = np.nanmax(points.reshape(-1, 2), 0)
    return next((size for size in IMAGE_SIZES if (high <= size).all()), (int(high[0]) + 1, int(high[1]) + 1))


def body_height(points: np.ndarray) -> float:
    """The height of an upright person: the 90th percentile of the vertical extent over all frames of (M, T, V, C)."""
    y = points[..., 1]
    seen = ~np.isnan(y).all(-1)
    extent = np.nanmax(y[seen], -1) - np.nanmin(y[seen], -1)
    height = float(np.percentile(extent, 90)) if len(extent) else 0.0
    if not height > 0:
        raise PoseFileError("expected persons with a height above 0, got all joints at the same height")
    return height


def _mirror(
    points: np.ndarray, score: np.ndarray | None, body: Body, facts: Facts
) -> tuple[np.ndarray, np.ndarray | None]:
    """x -> -x (in an image: width - x) and left <-> right."""
    order = np.arange(body.skeleton.num_joint)
    for left, right in zip(body.skeleton.left, body.skeleton.right, strict=True):
        order[[left, right]] = right, left
    points = points[:, :, order].copy()
    flat_width = facts.image_size[0] if body.is_flat and facts.image_size else 0
    points[..., 0] = np.where(points.any(-1), flat_width - points[..., 0], 0)  # joints at 0 were not seen
    return points, None if score is None else score[:, :, order]


def fill(
    points: np.ndarray,
    score: np.ndarray | None,
    rate: float,
    skeleton: Skeleton,
    is_flat: bool,
    missing: str = "interpolate",
) -> np.ndarray:
    """Fill the missing joints of (M, T, V, C), in place. Frames without a person stay NaN.

    missing: one of MISSING. interpolate, mask: gaps of up to MAX_GAP seconds are interpolated. In longer gaps, 3-D
    joints keep their nearest known offset from the parent joint, or are at its position if they were never seen; 2-D
    joints become 0 with score 0, as pose estimators write them. hold: joints keep their last known position; before the
    first one, they have the first one; joints that were never seen are 0. zero: all missing joints are 0. The score of
    joints that are held or 0 is 0.
    """
    M, T, V, C = points.shape
    if missing in ("hold", "zero"):
        absent = np.isnan(points).all((2, 3))
        if score is not None:
            score[np.isnan(points).any(-1)] = 0
        for m in range(M if missing == "hold" else 0):
            hold(points[m].reshape(T, -1))
        np.nan_to_num(points, copy=False)
        points[absent] = np.nan
        return points
    longest = max(1, round(MAX_GAP * rate))
    for m in range(M):
        if np.isnan(points[m]).any():
            interpolate(points[m].reshape(T, -1), longest)
            if score is not None:
                score[m][np.isnan(points[m]).any(-1)] = 0
    seen = ~np.isnan(points).all((2, 3))
    if is_flat:
        points[np.isnan(points) & seen[..., None, None]] = 0
        return points
    for m in range(M):
        if np.isnan(points[m][seen[m]]).any():
            points[m][seen[m]] = _complete(points[m][seen[m]], skeleton)
    return points


def interpolate(x: np.ndarray, longest: int) -> None:
    """Linear interpolation over gaps of at most `longest` rows, in place, (T, n) with NaN."""
    for column in np.flatnonzero(np.isnan(x).any(0) & ~np.isnan(x).all(0)):
        known = np.flatnonzero(~np.isnan(x[:, column]))
        for before, after in zip(known[:-1], known[1:], strict=True):
            if 1 < after - before <= longest + 1:
                share = np.arange(1, after - before) / (after - before)
                x[before + 1 : after, column] = x[before, column] * (1 - share) + x[after, column] * share


def hold(x: np.ndarray) -> None:
    """Fill each gap with the last number before it, or the first number after it at the start; in place, (T, n) with
    NaN. Columns without a number stay NaN."""
    known, time = ~np.isnan(x), np.arange(len(x))[:, None]
    last = np.maximum.accumulate(np.where(known, time, -1), axis=0)
    x[:] = np.take_along_axis(x, np.where(last < 0, known.argmax(0), last), axis=0)


def _complete(x: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Place joints in long gaps relative to their parents; (T, V, 3), each frame with at least one joint."""
    missing = np.isnan(x).any(-1)
    root = next(i for i, parent in enumerate(skeleton.parents) if i == parent)
    x[missing[:, root], root] = np.nanmean(x[missing[:, root]], 1)
    order, known = [], {root}
    while len(order) < skeleton.num_joint - 1:  # parents before children
        order += [i for i, parent in enumerate(skeleton.parents) if i not in known and parent in known]
        known |= set(order)
    for joint in order:
        if not missing[:, joint].any():
            continue
        offset = x[:, joint] - x[:, skeleton.parents[joint]]
        have = np.flatnonzero(~missing[:, joint])
        gaps = np.flatnonzero(missing[:, joint])
        nearest = have[np.abs(gaps[:, None] - have).argmin(1)] if len(have) else None
        x[gaps, joint] = x[gaps, skeleton.parents[joint]] + (0 if nearest is None else offset[nearest])
    return x


def resample(x: np.ndarray, rate: float, target: float) -> np.ndarray:
    """Frames (M, T, ...) at another frame rate by linear interpolation; NaN where one of the two frames is NaN."""
    T = x.shape[1]
    if abs(rate / target - 1) <= SAME_RATE or T < 2:
        return x
    return between(x, np.arange(int((T - 1) / rate * target + 1e-6) + 1) * (rate / target))


def between(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Frames (M, T, ...) at fractional indices by linear interpolation; NaN where one of the two frames is NaN."""
    early = np.minimum(index.astype(int), x.shape[1] - 2)
    share = (index - early).astype(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    before, after = x[:, early], x[:, early + 1]
    return np.where(share == 0, before, np.where(share == 1, after, before * (1 - share) + after * share))

"""Restores the path of a body, given as 3-D points relative to the hips, from the image by weak perspective.

World landmarks of MediaPipe have their origin between the hips in every frame: persons who walk or jump do not move,
and all persons are at the same position. The image contains the path. Let w be the x and y of all joints in meters and
p the same joints in pixels, both relative to the hips. The scale of a frame is then s = sum(w . p) / sum(p . p) in
meters per pixel. Hips at the pixel (u, v) of a W x H image are at ((u - W/2) s, (v - H/2) s, f s) in camera axes, with
the focal length f in pixels.

s varies by 1 % and more from frame to frame, which is 7 cm of depth at a distance of 7 m, so it is smoothed. The focal
length is assumed, so the depth gives the order of persons but is not a measurement.
"""

import math
from dataclasses import replace

import numpy as np

from data.poses.recording import ASSUMED_RATE, Detection, Recording

HIPS = (23, 24)  # of MediaPipe's 33 joints
FOCAL = 1.1  # focal length in units of the larger image side, for 50 degrees across
SMOOTH_SECONDS = 0.5
GUESS = "the position in space follows from the size in the image, with an assumed focal length"


def image_scale(world: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Meters per pixel (...) of poses with world landmarks (..., 33, 3) and image landmarks (..., 33, 2) in pixels; NaN
    or not positive if the pose is degenerate."""
    pixels = image - image[..., HIPS, :].mean(-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (world[..., :2] * pixels).sum((-1, -2)) / (pixels**2).sum((-1, -2))


def restore_path(world: np.ndarray, image: np.ndarray, scale: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """World landmarks (..., 33, 3) moved to the position of the body, in meters and camera axes.

    image: (..., 33, 2) pixels. scale: (...) meters per pixel. size: (width, height) in pixels.
    """
    scale = np.asarray(scale)
    hips = (image[..., HIPS, :].mean(-2) - np.array(size) / 2) * scale[..., None]
    depth = FOCAL * max(size) * scale
    return (world + np.concatenate([hips, depth[..., None]], -1)[..., None, :]).astype(np.float32)


class BodyPath:
    """Restores the paths of tracked persons frame by frame; the scale of each is an exponential mean over time."""

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self.scale: dict[str, tuple[float, float]] = {}  # track -> time, mean

    def move(self, time: float, person: Detection) -> Detection:
        """The person at its position in space; NaN (not seen) until a frame has a usable scale. time: seconds."""
        assert person.image is not None and person.track is not None
        scale = float(image_scale(person.points, person.image))
        before, mean = self.scale.get(person.track, (time, math.nan))
        if not (math.isfinite(scale) and scale > 0):
            scale = mean
        elif math.isfinite(mean):
            scale = mean + (1 - math.exp((before - time) / SMOOTH_SECONDS)) * (scale - mean)
        self.scale[person.track] = time, scale
        return replace(person, points=restore_path(person.points, person.image, np.array(scale), self.size))

    def forget(self, track: str) -> None:
        """Remove the state of a track that has ended."""
        self.scale.pop(track, None)


def with_paths(recording: Recording) -> Recording:
    """A recording of world landmarks whose persons move through space; needs `image` and `facts.image_size`."""
    facts = recording.facts
    assert recording.image is not None and facts.image_size is not None
    rate = facts.rate or ASSUMED_RATE
    path = BodyPath(facts.image_size)
    points = recording.points.copy()
    for m, track in enumerate(recording.tracks):
        for t in np.flatnonzero(recording.seen[m]):
            person = Detection(recording.points[m, t], track=track, image=recording.image[m, t])
            points[m, t] = path.move(recording.frames[t] / rate, person).points
    return replace(recording, points=points)

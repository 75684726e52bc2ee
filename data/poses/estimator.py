"""Poses in images: MediaPipe (Tasks API), or RTMPose through rtmlib. Both are optional packages; nothing is downloaded.

    with PoseEstimator() as estimator:
        persons = estimator.estimate(image, milliseconds=0)

MediaPipe up to 0.10.21 contains its own models; for newer versions the model is a file, `pose_landmarker_full.task`.
RTMPose needs two files, the detector and the pose network, both as ONNX.
"""

import contextlib
import io
import os
import sys
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from data.poses.image_files import LAYOUTS
from data.poses.recording import Detection, Facts
from torchlight.system.files import read_bytes
from torchlight.system.packages import optional
from torchlight.system.text import quote

INSTALL = "pip install -r requirements/video.txt"
INSTALL_RTMPOSE = "pip install rtmlib onnxruntime"
MAX_MODEL_BYTES = 512 * 2**20
BUNDLE = {  # name in a .task file: the model in the package, mean and standard deviation of its input
    "pose_detector.tflite": ("modules/pose_detection/pose_detection.tflite", 127.5, 127.5),
    "pose_landmarks_detector.tflite": ("modules/pose_landmark/pose_landmark_full.tflite", 0.0, 255.0),
}
NO_MODELS = (
    "pose_model: this version of mediapipe contains no models; give a file, such as pose_landmarker_full.task, "
    "or install mediapipe==0.10.14 (Python up to 3.12)"
)


class Backend(Protocol):
    """A pose estimator; `facts` describe its points."""

    facts: Facts

    def estimate(self, image: np.ndarray, milliseconds: int) -> list[Detection]: ...

    def close(self) -> None: ...


class PoseEstimator:
    """Detects persons in images.

    models: empty for MediaPipe with the models in its package, a `.task` file for MediaPipe, or two `.onnx` files
    (detector, pose) for RTMPose. persons: maximum number of persons. flat: return only the joints in the image, for
    networks trained on 2-D poses; RTMPose always does. `facts.image_size` is known after the first image.

    Raises:
        ValueError: a package or a model is missing, or a model cannot be read.
    """

    def __init__(self, models: Sequence[str | Path] = (), persons: int = 2, flat: bool = False):
        kinds = [Path(model).suffix.lower() for model in models]
        if kinds not in ([], [".task"], [".onnx", ".onnx"]):
            got = ", ".join(map(str, models))
            raise ValueError(f"pose_model: expected one .task file or two .onnx files (detector, pose), got {got}")
        for model in models:
            if not Path(model).is_file():
                raise ValueError(f"pose_model: {model}: no such file")
        files = [Path(model) for model in models]
        self.backend: Backend = RTMPose(files, persons) if len(files) == 2 else MediaPipe(files, persons, flat)
        self.last = -1

    @property
    def facts(self) -> Facts:
        """Layout, axes and units of the points."""
        return self.backend.facts

    def estimate(self, image: np.ndarray, milliseconds: int) -> list[Detection]:
        """The persons in an image (H, W, 3) uint8 RGB, in no particular order. milliseconds: the time of the image."""
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, (image.dtype, image.shape)
        self.facts.image_size = (image.shape[1], image.shape[0])
        self.last = max(self.last + 1, int(milliseconds))  # two frames of a fast camera may share a millisecond
        return self.backend.estimate(np.ascontiguousarray(image), self.last)

    def close(self) -> None:
        """Free the models."""
        self.backend.close()

    def __enter__(self) -> "PoseEstimator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MediaPipe:
    """33 joints: world landmarks in meters and camera axes with the hips at the origin, and their pixels in `image`; if
    flat, only the pixels."""

    def __init__(self, models: Sequence[Path], persons: int, flat: bool):
        os.environ.setdefault("GLOG_minloglevel", "2")  # otherwise its C++ code prints pages of messages
        warnings.filterwarnings("ignore", "SymbolDatabase", UserWarning)  # a warning of protobuf about its own code
        self.package = optional("mediapipe", INSTALL)
        tasks = optional("mediapipe.tasks.python", INSTALL)
        vision = optional("mediapipe.tasks.python.vision", INSTALL)
        bundle = read_bytes(models[0], MAX_MODEL_BYTES) if models else package_bundle(self.package)
        options = vision.PoseLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=bundle),
            running_mode=vision.RunningMode.VIDEO,
            num_poses=persons,
        )
        try:
            self.landmarker = vision.PoseLandmarker.create_from_options(options)
        except Exception as error:  # caused by a damaged file or an incompatible version of protobuf
            where, reason = models[0] if models else "models of the package", " ".join(str(error).split())[:200]
            message = f"pose_model: {where}: not accepted by MediaPipe ({type(error).__name__}: {reason})"
            raise ValueError(f"{message}; if the file is intact, reinstall the packages: {INSTALL}") from error
        self.flat = flat
        axes, units = ("image", "px") if flat else ("camera", "m")
        self.facts = Facts(f"MediaPipe {self.package.__version__}", "mediapipe_pose_33", axes=axes, units=units)

    def estimate(self, image: np.ndarray, milliseconds: int) -> list[Detection]:
        picture = self.package.Image(image_format=self.package.ImageFormat.SRGB, data=image)
        result = self.landmarker.detect_for_video(picture, milliseconds)
        size = np.array((image.shape[1], image.shape[0]), np.float32)
        persons = [
            mediapipe_person(world, shares, size)
            for world, shares in zip(result.pose_world_landmarks, result.pose_landmarks, strict=True)
        ]
        return [replace(p, points=p.image, image=None) for p in persons] if self.flat else persons

    def close(self) -> None:
        self.landmarker.close()


def mediapipe_person(world: Sequence[Any], shares: Sequence[Any], size: np.ndarray) -> Detection:
    """The landmarks of one person: attributes x, y, z and visibility; shares: of the image size (width, height)."""
    points = np.array([(mark.x, mark.y, mark.z) for mark in world], np.float32)
    score = np.array([mark.visibility for mark in world], np.float32)
    image = np.array([(mark.x, mark.y) for mark in shares], np.float32) * size
    return Detection(points, score, confidence=float(score.mean()), image=image.astype(np.float32))


def package_bundle(package: ModuleType) -> bytes:
    """A `.task` file made of the two models in the package, with the metadata that the Tasks API requires.

    Raises:
        ValueError: this version contains no models.
    """
    root = Path(package.__path__[0])
    files = {name: (root / path, mean, std) for name, (path, mean, std) in BUNDLE.items()}
    if not all(path.is_file() for path, _, _ in files.values()):
        raise ValueError(NO_MODELS)
    writer = optional("mediapipe.tasks.python.metadata.metadata_writers.metadata_writer", INSTALL).MetadataWriter
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:  # MediaPipe uses the models in place
        for name, (path, mean, std) in files.items():
            model = writer.create(bytearray(path.read_bytes())).add_image_input([mean], [std])
            bundle.writestr(name, model.populate()[0])
    return buffer.getvalue()


class RTMPose:
    """Joints of RTMPose in pixels; the layout follows from the output of the pose network."""

    def __init__(self, models: Sequence[Path], persons: int):
        package = optional("rtmlib", INSTALL_RTMPOSE)
        optional("onnxruntime", INSTALL_RTMPOSE)
        self.persons = persons
        try:
            with contextlib.redirect_stdout(sys.stderr):  # rtmlib prints, but standard output may be a file of results
                self.detector = package.YOLOX(str(models[0]), backend="onnxruntime")
                self.pose = package.RTMPose(str(models[1]), backend="onnxruntime")
            self.detector.model_input_size = input_size(self.detector)
            self.pose.model_input_size = input_size(self.pose)[::-1]  # (width, height)
            count = self.pose.session.get_outputs()[0].shape[1]
        except Exception as error:  # rtmlib and onnxruntime raise any exception for a damaged file
            names, reason = " ".join(map(str, models)), " ".join(str(error).split())[:200]
            raise ValueError(f"pose_model: {names}: not usable as detector and pose network ({reason})") from error
        if count not in LAYOUTS:
            known = ", ".join(map(str, LAYOUTS))
            raise ValueError(f"pose_model: {models[1]}: expected a network of {known} joints, got {quote(count)}")
        self.facts = Facts("RTMPose", LAYOUTS[count], axes="image", units="px")

    def estimate(self, image: np.ndarray, milliseconds: int) -> list[Detection]:
        picture = np.ascontiguousarray(image[..., ::-1])  # rtmlib takes BGR
        boxes = np.asarray(self.detector(picture), np.float32).reshape(-1, 4)
        if not len(boxes):  # rtmlib would treat the whole image as one person
            return []
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        points, score = self.pose(picture, bboxes=boxes[np.argsort(-area)[: self.persons]])
        return [
            Detection(x.astype(np.float32), c.astype(np.float32), confidence=float(c.mean()))
            for x, c in zip(points, score, strict=True)
        ]

    def close(self) -> None:
        del self.detector, self.pose


def input_size(network: Any) -> tuple[int, int]:
    """(height, width) of the images that a network of rtmlib takes."""
    high, wide = network.session.get_inputs()[0].shape[2:4]
    return int(high), int(wide)

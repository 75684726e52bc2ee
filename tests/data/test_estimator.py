"""Pose estimation of images: MediaPipe and RTMPose behind one class, without the packages through stand-ins."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from data.poses.estimator import PoseEstimator

IMAGE = np.zeros((40, 80, 3), np.uint8)
IMAGE[..., 0] = 200  # red


def module(monkeypatch, name: str, **content) -> ModuleType:
    """A stand-in for a package."""
    made = ModuleType(name)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


class Landmarker:
    """MediaPipe's landmarker: two persons whose joints have different places."""

    @classmethod
    def create_from_options(cls, options):
        made = cls()
        made.options, made.times, made.images, made.closed = options, [], [], False
        Landmarker.last = made
        return made

    def detect_for_video(self, image, milliseconds):
        self.times.append(milliseconds)
        self.images.append(image.data)

        def marks(start):
            return [SimpleNamespace(x=start + v / 100, y=v / 50, z=-v / 10, visibility=0.9) for v in range(33)]

        return SimpleNamespace(pose_world_landmarks=[marks(0), marks(1)], pose_landmarks=[marks(0.1), marks(0.2)])

    def close(self):
        self.closed = True


@pytest.fixture
def mediapipe(monkeypatch):
    def plain(**settings):
        return SimpleNamespace(**settings)

    vision = {"PoseLandmarkerOptions": plain, "PoseLandmarker": Landmarker, "RunningMode": SimpleNamespace(VIDEO=1)}
    top = module(monkeypatch, "mediapipe", Image=plain, ImageFormat=SimpleNamespace(SRGB=1), __version__="9")
    top.__path__ = ["nowhere"]
    module(monkeypatch, "mediapipe.tasks.python", BaseOptions=plain)
    module(monkeypatch, "mediapipe.tasks.python.vision", **vision)
    return top


def model(folder, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_bytes(b"model of " + name.encode())
    return [str(folder / name) for name in names]


def test_mediapipe_gives_meters_in_space_and_pixels_in_the_image(mediapipe, tmp_path):
    with PoseEstimator(model(tmp_path, "pose.task"), persons=2) as estimator:
        persons = estimator.estimate(IMAGE, 0)
    facts = estimator.facts
    assert (facts.layout, facts.axes, facts.units, facts.image_size) == ("mediapipe_pose_33", "camera", "m", (80, 40))
    assert Landmarker.last.options.num_poses == 2 and Landmarker.last.closed
    assert Landmarker.last.options.base_options.model_asset_buffer == b"model of pose.task"
    np.testing.assert_allclose(persons[1].points[10], [1.1, 0.2, -1], rtol=1e-6)
    np.testing.assert_allclose(persons[1].image[10], [0.3 * 80, 0.2 * 40], rtol=1e-6)
    assert len(persons) == 2 and persons[0].score[0] == pytest.approx(0.9)
    assert tuple(Landmarker.last.images[0][0, 0]) == (200, 0, 0)


def test_mediapipe_gives_only_pixels_to_networks_of_2_d_poses(mediapipe, tmp_path):
    estimator = PoseEstimator(model(tmp_path, "pose.task"), flat=True)
    person = estimator.estimate(IMAGE, 0)[1]
    assert (estimator.facts.axes, estimator.facts.units) == ("image", "px") and person.image is None
    np.testing.assert_allclose(person.points[10], [0.3 * 80, 0.2 * 40], rtol=1e-6)


def test_times_increase_even_if_two_frames_have_the_same_millisecond(mediapipe, tmp_path):
    estimator = PoseEstimator(model(tmp_path, "pose.task"))
    for milliseconds in (0, 5, 5, 4, 30):
        estimator.estimate(IMAGE, milliseconds)
    assert Landmarker.last.times == [0, 5, 6, 7, 30]


def test_mediapipe_without_included_models_asks_for_a_file(mediapipe):
    with pytest.raises(ValueError, match="contains no models; give a file, such as pose_landmarker_full.task"):
        PoseEstimator()


def test_a_model_that_mediapipe_does_not_accept_is_a_one_line_error(mediapipe, tmp_path, monkeypatch):
    def fail(options):
        raise RuntimeError("Unable to open\n zip " + 1000 * "x")

    monkeypatch.setattr(Landmarker, "create_from_options", fail)
    with pytest.raises(ValueError, match="pose.task: not accepted by MediaPipe .RuntimeError: Unable to open zip") as e:
        PoseEstimator(model(tmp_path, "pose.task"))
    assert len(str(e.value)) < 500


class Network:
    """A network of rtmlib."""

    def __init__(self, path: str, backend: str):
        print("load", path)
        name = Path(path).name
        size, count = ([416, 640], 3) if name == "det.onnx" else ([256, 192], 17)
        count = {"pose26.onnx": 26, "other.onnx": 5}.get(name, count)
        inputs = [SimpleNamespace(shape=["batch", 3, *size])]
        self.session = SimpleNamespace(
            get_inputs=lambda: inputs, get_outputs=lambda: [SimpleNamespace(shape=[1, count, 384])]
        )
        self.path, self.count, self.asked = path, count, None


class Detector(Network):
    boxes = np.array([[0, 0, 10, 10], [20, 0, 60, 40], [10, 0, 20, 20]], np.float32)

    def __call__(self, image):
        self.asked = tuple(image[0, 0])
        return self.boxes


class Pose(Network):
    def __call__(self, image, bboxes):
        assert len(bboxes), "rtmlib would take the whole image"
        points = np.zeros((len(bboxes), self.count, 2)) + np.asarray(bboxes)[:, None, :2]
        return points, np.full((len(bboxes), self.count), 0.8)


@pytest.fixture
def rtmlib(monkeypatch):
    module(monkeypatch, "onnxruntime")
    return module(monkeypatch, "rtmlib", YOLOX=Detector, RTMPose=Pose)


@pytest.mark.parametrize("pose, layout", [("pose.onnx", "coco_17"), ("pose26.onnx", "halpe_26")])
def test_rtmpose_gives_pixels_of_the_largest_persons_in_the_layout_of_the_network(
    rtmlib, tmp_path, pose, layout, capsys
):
    estimator = PoseEstimator(model(tmp_path, "det.onnx", pose), persons=2)
    persons = estimator.estimate(IMAGE, 0)
    assert (estimator.facts.layout, estimator.facts.axes, estimator.facts.units) == (layout, "image", "px")
    assert [tuple(person.points[0]) for person in persons] == [(20, 0), (10, 0)] and persons[0].image is None
    assert estimator.backend.detector.model_input_size == (416, 640)  # (height, width)
    assert estimator.backend.pose.model_input_size == (192, 256)  # (width, height)
    assert estimator.backend.detector.asked == (0, 0, 200)  # BGR
    assert not capsys.readouterr().out  # is for results


def test_rtmpose_finds_nobody_where_the_detector_finds_nobody(rtmlib, tmp_path, monkeypatch):
    monkeypatch.setattr(Detector, "boxes", np.array([]))
    assert PoseEstimator(model(tmp_path, "det.onnx", "pose.onnx")).estimate(IMAGE, 0) == []


def test_a_pose_network_of_unknown_joints_is_refused(rtmlib, tmp_path):
    with pytest.raises(ValueError, match="other.onnx: expected a network of 17, 18, 26, 133 joints, got 5"):
        PoseEstimator(model(tmp_path, "det.onnx", "other.onnx"))


@pytest.mark.parametrize(
    "names, package, command",
    [
        (["pose.task"], "mediapipe", "pip install -r requirements/video.txt"),
        (["det.onnx", "pose.onnx"], "rtmlib", "pip install rtmlib onnxruntime"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, names, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError) as error:
        PoseEstimator(model(tmp_path, *names))
    assert str(error.value) == f"{package}: the package is missing; {command}"


def test_wrong_models_are_refused_before_anything_is_loaded(tmp_path):
    for names in (["a.onnx"], ["a.task", "b.task"], ["a.txt"]):
        with pytest.raises(ValueError, match="expected one .task file or two .onnx files"):
            PoseEstimator(model(tmp_path, *names))
    with pytest.raises(ValueError, match="missing.task: no such file"):
        PoseEstimator([tmp_path / "missing.task"])


def test_the_models_of_the_real_package_run_without_a_network():
    package = pytest.importorskip("mediapipe")
    if not package.__version__.startswith("0.10."):
        pytest.skip("this version contains no models")
    with PoseEstimator() as estimator:
        assert estimator.estimate(np.zeros((240, 320, 3), np.uint8), 0) == []
        assert estimator.facts.image_size == (320, 240)

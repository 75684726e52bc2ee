"""Persons of a video or camera over time: ids that stay, the path through space, and a video as a recording."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from data.poses import video
from data.poses.body_path import BodyPath, image_scale, restore_path
from data.poses.camera import Camera
from data.poses.recording import Detection, Facts, PoseFileError
from data.poses.tracking import Tracker, joint_sigmas
from data.poses.video import Moment, follow, read_video
from graph.layouts import find_map, to_axes
from tests.data.people import MAN, NOBODY, WOMAN, Capture, Recorded

BODY = np.random.default_rng(0).uniform(-1, 1, (17, 2)).astype(np.float32) * (40, 120) + (300, 200)
COCO = Facts("test", "coco_17")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded()


def moments(recorded: Recorded, numbers) -> list[Moment]:
    return [Moment(number / recorded.rate, number, recorded.detections(number)) for number in numbers]


def ids(recorded: Recorded, numbers) -> dict[str, list[tuple[int, int]]]:
    """{id: [(frame, who it really is)]} of what `follow` finds."""
    found: dict[str, list[tuple[int, int]]] = {}
    for moment in follow(moments(recorded, numbers), replace(recorded.facts, guessed=[])):
        for person in moment.persons:
            found.setdefault(person.track, []).append((moment.number, int(person.confidence)))
    return found


def test_two_persons_keep_their_ids_while_the_order_of_the_detections_changes(recorded):
    found = ids(recorded, range(230))
    woman = [seen for seen in found.values() if seen[-1][1] == WOMAN]
    man = max((seen for seen in found.values() if seen[-1][1] == MAN), key=len)
    assert len(woman) == 1 and woman[0] == [(number, WOMAN) for number in range(74, 201)]
    assert man[0][0] == 39 and man[-1][0] == 166 and [who for _, who in man].count(WOMAN) == 0
    assert list(found) == [str(i + 1) for i in range(len(found))]
    assert sum(who == NOBODY for seen in found.values() for _, who in seen) <= 2  # of 12 false detections


@pytest.mark.parametrize("steps", [[2], [4], [5], [2, 2, 2, 2, 6], [1, 1, 1, 1, 5]])
def test_the_ids_stay_at_the_rates_of_a_slow_computer(recorded, steps):
    numbers = np.cumsum(np.tile(steps, 230))
    found = ids(recorded, numbers[numbers < 230].tolist())
    assert len([seen for seen in found.values() if (WOMAN in dict(map(reversed, seen)))]) == 1
    assert all(len({who for _, who in seen} - {NOBODY}) == 1 for seen in found.values())


def test_a_person_who_stays_keeps_the_id_after_a_pause_for_any_speed_of_the_last_two_poses():
    tracker = Tracker(joint_sigmas(COCO, 17))
    places = {0: 0, 1 / 30: 0, 2 / 30: 10, 0.8: 0}  # 10 pixels in 1/30 s would be 220 until the end of the pause
    assert [len(tracker.update(t, [Detection(BODY + (x, 0))])) for t, x in places.items()] == [0, 0, 1, 1]
    assert tracker.confirmed == 1


@pytest.mark.parametrize(("step", "seen", "born"), [(1, (0, 8, 15), 0), (1, (0, 3, 7), 1), (6, (0, 6, 12), 1)])
def test_a_track_starts_after_three_detections_in_a_short_time_or_in_succession(step, seen, born):
    tracker = Tracker(joint_sigmas(COCO, 17))
    for number in range(0, 18, step):
        tracker.update(number / 30, [Detection(BODY)] if number in seen else [])
    assert tracker.confirmed == born


def test_the_path_of_a_walking_woman_is_restored_from_the_image(recorded):
    rows = np.flatnonzero(recorded.person == WOMAN)
    hips, path, scales = [], BodyPath(recorded.size), []
    for i in rows:
        person = Detection(recorded.world[i], track="a", image=recorded.image[i])
        hips.append(path.move(recorded.frame[i] / recorded.rate, person).points[[23, 24]].mean(0))
        scales.append(path.scale["a"][1])
    time, hips = recorded.frame[rows] / recorded.rate, np.stack(hips)
    speed = np.polyfit(time, hips, 1)[0]  # meters per second: x to the right, y down, z away
    assert -1.3 < speed[0] < -1.0 and abs(speed[1]) < 0.1 and abs(speed[2]) < 0.4
    assert 4 < hips[:, 2].min() and hips[:, 2].max() < 10
    assert np.abs(np.diff(hips[:, 2])).max() < 0.1  # smooth, though the scale of single frames is not
    raw = image_scale(recorded.world[rows], recorded.image[rows])
    assert np.abs(np.diff(raw)).mean() > 5 * np.abs(np.diff(scales)).mean()


def test_a_body_in_the_middle_of_the_image_is_straight_ahead():
    world = np.random.default_rng(1).uniform(-1, 1, (33, 3)).astype(np.float32)
    world -= world[[23, 24]].mean(0)
    image = world[:, :2] / 0.004 + (480, 270)
    scale = image_scale(world, image)
    assert scale == pytest.approx(0.004, rel=1e-5)
    moved = restore_path(world, image, scale, (960, 540))
    np.testing.assert_allclose(moved[[23, 24]].mean(0), [0, 0, 1.1 * 960 * 0.004], atol=1e-4)
    right = restore_path(world, image + (100, 50), scale, (960, 540))
    np.testing.assert_allclose(right - moved, np.broadcast_to([0.4, 0.2, 0], (33, 3)), atol=1e-4)


def test_a_degenerate_pose_has_no_position_until_one_frame_is_valid(recorded):
    path = BodyPath(recorded.size)
    flat = Detection(recorded.world[0], track="a", image=np.full((33, 2), 7, np.float32))
    good = replace(flat, image=recorded.image[0])
    assert np.isnan(path.move(0, flat).points).all()
    assert np.isfinite(path.move(0.1, good).points).all() and np.isfinite(path.move(0.2, flat).points).all()


def test_left_stays_left_from_mediapipe_to_ntu(recorded):
    rows = recorded.person != NOBODY
    points = to_axes(recorded.world[rows], "camera", "kinect")
    body, _ = find_map("mediapipe_pose_33", "kinect_v2_25").apply(points)
    facing = points[:, 0] - (points[:, 7] + points[:, 8]) / 2  # from between the ears to the nose
    up = body[:, 20] - body[:, 0]
    left = body[:, 4] - body[:, 8]  # from the right shoulder to the left one
    assert up[:, 1].mean() > 0.3  # y is up
    assert ((left * np.cross(up, facing)).sum(1) > 0).mean() > 0.95


def test_ids_of_a_source_are_kept():
    persons = [Detection(BODY, track="b"), Detection(BODY + (0, 1), track="a")]  # one would be a false detection
    (moment,) = follow([Moment(0, 0, persons)], COCO)
    assert [person.track for person in moment.persons] == ["b", "a"]


def test_ids_of_some_persons_are_refused():
    with pytest.raises(PoseFileError, match="frame 3: expected ids of all persons or of none"):
        list(follow([Moment(0, 3, [Detection(BODY, track="b"), Detection(BODY)])], COCO))


def test_persons_at_the_origin_cannot_be_distinguished_without_an_image(recorded):
    persons = [Detection(recorded.world[0]), Detection(recorded.world[1])]
    with pytest.raises(PoseFileError, match="the hips of all persons are at the origin"):
        list(follow([Moment(0, 0, persons)], recorded.facts))


def test_the_tracker_needs_no_more_memory_after_10_000_frames_and_reports_who_ended():
    body = BODY[:4]
    tracker = Tracker(joint_sigmas(COCO, len(body)))
    sizes, ended = [], []
    for number in range(10_000):
        seen = number % 100 < 50  # for 2 s at 25 frames per second; then nobody
        found = tracker.update(number / 25, [Detection(body + number % 7)] if seen else [])
        ended += [t.number for t in tracker.ended]
        assert len(found) == (seen and number % 100 >= 2)
        if number % 1000 == 30:
            sizes.append(len(pickle.dumps(tracker)))
    assert ended == list(range(1, 101)) and max(sizes) - min(sizes) < 100


class Estimator:
    """Finds what was recorded; the image says which frame it is."""

    def __init__(self, recorded, start):
        self.recorded, self.start, self.facts = recorded, start, replace(recorded.facts, guessed=[])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def estimate(self, image, milliseconds):
        return self.recorded.detections(self.start + int(image[0, 0, 0]))


def read(monkeypatch, tmp_path, recorded, numbers, times=None):
    def camera(source):
        return Camera(source, open_capture=lambda _: Capture([n - numbers[0] for n in numbers], times=times))

    (tmp_path / "walk.mp4").touch()
    monkeypatch.setattr(video, "Camera", camera)
    monkeypatch.setattr(video, "PoseEstimator", lambda models, persons, flat: Estimator(recorded, numbers[0]))
    return read_video(tmp_path / "walk.mp4")


def test_a_video_becomes_a_recording_of_persons_who_move_through_space(monkeypatch, tmp_path, recorded):
    name, recording = read(monkeypatch, tmp_path, recorded, range(80, 200))
    assert name == "walk" and recording.points.shape == (2, 120, 33, 3) and recording.image.shape == (2, 120, 33, 2)
    assert recording.facts.rate == 30 and recording.facts.image_size == recorded.size
    assert len(recording.facts.guessed) == 2  # tracking, focal length
    hips = recording.points[:, :, [23, 24]].mean(2)
    assert sorted((hips[:, 80, 0] - hips[:, 0, 0]).round().tolist()) == [-3, 1]  # the woman walks 3 m to the left


def test_times_follow_from_the_time_stamps_of_a_video_not_from_the_number_of_its_images(
    monkeypatch, tmp_path, recorded
):
    _, every = read(monkeypatch, tmp_path, recorded, range(80, 160))
    kept = [n for n in range(80, 160) if not (90 < n < 120 and n % 3) and not 130 < n < 145]  # slow, then a pause
    _, some = read(monkeypatch, tmp_path, recorded, kept, [(n - 80) / 30 for n in kept])
    assert some.points.shape == every.points.shape and some.facts.rate == 30
    there = np.array(kept) - 80
    np.testing.assert_allclose(some.image[:, there], every.image[:, there], rtol=1e-4)
    np.testing.assert_allclose(some.image[:, 14], (every.image[:, 13] * 2 + every.image[:, 16]) / 3, rtol=1e-4)
    assert some.seen.sum() == 2 * (80 - 14) and np.isnan(some.image).all((0, 2, 3)).sum() == 14


def test_a_video_with_hardly_any_detected_person_is_refused(monkeypatch, tmp_path, recorded):
    with pytest.raises(ValueError, match=r"walk.mp4: expected a person in at least 10% of the frames, got 0 of 10"):
        read(monkeypatch, tmp_path, recorded, range(26, 36))

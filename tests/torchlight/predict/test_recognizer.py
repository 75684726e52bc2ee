"""Predictions of raw files equal the scores of the test phase, for every benchmark, recipe and feeder."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.custom import example
from data.poses.recording import PoseFileError
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from graph.skeleton import find_skeleton
from tests.torchlight.predict.conftest import save_stream, scores_of_test
from torchlight.config.options import Config
from torchlight.predict import Recognizer, Settings
from torchlight.predict.load import complete_facts
from torchlight.training import checkpoint

NTU, UCLA, KINETICS = "graph.ntu_rgb_d.Graph", "graph.ucla.Graph", "graph.kinetics.Graph"
FEEDERS = {
    "ntu": {"feeder": "feeders.feeder_ntu.Feeder", "test_feeder_args": {"window_size": 16}},
    "kinetics": {"feeder": "feeders.feeder_kinetics.Feeder", "test_feeder_args": {}},
    "ucla": {"feeder": "feeders.feeder_ucla.Feeder", "test_feeder_args": {"window_size": 16}},
    "pyskl": {
        "feeder": "feeders.feeder_pyskl.Feeder",
        "test_feeder_args": {"window_size": 16, "pre_normalize": "", "num_clips": 3},
    },
}


def stream(tmp_path, store, split, name, graph, persons, joints, **options):
    settings = {key: dict(value) if isinstance(value, dict) else value for key, value in FEEDERS[name].items()}
    settings["test_feeder_args"] |= {"data_path": str(store), "split": split}
    return save_stream(tmp_path, graph, persons, joints, **settings, **options)


def check_equal(path, config, files):
    expected = scores_of_test(path, config)
    files = {file.name.split(".")[0]: file for file in files}
    recognizer = Recognizer(path, device="cpu")
    store = ClipStore(config.test_feeder_args["data_path"])
    empty = {name for name, clip in zip(store.name, map(store.clip, range(len(store))), strict=True) if not clip.any()}
    for name in empty & expected.keys():
        with pytest.raises(ValueError, match="expected a person"):
            recognizer.predict(files[name])
        del expected[name]
    found = recognizer.predict([files[name] for name in expected])
    assert len(found) == len(expected) > 1
    for prediction, scores in zip(found, expected.values(), strict=True):
        assert np.allclose(prediction.scores, scores, rtol=1e-5, atol=1e-5 * abs(scores).max())
        assert prediction.probabilities.sum() == pytest.approx(1) and prediction.label == scores.argmax()
    assert np.ptp(np.stack([p.scores for p in found]), 0).max() > 1e-4  # the clips differ
    return found


@pytest.mark.parametrize("modality", ["joint", "bone_motion"])
@pytest.mark.parametrize("name", ["ucla", "pyskl"])
def test_raw_files_of_nw_ucla_equal_the_test_phase(name, modality, ucla_raw, tmp_path, cli):
    assert cli("NW-UCLA", "--raw", ucla_raw, "--out", tmp_path / "u.clips") == 0
    found = stream(
        tmp_path, tmp_path / "u.clips", "xview", name, UCLA, 1 if name == "ucla" else 2, 20, modality=modality
    )
    check_equal(*found, ucla_raw.glob("*.json"))


@pytest.mark.parametrize(
    ("recipe", "name"), [("ctrgcn", "ntu"), ("ctrgcn", "pyskl"), ("agcn", "kinetics"), ("stgcn", "kinetics")]
)
@pytest.mark.parametrize("edition", ["ntu", "ntu120"])
def test_raw_files_of_ntu_equal_the_test_phase(edition, recipe, name, ntu_raw, tmp_path, cli):
    assert cli(edition, "--raw", ntu_raw, "--recipe", recipe, "--out", tmp_path / "n.clips") == 0
    found = stream(tmp_path, tmp_path / "n.clips", "xsub", name, NTU, 2, 25)
    check_equal(*found, ntu_raw.rglob("*.skeleton"))


@pytest.mark.parametrize(("edition", "file"), [("ntu", "NTU60_CS.npz"), ("ntu120", "NTU120_CSub.npz")])
def test_raw_files_of_ntu_equal_the_test_phase_on_published_files(edition, file, ntu_raw, tmp_path, cli):
    folder = tmp_path / edition
    folder.mkdir()
    assert cli(edition, "--raw", ntu_raw, "--out", tmp_path / "n.clips", "--export", "npz", "--export-dir", folder) == 0
    path, config = stream(tmp_path, folder / file, "", "ntu", NTU, 2, 25)
    store = ClipStore(tmp_path / "n.clips")
    names = store.name[store.part("xsub", "test")]
    recognizer, raw = Recognizer(path, device="cpu"), {file.stem: file for file in ntu_raw.rglob("*.skeleton")}
    assert recognizer.streams[0].recipe.repeats_person == (edition == "ntu120")
    for name, scores in zip(names, scores_of_test(path, config).values(), strict=True):
        if store.clip(store.name.tolist().index(name)).any():
            found = recognizer.predict(raw[name])[0].scores
            assert np.allclose(found, scores, rtol=1e-5, atol=1e-5 * abs(scores).max())


@pytest.mark.parametrize("options", [(), ("--pose-matching", "--persons-in", "3")])
@pytest.mark.parametrize("recipe", ["agcn", "stgcn"])
def test_raw_files_of_kinetics_equal_the_test_phase(recipe, options, kinetics_raw, tmp_path, cli):
    assert cli("kinetics", "--raw", kinetics_raw, "--recipe", recipe, "--out", tmp_path / "k.clips", *options) == 0
    found = stream(tmp_path, tmp_path / "k.clips", "kinetics", "kinetics", KINETICS, 2, 18)
    check_equal(*found, (kinetics_raw / "kinetics_val").glob("*.json"))


@pytest.mark.parametrize("recipe", ["centered", "plain"])
def test_files_of_a_custom_skeleton_equal_the_test_phase_without_the_skeleton_file(recipe, tmp_path, cli):
    raw = tmp_path / "raw"
    assert example.main(["--out", str(raw)]) == 0
    body = raw / "body.yaml"
    assert cli("custom", "--raw", raw, "--skeleton", body, "--recipe", recipe, "--out", tmp_path / "c.clips") == 0
    settings = {"feeder": "feeders.feeder_ntu.Feeder"}
    settings |= {"test_feeder_args": {"data_path": str(tmp_path / "c.clips"), "split": "own", "window_size": 16}}
    path, config = save_stream(tmp_path, "graph.custom.Graph", 1, 13, graph_args={"skeleton": str(body)}, **settings)
    expected = scores_of_test(path, config)
    body.rename(tmp_path / "gone.yaml")
    files = {file.stem: file for file in raw.rglob("*") if file.suffix in (".npz", ".json", ".csv")}
    found = Recognizer(path, device="cpu").predict([files[name] for name in expected])
    for prediction, scores in zip(found, expected.values(), strict=True):
        assert np.allclose(prediction.scores, scores, rtol=1e-5, atol=1e-5 * abs(scores).max())


def test_annotations_of_pyskl_equal_the_test_phase(tmp_path):
    draw = np.random.default_rng(0)
    entries = [
        {
            "frame_dir": f"clip{i}",
            "label": i % 3,
            "img_shape": (480, 640 + i),
            "total_frames": 20 + i,
            "keypoint": (draw.random((1 + i % 2, 20 + i, 17, 2)) * 400).astype(np.float16),
            "keypoint_score": draw.random((1 + i % 2, 20 + i, 17)).astype(np.float16),
        }
        for i in range(6)
    ]
    names = [entry["frame_dir"] for entry in entries]
    file = tmp_path / "coco.pkl"
    file.write_bytes(pickle.dumps({"split": {"xsub_train": names, "xsub_val": names}, "annotations": entries}))
    arguments = {"data_path": str(file), "split": "xsub", "window_size": 12, "pre_normalize": "2d", "num_clips": 2}
    settings = {"feeder": "feeders.feeder_pyskl.Feeder", "test_feeder_args": arguments}
    path, config = save_stream(tmp_path, "graph.coco.Graph", 2, 17, **settings)
    expected = scores_of_test(path, config)
    found = {p.source.partition("#")[2]: p.scores for p in Recognizer(path, device="cpu").predict(file)}
    assert found.keys() == expected.keys()
    for name, scores in expected.items():
        assert np.allclose(found[name], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("folder", "rate"), [("ntu", 30), ("diving48", None)])
def test_2_d_poses_of_ntu_have_the_rate_of_its_videos(folder, rate):
    config = Config(test_feeder_args={"data_path": f"data/{folder}/{folder}_hrnet.pkl"})
    assert Recipe(find_skeleton("graph.coco"), complete_facts({}, config)).rate == rate


@pytest.fixture(scope="module")
def ucla(tmp_path_factory, ucla_raw):
    """A recognizer of NW-UCLA, and a raw file."""
    import importlib

    from data.cli import main

    folder = tmp_path_factory.mktemp("ucla")
    module = importlib.import_module("data.NW-UCLA.prepare")
    assert main(module.BENCHMARK, "", ["--workers", "1", "--raw", str(ucla_raw), "--out", str(folder / "u.clips")]) == 0
    path, _ = stream(folder, folder / "u.clips", "xview", "ucla", UCLA, 1, 20)
    return path, Recognizer(path, device="cpu"), ucla_raw / "a01_s01_e00_v03.json"


def array_of(file):
    return np.array(json.loads(file.read_text())["skeletons"], np.float32)


def test_an_array_a_list_and_a_file_of_one_clip_are_predicted_alike(ucla):
    _, recognizer, file = ucla
    x = array_of(file)
    scores = recognizer.predict(file)[0].scores
    for source in (x, x[None], x.astype(np.float64)):
        assert np.allclose(recognizer.predict(source)[0].scores, scores, atol=1e-6)
    both = recognizer.predict([file, x])
    assert [p.source for p in both] == [str(file), "array"] and np.allclose(both[0].scores, both[1].scores, atol=1e-6)


def test_a_prediction_lists_the_most_probable_classes_and_pooled_features(ucla):
    _, recognizer, file = ucla
    (prediction,) = recognizer.predict(file, features=True)
    top = prediction.top(2)
    assert top[0] == (prediction.name, prediction.probability) and top[0][1] >= top[1][1]
    assert prediction.features.shape == (8,) and prediction.name in recognizer.class_names


def test_missing_joints_are_filled_and_reported(ucla):
    _, recognizer, file = ucla
    x = array_of(file)
    y = x.copy()
    y[10:12, 5] = np.nan
    (whole,), (gap,) = recognizer.predict(x), recognizer.predict(y)
    assert whole.observed == 1 and gap.observed == pytest.approx(1 - 2 / (len(x) * 20))
    assert np.isfinite(gap.scores).all() and not np.array_equal(gap.scores, whole.scores)


def test_a_recording_with_a_person_in_few_frames_gets_no_label(ucla):
    _, recognizer, file = ucla
    x = np.full((200, 20, 3), np.nan, np.float32)
    x[::90] = array_of(file)[:3]
    with pytest.raises(ValueError, match="expected a person in at least 10% of the frames, got 3 of 200"):
        recognizer.predict(x)


def test_a_window_equals_the_prediction_of_its_frames(ucla):
    _, recognizer, file = ucla
    x = np.concatenate([array_of(file)] * 3)
    found = recognizer.predict(x, Settings(window=1.0, stride=0.5))
    assert {p.end - p.begin for p in found} == {1.0} and found[-1].end == pytest.approx(len(x) / 30)
    alone = recognizer.predict(x[15:45])[0]
    assert np.allclose(found[1].scores, alone.scores, atol=1e-6) and found[1].begin == 0.5


def test_windows_of_a_network_of_padded_clips_are_repeated_and_never_padded_with_zeros(kinetics_raw, tmp_path, cli):
    assert cli("kinetics", "--raw", kinetics_raw, "--recipe", "stgcn", "--out", tmp_path / "k.clips") == 0
    path, _ = stream(tmp_path, tmp_path / "k.clips", "kinetics", "kinetics", KINETICS, 2, 18)
    recognizer = Recognizer(path, device="cpu")
    (one,) = recognizer.streams
    x = np.random.default_rng(0).random((50, 18, 2)).astype(np.float32) * 300 + 100
    settings = Settings(window=1.0, image_size=(640, 480))
    clips = recognizer.clips(one, x, settings)
    assert {clip.prepared.frames.shape for clip in clips} == {(2, 300, 18, 3)}
    assert np.array_equal(clips[0].prepared.frames[0, :30], clips[0].prepared.frames[0, 30:60])
    assert all(clip.prepared.frames[0].any((1, 2)).all() for clip in clips)


def test_persons_are_predicted_each_or_as_a_scene(ntu_raw, tmp_path, cli):
    assert cli("ntu", "--raw", ntu_raw, "--out", tmp_path / "n.clips") == 0
    path, _ = stream(tmp_path, tmp_path / "n.clips", "xsub", "ntu", NTU, 2, 25)
    recognizer = Recognizer(path, device="cpu")
    walk = np.random.default_rng(1).normal(size=(2, 40, 25, 3)).cumsum(1) / 50 + [[[[0, 0, 3]]], [[[1, 0, 3]]]]
    (scene,) = recognizer.predict(walk.astype(np.float32))
    each = recognizer.predict(walk.astype(np.float32), Settings(persons="each"))
    assert scene.person == "" and [p.person for p in each] == ["1", "2"]
    assert np.allclose(each[1].scores, recognizer.predict(walk[1].astype(np.float32))[0].scores, atol=1e-6)
    assert not np.allclose(scene.scores, each[0].scores)


def test_streams_of_an_ensemble_are_fused_with_published_weights(ucla, tmp_path, ucla_raw):
    path, recognizer, file = ucla
    content = checkpoint.load(path)
    bone = tmp_path / "bone.pt"
    config = content["config"].replace("modality: joint", "modality: bone")
    torch.save(content | {"config": config}, bone)
    other = Recognizer(bone, device="cpu").predict(file)[0].scores.astype(np.float64)
    first = recognizer.predict(file)[0].scores.astype(np.float64)
    (fused,) = Recognizer([path, bone], device="cpu").predict(file)
    assert np.allclose(fused.scores, 0.5 * first + 0.5 * other, atol=1e-6)
    (own,) = Recognizer([path, bone], device="cpu", alpha=[3, 1]).predict(file)
    assert np.allclose(own.scores, 0.75 * first + 0.25 * other, atol=1e-6)
    (unit,) = Recognizer([path, bone], device="cpu", preset="hdgcn").predict(file)
    parts = [scores / np.linalg.norm(scores) for scores in (first, other)]
    assert np.allclose(unit.scores / np.linalg.norm(unit.scores), sum(parts) / np.linalg.norm(sum(parts)), atol=1e-6)
    (pyskl,) = Recognizer([path, bone], device="cpu", preset="pyskl").predict(file)
    softmax = [np.exp(s - s.max()) / np.exp(s - s.max()).sum() for s in (first, other)]
    assert np.allclose(pyskl.probabilities, np.mean(softmax, 0), atol=1e-6)
    assert Recognizer([path, bone], device="cpu", alpha=[0.5]).alpha.tolist() == [1, 0.5]  # as in ensemble.py
    with pytest.raises(ValueError, match="alpha: expected 2 weights, one per stream"):
        Recognizer([path, bone], device="cpu", alpha=[1, 1, 1])


def test_a_stream_of_frames_predicts_the_window_that_ends_now(ucla):
    _, recognizer, file = ucla
    x = np.concatenate([array_of(file)] * 2)
    live = recognizer.stream(settings=Settings(window=1.0, stride=0.2))
    found = [update for t, frame in enumerate(x) for update in live.push(t / 30, frame)]
    assert found[0]["state"] == "warming up" and {u["state"] for u in found[3:]} <= {"label", "nothing"}
    last = next(u for u in found if u.get("window") and u["window"][1] == pytest.approx(1.4, abs=0.12))
    end = round(last["window"][1] * 30)
    expected = recognizer.predict(x[end - 30 : end + 1])[0]
    assert dict(map(tuple, last["top"]))[expected.name] == pytest.approx(expected.probability, abs=1e-3)


def test_a_person_whom_one_network_of_an_ensemble_cannot_use_gets_no_label_in_a_stream(ucla):
    path, _, file = ucla
    recognizer = Recognizer([path, path], device="cpu", alpha=[1, 1])

    class Strict(Recipe):
        def prepare(self, recording):
            raise PoseFileError("expected more frames")

    recipe = recognizer.streams[1].recipe
    recognizer.streams[1].recipe = Strict(recipe.skeleton, recipe.facts)
    live = recognizer.stream(settings=Settings(window=0.5, stride=0.2))
    found = [update for t, frame in enumerate(array_of(file)) for update in live.push(t / 30, frame)]
    assert found and {update["state"] for update in found} == {"warming up"}


def test_poses_of_another_number_of_joints_or_coordinates_are_refused_in_a_stream(ucla):
    live = ucla[1].stream()
    with pytest.raises(ValueError, match="expected poses of 20 joints as in kinect_v1_20, got 17"):
        live.push(0.0, np.ones((17, 3)))
    live.push(1.0, np.ones((20, 3)))
    with pytest.raises(ValueError, match=r"expected one number of joints and coordinates, got .*17, 3.*20, 3"):
        live.push(2.0, np.ones((17, 3)))


def test_times_follow_from_time_stamps_not_from_the_number_of_frames(ucla):
    _, recognizer, _ = ucla
    t = np.linspace(0, 3, 91)
    base = np.random.default_rng(0).normal(size=(20, 3))
    x = (base + np.sin(2 * t)[:, None, None] * np.linspace(0, 1, 20)[:, None]).astype(np.float32)
    results = []
    for step in (1, 3):  # 30 and 10 frames per second
        live = recognizer.stream(settings=Settings(window=1.5, stride=0.1))
        results.append(
            {u["window"][1]: u["top"] for i in range(0, 91, step) for u in live.push(t[i], x[i]) if "top" in u}
        )
    both = sorted(results[0].keys() & results[1].keys())[-1]
    assert [p for _, p in results[0][both]] == pytest.approx([p for _, p in results[1][both]], abs=0.02)


def test_a_person_who_leaves_is_lost_and_memory_stays_constant(ucla):
    _, recognizer, file = ucla
    live = recognizer.stream(settings=Settings(window=0.5, stride=5.0))
    x = array_of(file)
    for t in range(2000):
        live.push(t / 30, x[t % len(x)])
    assert len(live.buffers["1"].time) <= 30 * (0.5 + 0.3) + 2
    nobody = np.full((20, 3), np.nan)
    found = [u for t in range(2000, 2060) for u in live.push(t / 30, nobody)]
    assert {"track": "1", "state": "lost"} in found and not live.buffers
    with pytest.raises(ValueError, match="time: expected more than"):
        live.push(0.0, nobody)
    with pytest.raises(ValueError, match="time: expected a finite number of seconds, got nan"):
        live.push(float("nan"), nobody)


def test_sources_of_other_types_are_refused_and_no_source_gives_no_prediction(ucla):
    _, recognizer, _ = ucla
    for source in (torch.zeros(9, 20, 3), None, [[0.0]]):
        with pytest.raises(ValueError, match="source: expected a path, a NumPy array or a Recording, got"):
            recognizer.predict(source)
    assert recognizer.predict([]) == []


def test_a_checkpoint_with_classes_of_other_packages_needs_a_configuration(ucla, tmp_path):
    path, _, _ = ucla
    content = checkpoint.load(path)
    for old, new in (
        ("feeders.feeder_ucla.Feeder", "torch.hub.load"),
        ("model.ctrgcn.Model", "tests.torchlight.parts.Plain"),
    ):
        torch.save(content | {"config": content["config"].replace(old, new)}, tmp_path / "foreign.pt")
        with pytest.raises(ValueError, match="expected a class of this project, got .*; if you trust it"):
            Recognizer(tmp_path / "foreign.pt", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_class": 0}, "expected facts about the training clips"),
        ({"class_names": ["a"]}, "expected 12 class names, got 1"),
        ({"class_names": 5}, "class_names: expected a list of names"),
        ({"num_person": 10**9}, "num_person: expected a whole number from 1 to 100"),
        ({"body": {"name": "x"}}, "skeleton: expected the keys"),
        ({"lengths": [1.0]}, "lengths: expected three numbers"),
        ({"recipe": 5}, "recipe: expected str"),
    ],
)
def test_damaged_facts_of_a_checkpoint_are_refused(ucla, tmp_path, change, message):
    path, recognizer, _ = ucla
    content = checkpoint.load(path)
    torch.save(content | {"clips": content["clips"] | change}, tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match=message.replace("12", str(len(recognizer.class_names)))):
        Recognizer(tmp_path / "damaged.pt", device="cpu")


def test_arrays_of_another_body_are_refused(ucla):
    _, recognizer, _ = ucla
    for x, message in (
        (np.zeros((5, 25, 3)), r"expected an array \(T, 20, C\)"),
        (np.zeros((5, 20, 3)), "expected at least one person"),
        (np.full((5, 20, 3), np.inf), "expected finite coordinates"),
        (np.array(["a"]), "expected an array"),
    ):
        with pytest.raises(ValueError, match=message):
            recognizer.predict(x)


def test_old_checkpoints_without_facts_take_them_from_their_data(ucla, tmp_path):
    path, recognizer, file = ucla
    content = checkpoint.load(path)
    del content["clips"]
    torch.save(content, tmp_path / "old.pt")
    old = Recognizer(tmp_path / "old.pt", device="cpu")
    assert np.array_equal(old.predict(file)[0].scores, recognizer.predict(file)[0].scores)
    torch.save(content | {"config": content["config"].replace("u.clips", "gone.clips")}, tmp_path / "old.pt")
    with pytest.raises(ValueError, match="the checkpoint has no facts about its clips"):
        Recognizer(tmp_path / "old.pt", device="cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": -1.0},
        {"window": float("nan")},
        {"window": "1"},
        {"rate": 0.0},
        {"stride": 1.0},
        {"persons": "all"},
        {"image_size": (640,)},
        {"image_size": 640},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected .*, got"):
        replace(Settings(), **wrong)

"""The command line of `--phase predict`: printed and written results, and one line for every mistake."""

import csv
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.system.test_clip_view import clips_of, points_of
from tests.torchlight.predict.conftest import save_stream
from torchlight.predict import Recognizer, Settings
from torchlight.training import checkpoint

RATE = 30  # frames per second of NW-UCLA


@pytest.fixture(scope="module")
def weights(tmp_path_factory, ucla_raw, cli):
    """A small network of NW-UCLA with random weights."""
    folder = tmp_path_factory.mktemp("phase")
    assert cli("NW-UCLA", "--raw", ucla_raw, "--out", folder / "u.clips") == 0
    arguments = {"data_path": str(folder / "u.clips"), "split": "xview", "window_size": 16}
    feeder = {"feeder": "feeders.feeder_ucla.Feeder", "test_feeder_args": arguments}
    return save_stream(folder, "graph.ucla.Graph", 1, 20, **feeder)[0]


@pytest.fixture
def predict(main, weights):
    """predict("--source", ...) -> (exit code, lines of standard output, lines of standard error)."""

    def call(*words, weights=weights):
        code, out, err = main("--phase", "predict", "--device", "cpu", "--weights", weights, *words)
        assert "Traceback" not in out + err and "internal error" not in err
        return code, out.splitlines(), err.splitlines()

    return call


@pytest.fixture
def long(tmp_path):
    """A recording of 120 frames (4 seconds) of one person, in a layout that the file names."""
    x = np.random.default_rng(0).normal(size=(120, 20, 3)).cumsum(0) / 30 * (-1, 1, 1)  # not noted as mirrored
    np.savez(tmp_path / "long.npz", keypoint=x, layout="kinect_v1_20", axes="kinect", units="m", rate=30.0)
    return tmp_path / "long.npz"


@pytest.fixture
def mixed(tmp_path, ucla_raw):
    """A folder with three clips, one of them in a folder of its own, and a damaged file."""
    folder = tmp_path / "mixed"
    (folder / "inner").mkdir(parents=True)
    files = sorted(ucla_raw.glob("*.json"))[:3]
    for file, place in zip(files, (folder, folder, folder / "inner"), strict=True):
        (place / file.name).write_bytes(file.read_bytes())
    (folder / "bad.json").write_text(files[0].read_text()[:500])
    return folder


def only_error(found, part):
    """The single line on standard error of a user's mistake."""
    code, _, err = found
    assert code == 2 and len(err) == 1 and err[0].startswith("error: ") and part in err[0], found


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_classes_of_a_file_are_printed(predict, weights, ucla_raw):
    file = ucla_raw / "a01_s01_e00_v03.json"
    code, out, err = predict("--source", file, "--top-k", 2)
    (expected,) = Recognizer(weights, device="cpu").predict(file)
    top = ", ".join(f"{name} {100 * p:.1f} %" for name, p in expected.top(2))
    assert code == 0 and not err and out == [f"{file}  {top}"]


def test_one_bad_file_of_a_folder_is_listed_and_the_others_are_predicted(predict, mixed, tmp_path):
    code, out, err = predict("--source", mixed, "--output", tmp_path / "out.jsonl")
    assert code == 1 and err[-1] == "error: 1 recording of 4 could not be predicted, listed above"
    places = [next(i for i, line in enumerate(out) if str(path) in line) for path in sorted(mixed.rglob("a*.json"))]
    failure = next(i for i, line in enumerate(out) if "bad.json" in line)
    assert len(places) == 3 and failure > max(places) and out[failure].startswith("error: ")
    assert len(lines_of(tmp_path / "out.jsonl")) == 1 + 3


@pytest.mark.parametrize("stop, exit_code", [(KeyboardInterrupt(), 130), (RuntimeError("broken"), 1)])
def test_results_before_an_interrupt_are_written(main, weights, mixed, monkeypatch, tmp_path, stop, exit_code):
    predict, last = Recognizer.predict, max(map(str, mixed.rglob("a*.json")))

    def interrupted(self, source, *arguments, **settings):
        if str(source) == last:
            raise stop
        return predict(self, source, *arguments, **settings)

    monkeypatch.setattr(Recognizer, "predict", interrupted)
    words = ("--source", mixed, "--output", tmp_path / "out.jsonl", "--save-picture", tmp_path / "out.gif")
    code, out, err = main("--phase", "predict", "--device", "cpu", "--weights", weights, *words)
    assert code == exit_code and len(err.splitlines()) == 1 and "stopped after 3 of 4 files" in out
    assert len(lines_of(tmp_path / "out.jsonl")) == 1 + 2 and "bad.json" in out and not list(tmp_path.glob("*.gif"))


def test_labels_and_earlier_results_in_the_folder_are_not_recordings(predict, mixed):
    (mixed / "bad.json").unlink()
    (mixed / "labels.csv").write_text("name,label\n")
    (mixed / "body.yaml").write_text("joints: []\n")
    recording = next(mixed.glob("*.json"))
    (mixed / f"found-{recording.stem}.csv").write_text("an earlier result\n")
    assert predict("--source", mixed, "--output", mixed / "found.csv")[0] == 0
    (mixed / "found-other.csv").write_text("not a result of a recording in this folder\n")
    code, _, error = predict("--source", mixed, "--output", mixed / "found.csv")
    assert code == 1 and [line for line in error if ".csv" in line] == [line for line in error if "found-other" in line]


def test_the_reason_for_each_recording_that_fails_names_its_file(predict, mixed, monkeypatch):
    def fail(*arguments, **settings):
        raise ValueError("expected a person")

    monkeypatch.setattr(Recognizer, "predict", fail)
    _, out, _ = predict("--source", mixed)
    assert {f"error: {path}: expected a person" for path in mixed.rglob("a*.json")} <= set(out)


def test_a_single_bad_file_is_an_error_of_one_line(predict, mixed):
    only_error(predict("--source", mixed / "bad.json"), str(mixed / "bad.json"))


def test_prepared_clips_are_refused_with_the_phase_that_reads_them(predict, tmp_path):
    for name in ("manifest.json", "frames.npy"):
        (tmp_path / name).touch()
    only_error(predict("--source", tmp_path), "source: expected recordings, got prepared clips")


def test_a_pattern_chooses_files(predict, mixed):
    code, out, _ = predict("--source", f"{mixed}/a*.json")
    assert code == 0 and len(out) == 2
    code, out, _ = predict("--source", f"{mixed}/**/a*.json")
    assert code == 0 and len(out) == 3
    only_error(predict("--source", f"{mixed}/b*.csv"), "source: expected a file, a folder with files, or a pattern")


@pytest.mark.parametrize("missing", ["weights", "source"])
def test_weights_and_a_source_are_needed(main, weights, long, missing):
    options = {"weights": weights, "source": long}
    del options[missing]
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    code, _, err = main("--phase", "predict", *words)
    assert code == 2 and err.startswith(f"error: {missing}: missing; --phase predict needs --{missing} ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "x.xyz"], "x.xyz: expected a file name with .csv, .jsonl, got .xyz"),
        (["--threshold", "0.7"], "threshold: expected --window SECONDS as well"),
        (["--source", "-", "--shortest", "1"], "shortest: expected a recording, got a live source"),
        (["--output", "x"], "got no suffix"),
        (["--output", "x.srt"], "expected a file name with .csv, .jsonl, got .srt; segments need --window SECONDS"),
        (["--output", "x.png", "--window", "1"], ".csv, .jsonl, .srt, .tsv, .txt, .vtt"),
        (["--output", "none/x.csv"], "output: expected a file in a folder that exists, got 'none/x.csv'"),
        (["--save-picture", "none/x.gif"], "save_picture: expected a file in a folder that exists"),
        (["--save-picture", "x.png"], "expected a file name with .gif"),
        (["--stride", "1"], "stride: expected --window as well"),
        (["--truth", "x.csv"], "truth: expected --window SECONDS as well"),
        (["--truth", "x.csv", "--window", "1"], "x.csv: cannot be read"),
        (["--layout", "coco_17"], "layout: expected 17 joints as in coco_17, got 20"),
        (["--layout", "coco_71"], "did you mean coco_17?"),
        (["--image-size", "640"], "image_size: expected width and height in pixels, got (640,)"),
        (["--image-size", "640", "-1"], "image_size: expected width and height in pixels, got (640, -1)"),
        (["--image-size", "640", "a"], "image_size: expected"),
        (["--recipe", "ctrgnc"], "recipe: expected none for ucla, got 'ctrgnc'"),
        (["--alpha", "1", "2"], "alpha: expected 1 weight, one per stream (joint), got 2"),
        (["--preset", "mine"], "preset: expected ctrgcn"),
        (["--threshold", "2"], "threshold: expected 0 to 1, got 2"),
        (["--persons", "both"], "persons: expected auto, scene or each"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_line(predict, long, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    only_error(predict("--source", long, *words), message)
    assert [path.name for path in tmp_path.iterdir()] == ["long.npz"]


def test_the_nearest_class_is_named_for_an_unknown_background(predict, weights, long):
    name = Recognizer(weights, device="cpu").class_names[0]
    only_error(predict("--source", long, "--window", 1, "--background", name[:-1]), f"did you mean {name}?")


def test_files_without_anything_to_predict_are_refused(predict, tmp_path):
    np.savez(tmp_path / "missing.npz", keypoint=np.full((30, 20, 3), np.nan), layout="kinect_v1_20")
    (tmp_path / "empty.json").touch()
    np.savez(tmp_path / "other.npz", keypoint=np.random.default_rng(0).random((30, 7, 3)))
    for name, message in (
        ("missing.npz", "expected at least one person, got none in 30 frames"),
        ("empty.json", "expected a pose file, got an empty file"),
        ("other.npz", "got 7 joints without names; give --layout"),
    ):
        only_error(predict("--source", tmp_path / name), message)
        only_error(predict("--source", tmp_path / name, "--window", 0.5), message)


def test_json_lines_hold_the_run_and_each_prediction(predict, weights, mixed, tmp_path):
    predict("--source", f"{mixed}/a*.json", "--output", tmp_path / "out.jsonl", "--top-k", 3)
    header, *rows = lines_of(tmp_path / "out.jsonl")
    assert header["weights"] == [str(weights)] and header["body"] == "ucla" and header["calibrated"] is False
    files = sorted(mixed.glob("a*.json"))
    expected = Recognizer(weights, device="cpu").predict(files)
    for row, prediction, file in zip(rows, expected, files, strict=True):
        assert row["source"] == str(file) and row["state"] == "label" and row["label"] == prediction.name
        assert row["p"] == pytest.approx(prediction.probability, abs=1e-6) and len(row["top"]) == 3
        assert row["window"] == [0, pytest.approx(prediction.end, abs=1e-4)] and row["observed"] == 1


def test_a_table_has_one_row_for_each_recording(predict, weights, mixed, tmp_path):
    predict("--source", f"{mixed}/a*.json", "--output", tmp_path / "out.csv", "--top-k", 2)
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    expected = Recognizer(weights, device="cpu").predict(sorted(mixed.glob("a*.json")))
    assert list(rows[0]) == ["source", "person", "start_s", "end_s", "label", "p", "label_2", "p_2"]
    for row, prediction in zip(rows, expected, strict=True):
        assert row["label"] == prediction.name and row["label_2"] == prediction.top(2)[1][0]


def whole(*words):
    """Options that give one segment for the whole recording."""
    return ("--window", 1, "--stride", 0.2, "--threshold", 0, "--switch-cost", 100, *words)


def test_windows_become_segments_in_every_format(predict, long, tmp_path):
    texts = {}
    for suffix in (".csv", ".srt", ".vtt", ".txt", ".tsv"):
        code, out, _ = predict("--source", long, *whole("--output", tmp_path / f"out{suffix}"))
        assert code == 0 and f"{long}: 16 windows, 1 segment" in out[0] and "0.00 to     4.00 s  person 1" in out[1]
        texts[suffix] = (tmp_path / f"out{suffix}").read_text()
    (row,) = csv.DictReader(io.StringIO(texts[".csv"]))
    assert (float(row["start_s"]), float(row["end_s"]), row["track"]) == (0, 4, "1")
    label = row["label"]
    assert texts[".srt"] == f"1\n00:00:00,000 --> 00:00:04,000\n1: {label}\n\n"
    assert texts[".vtt"] == f"WEBVTT\n\n00:00:00.000 --> 00:00:04.000\n1: {label}\n\n"
    assert texts[".txt"] == f"0.000000\t4.000000\t1: {label}\n" and texts[".tsv"] == f"1\t0\t4000\t{label}\n"


def test_json_lines_of_windows_hold_every_window(predict, long, tmp_path):
    predict("--source", long, *whole("--output", tmp_path / "out.jsonl"))
    rows = lines_of(tmp_path / "out.jsonl")[1:]
    assert len(rows) == 16 and rows[1]["window"] == [0.2, 1.2] and {row["track"] for row in rows} == {"1"}
    predict("--source", long, "--window", 1, "--threshold", 1, "--output", tmp_path / "out.jsonl")
    rows = lines_of(tmp_path / "out.jsonl")[1:]
    assert {row["state"] for row in rows} == {"nothing"} and "label" not in rows[0] and rows[0]["top"]


def test_several_recordings_have_segments_in_files_of_their_own(predict, mixed, tmp_path):
    predict("--source", f"{mixed}/a*.json", *whole("--shortest", 0, "--output", tmp_path / "s.csv"))
    names = sorted(path.stem for path in mixed.glob("a*.json"))
    assert sorted(path.name for path in tmp_path.glob("s*.csv")) == [f"s-{name}.csv" for name in names]


def test_the_shortest_window_is_one_frame(predict, long):
    code, out, _ = predict("--source", long, "--window", 1e-9)
    assert code == 0 and out[0].startswith(f"{long}: 120 windows")


def figures(out):
    return {row[1].strip(): row[2].strip() for row in (line.split("|") for line in out if line.startswith("| "))}


def test_segments_are_compared_with_the_truth(predict, long, tmp_path):
    predict("--source", long, *whole("--output", tmp_path / "truth.csv"))
    head, row = (tmp_path / "truth.csv").read_text().splitlines()
    label = row.split(",")[3]
    truth = tmp_path / "truth.csv"
    found = figures(predict("--source", long, *whole("--truth", truth))[1])  # with the column track
    assert found["frame accuracy"] == found["edit score"] == found["F1@50"] == found["mAP@0.5"] == "100.00"
    truth.write_text(f"start_s,end_s,label\n0,3,{label}\n")
    found = figures(predict("--source", long, *whole("--truth", truth))[1])
    assert found["frame accuracy"] == "75.00" and found["frame accuracy without background"] == "100.00"
    assert found["frames"] == "120" and found["mAP@0.7"] == "100.00" and found["mAP@0.5:0.95"] == "60.00"
    truth.write_text(f"start_s,end_s,label\n0,3,{label}x\n")
    only_error(predict("--source", long, *whole("--truth", truth)), f"did you mean {label}?")


def test_the_truth_of_several_recordings_names_them(predict, mixed, tmp_path):
    truth = tmp_path / "truth.csv"
    options = ("--source", f"{mixed}/a*.json", *whole("--truth", truth, "--shortest", 0))
    first, second = sorted(path.stem for path in mixed.glob("a*.json"))
    name = "carry"
    truth.write_text(f"start_s,end_s,label,recording\n0,0.1,{name},{first}\n0,0.1,{name},{second}\n")
    assert figures(predict(*options)[1])["recordings"] == "2"
    for change, message in ((",", "expected the column recording"), (f",{first}x", f"did you mean {first}?")):
        truth.write_text(f"start_s,end_s,label,recording\n0,0.1,{name}{change}\n")
        code, _, err = predict(*options)
        assert code == 2 and len(err) == 1 and message in err[0]


def test_recordings_that_fail_are_not_compared(predict, mixed, tmp_path):
    truth = tmp_path / "truth.csv"
    first, second = sorted(path.stem for path in mixed.glob("a*.json"))
    truth.write_text(f"start_s,end_s,label,recording\n0,0.1,carry,{first}\n0,0.1,carry,bad\n")
    code, out, err = predict("--source", f"{mixed}/*.json", *whole("--truth", truth, "--shortest", 0))
    assert code == 1 and len(err) == 1 and "truth: bad could not be predicted and is not compared" in out
    assert figures(out)["recordings"] == "2" and figures(out)["true segments"] == "1"
    for name in (first, second):
        (mixed / f"{name}.json").write_text("{")
    code, out, err = predict("--source", f"{mixed}/*.json", *whole("--truth", truth))
    assert code == 1 and not figures(out) and "3 recordings of 3 could not be predicted" in err[0]


def test_a_truth_with_persons_is_refused_for_a_scene(predict, long, tmp_path):
    (tmp_path / "truth.csv").write_text("start_s,end_s,label,person\n0,1,carry,1\n")
    found = predict("--source", long, *whole("--persons", "scene", "--truth", tmp_path / "truth.csv"))
    only_error(found, "'long/1' was not predicted")


def test_a_picture_of_the_recording_is_written(predict, long, tmp_path):
    code, out, _ = predict("--source", long, *whole("--save-picture", tmp_path / "x.gif"))
    assert code == 0 and out[-1] == f"wrote {tmp_path / 'x.gif'}"
    with Image.open(tmp_path / "x.gif") as picture:
        assert picture.n_frames > 10


def test_recordings_are_shown_on_a_page_with_their_probabilities(predict, weights, long, ucla_raw, tmp_path):
    code, out, _ = predict("--source", long, "--window", 1, "--save-picture", tmp_path / "x.html")
    assert code == 0 and out[-1] == f"wrote {tmp_path / 'x.html'}"
    clip, recognizer = clips_of((tmp_path / "x.html").read_text())[0], Recognizer(weights, device="cpu")
    shown = recognizer.shown(clip["name"]).points.transpose(1, 0, 2, 3) * (-1, 1, -1)
    np.testing.assert_allclose(points_of(clip), shown, atol=1e-3)
    windows = [p for p in recognizer.predict(clip["name"], Settings(window=1.0)) if p.source == clip["name"]]
    name, values = clip["curves"][0]
    first = next(p for p in windows if p.begin == 0)
    assert values[0] == pytest.approx(first.probabilities[first.class_names.index(name.split(" ", 1)[1])], abs=1e-4)
    assert len(values) == len(clip["times"]) > 20


def test_a_mirrored_recording_is_predicted_with_left_and_right_exchanged(predict, weights, ucla_raw, tmp_path):
    file = ucla_raw / "a01_s01_e00_v03.json"
    predict("--source", file, "--mirror", "--output", tmp_path / "out.jsonl")
    recognizer = Recognizer(weights, device="cpu")
    x = np.array(json.loads(file.read_text())["skeletons"], np.float32)
    order, skeleton = np.arange(20), recognizer.streams[0].recipe.skeleton
    for left, right in zip(skeleton.left, skeleton.right, strict=True):
        order[[left, right]] = right, left
    (expected,) = recognizer.predict(x[:, order] * (-1, 1, 1))
    (plain,) = recognizer.predict(x)
    row = lines_of(tmp_path / "out.jsonl")[1]
    assert row["p"] == pytest.approx(expected.probability, abs=1e-5) != pytest.approx(plain.probability, abs=1e-5)


def test_two_streams_are_fused(main, weights, long, tmp_path):
    content = checkpoint.load(weights)
    config = content["config"].replace("modality: joint", "modality: bone")
    checkpoint.save(tmp_path / "bone.pt", content | {"config": config})
    both = ("--phase", "predict", "--device", "cpu", "--weights", weights, tmp_path / "bone.pt", "--source", long)
    code, _, err = main(*both, "--alpha", 3, 1, "--output", tmp_path / "out.jsonl")
    assert code == 0, err
    header, row = lines_of(tmp_path / "out.jsonl")
    (expected,) = Recognizer([weights, tmp_path / "bone.pt"], device="cpu", alpha=[3, 1]).predict(long)
    assert header["alpha"] == [3, 1] and row["p"] == pytest.approx(expected.probability, abs=1e-6)
    code, _, err = main(*both, "--alpha", -1, 2)
    assert code == 2
    assert err.splitlines() == ["error: alpha: expected finite weights of 0 or more and not all 0, got -1.0 2.0"]


def pose_lines(count, joints=20):
    """Standard input with a person for `count` frames."""
    draw = np.random.default_rng(0).normal(size=(count, joints, 3)).cumsum(0) / 30
    yield json.dumps({"layout": "kinect_v1_20", "axes": "kinect", "units": "m"})
    for t, frame in enumerate(draw):
        yield json.dumps({"t": t / RATE, "persons": [{"id": 7, "keypoints": frame.tolist()}]})


def test_poses_on_standard_input_are_labeled_line_by_line(predict, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(pose_lines(90))))
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="5.0.0"))
    code, out, err = predict("--source", "-", "--window", 1, "--stride", 0.5)
    header, *rows = [json.loads(line) for line in out]  # nothing but JSON on standard output
    assert code == 0 and header["window"] == 1 and header["body"] == "ucla" and header["opencv"] == "5.0.0"
    assert header["layout"] == {"source": "kinect_v1_20", "imputed": []}
    assert {row["track"] for row in rows} == {"7"} and rows[0]["t"] == 0.5 and rows[-1]["top"]
    assert any("90 frames" in line for line in err)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(pose_lines(90))))
    code, out, _ = predict("--source", "-", "--window", 1, "--stride", 0.5, "--output", tmp_path / "live.jsonl")
    assert code == 0 and len(lines_of(tmp_path / "live.jsonl")) == 1 + len(rows)


def test_assumptions_about_standard_input_are_printed_on_standard_error(predict, monkeypatch):
    points = np.random.default_rng(0).random((40, 17, 2)).cumsum(0) * 3
    frames = [{"t": t / RATE, "persons": [{"keypoints": frame.tolist()}]} for t, frame in enumerate(points)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(json.dumps, frames))))
    code, out, err = predict("--source", "-", "--window", 1)
    assert code == 0 and "layout coco_17, from the number of joints" in err
    assert len([line for line in err if line.startswith("the poses have no depth")]) == 1
    assert json.loads(out[-1])["imputed"] > 0 and [json.loads(line) for line in out]


def test_damaged_lines_and_a_wrong_layout_on_standard_input_are_one_line_errors(predict, monkeypatch):
    lines = list(pose_lines(3))
    for text, message in (
        ("\n".join([*lines, "{"]), "standard input: line 5"),
        ('{"layout": "nobody"}', "standard input: line 1"),
        ("\n".join(line.replace("kinect_v1_20", "smpl_22") for line in lines), "expected a list of 22 joints, got 20"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code, _, err = predict("--source", "-", "--window", 1)
        errors = [line for line in err if line.startswith("error: ")]
        assert code == 2 and len(errors) == 1 and message in errors[0]


def test_results_before_a_damaged_line_on_standard_input_stay_in_the_output(predict, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*pose_lines(90), "{"])))
    code, _, _ = predict("--source", "-", "--window", 1, "--stride", 0.5, "--output", tmp_path / "live.jsonl")
    header, *rows = lines_of(tmp_path / "live.jsonl")
    assert code == 2 and header["window"] == 1 and rows[-1]["top"]


def test_the_output_of_a_live_source_is_json_lines_only(predict):
    only_error(predict("--source", "-", "--output", "x.csv"), "expected a file name with .jsonl, got .csv")
    only_error(predict("--source", "-", "--window", 1, "--truth", "x.csv"), "truth: expected a recording to compare")

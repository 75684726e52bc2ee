"""Own skeletons and DeepLabCut tables."""

import importlib
import json
from argparse import Namespace

import numpy as np
import pytest

from data.custom import prepare
from data.custom.example import make
from data.custom.labels import read_labels
from data.poses.recording import Facts, PoseFileError, Recording
from data.recipes import Recipe
from data.store import partial_folder
from feeders.clip_store import ClipStore
from feeders.feeder_ucla import Feeder
from graph.skeleton_file import read_skeleton

deeplabcut = importlib.import_module("data.deeplabcut.prepare")

BODY = "joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n"
POSES = np.random.default_rng(0).normal(size=(6, 3, 2)).round(4)


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "body.yaml"
    path.write_text(BODY)
    return path


def options(**changes) -> Namespace:
    return Namespace(**{"classes": None, "test_share": 0.25, "seed": 0} | changes)


def test_npz_json_and_csv_of_the_same_poses_give_the_same_clip(tmp_path, body, cli):
    raw = tmp_path / "raw"
    raw.mkdir()
    np.savez(raw / "one.npz", keypoint=POSES)
    (raw / "two.json").write_text(json.dumps({"skeletons": POSES.tolist()}))
    # Columns are found by name, in any order.
    header = [f"{joint}_{axis}" for joint in ("tail", "hip", "nose") for axis in "yx"]
    rows = POSES[:, ::-1, ::-1].reshape(6, 6)
    (raw / "three.csv").write_text(
        "\n".join(["frame," + ",".join(header)] + [f"{t}," + ",".join(map(str, row)) for t, row in enumerate(rows)])
    )
    (raw / "labels.csv").write_text("name,label,split\none,run,train\ntwo,run,train\nthree,rest,test\n")
    for recipe in ("plain", "centered"):
        out = tmp_path / f"{recipe}.clips"
        arguments = (
            "--raw",
            raw,
            "--skeleton",
            body,
            "--channels",
            2,
            "--recipe",
            recipe,
            "--out",
            out,
            "--check",
            "--strict",
        )
        assert cli("custom", *arguments) == 0
        store = ClipStore(out)
        expected = POSES.astype(np.float32) - (POSES[0, 1].astype(np.float32) if recipe == "centered" else 0)
        for i in range(3):
            assert np.array_equal(store.clip(i)[..., 0].transpose(1, 2, 0), expected)
    assert store.manifest["class_names"] == ["rest", "run"] and store.manifest["num_point"] == 3
    assert store.name[store.part("own", "test")].tolist() == ["three"] and store.label.tolist() == [1, 0, 1]


def test_after_an_interruption_another_center_joint_in_the_skeleton_file_prepares_the_clips_again(tmp_path, cli):
    raw, body, out = tmp_path / "raw", tmp_path / "body.yaml", tmp_path / "mine.clips"
    raw.mkdir()
    np.savez(raw / "one.npz", keypoint=POSES)
    (raw / "two.json").write_text("{}")  # cannot be used
    (raw / "labels.csv").write_text("name,label,split\none,run,train\ntwo,rest,train\n")
    arguments = ("--raw", raw, "--skeleton", body, "--channels", 2, "--out", out)
    body.write_text(BODY + "center: hip\n")
    assert cli("custom", *arguments, "--strict") == 2 and list(partial_folder(out).glob("*.shard"))
    body.write_text(BODY + "center: tail\n")
    assert cli("custom", *arguments) == 0
    assert not ClipStore(out).clip(0)[:, 0, 2].any()


def test_a_skeleton_file_with_other_joints_than_the_data_is_refused(tmp_path, body, cli, capsys):
    raw, out = tmp_path / "raw", tmp_path / "mine.clips"
    raw.mkdir()
    np.savez(raw / "one.npz", keypoint=POSES)
    (raw / "labels.csv").write_text("name,label\none,run\n")
    arguments = ("--skeleton", body, "--channels", 2, "--out", out, "--check")
    assert cli("custom", "--raw", raw, "--test-share", 0, *arguments) == 0
    body.write_text(BODY.replace("nose, hip, tail", "hip, nose, tail"))
    message = "expected 'nose' as joint 0 of the body, as in the data, got 'hip'"
    assert cli("custom", "--out", out, "--check") == 1 and message in capsys.readouterr().out
    with pytest.raises(ValueError, match=message):
        Feeder(str(out), split="own")


def test_files_of_the_wrong_shape_or_without_label_are_omitted(tmp_path, body, cli):
    raw = tmp_path / "raw"
    raw.mkdir()
    np.savez(raw / "good.npz", keypoint=POSES)
    np.savez(raw / "also.npz", keypoint=POSES[None])
    np.savez(raw / "crowd.npz", keypoint=np.stack([POSES, POSES]))
    np.savez(raw / "wide.npz", keypoint=np.zeros((6, 4, 2)))
    np.savez(raw / "objects.npz", keypoint=np.array([{}], dtype=object))
    (raw / "text.csv").write_text("nose_x,nose_y\n1,2\n")
    (raw / "stray.json").write_text("{}")
    np.savez(raw / "nobody.npz", keypoint=np.zeros_like(POSES))
    names = ("good", "also", "crowd", "wide", "objects", "text", "nobody")
    rows = [f"{name},{i % 2},{'test' if name == 'also' else 'train'}\n" for i, name in enumerate(names)]
    (raw / "labels.csv").write_text("name,label,split\n" + "".join(rows))
    assert cli("custom", "--raw", raw, "--skeleton", body, "--channels", 2, "--out", tmp_path / "c.clips") == 0
    assert ClipStore(tmp_path / "c.clips").name.tolist() == ["also", "good"]
    left_out = {entry["file"] for entry in json.loads((tmp_path / "c.clips.report.json").read_text())["left out"]}
    assert left_out == {"crowd.npz", "wide.npz", "objects.npz", "text.csv", "stray.json", "nobody.npz"}


def test_groups_that_the_table_puts_into_both_parts_are_named(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("name,label,split,group\na,x,train,g\nb,x,test,g\nc,x,test,h\nd,x,test,\n")
    assert read_labels(tmp_path, [tmp_path / f"{name}.npz" for name in "abcd"], options()).group["d"] == "d"
    assert "split: 1 group (g) in both the training and the test part" in capsys.readouterr().out


def test_a_group_stays_on_one_side_and_the_seed_decides_which(tmp_path):
    make(tmp_path, subjects=8, takes=1)
    files = sorted(tmp_path.glob("*.npz"))
    table = read_labels(tmp_path, files, options())
    sides = {}
    for name, part in table.part.items():
        sides.setdefault(name.split("_")[0], set()).add(part)
    assert all(len(parts) == 1 for parts in sides.values()) and sum(parts == {"test"} for parts in sides.values()) == 2
    assert table == read_labels(tmp_path, files, options())
    assert any(table.part != read_labels(tmp_path, files, options(seed=seed)).part for seed in range(1, 4))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("name,class\na,x\n", "expected the columns name, label"),
        ("name,label\na,x\na,y\n", "expected each clip once, got 'a' 2 times"),
        ("name,label\na,x\nb,x\nc,y\n", "got none below .* for 1 .c."),
        ("name,label,split\na,x,train\nb,y,\n", "split: expected train or test .* in 1 of 2 rows"),
        ("name,label,split\na,x,train\nb,y,val\n", "split: expected train or test .* got 'val'"),
        (
            "name,label\na,20230101\nb,0\n",
            "expected class numbers from 0 without large gaps, got 20230101 in 2 classes",
        ),
        ("name,label\na,2023\nb,2023\n", "without large gaps, got 2023 in 1 classes"),
        (f"name,label\na,{10**15}\nb,0\n", "without large gaps, got 1000000000000000"),
        (f"name,label\na,1{'0' * 100}\nb,0\n", "without large gaps"),
        ("name,label\na,007\nb,0\n", "unknown label '007' of 'a'"),
        ("name,label\na,drink, water\nb,0\n", "clip 1 .'a'.: expected 2 cells, got 3; quote .* \"drink, water\""),
        ("name,label\na,\nb,0\n", "clip 1: expected a name and a label"),
        ("name,label\na,0\n,1\n", "clip 2: expected a name and a label"),
        (f"name,label\na,{'x' * 300}\nb,0\n", "clip 1: expected at most 255 characters"),
        (f"name,label\na,{'x' * 200_000}\nb,0\n", "labels.csv: not a CSV table: field larger than field limit"),
        ("name,label\na,\udc80\nb,0\n", "expected UTF-8 text"),
        ("name,label,group\na,x,g\nb,y,g\n", "expected groups for both parts, got 0 of 1"),
    ],
)
def test_a_wrong_label_table_is_refused_with_the_reason(text, reason, tmp_path):
    (tmp_path / "labels.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=reason):
        read_labels(tmp_path, [tmp_path / "a.npz", tmp_path / "b.npz"], options())


def test_without_a_table_folders_are_classes_and_numbers_stay_numbers(tmp_path):
    files = [tmp_path / folder / f"{folder}{i}.npz" for folder in ("run", "eat") for i in range(4)]
    assert read_labels(tmp_path, files, options()).label["run0"] == 1
    (tmp_path / "labels.csv").write_text("name,label\nrun0,3\neat0,0\n")
    table = read_labels(tmp_path, files, options(test_share=0.5))
    assert table.classes == ["0", "1", "2", "3"] and table.label == {"run0": 3, "eat0": 0}


def joints_of(path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path.read_text().split("\n")[1].strip().split(",")[1:]))


def test_deeplabcut_variants_equal_the_reference(kinetics_raw, reference):
    arrays, meta = reference("kinetics")
    for name, table in meta["dlc"].items():
        path = kinetics_raw / "dlc" / name
        points = deeplabcut.read_animals(path, joints_of(path))[0][0]
        for k, variant in enumerate(table["variants"], 1):
            image = deeplabcut.to_image(points, (720, 540), variant["scale"], variant["tx"], variant["ty"])
            assert np.abs(image[..., :2].reshape(len(image), -1) - arrays[f"dlc/{name}/{k}/pose"]).max() < 1e-12
            assert np.abs(image[..., 2] - arrays[f"dlc/{name}/{k}/score"]).max() < 1e-12


def test_deeplabcut_stores_equal_the_converted_reference_and_never_leak_copies(kinetics_raw, reference, tmp_path, cli):
    arrays, _ = reference("kinetics")
    source = kinetics_raw / "dlc" / "mouse_head_18.csv"
    joints = joints_of(source)
    (tmp_path / "body.yaml").write_text(
        f"joints: {list(joints)}\nbones: {[[joint, joints[0]] for joint in joints[1:]]}\n"
    )
    for label in ("sniff", "rest"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "raw" / label / f"{label}{i}.csv").write_bytes(source.read_bytes())
    out = tmp_path / "d.clips"
    common = (
        "--csv",
        tmp_path / "raw",
        "--layout",
        tmp_path / "body.yaml",
        "--out",
        out,
        "--augment",
        2,
        "--check",
        "--strict",
    )
    assert cli("deeplabcut", *common) == 2  # no image size
    with open(tmp_path / "body.yaml", "a") as layout:
        layout.write("image_size: [720, 540]\n")
    assert cli("deeplabcut", *common, "--test-share", 0.34) == 0
    store = ClipStore(out)
    train, test = (store.name[store.part("own", part)].tolist() for part in ("train", "test"))
    assert len(test) == 2 and not any("." in name for name in test) and len(train) == 4 * 3
    assert not {name.split(".")[0] for name in train} & set(test)
    expected = arrays["dlc/mouse_head_18.csv/1/stgcn"].reshape(3, 300, 18, 2)
    clip = store.clip(store.name.tolist().index(test[0]))
    assert np.array_equal(clip[..., 0], expected[:, : clip.shape[1], :, 0]) and not expected[:, clip.shape[1] :].any()
    copy = store.clip(store.name.tolist().index(f"{train[0]}.2"))
    moved = np.abs(copy - clip)[:2].max()
    assert 0 < moved < 0.04


def test_deeplabcut_tables_of_other_key_points_or_broken_rows_are_refused(kinetics_raw, tmp_path):
    source = kinetics_raw / "dlc" / "rat_12.csv"
    rows = source.read_text().splitlines()
    for text, reason in (
        ("\n".join(rows[:3]), "header rows|frames below"),
        ("\n".join(rows[:2] + rows[3:]), "header rows|frames below"),
        ("\n".join(rows).replace("nose", "snout"), "a column x of 'nose', got none; known: snout, earL"),
        ("\n".join(rows[:5] + [rows[5][:40]]), "a number or nothing in each cell"),
    ):
        path = tmp_path / "t.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            deeplabcut.read_animals(path, joints_of(source))
    cells = rows[4].split(",")
    path.write_text("\n".join(rows[:4] + [",".join([cells[0], "", "", ""] + cells[4:])]))
    assert not deeplabcut.read_animals(path, joints_of(source))[0][0, 1, 0].any()


def test_the_example_body_is_a_skeleton_of_thirteen_joints(tmp_path):
    make(tmp_path, subjects=1, takes=1)
    skeleton = read_skeleton(tmp_path / "body.yaml")
    assert skeleton.num_joint == 13 and len(skeleton.left) == 6


@pytest.mark.parametrize("labels", [("0", "999"), ("²", "٣"), ("3", "run")])
def test_class_numbers_with_small_gaps_and_any_text_are_labels(labels, tmp_path):
    (tmp_path / "labels.csv").write_text(f"name,label\na,{labels[0]}\nb,{labels[1]}\n", encoding="utf-8")
    table = read_labels(tmp_path, [tmp_path / "a.npz", tmp_path / "b.npz"], options(test_share=0.5))
    assert [table.classes[table.label[name]] for name in ("a", "b")] == list(labels)


@pytest.mark.parametrize(
    "folder, option, value",
    [
        ("custom", "--test-share", "inf"),
        ("custom", "--test-share", "nan"),
        ("custom", "--test-share", "1"),
        ("custom", "--persons", "999999999999"),
        ("custom", "--persons", "0"),
        ("custom", "--seed", "-1"),
        ("custom", "--workers", "0"),
        ("deeplabcut", "--augment", "-1"),
        ("kinetics", "--persons-out", "999999999999"),
        ("kinetics", "--persons-in", "0"),
    ],
)
def test_an_option_out_of_range_is_one_error_message(folder, option, value, tmp_path, cli, capsys):
    assert cli(folder, "--raw", tmp_path, option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: command line: argument {option}") and "expected" in error and value in error
    assert error.count("\n") == 1


def table_of(folder, *labels, **changes):
    names = [f"c{i}" for i in range(len(labels))]
    rows = "".join(f"{name},{label},g{i}\n" for i, (name, label) in enumerate(zip(names, labels, strict=True)))
    (folder / "labels.csv").write_text("name,label,group\n" + rows)
    return read_labels(folder, [folder / f"{name}.npz" for name in names], options(**changes))


def test_several_labels_and_weights_of_labels_become_targets(tmp_path):
    table = table_of(tmp_path, "wave", "wave;clap", "clap ; jump")
    assert table.targets == "multi-label" and table.classes == ["clap", "jump", "wave"]
    assert table.columns(["c1", "c0"])["target"].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert table.columns(["c1", "c0"])["group"].tolist() == ["g1", "g0"]
    soft = table_of(tmp_path, "wave", "wave:0.7;clap:0.3", "clap:0.5;wave:.5")
    assert soft.targets == "soft" and soft.label == {"c0": 1, "c1": 1, "c2": 0}
    assert soft.columns(["c1"])["target"][0].tolist() == pytest.approx([0.3, 0.7])
    alone = table_of(tmp_path, "wave:1.0", "wave:0.3;clap:0.7", test_share=0)
    assert alone.classes == ["clap", "wave"] and alone.columns(["c0"])["target"].tolist() == [[0, 1]]
    plain = table_of(tmp_path, "hold: 1", "rest:5", "a", test_share=0)
    assert plain.targets is None and set(plain.columns(["c0"])) == {"group"} and plain.classes[1] == "hold: 1"
    assert set(plain.part.values()) == {"train"} and list(plain.split(["train"] * 3)["own"]) == ["train"]
    assert len({t.fingerprint for t in (table, soft, plain)}) == 3


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("wave;wave", "'c0': expected different labels such as wave;clap or .*, got 'wave;wave'"),
        ("wave;", "expected different labels"),
        ("wave:0.5;clap", "expected different labels"),
        ("wave:0.5;clap:0.2", "expected label weights with sum 1, got 0.7"),
        ("wave:0.5;clap:0.5", "expected either several labels or weighted labels, got both"),
    ],
)
def test_labels_that_cannot_be_targets_are_refused_with_the_clip(label, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        table_of(tmp_path, label, "a;b", "c")


def test_a_store_holds_several_labels_and_groups_and_old_stores_have_none(tmp_path, body, cli):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "abc":
        np.savez(raw / f"{name}.npz", keypoint=POSES)
    (raw / "labels.csv").write_text("name,label,group\nc,run,x\nb,run;eat,y\na,eat,x\n")
    arguments = ("--raw", raw, "--skeleton", body, "--channels", 2, "--test-share", 0.5, "--out", tmp_path / "s.clips")
    assert cli("custom", *arguments, "--check") == 0
    store = ClipStore(tmp_path / "s.clips")
    assert store.target.tolist() == [[1, 0], [1, 1], [0, 1]] and store.group.tolist() == ["x", "y", "x"]
    manifest = json.loads((tmp_path / "s.clips/manifest.json").read_text())
    assert manifest.pop("targets") == "multi-label"
    (tmp_path / "s.clips/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="expected the array target and targets in manifest.json, or neither"):
        ClipStore(tmp_path / "s.clips")


def test_tables_of_several_animals_and_unlikely_key_points(tmp_path, body, cli):
    raw = tmp_path / "raw"
    raw.mkdir()
    names = [f"{animal},{part}" for animal in ("ann", "bob", "single") for part in ("nose", "hip", "tail")]
    heads = [["scorer", *["net"] * 27], ["individuals"], ["bodyparts"], ["coords"]]
    for name in names:
        for word in ("x", "y", "likelihood"):
            for head, cell in zip(heads[1:], (*name.split(","), word), strict=True):
                head.append(cell)
    for clip, sure in (("one", 0.9), ("two", 0.5)):
        rows = []
        for t in range(5):
            scores = np.array([[0.8] * 3, [sure] * 3, [1] * 3])
            scores[0, 1] = 0.1 if t == 2 else 0.8
            xy = 10 * np.arange(9).reshape(3, 3, 1) + np.array([t, 100 + t])
            rows.append([t, *np.concatenate([xy, scores[..., None]], -1).ravel()])
        (raw / f"{clip}.csv").write_text("\n".join(",".join(map(str, row)) for row in [*heads, *rows]))
    (raw / "labels.csv").write_text("name,label,split\none,run,train\ntwo,rest,test\n")
    size, least = (100, 200), ("--min-likelihood", 0.4, "--missing", "interpolate")
    for count in (1, 2):
        out = tmp_path / f"{count}.clips"
        flags = ("--csv", raw, "--layout", body, "--image-size", *size, "--persons", count, *least, "--out", out)
        assert cli("deeplabcut", *flags) == 0
        store = ClipStore(out)
        clips = [store.clip(i).transpose(3, 1, 2, 0) for i in range(2)]
        assert [len(x) for x in clips] == [count, count] and not clips[0][:, 0].any()
        nose = [x[0, 1, 0, 0] * 100 + 50 for x in clips]  # of the first animal in the slots
        assert nose == pytest.approx([30, 0] if count == 1 else [0, 0])
    assert clips[0][0, 3, 1, :2] * size + [50, 100] == pytest.approx([12, 112], abs=1e-4) and clips[0].shape[2] == 3
    report = json.loads((tmp_path / "2.clips.report.json").read_text())["share of missing joints"]
    assert report == {"one": round(1 / 30, 4), "two": round(1 / 30, 4)}
    prepared = Recipe(read_skeleton(body), store.manifest).read_raw(raw / "one.csv")[0]
    assert np.array_equal(prepared.frames, clips[0])


def test_a_recording_without_an_image_size_has_that_of_the_training_videos(body):
    points = np.array([[[[25, 50], [75, 150], [50, 100]]]], np.float32)
    recording = Recording(points, None, ("1",), np.arange(1), Facts("SLEAP", joints=("nose", "hip", "tail")))
    facts = {"recipe": "stgcn", "channels": 3, "missing": "zero"}
    frames = Recipe(read_skeleton(body), facts | {"image_size": [100, 200]}).whole(recording)[0].frames
    assert frames[0, 1].tolist() == [[-0.25, -0.25, 1], [0.25, 0.25, 1], [0, 0, 1]]
    with pytest.raises(PoseFileError, match="got none; give --image-size"):
        Recipe(read_skeleton(body), facts).whole(recording)


def test_a_table_of_three_coordinates_has_a_fourth_channel_only_by_conversion(tmp_path, body):
    header = ",".join(f"{joint}_{axis}" for joint in ("nose", "hip", "tail") for axis in "xyz")
    rows = [",".join(map(str, range(9 * t, 9 * t + 9))) for t in range(4)]  # 4 x 9 numbers are also 3 x 12
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    recipe = Recipe(read_skeleton(body), {"recipe": "plain", "channels": 4, "num_person": 1})
    (clip,) = prepare.read_clips(recipe, {"a": 0}, tmp_path / "a.csv")
    assert clip.tracks[0, :, :, :3].ravel().tolist() == [*range(36)] and (clip.tracks[..., 3] == 1).all()

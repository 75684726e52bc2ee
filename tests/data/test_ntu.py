"""NTU RGB+D: all three recipes against reference records, split orders, the skip list, broken files."""

import json
import pickle

import numpy as np
import pytest

from data.clip import BadFile
from data.export import write_npy, write_npz
from data.ntu.benchmark import MISSING, NAME, NTU60, check, missing_names
from data.ntu.recipe_agcn_stgcn import rotation
from data.ntu.recipe_ctrgcn import assemble
from data.ntu.skeleton_file import read_recording
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from graph.skeleton import find_skeleton


@pytest.fixture(scope="module")
def stores(ntu_raw, tmp_path_factory, cli):
    """(folder, recipe) -> store, with the skip list of the reference run."""
    made = {}
    left_out = {"ctrgcn": [], "agcn": ["S010C001P037R001A025", "S029C002P099R001A101"]}
    for folder, recipe in (
        ("ntu", "ctrgcn"),
        ("ntu", "agcn"),
        ("ntu", "stgcn"),
        ("ntu120", "ctrgcn"),
        ("ntu120", "agcn"),
    ):
        place = tmp_path_factory.mktemp("ntu")
        (place / "missing.txt").write_text("\n".join(left_out.get(recipe, left_out["agcn"])))
        out = place / f"{folder}_{recipe}.clips"
        assert cli(folder, "--raw", ntu_raw, "--recipe", recipe, "--out", out, "--missing", place / "missing.txt") == 0
        made[folder, recipe] = ClipStore(out)
    return made


def test_ctrgcn_clips_equal_the_reference_bit_by_bit(stores, reference):
    arrays, _ = reference("ntu_ctrgcn")
    for key, expected in arrays.items():
        kind, name = key.split("/")
        store = stores["ntu120" if kind == "final120" else "ntu", "ctrgcn"]
        clip = store.clip(store.name.tolist().index(name))
        assert np.array_equal(clip.transpose(1, 3, 2, 0).reshape(len(expected), 150), expected), key
    assert len(arrays) == 43


def test_ntu120_repeats_a_single_person_and_ntu60_does_not(stores):
    for folder, persons in (("ntu", [0, -1]), ("ntu120", [0, 0])):
        store = stores[folder, "ctrgcn"]
        assert store.persons[store.name.tolist().index("S001C001P001R001A001")].tolist() == persons
        # Two ids that become one actor are two persons to the original, the second of them empty.
        assert store.persons[store.name.tolist().index("S005C002P010R001A010")].tolist() == [0, -1]


def test_a_single_person_is_repeated_in_predictions_also_with_other_class_names(ntu_raw, tmp_path, cli):
    classes = tmp_path / "mine" / "classes.txt"
    classes.parent.mkdir()
    classes.write_text("\n".join(map(str, range(120))))
    assert cli("ntu120", "--raw", ntu_raw, "--out", tmp_path / "n.clips", "--classes", classes) == 0
    manifest = ClipStore(tmp_path / "n.clips").manifest
    assert manifest["benchmark"] == "mine"
    assert Recipe(find_skeleton("graph.ntu_rgb_d"), manifest).repeats_person


def test_agcn_clips_repeat_to_the_reference_bit_by_bit(stores, reference):
    arrays, meta = reference("ntu_2sagcn")
    for folder, names, expected in (("ntu", "names", "joint"), ("ntu120", "names120", "joint120")):
        store = stores[folder, "agcn"]
        assert store.manifest["pad"] == "repeat" and store.manifest["window"] == 300
        for name, array in zip(meta[names], arrays[expected], strict=True):
            clip = store.clip(store.name.tolist().index(name))
            assert np.array_equal(clip[:, np.arange(300) % clip.shape[1]], array), name
    assert np.mean(store.length < 100) > 0.6


def test_stgcn_clips_equal_the_reference_bit_by_bit(stores, reference):
    arrays, meta = reference("ntu_2sagcn")
    store = stores["ntu", "stgcn"]
    for name, array in zip(meta["stgcn_names"], arrays["stgcn"], strict=True):
        clip = store.clip(store.name.tolist().index(name))
        assert np.array_equal(clip, array[:, : clip.shape[1]]) and not array[:, clip.shape[1] :].any(), name


def test_splits_list_the_clips_in_published_order(stores, reference):
    field = {"CS": "xsub", "CV": "xview", "CSub": "xsub", "CSet": "xset"}
    _, meta = reference("ntu_ctrgcn")
    for folder, key in (("ntu", "splits"), ("ntu120", "splits120")):
        store = stores[folder, "ctrgcn"]
        for published, parts in meta[key].items():
            for part in ("train", "test"):
                numbers = store.part(field[published], part)
                assert store.name[numbers].tolist() == parts[part]
                assert store.label[numbers].tolist() == parts[f"y_{part}"]
    _, meta = reference("ntu_2sagcn")
    for folder, key in (("ntu", "splits"), ("ntu120", "splits120")):
        store = stores[folder, "agcn"]
        for split, parts in meta[key].items():
            for part, published in (("train", "train"), ("test", "val")):
                numbers = store.part(split, part)
                assert store.name[numbers].tolist() == parts[published]
                assert store.label[numbers].tolist() == parts[f"{published}_label"]


def test_files_that_no_recipe_can_use_are_listed_with_the_reason(stores):
    def left_out(folder, recipe):
        path = stores[folder, recipe].path
        return {
            entry["file"]: entry["reason"]
            for entry in json.loads(path.with_name(path.name + ".report.json").read_text())["left out"]
        }

    assert left_out("ntu", "ctrgcn") == {
        name: "expected at least one body, got none"
        for name in ("S010C001P037R001A025.skeleton", "S010C002P038R001A026.skeleton")
    }
    assert left_out("ntu", "agcn") == {
        "S009C003P034R002A007.skeleton": "expected 1 to 300 frames for this recipe, got 305"
    }


def test_a_recording_without_bodies_stays_as_zeros_where_the_originals_keep_it(stores):
    for recipe in ("agcn", "stgcn"):
        store = stores["ntu", recipe]
        i = store.name.tolist().index("S010C002P038R001A026")
        assert store.valid[i] == 0 and store.persons[i].tolist() == [-1, -1] and not store.clip(i).any()


def test_the_skip_list_holds_535_names_of_which_302_belong_to_ntu60(tmp_path):
    names = missing_names(MISSING)
    assert len(names) == 535 and sum(int(NAME.fullmatch(name)[1]) <= 17 for name in names) == 302
    (tmp_path / "list.txt").write_text("# comment\nS001C001P001R001A007.skeleton\nS001C001P001R002: 3 5-6  # some\n\n")
    expected = {"S001C001P001R001A007", "S001C001P001R002A003", "S001C001P001R002A005", "S001C001P001R002A006"}
    assert missing_names(tmp_path / "list.txt") == expected
    (tmp_path / "list.txt").write_text("S001C001P001R002: three")
    with pytest.raises(ValueError, match="line 1: expected a name"):
        missing_names(tmp_path / "list.txt")


def test_the_same_recording_in_two_folders_is_refused(ntu_raw, tmp_path, cli, capsys):
    (tmp_path / "again").mkdir()
    name = "S001C001P001R001A001.skeleton"
    (tmp_path / "again" / name).write_bytes((ntu_raw / name).read_bytes())
    assert cli("ntu", "--raw", ntu_raw, tmp_path / "again", "--out", tmp_path / "s.clips") == 2
    assert "expected a unique clip name" in capsys.readouterr().err


BODY = "7 0 1 1 1 1 0 0 0 2\n25\n" + "".join(f"{v * 0.1} {v * 0.2} 3 inf -1.#IND nan 0 0 0 0 0 2\n" for v in range(25))


def test_only_ids_and_positions_are_read(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_text("2\n1\n" + BODY + "0\n\n")
    recording = read_recording(path)
    assert recording.ids == [[b"7"], []] and recording.poses.shape == (1, 25, 3)
    assert np.allclose(recording.poses[0, 24], (2.4, 4.8, 3))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "ends before the number of frames"),
        ("-3\n", "expected the number of frames, got '-3'"),
        ("999999999\n1\n" + BODY, "expected at most 100000 frames, got 999999999"),
        ("2\n1\n" + BODY, "ends before the number of bodies"),
        ("1\n999999999\n" + BODY, "ends within a body"),
        ("1\n1\n" + BODY[:-60], "ends within a body|expected 12 numbers"),
        ("1\n1\n" + BODY.replace("\n25\n", "\n20\n"), "expected 25 joints, got 20"),
        ("1\n1\n" + BODY.replace("0.1 0.2 3", "0.1 0.2", 1), "expected 12 numbers for each joint, got 11"),
        ("1\n1\n" + BODY.replace("0.1 0.2 3", "0.1 zero 3", 1), "expected three numbers as x y z"),
        ("1\n1\n" + BODY + BODY, "expected the end after 1 frames"),
        ("\x00\x01\x02", "expected the number of frames, got"),
    ],
)
def test_broken_recordings_are_refused_with_the_reason(text, reason, tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_text(text)
    with pytest.raises(BadFile, match=reason):
        read_recording(path)


def test_a_body_listed_twice_in_a_frame_is_refused_by_the_recipe_that_follows_ids(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_text("1\n2\n" + BODY + BODY)
    with pytest.raises(BadFile, match="expected distinct body ids, got one twice"):
        assemble(read_recording(path))


def test_a_rotation_turns_right_handed():
    assert np.allclose(rotation(np.array([0, 0, 2]), np.pi / 2) @ (1, 0, 0), (0, 1, 0))
    assert np.array_equal(rotation(np.zeros(3), 1.0), np.eye(3))


def test_exported_npz_files_hold_the_reference_rows(stores, reference, tmp_path, cli):
    arrays, meta = reference("ntu_ctrgcn")
    for folder, key, kind, prefix in (
        ("ntu", "splits", "final", "NTU60"),
        ("ntu120", "splits120", "final120", "NTU120"),
    ):
        assert cli(folder, "--out", stores[folder, "ctrgcn"].path, "--export", "npz", "--export-dir", tmp_path) == 0
        for published, parts in meta[key].items():
            with np.load(tmp_path / f"{prefix}_{published}.npz") as exported:
                for part in ("train", "test"):
                    x, y = exported[f"x_{part}"], exported[f"y_{part}"]
                    assert list(x.shape) == parts["shapes"][f"x_{part}"] and x.dtype == np.float32
                    assert list(y.shape) == parts["shapes"][f"y_{part}"] and y.dtype == np.float64
                    assert y.argmax(1).tolist() == parts[f"y_{part}"] and (y.sum(1) == 1).all()
                    for row, name in zip(x, parts[part], strict=True):
                        expected = arrays.get(f"{kind}/{name}")
                        if expected is not None:
                            assert np.array_equal(row[: len(expected)], expected) and not row[len(expected) :].any()


def test_exported_npy_files_hold_the_reference_rows(stores, reference, tmp_path, cli):
    arrays, meta = reference("ntu_2sagcn")
    assert cli("ntu", "--out", stores["ntu", "agcn"].path, "--export", "npy", "--export-dir", tmp_path) == 0
    for split in ("xsub", "xview"):
        for part in ("train", "val"):
            data = np.load(tmp_path / split / f"{part}_data_joint.npy", mmap_mode="r")
            names, labels = pickle.loads((tmp_path / split / f"{part}_label.pkl").read_bytes())
            assert names == [f"{name}.skeleton" for name in meta["splits"][split][part]]
            assert labels == meta["splits"][split][f"{part}_label"]
            for row, name in zip(data, meta["splits"][split][part], strict=True):
                assert np.array_equal(row, arrays["joint"][meta["names"].index(name)])


def test_an_export_of_another_recipe_is_refused(stores, tmp_path, cli, capsys):
    assert cli("ntu", "--out", stores["ntu", "agcn"].path, "--export", "npz", "--export-dir", tmp_path) == 2
    assert "expected a store of recipe ctrgcn, got agcn" in capsys.readouterr().err
    raw = ("--raw", tmp_path, "--out", tmp_path / "new.clips")  # refused before the files are read
    assert cli("ntu", *raw, "--recipe", "agcn", "--export", "npz") == 2
    assert "expected a store of recipe ctrgcn, got agcn" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--check",), ("--export", "npz")])
def test_a_store_of_another_benchmark_is_neither_checked_nor_exported(flags, stores, cli, capsys):
    assert cli("ntu120", "--out", stores["ntu", "ctrgcn"].path, *flags) == 2
    expected = "expected a store of ntu120 with the skeleton graph.ntu_rgb_d and the splits xset, xsub, got"
    assert f"{expected} the skeleton graph.ntu_rgb_d and the splits xsub, xview;" in capsys.readouterr().err


def test_an_incomplete_manifest_is_neither_exported_nor_compared(stores, tmp_path):
    for key, act in (
        ("pad", lambda store: write_npz({}, store, tmp_path)),
        ("window", lambda store: write_npy(".skeleton", store, tmp_path)),
        ("benchmark", lambda store: check(NTU60, store)),
    ):
        store = ClipStore(stores["ntu", "ctrgcn"].path)
        del store.manifest[key]
        with pytest.raises(ValueError, match=f"manifest.json: expected the keys? .*, got no {key}; prepare"):
            act(store)

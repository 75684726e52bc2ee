"""NW-UCLA: names, labels, the published test order, broken files."""

import importlib
import json

import numpy as np
import pytest

from data.clip import BadFile
from feeders.clip_store import ClipStore

ucla = importlib.import_module("data.NW-UCLA.prepare")


def write(folder, name, frames=4, **changes):
    poses = np.random.default_rng(frames).normal(size=(frames, 20, 3)).round(6)
    label = ucla.ACTIONS.index(int(name[1:3])) + 1
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"file_name": name, "skeletons": poses.tolist(), "label": label} | changes))
    return path


def test_views_one_and_two_train_and_view_three_tests_in_published_order(tmp_path, cli, capsys):
    order = ucla.TEST_ORDER.read_text().split()
    assert len(order) == len(set(order)) == 464 and all(name.endswith("_v03") for name in order)
    raw = tmp_path / "all_sqe"
    raw.mkdir()
    for name in order[:5] + ["a12_s01_e90_v03", "a01_s01_e90_v03", "a02_s03_e01_v02", "a01_s02_e00_v01"]:
        write(raw, name)
    assert cli("NW-UCLA", "--raw", tmp_path, "--out", tmp_path / "u.clips", "--check") == 1
    store = ClipStore(tmp_path / "u.clips")
    assert store.name[store.part("xview", "test")].tolist() == order[:5] + ["a01_s01_e90_v03", "a12_s01_e90_v03"]
    assert store.name[store.part("xview", "train")].tolist() == ["a01_s02_e00_v01", "a02_s03_e01_v02"]
    printed = capsys.readouterr().out
    assert (
        "2 training and 7 test clips" in printed
        and "missing 459 test clips" in printed
        and "expected 1020 clips as published, got 2" in printed
    )


def test_coordinates_and_labels_go_into_the_store_unchanged(tmp_path, cli):
    path = write(tmp_path, "a11_s04_e02_v01", frames=7)
    assert cli("NW-UCLA", "--raw", tmp_path, "--out", tmp_path / "u.clips") == 0
    store = ClipStore(tmp_path / "u.clips")
    expected = np.array(json.loads(path.read_text())["skeletons"], np.float32)
    assert np.array_equal(store.clip(0)[..., 0].transpose(1, 2, 0), expected)
    assert store.label[0] == 8 and store.manifest["class_names"][8] == "throw"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"skeletons": []}, "shape"),
        ({"skeletons": [[[0.0] * 3] * 19]}, r"shape \(frames, 20, 3\), got \(1, 19, 3\)"),
        ({"skeletons": [[[0.0] * 3] * 20, [[0.0] * 3] * 19]}, "differ in length"),
        ({"skeletons": [[["a"] * 3] * 20]}, "not a number"),
        ({"skeletons": None}, "not a number"),
        ({"label": 4}, "expected label 2 as in the name, got 4"),
    ],
)
def test_broken_files_are_refused_with_the_reason(changes, reason, tmp_path):
    with pytest.raises(BadFile, match=reason):
        ucla.read_clip(write(tmp_path, "a02_s01_e00_v01", **changes))


def test_files_that_are_not_clips_are_refused(tmp_path):
    good = write(tmp_path, "a02_s01_e00_v01")
    cut = tmp_path / "a02_s01_e01_v01.json"
    cut.write_text(good.read_text()[:-30])
    other = tmp_path / "a07_s01_e01_v01.json"
    other.write_text(good.read_text())
    keyless = tmp_path / "a02_s01_e02_v01.json"
    keyless.write_text("[]")
    for path, reason in (
        (cut, "truncated"),
        (other, "released action"),
        (keyless, "expected a JSON object with the key"),
    ):
        with pytest.raises(BadFile, match=reason):
            ucla.read_clip(path)

"""Raw folders with entries that are not clips: each is listed in the report and omitted, and nothing hangs."""

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from data.custom.own_files import MAX_BYTES
from data.demo.make import make
from data.raw_files import find_files, read_class_names
from feeders.clip_store import ClipStore

SECONDS = 120  # a preparation of one clip that takes longer hangs


@pytest.fixture(autouse=True)
def limit_time():
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


def add_odd_entries(folder: Path, names: list[str], suffix: str) -> dict[str, str]:
    """Entries that are no readable files under these names; their file names and a word of the reason."""
    made = {}

    def entry(reason: str) -> Path:
        path = folder / f"{names[len(made)]}{suffix}"
        made[path.name] = reason
        return path

    entry("No such file").symlink_to(folder / "nothing")
    loop = entry("symbolic links")
    loop.symlink_to(loop.name)
    os.mkfifo(entry("got a FIFO"))
    entry("got a device").symlink_to("/dev/zero")
    entry("got a folder").mkdir()
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is limited to about 100 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(entry("No such device").name)
    os.chdir(here)
    with open(entry("expected at most"), "wb") as sparse:
        sparse.truncate(100 * 2**30)
    return made


def check_report(out: Path, expected: dict[str, str], clips: int) -> None:
    assert len(ClipStore(out)) == clips
    report = json.loads(out.with_name(out.name + ".report.json").read_text())["left out"]
    assert [entry["file"] for entry in report] == sorted(expected)
    for entry in report:
        assert expected[entry["file"]] in entry["reason"], entry
        assert str(out.parent) not in entry["reason"] and "\n" not in entry["reason"]


def test_ntu(tmp_path, cli):
    raw, out = tmp_path / "raw", tmp_path / "s.clips"
    make(raw, performers=1, frames=(12, 12))
    odd = add_odd_entries(raw, [f"S001C001P001R001A{i:03d}" for i in range(1, 20)], ".skeleton")
    arguments = ("--raw", raw, "--out", out, "--missing", tmp_path / "missing.txt")
    (tmp_path / "missing.txt").touch()
    assert cli("ntu", *arguments) == 0
    check_report(out, odd, 24)
    assert cli("ntu", *arguments, "--overwrite", "--strict") == 2


def test_nw_ucla(tmp_path, cli):
    raw, out = tmp_path / "raw", tmp_path / "s.clips"
    raw.mkdir()
    record = {"skeletons": np.ones((4, 20, 3)).tolist(), "label": 2}
    (raw / "a02_s01_e00_v01.json").write_text(json.dumps(record))
    odd = add_odd_entries(raw, [f"a02_s01_e{i:02d}_v02" for i in range(20)], ".json")
    odd["a02_s٠١_e00_v01.json"] = "expected a name a<action>"
    (raw / "a02_s٠١_e00_v01.json").write_text(json.dumps(record))
    assert cli("NW-UCLA", "--raw", raw, "--out", out) == 0
    check_report(out, odd, 1)


def test_kinetics(kinetics_raw, tmp_path, cli):
    raw, out = tmp_path / "raw", tmp_path / "s.clips"
    shutil.copytree(kinetics_raw, raw)
    odd = add_odd_entries(raw / "kinetics_train", [f"odd{i}" for i in range(20)], ".json")
    path = raw / "kinetics_train_label.json"
    labels = json.loads(path.read_text())
    known = {Path(name).stem: {"has_skeleton": True, "label": "x", "label_index": 1} for name in odd}
    path.write_text(json.dumps(labels | known))
    assert cli("kinetics", "--raw", kinetics_raw, "--out", tmp_path / "good.clips") == 0
    assert cli("kinetics", "--raw", raw, "--out", out) == 0
    check_report(out, odd, len(ClipStore(tmp_path / "good.clips")))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"clip": 5}', '{"clip": {}}'])
def test_a_wrong_label_file_of_kinetics_is_one_error_message(text, kinetics_raw, tmp_path, cli, capsys):
    shutil.copytree(kinetics_raw, tmp_path / "raw")
    (tmp_path / "raw" / "kinetics_val_label.json").write_text(text)
    assert cli("kinetics", "--raw", tmp_path / "raw", "--out", tmp_path / "s.clips") == 2
    error = capsys.readouterr().err
    assert "kinetics_val_label.json: " in error and error.count("\n") == 1


@pytest.mark.parametrize("suffix", [".npz", ".json", ".csv"])
def test_custom(suffix, tmp_path, cli):
    raw, out = tmp_path / "raw", tmp_path / "s.clips"
    for label in ("rest", "run"):
        (raw / label).mkdir(parents=True)
        for i in range(4):
            np.savez(raw / label / f"{label}{i}.npz", keypoint=np.ones((4, 3, 3)))
    (tmp_path / "body.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    odd = add_odd_entries(raw / "run", [f"odd{i}" for i in range(20)], suffix)
    if suffix == ".npz":
        odd["odd6.npz"] = "not an .npz file"  # found without reading it
    odd["\udcff\udcfe.npz"] = "expected a file name in UTF-8"
    np.savez(raw / "run" / "good.npz", keypoint=np.ones((4, 3, 3)))
    os.rename(raw / "run" / "good.npz", raw / "run" / "\udcff\udcfe.npz")
    assert cli("custom", "--raw", raw, "--skeleton", tmp_path / "body.yaml", "--out", out) == 0
    check_report(out, odd, 8)


def test_deeplabcut(tmp_path, cli):
    raw, out = tmp_path / "raw", tmp_path / "s.clips"
    text = "scorer,n,n,n,n,n,n\nbodyparts,a,a,a,b,b,b\ncoords" + ",x,y,likelihood" * 2 + "\n0,1,2,.9,3,4,.9\n"
    for label in ("rest", "run"):
        (raw / label).mkdir(parents=True)
        for i in range(4):
            (raw / label / f"{label}{i}.csv").write_text(text)
    (tmp_path / "body.yaml").write_text("joints: [a, b]\nbones: [[a, b]]\nimage_size: [720, 540]\n")
    odd = add_odd_entries(raw / "run", [f"odd{i}" for i in range(20)], ".csv")
    assert cli("deeplabcut", "--csv", raw, "--layout", tmp_path / "body.yaml", "--out", out) == 0
    check_report(out, odd, 8)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "raw" / "locked").mkdir(parents=True)
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(ValueError, match="locked: cannot be read .Permission denied"):
        find_files([tmp_path / "raw"], ".*")


def test_a_compressed_array_is_not_unpacked_if_it_is_too_large(tmp_path, cli):
    raw = tmp_path / "raw"
    for label in ("rest", "run"):
        (raw / label).mkdir(parents=True)
        for i in range(4):
            np.savez(raw / label / f"{label}{i}.npz", keypoint=np.ones((4, 3, 3)))
    frames = MAX_BYTES // 9 + 1
    np.savez_compressed(raw / "run" / "large.npz", keypoint=np.zeros((frames, 3, 3), np.int8))
    (tmp_path / "body.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    out = tmp_path / "s.clips"
    assert cli("custom", "--raw", raw, "--skeleton", tmp_path / "body.yaml", "--out", out) == 0
    check_report(out, {"large.npz": "expected at most 268435456 bytes in the array keypoint"}, 8)


@pytest.mark.parametrize(
    "text, reason",
    [("", "line 1: expected a class name"), ("a\n\nb\n", "line 2: expected"), ("a\nb\na\n", "got 1 more than once")],
)
def test_a_file_of_class_names_with_a_mistake_is_refused(text, reason, tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_class_names(path)
    path.write_bytes("wave\r\nça va\r\n".encode())
    assert read_class_names(path) == ["wave", "ça va"]


def test_a_part_without_any_usable_file_is_refused(tmp_path, cli, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    np.savez(raw / "good.npz", keypoint=np.ones((4, 3, 3)))
    (raw / "bad.npz").touch()
    (raw / "labels.csv").write_text("name,label,split\ngood,run,train\nbad,rest,test\n")
    (tmp_path / "body.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    arguments = ("--raw", raw, "--skeleton", tmp_path / "body.yaml", "--out", tmp_path / "s.clips")
    assert cli("custom", *arguments) == 2
    assert "expected clips in the test part" in capsys.readouterr().err and not (tmp_path / "s.clips").exists()

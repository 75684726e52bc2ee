"""Files are written completely or not at all, and only regular files of a sensible size are read."""

import json
import os
import socket

import pytest

from torchlight.system.files import atomic, parse_json, read_bytes, read_json, read_text, sha256


def test_a_file_appears_under_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with atomic(path, "w") as file:
        file.write("né")
        assert path.read_text() == "old"
    assert path.read_bytes() == "né".encode()


def test_a_system_error_names_the_file_that_could_not_be_written(tmp_path):
    with pytest.raises(OSError) as error, atomic(tmp_path / "missing" / "a.txt") as file:
        file.write(b"")
    assert error.value.filename == str(tmp_path / "missing" / "a.txt")


def make_special(path, kind: str) -> None:
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a dangling link":
        path.symlink_to("nowhere")
    elif kind == "a loop of links":
        path.symlink_to(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(path))


@pytest.mark.parametrize(
    "kind", ["a FIFO", "a folder", "a device", "a dangling link", "a loop of links", "a socket", "missing"]
)
def test_files_that_are_not_regular_are_refused_at_once(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    make_special(tmp_path / "x" if kind != "a socket" else type(tmp_path)("x"), kind)
    for read in (read_bytes, sha256):
        with pytest.raises(ValueError, match="x: (cannot be read|expected a regular file)"):
            read(tmp_path / "x")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("runs/joint/lst.pt", "; did you mean runs/joint/last.pt?"),
        ("runs/jont/last.pt", "; did you mean runs/joint?"),
        ("elsewhere/last.pt", "; there is no folder elsewhere"),
        ("runs/joint/x", ""),
    ],
)
def test_a_missing_file_names_a_similar_one_or_the_folder_that_is_missing(tmp_path, missing, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/joint").mkdir(parents=True)
    (tmp_path / "runs/joint/last.pt").touch()
    with pytest.raises(ValueError) as error:
        read_text(missing)
    assert str(error.value) == f"{missing}: cannot be read (No such file or directory){words}"


def test_a_huge_sparse_file_is_refused_without_reading_it(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(10**11)
    with pytest.raises(ValueError, match="x: expected at most 1000 bytes, got 100000000000"):
        read_bytes(tmp_path / "x", 1000)


def test_text_is_utf_8_in_every_locale_and_other_bytes_are_refused(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffné".encode())
    assert read_text(tmp_path / "x") == "né"
    (tmp_path / "x").write_bytes(b"n\xe9")
    with pytest.raises(ValueError, match="x: expected UTF-8 text, got the byte 0xe9 at 1"):
        read_text(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{", "[NaN]", "[Infinity]", "[" * 100_000, '{"a": 1'])
def test_text_that_is_not_json_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="x: not valid JSON"):
        parse_json(text, "x")
    (tmp_path / "x").write_text(text)
    with pytest.raises(ValueError, match="x: not valid JSON"):
        read_json(tmp_path / "x")


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None, True, "né"]}
    (tmp_path / "x").write_text(json.dumps(value))
    assert read_json(tmp_path / "x") == value

"""Stores are complete or absent, equal for any number of workers, and no finished part is read again."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data.clip import BadFile
from data.store import CHUNK, left_out, partial_folder, prepare, report_path
from feeders.clip_store import ClipStore
from tests.data import readers
from torchlight.system.command import RunError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path):
    return readers.write_raw(tmp_path / "raw", 2 * CHUNK + 30)


def read_log(files) -> list[str]:
    return (files[0].parent / "read.log").read_text().split()


def test_a_store_contains_every_clip_unchanged_under_its_name(files, tmp_path):
    store = prepare(readers.source(files[::-1]), tmp_path / "s.clips")
    assert store.name.tolist() == [file.stem for file in files]
    for i in (0, 1, 7, len(store) - 1):
        tracks = readers.tracks_of(i, 1 + i % 5)
        clip = store.clip(i)
        assert np.array_equal(clip[..., 0], tracks[0].transpose(2, 0, 1))
        assert np.array_equal(clip[..., 1], tracks[1].transpose(2, 0, 1) if i % 2 else np.zeros_like(clip[..., 1]))
        assert store.label[i] == i % 2 and store.valid[i] == store.length[i] == 1 + i % 5
    assert store.part("half", "test").tolist() == list(range(1, len(files), 2))
    assert store.manifest["counts"] == {"half": {"train": 143, "test": 143}} and store.manifest["frames"] == len(
        store.frames
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "raw"] == ["s.clips"]


def test_two_workers_write_the_same_bytes_as_one_and_do_not_import_torch(files, tmp_path, monkeypatch):
    one = prepare(readers.source(files), tmp_path / "one.clips")
    monkeypatch.setenv("NO_TORCH", "1")
    monkeypatch.setitem(sys.modules, "torch", sys)  # here it may be loaded; a worker must not inherit it
    two = prepare(readers.source(files), tmp_path / "two.clips", workers=2, strict=True)
    assert one.manifest == two.manifest
    assert all((one.path / name).read_bytes() == (two.path / name).read_bytes() for name in one.manifest["sha256"])


def test_an_interrupted_preparation_does_not_read_finished_parts_again(files, tmp_path):
    def interrupted(path):
        if path.stem == f"{CHUNK + 5:04d}":
            raise KeyboardInterrupt
        return readers.read(path)

    out = tmp_path / "s.clips"
    with pytest.raises(KeyboardInterrupt):
        prepare(readers.source(files, interrupted), out)
    assert not out.exists()
    (files[0].parent / "read.log").unlink()
    prepare(readers.source(files), out)
    assert read_log(files) == [file.stem for file in files[CHUNK:]]
    assert not partial_folder(out).exists()


def test_parts_with_other_settings_changed_files_or_damage_are_made_again(files, tmp_path):
    out = tmp_path / "s.clips"

    def attempt(**facts) -> int:
        (files[0].parent / "read.log").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="strict"):
            prepare(readers.source(files, **facts), out, strict=True)
        return len(read_log(files)) if (files[0].parent / "read.log").exists() else 0

    files[-1].write_text("not a number")
    assert attempt() == len(files) - 1
    assert attempt() == 0
    assert attempt(recipe="another") == len(files) - 1
    files[3].write_text("44")
    assert attempt() == CHUNK
    for part in partial_folder(out).glob("*.shard"):
        part.write_bytes(part.read_bytes()[:-100])
    assert attempt() == len(files) - 1


def test_bad_files_are_listed_with_their_reason_and_omitted(files, tmp_path):
    files[5].write_text("not a number")
    out = tmp_path / "s.clips"
    store = prepare(readers.source(files), out)
    assert len(store) == len(files) - 1 and "0005" not in store.name
    assert json.loads(report_path(out).read_text()) == {"left out": [{"file": "0005.txt", "reason": "no number"}]}
    files[5].write_text("2")
    prepare(readers.source(files), out, overwrite=True)
    assert not report_path(out).exists()


def test_the_omitted_files_are_read_from_the_report_and_a_damaged_report_is_refused(tmp_path):
    out = tmp_path / "s.clips"
    assert left_out(out) == []
    for text, found in (('{"share of missing joints": {"a": 1}}', []), ('{"left out": [{"file": "a"}]}', ["a"])):
        report_path(out).write_text(text)
        assert left_out(out) == found
    for text in ("[]", '{"left out": 5}', '{"left out": [5]}', '{"left out": [{}]}'):
        report_path(out).write_text(text)
        with pytest.raises(ValueError, match="s.clips.report.json: expected a list of files that were left out, got"):
            left_out(out)


def test_clips_with_a_wrong_shape_label_or_values_that_are_not_finite_are_bad_files(files, tmp_path):
    def wrong(path):
        (clip,) = readers.read(path)
        if path.stem == "0000":
            clip.tracks = clip.tracks[:, :, :2]
        if path.stem == "0001":
            clip.label = 2
        if path.stem == "0002":
            clip.tracks[0, 0, 0, 0] = np.nan
        return [clip]

    prepare(readers.source(files, wrong), tmp_path / "s.clips")
    reasons = [entry["reason"] for entry in json.loads(report_path(tmp_path / "s.clips").read_text())["left out"]]
    assert len(reasons) == 3 and "joints" in reasons[0] and "got 2" in reasons[1] and "finite" in reasons[2]


def test_a_preparation_without_any_usable_file_names_the_first_reason(tmp_path):
    files = readers.write_raw(tmp_path / "raw", 2)
    for file in files:
        file.write_text("x")
    with pytest.raises(ValueError, match=r"0000\.txt: no number"):
        prepare(readers.source(files), tmp_path / "s.clips")
    with pytest.raises(ValueError, match="--raw: expected a folder with raw files"):
        prepare(readers.source([]), tmp_path / "s.clips")


def test_an_existing_store_is_refused_and_replaced_only_with_overwrite(files, tmp_path):
    out = tmp_path / "s.clips"
    prepare(readers.source(files[:4]), out)
    with pytest.raises(ValueError, match="--overwrite"):
        prepare(readers.source(files), out)
    files[5].write_text("not a number")
    with pytest.raises(ValueError, match="strict"):
        prepare(readers.source(files), out, strict=True, overwrite=True)
    assert len(ClipStore(out)) == 4
    files[5].write_text("3")
    assert len(prepare(readers.source(files), out, overwrite=True)) == len(files)
    (tmp_path / "precious").mkdir()
    with pytest.raises(ValueError, match="expected a clip store to overwrite"):
        prepare(readers.source(files), tmp_path / "precious", overwrite=True)


def test_one_name_in_two_files_is_refused(tmp_path):
    files = readers.write_raw(tmp_path / "a", 3) + readers.write_raw(tmp_path / "b", 2)
    with pytest.raises(ValueError, match="expected unique clip names, got 2 more than once .first: 0000."):
        prepare(readers.source(files), tmp_path / "s.clips")


def test_a_killed_worker_is_an_error_message_and_the_next_run_continues(files, tmp_path):
    out = tmp_path / "s.clips"
    with pytest.raises(RunError, match="killed"):
        prepare(readers.source(files, readers.die_once), out, workers=2)
    assert len(prepare(readers.source(files, readers.die_once), out, workers=2)) == len(files)


def run_program(raw: Path, out: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.data.readers", "--raw", raw, "--out", out, "--workers", "2"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize(
    "stop, code, word",
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGKILL, -9, None)],
)
def test_ctrl_c_and_kill_write_no_store_and_the_same_command_continues(stop, code, word, tmp_path):
    files = readers.write_raw(tmp_path / "raw", 8 * CHUNK)  # seconds of work, so that the signal comes before the end
    out = tmp_path / "s.clips"
    hear = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # tests that run in the background of a shell are deaf to Ctrl-C
    process = run_program(files[0].parent, out, start_new_session=True, preexec_fn=hear)
    while not list(partial_folder(out).glob("*.shard")):
        assert process.poll() is None
        time.sleep(0.01)
    if stop != signal.SIGKILL:
        os.killpg(process.pid, stop)  # as a terminal does: to the whole group
    else:
        process.kill()
    _, errors = process.communicate()
    assert process.returncode == code and "Traceback" not in errors
    assert code < 0 or errors == f"error: {word}; the same command continues where it stopped\n"
    assert not out.exists()
    done = len(list(partial_folder(out).glob("*.shard")))
    (files[0].parent / "read.log").unlink()
    assert run_program(files[0].parent, out).wait() == 0
    assert len(read_log(files)) <= (8 - done) * CHUNK and len(ClipStore(out)) == len(files)


def test_a_full_disk_is_an_error_message_and_the_finished_parts_are_kept(tmp_path):
    files = readers.write_raw(tmp_path / "raw", 2 * CHUNK)
    for file in files:
        file.write_text("60")  # parts of 270 kB, a frames file of 550 kB
    out = tmp_path / "s.clips"
    for limit, kept, words in ((50_000, 0, "; nothing is finished"), (400_000, 2, "; the same command continues")):
        shrink = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        process = run_program(files[0].parent, out, preexec_fn=shrink)
        _, errors = process.communicate()
        assert process.returncode == 1 and "Traceback" not in errors
        assert "free some space" in errors and words in errors and errors.count("\n") == 1
        assert not out.exists() and len(list(partial_folder(out).glob("*.shard"))) == kept
        assert not list(partial_folder(out).rglob("*.tmp"))
    assert run_program(files[0].parent, out).wait() == 0


def test_a_bad_file_is_a_value_error():
    assert issubclass(BadFile, ValueError)

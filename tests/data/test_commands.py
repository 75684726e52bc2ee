"""Every program of data/ ends with its exit code and one line on stderr, for every kind of failure."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from data import show
from data.demo import make as demo
from data.store import partial_folder
from feeders.clip_store import ClipStore
from tests.data import readers
from torchlight.system.lock import NAME as LOCK
from torchlight.system.lock import FolderLock
from torchlight.system.paths import DATA_ROOT

ROOT = Path(__file__).parents[2]
PREPARE = ("-m", "tests.data.readers")


def start(*arguments, **options) -> subprocess.Popen:
    """A program of this project with what it prints."""
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen(command, **(pipes | options))


def ends(process: subprocess.Popen, code: int, words: str) -> None:
    """Wait for the end of a program; assert its exit code and its only line on stderr."""
    _, errors = process.communicate()
    assert process.returncode == code, errors
    assert words in errors and errors.count("\n") == 1 and errors.startswith("error: "), errors


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    files = readers.write_raw(folder / "raw", 6)
    assert start(*PREPARE, "--raw", files[0].parent, "--out", folder / "s.clips").wait() == 0
    return folder / "s.clips"


@pytest.mark.parametrize("stop, code, word", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_the_demo_is_stopped_by_a_signal_with_one_line(stop, code, word, tmp_path):
    def unblock():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C

    process = start("data/demo/make.py", "--out", tmp_path / "raw", "--performers", 999, preexec_fn=unblock)
    while not list((tmp_path / "raw").glob("*.skeleton")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(stop)
    ends(process, code, word)


@pytest.mark.parametrize(
    "program, words, key",
    [
        *((readers.main, ("--check", "--out"), key) for key in ("sha256", "clips", "num_class", "class_names")),
        *((show.main, ("0000",), key) for key in ("skeleton", "up", "class_names")),
    ],
)
def test_an_incomplete_manifest_is_a_one_line_error(program, words, key, store, tmp_path, capsys):
    copy = tmp_path / "copy.clips"
    shutil.copytree(store, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest[key]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert program([*words, str(copy)] if program is readers.main else [str(copy), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {copy / 'manifest.json'}: expected the keys ") and f"got no {key};" in error


@pytest.mark.parametrize("word, error", [("interrupted", KeyboardInterrupt), ("out of memory", MemoryError)])
def test_show_is_stopped_while_it_draws_with_one_line(word, error, store, tmp_path, monkeypatch, capsys):
    from data import pictures

    def stop(*_):
        raise error

    monkeypatch.setattr(pictures, "show", stop)
    assert show.main([str(store), "0000", "--out", str(tmp_path / "x.gif")]) == (1 if error is MemoryError else 130)
    captured = capsys.readouterr().err
    assert word in captured and captured.count("\n") == 1


def test_prepared_data_is_below_the_data_root(store, cli, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()  # not used, because another root is given
    assert cli("NW-UCLA", "--check", "--out", "data/none.clips") == 2
    assert f"{tmp_path / 'none.clips'}: " in capsys.readouterr().err
    assert show.main([f"data/{store.name}", "x", "--data-root", str(store.parent)]) == 2
    assert f"{store}: unknown clip 'x'" in capsys.readouterr().err
    assert show.main([f"data/{store.name}", "x", "--data-root", "none"]) == 2
    assert "--data-root: expected a folder that exists, got 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("data/demo/make.py", "--out", "{}/raw"),
        ("data/custom/example.py", "--out", "{}/raw"),
        ("data/show.py", "{store}", "0000", "--out", "{}/clip.png"),
        (*PREPARE, "--raw", "{store}/../raw", "--out", "{}/s.clips"),
    ],
)
def test_a_full_disk_is_a_one_line_error_that_names_the_file_and_leaves_no_temporary_file(arguments, store, tmp_path):
    shrink = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (500, 500))
    process = start(*(word.format(tmp_path, store=store) for word in arguments), preexec_fn=shrink)
    _, errors = process.communicate()
    assert process.returncode == 1 and errors.count("\n") == 1, errors
    assert errors.startswith(f"error: {tmp_path}") and "free some space" in errors
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "clip.png").exists()


def test_a_folder_that_cannot_be_written_is_a_one_line_error(store, tmp_path):
    (tmp_path / "file").touch()
    ends(start("data/demo/make.py", "--out", tmp_path / "file" / "raw"), 1, "Not a directory")
    raw = store.parent / "raw"
    ends(start(*PREPARE, "--raw", raw, "--out", tmp_path / "file" / "s.clips"), 1, "Not a directory")


def test_too_many_open_files_are_a_one_line_error(tmp_path):
    raw = readers.write_raw(tmp_path / "raw", 300)[0].parent
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (10, 10))
    process = start(*PREPARE, "--raw", raw, "--out", tmp_path / "s.clips", "--workers", 2, preexec_fn=limit)
    ends(process, 1, "Too many open files")


def test_closed_pipes_and_closed_outputs_print_no_traceback(store):
    process = start(*PREPARE, "--out", store, "--check")
    process.stdout.close()
    code = process.wait()  # 0 where Python buffers the output, which is then written after the work is done
    assert code in (0, 1) and process.stderr.read() == ""
    command = f"exec {sys.executable} -m tests.data.readers --out {store} --check"
    assert subprocess.run(f"{command} >&-", shell=True, cwd=ROOT, capture_output=True).returncode == 0
    assert subprocess.run(f"{command} >&- 2>&- <&-", shell=True, cwd=ROOT, capture_output=True).returncode == 0


def test_a_deleted_current_folder_is_a_one_line_error(tmp_path):
    (tmp_path / "gone").mkdir()
    program = ROOT / "data/demo/make.py"
    command = f"rmdir {tmp_path}/gone; exec {sys.executable} {program} --out raw"
    process = subprocess.run(command, shell=True, cwd=tmp_path / "gone", capture_output=True, text=True)
    assert process.returncode == 1 and process.stderr.count("\n") == 1 and "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "option, value",
    [
        ("--performers", "0"),
        ("--performers", "999999999999"),
        ("--seed", "-1"),
        ("--seed", "٣"),
        ("--seed", "x" * 10_000),
        ("--nonsense", "1"),
    ],
)
def test_a_wrong_option_is_a_one_line_error(option, value, tmp_path, capsys):
    assert demo.main(["--out", str(tmp_path), option, value]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and option in error and len(error) < 300


def test_options_of_a_preparation_are_refused_by_name_if_a_store_is_only_checked(store, capsys):
    assert readers.main(["--out", str(store), "--check", "--strict", "--overwrite", "--recipe", "other"]) == 0
    assert "no effect without --raw: --recipe, --strict, --overwrite\n" in capsys.readouterr().out
    assert readers.main(["--out", str(store), "--check"]) == 0 and "no effect" not in capsys.readouterr().out
    assert readers.main(["--check", "--export-dir", "x"]) == 2
    assert "--export-dir: expected --export as well, got none" in capsys.readouterr().err


def test_a_second_preparation_of_a_store_is_refused_and_the_first_one_is_not_disturbed(tmp_path):
    files = readers.write_raw(tmp_path / "raw", 40)
    out = tmp_path / "s.clips"
    arguments = (*PREPARE, "--raw", files[0].parent, "--out", out)
    with FolderLock(partial_folder(out)):
        ends(start(*arguments), 2, f"in use by process {os.getpid()}; wait")
        assert [path.name for path in partial_folder(out).iterdir()] == [LOCK] and not out.exists()
    assert start(*arguments).wait() == 0
    assert sorted(path.name for path in out.iterdir()) == ["frames.npy", "index.npz", "manifest.json"]
    assert not partial_folder(out).exists() and len(ClipStore(out)) == 40


def test_names_with_control_characters_are_printed_as_escape_sequences(store, tmp_path, capsys):
    out = tmp_path / "escape\x1b[31m\udcff.clips"
    os.symlink(store, out)
    assert readers.main(["--out", str(out), "--check"]) == 0
    printed = capsys.readouterr().out
    assert "escape\\x1b[31m\\udcff.clips: 6 clips" in printed and "\x1b" not in printed


def test_ascii_terminals_and_locales_get_escape_sequences(store, tmp_path):
    (tmp_path / "é.clips").symlink_to(store)
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = start(*PREPARE, "--out", tmp_path / "é.clips", "--check", env=environment)
    printed, errors = process.communicate()
    assert process.returncode == 0 and not errors and "6 clips, all checks passed" in printed


def test_a_class_name_with_a_dollar_sign_is_drawn_as_it_is(store, tmp_path):
    from data import pictures

    spoiled = ClipStore(store)
    spoiled.manifest["class_names"] = ["$a_$", "wave\x1b"]
    for i in (0, 1):
        pictures.show(spoiled, i, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").is_file()

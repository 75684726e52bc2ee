"""The catalog of published checkpoints, and downloads from a server on the loopback interface."""

import dataclasses
import errno
import hashlib
import os
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.feeders.synthetic import random_clips, write_store
from tests.model.test_published import published_state
from torchlight.fusion import cli as fusion_cli
from torchlight.predict.recognizer import Recognizer
from torchlight.system.command import RunError, run
from torchlight.training import scores
from torchlight.zoo import catalog, download

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ENTRIES = catalog.entries()


class Handler(BaseHTTPRequestHandler):
    """`server.content`, with ranges; `server.cuts` lists after how many bytes the next answers end."""

    def do_GET(self):  # noqa: N802 (the name that http.server calls)
        server, begin = self.server, 0
        server.requests.append(dict(self.headers))
        if self.path != "/j.pth":
            return self.send_error(404)
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.tag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(server.content):
                return self.send_error(416)
        body = server.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("ETag", server.tag)
        if server.announces:
            self.send_header("Content-Length", str(server.announces(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)
        return None

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Says nothing about a client that leaves early."""

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server(monkeypatch):
    """A running server; `server.url` is the address of its file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.tag, server.cuts, server.requests, server.announces = CONTENT, '"1"', [], [], len
    server.url = f"http://127.0.0.1:{server.server_port}/j.pth"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(server, tmp_path, monkeypatch):
    """An entry whose file is on the server; its folder is below the current one."""
    monkeypatch.chdir(tmp_path)
    entry = dataclasses.replace(ENTRIES["aagcn_ntu60_xsub_3d_b"], url=server.url, sha256=DIGEST[:8])
    monkeypatch.setattr(catalog, "entries", lambda: {entry.name: entry})
    return entry


def left(folder: Path = catalog.FOLDER) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once_without_leaving_other_files(entry, server, caplog):
    file = download.local_file(f"zoo:{entry.name}")
    assert file == Path("weights") / "aagcn_ntu60_xsub_3d_b.pth" and file.read_bytes() == CONTENT
    assert left() == [file.name]
    assert download.local_file(f"zoo:{entry.name}") == file and len(server.requests) == 1
    assert download.local_file("work_dir/last.pt") == Path("work_dir/last.pt")


def test_a_download_continues_after_interruptions(entry, server):
    server.cuts = [1000, 5000]
    assert download.local_file(f"zoo:{entry.name}").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=1000-", "bytes=6000-"]


def test_received_data_is_kept_and_the_next_call_continues(entry, server):
    server.cuts = [1000, 0, 500]
    with pytest.raises(
        RunError, match=r"the connection was cut \(1500 of \d+ bytes\); 1500 bytes are kept in .*put it at"
    ):
        download.local_file(f"zoo:{entry.name}")
    assert left() == [f"{entry.file.name}.part", f"{entry.file.name}.part.tag"]
    assert download.local_file(f"zoo:{entry.name}").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=1500-" and left() == [entry.file.name]


def test_another_version_on_the_server_is_received_from_its_beginning(entry, server):
    server.cuts = [1000, 0, 0]
    with pytest.raises(RunError):
        download.download(server.url, entry.file)
    server.tag, server.content = '"2"', CONTENT[::-1]
    download.download(server.url, entry.file)
    assert entry.file.read_bytes() == CONTENT[::-1] and len(server.requests) == 4


def test_a_partial_file_that_is_complete_or_too_long_does_not_prevent_the_download(entry, server):
    for kept in (CONTENT, CONTENT + b"more"):
        entry.file.parent.mkdir(exist_ok=True)
        entry.file.with_name(f"{entry.file.name}.part").write_bytes(kept)
        entry.file.with_name(f"{entry.file.name}.part.tag").write_text(server.tag)
        download.download(server.url, entry.file, DIGEST)
        assert entry.file.read_bytes() == CONTENT
        entry.file.unlink()


def test_content_without_a_length_is_received_to_its_end(entry, server):
    server.announces = None
    assert download.local_file(f"zoo:{entry.name}").read_bytes() == CONTENT


def test_a_wrong_hash_leaves_no_file_and_both_hashes_are_named(entry, server):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(
        RunError, match=f"SHA-256 begins with {DIGEST[:8]}, got [0-9a-f]{{64}}; nothing is kept; or down"
    ):
        download.local_file(f"zoo:{entry.name}")
    assert left() == []


def test_a_file_in_the_folder_is_used_if_its_hash_is_right(entry, server):
    entry.file.parent.mkdir()
    entry.file.write_bytes(CONTENT)
    assert download.local_file(f"zoo:{entry.name}") == entry.file and not server.requests
    entry.file.write_bytes(b"other")
    with pytest.raises(ValueError, match="expected a file whose SHA-256 begins with .*remove it to download it again"):
        download.local_file(f"zoo:{entry.name}")


def test_a_folder_or_a_damaged_file_in_place_of_the_file_is_refused(entry, server, main, monkeypatch):
    test = ("--phase", "export-weights", "--weights", f"zoo:{entry.name}")
    entry.file.mkdir(parents=True)
    code, _, err = main(*test)
    assert code == 2 and f"{entry.file}: expected a file, got a folder; move it away" in err
    entry.file.rmdir()
    code, _, err = main(*test)  # what the server has is no checkpoint
    assert code == 2 and "not a whole file of plain tensors" in err and "; remove it to download it again" in err
    assert err.count("\n") == 1 + err.count("wrote")


def test_the_error_of_a_missing_file_names_the_address_and_the_folder(entry, server):
    moved = dataclasses.replace(entry, url=server.url.replace("j.pth", "k.pth"))
    with pytest.raises(
        RunError, match=r"k.pth: expected a file, got HTTP 404 .*may have moved; or download it by hand"
    ):
        download.get(moved)
    assert len(server.requests) == 1


def test_the_error_without_a_network_names_proxies_the_address_and_the_folder(entry, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        RunError, match=r"j.pth: no connection \(.*http_proxy and https_proxy; or .* put it at weights/"
    ):
        download.local_file(f"zoo:{entry.name}")
    assert left() == []


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(entry, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1, 1, 10))
    assert run(lambda argv: download.local_file(f"zoo:{entry.name}") and 0, []) == 1
    err = capsys.readouterr().err
    assert f"{entry.file}: cannot be written (No space left on device)" in err and err.count("\n") == 1
    assert left() == []


def test_a_disk_that_becomes_full_leaves_no_file(entry, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "copy", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        download.local_file(f"zoo:{entry.name}")
    assert error.value.filename == str(entry.file) and left() == []


def test_content_that_is_too_large_is_refused(entry, server):
    server.announces = lambda body: 2**33
    with pytest.raises(RunError, match="expected at most 4294967296 bytes, got 8589934592"):
        download.local_file(f"zoo:{entry.name}")


def test_two_processes_download_a_file_one_after_the_other(entry, server):
    part = entry.file.with_name(f"{entry.file.name}.part")
    entry.file.parent.mkdir()
    first, found = download.locked(part), []
    waiting = threading.Thread(target=lambda: found.append(download.local_file(f"zoo:{entry.name}")))
    waiting.start()
    download.remove(part)  # the first one has found another content and leaves nothing
    first.close()
    waiting.join(timeout=60)
    assert found == [entry.file] and entry.file.read_bytes() == CONTENT and left() == [entry.file.name]


def test_an_entry_without_an_address_of_its_file_says_where_to_find_it():
    with pytest.raises(
        RunError, match=r"open https://drive.*https://huggingface.* put it at weights/protogcn_ntu60_xsub_3d_j.pth"
    ):
        download.get(ENTRIES["protogcn_ntu60_xsub_3d_j"])


def test_entries_are_tested_and_fused_without_a_configuration(
    entry, server, tmp_path, main, monkeypatch, no_class_tables
):
    state = published_state("pyskl_aagcn")
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "j.pth")
    server.content = (tmp_path / "j.pth").read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()
    both = [
        dataclasses.replace(entry, name=f"aagcn_ntu60_xsub_3d_{s}", stream=s, sha256=digest[:8]) for s in ("j", "b")
    ]
    monkeypatch.setattr(catalog, "entries", lambda: {e.name: e for e in both})
    arrays, persons = random_clips([9, 16], 25)
    splits = {"xsub": {"train": np.arange(2), "test": np.arange(2)}}
    facts = {"num_class": 60, "skeleton": "graph.ntu_rgb_d"}
    store = write_store(tmp_path / "ntu.clips", arrays, [0, 3], persons, splits, **facts)
    for one in both:
        argv = ("--weights", f"zoo:{one.name}", "--save-score", "true", "--device", "cpu")
        small = (
            "--feeder-args.window_size",
            "12",
            "--feeder-args.data_path",
            store,
            "--test-feeder-args.num_clips",
            "2",
        )
        code, out, err = main("--phase", "test", *argv, *small)
        assert code == 0, err
    found = scores.read_scores(tmp_path / "work_dir/zoo/aagcn_ntu60_xsub_3d/bone" / scores.SCORE_FILE)
    assert len(found) == 2
    argv = ["--dataset", "zoo", "--model", "aagcn_ntu60_xsub_3d", "--preset", "pyskl"]
    assert fusion_cli.main(argv) == 0


def test_entries_predict_and_are_fused_without_data_or_a_configuration(entry, server, tmp_path, monkeypatch):
    torch.save({"state_dict": published_state("pyskl_aagcn")}, tmp_path / "j.pth")
    server.content = (tmp_path / "j.pth").read_bytes()
    both = [dataclasses.replace(entry, name=f"aagcn_ntu60_xsub_3d_{s}", stream=s, sha256="") for s in ("j", "b")]
    monkeypatch.setattr(catalog, "entries", lambda: {e.name: e for e in both})
    recognizer = Recognizer([f"zoo:{one.name}" for one in both], device="cpu", preset="pyskl")
    assert [stream.config.modality for stream in recognizer.streams] == ["joint", "bone"]
    (found,) = recognizer.predict(np.random.default_rng(0).normal(size=(40, 25, 3)).astype(np.float32))
    assert found.probabilities.shape == (60,) and found.name in recognizer.class_names

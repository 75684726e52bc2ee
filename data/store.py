"""Preparation of a clip store from raw files.

`prepare` works in a streaming way. Worker processes read the raw files in chunks, each chunk is written to a file (a
shard), and the shards are joined in the order of the clip names. Memory does not grow with the number of files.
Existing shards are reused, so an interrupted preparation continues where it stopped. The store gets its final name only
when it is complete.
"""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.clip import BadFile, Clip, LeftOut, check_clip
from data.raw_files import file_state
from data.workers import worker_map
from feeders.clip_store import FORMAT, MANIFEST, ClipStore, valid_frames, write_store
from torchlight.system.files import atomic, read_json
from torchlight.system.lock import NAME as LOCK
from torchlight.system.lock import FolderLock
from torchlight.system.text import printable, quote

CHUNK = 128  # raw files per shard; small, so that an interruption loses little work
MAX_REASON = 300  # characters of a reason in the report
MAX_GUESSES = 20  # sentences about assumptions in the manifest
SHARD = 4  # version of the arrays in a shard


@dataclass(frozen=True)
class RawSource:
    """What to read and how: one benchmark and one recipe.

    Attributes:
        files: the raw files.
        read: raw file -> its clips, and its recordings that cannot become clips; raises BadFile. It must be defined at
            the top level of a module, so that it can be pickled.
        splits: (names, labels) of all clips, sorted by name -> {split: {part: clip numbers}}.
        facts: entries of the manifest; `num_class`, `num_point`, `channels` and `num_person` apply to every clip.
            Shards of an earlier run are only used if the facts are equal, so all settings that change the clips must be
            included, here or in `body`.
        columns: names of all clips, sorted -> further columns of the index: target, group.
        body: the content of the skeleton file, if the clips depend on more of it than the joints in `facts`.
    """

    files: Sequence[Path]
    read: Callable[[Path], Sequence[Clip | LeftOut]]
    splits: Callable[[np.ndarray, np.ndarray], dict[str, dict[str, np.ndarray]]]
    facts: dict
    columns: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda names: {}
    body: dict[str, Any] = field(default_factory=dict)


def prepare(source: RawSource, out: Path, workers: int = 1, strict: bool = False, overwrite: bool = False) -> ClipStore:
    """Read `source.files` and write the clip store `out`.

    Files that cannot be used are listed in `<out>.report.json` and left out, or refused if `strict`. Only one process
    at a time can prepare a store.

    Raises:
        ValueError: there are no usable raw files, `out` exists and `overwrite` is not set, another process is preparing
            it, two clips have the same name, or `strict` is set and a file cannot be used.
        RunError: a worker process was killed.
        OSError: the disk is full; finished shards are kept.
    """
    if not source.files:
        raise ValueError("--raw: expected a folder with raw files (see --help), got none")
    _refuse_existing(out, overwrite)
    work = partial_folder(out)
    with _work_folder(work):
        _refuse_existing(out, overwrite)  # another process may have written it before this process got the lock
        shards = _make_shards(source, work, workers)
        bad, gaps = _report(shards, out)
        if bad and strict:
            raise ValueError(
                f"--strict: expected only usable raw files, got {len(bad)} that are not; "
                f"{_first(bad)}; all are listed in {report_path(out)}"
            )
        found = {"files": len(source.files), "left_out": len(bad)} | _gap_figures(gaps)
        _publish(_join(shards, work / "store", source, found), out)
        _empty(work)
    return ClipStore(out)


@contextmanager
def _work_folder(work: Path) -> Iterator[None]:
    """The folder of an unfinished store, locked; it is removed at the end if nothing is left in it."""
    try:
        with FolderLock(work):
            try:
                yield
            finally:
                for path in work.glob("*.tmp"):  # of workers that were terminated while they wrote a shard
                    path.unlink(missing_ok=True)
    finally:
        try:
            work.rmdir()
        except OSError:  # it contains shards for the next run, or another process is already using it
            pass


def _empty(work: Path) -> None:
    """Remove everything but the lock file."""
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def partial_folder(out: Path) -> Path:
    """The folder with the shards of an unfinished store."""
    return out.with_name(out.name + ".partial")


def report_path(out: Path) -> Path:
    """The file that lists the raw files that could not be used."""
    return out.with_name(out.name + ".report.json")


def left_out(out: Path) -> list[str]:
    """The raw files of a store that could not be used, from its report; raises ValueError if the report is damaged."""
    path = report_path(out)
    content = read_json(path) if path.is_file() else {}
    try:
        return [str(entry["file"]) for entry in content.get("left out", [])]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(
            f"{path}: expected a list of files that were left out, got {quote(content)}; remove this file"
        ) from None


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if out.name in ("", ".."):
        raise ValueError(f"--out: expected the name of a new folder, got {str(out)!r}")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise ValueError(f"{out}: exists; nothing was changed; use --overwrite to replace it, or another --out")
    if not (out / MANIFEST).is_file():
        raise ValueError(f"{out}: expected a clip store to overwrite, got something else; use another --out")


def _make_shards(source: RawSource, work: Path, workers: int) -> list[Path]:
    chunks = [source.files[i : i + CHUNK] for i in range(0, len(source.files), CHUNK)]
    job = partial(_make_shard, source.read, source.facts | source.body, work)
    hidden = sys.stderr is None or not sys.stderr.isatty()
    shards = []
    with (
        closing(worker_map(job, chunks, workers)) as made,
        tqdm(total=len(source.files), unit="file", disable=hidden) as bar,
    ):
        for shard, chunk in zip(made, chunks, strict=True):
            shards.append(shard)
            bar.update(len(chunk))
    return shards


def _make_shard(
    read: Callable[[Path], Sequence[Clip | LeftOut]], facts: dict, work: Path, files: Sequence[Path]
) -> Path:
    """Read one chunk of raw files into a shard, unless a shard of the same files and facts exists."""
    key = json.dumps([FORMAT, SHARD, facts, [file_state(file) for file in files]], sort_keys=True)
    shard = work / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.shard"
    if _is_intact(shard):
        return shard
    clips, bad = [], []
    for file in files:
        try:
            found = read(file)
            good = [item for item in found if isinstance(item, Clip)]
            for clip in good:
                check_clip(clip, facts)
            clips += good
            bad += [(item.name, printable(item.reason)[:MAX_REASON]) for item in found if isinstance(item, LeftOut)]
        except BadFile as error:
            bad.append((file.name, printable(str(error))[:MAX_REASON]))
        except OSError as error:
            bad.append((file.name, f"cannot be read ({error.strerror})"))
    with atomic(shard) as sink:
        np.savez(sink, **_shard_arrays(clips, bad, facts))
    return shard


def _is_intact(shard: Path) -> bool:
    try:
        with zipfile.ZipFile(shard) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _shard_arrays(clips: list[Clip], bad: list[tuple[str, str]], facts: dict) -> dict[str, np.ndarray]:
    V, C, M = facts["num_point"], facts["channels"], facts["num_person"]
    frames = [clip.tracks.reshape(-1, V, C) for clip in clips]
    return {
        "name": np.array([clip.name for clip in clips], dtype=str),
        "label": np.array([clip.label for clip in clips], np.int64),
        "length": np.array([clip.tracks.shape[1] for clip in clips], np.int64),
        "rows": np.array([len(rows) for rows in frames], np.int64),
        "persons": np.array([clip.persons for clip in clips], np.int64).reshape(-1, M),
        "valid": np.array([_valid_frames(clip) for clip in clips], np.int64),
        "image": np.array([clip.image or (0, 0) for clip in clips], np.int64).reshape(-1, 2),
        "missing": np.array([clip.missing for clip in clips], np.float64),
        "bad": np.array(bad, dtype=str).reshape(-1, 2),
        "guessed": np.array(json.dumps(Counter(text for clip in clips for text in clip.guessed))),
        "frames": np.concatenate(frames) if frames else np.zeros((0, V, C), np.float32),
    }


def _valid_frames(clip: Clip) -> int:
    return valid_frames(clip.tracks[[m for m in clip.persons if m >= 0]])


def _first(bad: list[list[str]]) -> str:
    return f"the first is {printable(bad[0][0])}: {bad[0][1]}"


def _report(shards: list[Path], out: Path) -> tuple[list[list[str]], dict[str, float]]:
    """Write the names and reasons of all files that could not be used, and the share of missing joints of each clip
    with missing joints, the largest first; returns both."""
    bad: list[list[str]] = []
    shares: dict[str, float] = {}
    for shard in shards:
        with np.load(shard) as arrays:
            bad += arrays["bad"].tolist()
            shares |= zip(arrays["name"].tolist(), arrays["missing"].round(4).tolist(), strict=True)
    gaps = {name: shares[name] for name in sorted(shares, key=lambda name: (-shares[name], name)) if shares[name]}
    path, content = report_path(out), {}
    if bad:
        content["left out"] = [{"file": name, "reason": reason} for name, reason in bad]
    if gaps:
        content["share of missing joints"] = gaps
    if content:
        with atomic(path, "w") as sink:
            json.dump(content, sink, indent=1)
    else:
        path.unlink(missing_ok=True)
    return bad, gaps


def _gap_figures(gaps: dict[str, float]) -> dict[str, dict]:
    """Figures about the clips with missing joints, for the manifest."""
    if not gaps:
        return {}
    worst, mean = next(iter(gaps)), sum(gaps.values()) / len(gaps)
    return {"missing_joints": {"clips": len(gaps), "mean": round(mean, 4), "max": {worst: gaps[worst]}}}


def _join(parts: list[Path], folder: Path, source: RawSource, found: dict[str, Any]) -> Path:
    """Join the shards into a complete store at `folder`, sorted by clip name, with one shard in memory at a time.

    found: facts about the raw files, for the manifest.
    """
    names = ("name", "label", "length", "rows", "persons", "valid", "image")
    columns: dict[str, list[np.ndarray]] = {key: [] for key in names}
    guessed: Counter[str] = Counter()
    for part in parts:
        with np.load(part) as arrays:
            guessed.update(json.loads(str(arrays["guessed"])))
            for key, values in columns.items():
                values.append(arrays[key])
    home = np.repeat(np.arange(len(parts)), [len(name) for name in columns["name"]])
    first = np.concatenate([np.cumsum(rows) - rows for rows in columns["rows"]])  # the clip's first row in its part
    index = {key: np.concatenate(values) for key, values in columns.items()}
    if len(home) == 0:
        with np.load(parts[0]) as arrays:
            raise ValueError(f"expected usable raw files, got none; {_first(arrays['bad'].tolist())}")
    order = np.argsort(index["name"], kind="stable")
    index = {key: values[order] for key, values in index.items()}
    twice = index["name"][1:][index["name"][1:] == index["name"][:-1]]
    if len(twice):
        raise ValueError(
            f"expected unique clip names, got {len(twice)} more than once (first: {printable(twice[0])}); remove copies"
        )
    splits = source.splits(index["name"], index["label"])
    index |= source.columns(index["name"])
    shutil.rmtree(folder, ignore_errors=True)
    frames = _read_frames(parts, home[order], first[order], index["rows"])
    found |= {"guessed": dict(guessed.most_common(MAX_GUESSES))} if guessed else {}
    facts = source.facts
    if not index["image"].all():  # the image size of a clip is unknown, or the recipe keeps none
        del index["image"]
        facts = {key: value for key, value in facts.items() if key != "images"}
    write_store(folder, facts, index, splits, frames, found)
    return folder


def _read_frames(shards: list[Path], home: np.ndarray, first: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The frames of each clip: `rows[i]` rows of the shard number `home[i]`, from row `first[i]` on."""
    opened, frames = -1, None
    for i in range(len(home)):
        if home[i] != opened:
            frames = None  # free the previous shard before the next one is read
            with np.load(shards[home[i]]) as arrays:
                opened, frames = home[i], arrays["frames"]
        yield frames[first[i] : first[i] + rows[i]]


def _publish(store: Path, out: Path) -> None:
    """Give the complete store its final name with one rename; an old store is first moved into the work folder."""
    old = partial_folder(out) / "old"
    replaced = os.path.lexists(out)
    if replaced:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    try:
        os.rename(store, out)
    except BaseException:
        if replaced:
            os.rename(old, out)
        raise
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

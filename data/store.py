"""Writing clip stores: raw files in, a complete store or none out.

`prepare` streams. Worker processes read the raw files in chunks, each chunk becomes a part file, and the parts are joined in the order of
the clip names. Memory does not grow with the number of files; a part that is there already is not made again, so an interrupted
preparation goes on where it stopped; and the store appears under its name only when it is whole.
"""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.files import sha256, whole_file
from data.workers import worker_map
from feeders.clips import FORMAT, FRAMES, INDEX, MANIFEST, ClipStore

LARGEST = 1e9  # of a coordinate, whatever its unit
CHUNK = 128  # raw files per part: small enough to lose little at an interruption, large enough that opening a part costs nothing


class BadFile(ValueError):
    """A raw file that cannot become a clip; the text says why."""


@dataclass
class Clip:
    """A prepared clip: tracks (K, T, V, C) float32 and the track that each of the M person slots shows (-1: nobody)."""

    name: str
    label: int
    tracks: np.ndarray
    persons: tuple[int, ...]


def without_empty_tracks(clip: Clip) -> Clip:
    """The same clip without tracks that are all zero; nobody is shown in their place."""
    seen = [bool(track.any()) for track in clip.tracks]
    place = [sum(seen[:k]) if seen[k] else -1 for k in range(len(seen))]
    return Clip(clip.name, clip.label, clip.tracks[seen], tuple(place[k] if k >= 0 else -1 for k in clip.persons))


def coordinates(data: np.ndarray) -> np.ndarray:
    """Parsed numbers as float32; raises BadFile as `refuse_absurd`."""
    refuse_absurd(data)
    return data.astype(np.float32)


def refuse_absurd(data: np.ndarray) -> None:
    """Raise BadFile where a number is not finite, or so large that arithmetic with it would overflow."""
    if not (np.abs(data) < LARGEST).all():
        raise BadFile("holds coordinates that are not finite numbers of a sensible size")


@dataclass(frozen=True)
class Source:
    """What to read and how: one benchmark under one recipe.

    files: raw files. read: raw file -> its clips, raises BadFile; a picklable function of a module.
    splits: (names, labels) of all clips, sorted by name -> {split: {part: clip numbers}}.
    facts: the manifest's entries; `num_class`, `num_point`, `channels` and `num_person` are what every clip must agree with.
    Parts of an earlier run count only when the facts are the same, so whatever changes the clips belongs into them.
    """

    files: Sequence[Path]
    read: Callable[[Path], list[Clip]]
    splits: Callable[[np.ndarray, np.ndarray], dict[str, dict[str, np.ndarray]]]
    facts: dict


def prepare(source: Source, out: Path, workers: int = 1, strict: bool = False, overwrite: bool = False) -> ClipStore:
    """Read `source.files` and write the clip store `out`.

    Files that cannot be used are listed in `<out>.report.json` and left out; `strict` refuses them.

    Raises:
        ValueError: no raw file, `out` is there and not `overwrite`, no usable file, two clips of one name, a bad file with `strict`.
        OSError: the disk is full; the parts made so far are kept.
    """
    if not source.files:
        raise ValueError("found no raw files; --help says what the folder --raw must hold")
    _refuse_existing(out, overwrite)
    work = partial_folder(out)
    work.mkdir(parents=True, exist_ok=True)
    chunks = [source.files[i : i + CHUNK] for i in range(0, len(source.files), CHUNK)]
    job = partial(_make_part, source.read, source.facts, work)
    parts = []
    with (
        closing(worker_map(job, chunks, workers)) as made,
        tqdm(total=len(source.files), unit="file", disable=not sys.stderr.isatty()) as bar,
    ):
        for part, chunk in zip(made, chunks, strict=True):
            parts.append(part)
            bar.update(len(chunk))
    bad = _report(parts, out)
    if bad and strict:
        count = f"{len(bad)} of {len(source.files)} raw files cannot be used"
        raise ValueError(f"{count}, {_first(bad)}; all in {report_path(out)}; leave out --strict to go on without them")
    store = _join(parts, work / "store", source, len(bad))
    _publish(store, out)
    shutil.rmtree(work)
    return ClipStore(out)


def partial_folder(out: Path) -> Path:
    """Where the parts of an unfinished store lie."""
    return out.with_name(out.name + ".partial")


def report_path(out: Path) -> Path:
    """Where the files that could not be used are listed."""
    return out.with_name(out.name + ".report.json")


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise ValueError(
            f"{out} exists; nothing was changed; give --overwrite to make it again, or --out for another place"
        )
    if not (out / MANIFEST).is_file():
        raise ValueError(
            f"{out} exists and is no clip store; --overwrite replaces clip stores only; give another --out"
        )


def _make_part(read: Callable[[Path], list[Clip]], facts: dict, work: Path, files: Sequence[Path]) -> Path:
    """Read one chunk of raw files into a part file, unless the same files have been read under the same facts before."""
    stats = []
    for file in files:
        stat = file.stat()
        stats.append([file.parent.name, file.name, stat.st_size, stat.st_mtime_ns])
    key = hashlib.sha256(json.dumps([FORMAT, facts, stats], sort_keys=True).encode()).hexdigest()
    part = work / f"{key[:24]}.part"
    if _sound(part):
        return part
    clips, bad = [], []
    for file in files:
        try:
            found = read(file)
            for clip in found:
                agree(clip, facts)
            clips += found
        except BadFile as error:
            bad.append((file.name, str(error)))
        except OSError as error:
            bad.append((file.name, f"cannot be read: {error.strerror}"))
    with whole_file(part) as sink:
        np.savez(sink, **_part_arrays(clips, bad, facts))
    return part


def _sound(part: Path) -> bool:
    try:
        with zipfile.ZipFile(part) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def agree(clip: Clip, facts: dict) -> None:
    """Raise BadFile unless the clip has the shape and a label of the benchmark and finite coordinates."""
    K, T, V, C = clip.tracks.shape
    if (V, C) != (facts["num_point"], facts["channels"]):
        raise BadFile(
            f"found {V} joints with {C} numbers each; {facts['num_point']} joints with {facts['channels']} numbers are needed"
        )
    if T == 0:
        raise BadFile("holds no frame")
    if not 0 <= clip.label < facts["num_class"]:
        raise BadFile(f"found label {clip.label}; labels are 0 to {facts['num_class'] - 1}")
    if not np.isfinite(clip.tracks).all():
        raise BadFile("holds coordinates that are not finite numbers")
    assert clip.tracks.dtype == np.float32 and len(clip.persons) == facts["num_person"] and max(clip.persons) < K, clip


def _part_arrays(clips: list[Clip], bad: list[tuple[str, str]], facts: dict) -> dict[str, np.ndarray]:
    V, C, M = facts["num_point"], facts["channels"], facts["num_person"]
    frames = [clip.tracks.reshape(-1, V, C) for clip in clips]
    return {
        "name": np.array([clip.name for clip in clips], dtype=str),
        "label": np.array([clip.label for clip in clips], np.int64),
        "length": np.array([clip.tracks.shape[1] for clip in clips], np.int64),
        "rows": np.array([len(rows) for rows in frames], np.int64),
        "persons": np.array([clip.persons for clip in clips], np.int64).reshape(-1, M),
        "valid": np.array([_valid_frames(clip) for clip in clips], np.int64),
        "bad": np.array(bad, dtype=str).reshape(-1, 2),
        "frames": np.concatenate(frames) if frames else np.zeros((0, V, C), np.float32),
    }


def _valid_frames(clip: Clip) -> int:
    """Frames whose float32 sum over channels, then persons, then joints is not 0: the field's own count, to the last rounding."""
    shown = clip.tracks[[m for m in clip.persons if m >= 0]]  # (M, T, V, C)
    return int(np.count_nonzero(shown.sum(-1).sum(0).sum(-1)))


def _first(bad: list[list[str]]) -> str:
    return f"the first is {bad[0][0]}: {bad[0][1]}"


def _report(parts: list[Path], out: Path) -> list[list[str]]:
    bad: list[list[str]] = []
    for part in parts:
        with np.load(part) as arrays:
            bad += arrays["bad"].tolist()
    path = report_path(out)
    if bad:
        with whole_file(path) as sink:
            sink.write(
                json.dumps({"left out": [{"file": name, "reason": reason} for name, reason in bad]}, indent=1).encode()
            )
    else:
        path.unlink(missing_ok=True)
    return bad


def _join(parts: list[Path], folder: Path, source: Source, bad: int) -> Path:
    """Join the part files into a whole store at `folder`, clips in the order of their names, one part in memory at a time."""
    columns: dict[str, list[np.ndarray]] = {key: [] for key in ("name", "label", "length", "rows", "persons", "valid")}
    for part in parts:
        with np.load(part) as arrays:
            for key, values in columns.items():
                values.append(arrays[key])
    home = np.repeat(np.arange(len(parts)), [len(name) for name in columns["name"]])
    first = np.concatenate([np.cumsum(rows) - rows for rows in columns["rows"]])  # the clip's first row in its part
    index = {key: np.concatenate(values) for key, values in columns.items()}
    if len(home) == 0:
        with np.load(parts[0]) as arrays:
            raise ValueError(f"no raw file can be used, {_first(arrays['bad'].tolist())}")
    order = np.argsort(index["name"], kind="stable")
    index = {key: values[order] for key, values in index.items()}
    twice = index["name"][1:][index["name"][1:] == index["name"][:-1]]
    if len(twice):
        raise ValueError(
            f"found {len(twice)} clip names more than once (first: {twice[0]}); names must be unique; remove the copies"
        )
    rows = index.pop("rows")
    index["start"] = np.cumsum(rows) - rows
    splits = source.splits(index["name"], index["label"])

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shape = (int(rows.sum()), source.facts["num_point"], source.facts["channels"])
    _write_frames(folder / FRAMES, shape, parts, home[order], first[order], rows)
    with whole_file(folder / INDEX) as sink:
        np.savez(
            sink,
            **index,
            **{f"split/{split}/{part}": value for split, parts in splits.items() for part, value in parts.items()},
        )
    manifest = {"format": FORMAT, **source.facts}
    manifest["counts"] = {split: {part: len(value) for part, value in parts.items()} for split, parts in splits.items()}
    manifest |= {"clips": len(order), "frames": shape[0]}
    manifest["source"] = {"files": len(source.files), "left_out": bad}
    manifest["sha256"] = {name: sha256(folder / name) for name in (FRAMES, INDEX)}
    with whole_file(folder / MANIFEST) as sink:
        sink.write((json.dumps(manifest, indent=1) + "\n").encode())
    return folder


def _write_frames(
    path: Path, shape: tuple, parts: list[Path], home: np.ndarray, first: np.ndarray, rows: np.ndarray
) -> None:
    """Clip i is `rows[i]` rows of the part number `home[i]`, from row `first[i]` on."""
    opened, frames = -1, None
    with whole_file(path) as sink:
        np.lib.format.write_array_header_1_0(sink, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for i in range(len(home)):
            if home[i] != opened:
                frames = None  # let go of the last part before the next is read
                with np.load(parts[home[i]]) as arrays:
                    opened, frames = home[i], arrays["frames"]
            sink.write(frames[first[i] : first[i] + rows[i]].tobytes())


def _publish(store: Path, out: Path) -> None:
    """Put the whole store under its name with one rename; an old store steps aside until then."""
    old = partial_folder(out) / "old"
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(store, out)
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Reading one part of a benchmark: a clip store, or a published file of CTR-GCN, ST-GCN, 2s-AGCN or PYSKL.

Arrays are memory-mapped where the file allows it. All content is checked here; the feeders rely on it.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from feeders.clip_part import ArrayPart, ClipPart, from_store, image_sizes
from feeders.clip_store import LARGEST, MAX_CLASSES, MAX_LENGTH, MAX_NAME, MAX_SLOTS, ClipStore, is_text
from feeders.detections import PERSONS, add_key_points
from torchlight.system.arrays import NUMBERS, open_archive, open_array
from torchlight.system.modalities import COORDINATES
from torchlight.system.paths import locate
from torchlight.system.pickles import read_pickle
from torchlight.system.text import counted, nearest, printable, quote

log = logging.getLogger("torchlight")
NAME_WORD = re.compile(r"[A-Za-z]+\d+")  # a01 s03 e00 v01 of NW-UCLA, S001 C002 P003 R001 A012 of NTU
SPLIT_OF_FILE = {"NTU60_CS": "xsub", "NTU60_CV": "xview", "NTU120_CSub": "xsub", "NTU120_CSet": "xset"}
MAX_EXPANSION = 8  # maximum size ratio of the clips and their pickle; beyond it, clips must share one array


def open_part(
    data_path: str,
    split: str,
    part: str,
    label_path: str = "",
    hold_out: Sequence[str] = (),
    detected: int = PERSONS,
) -> ClipPart:
    """The clips of one part, `train` or `test`, of `data_path`: a clip store, `.npz`, `.npy` or `.pkl`.

    label_path: labels of an `.npy` file. hold_out: parts of clip names such as `s03` or `P017`, or groups of the clip
    store: the training clips that match are used as the test part and the others as the training part; the test part
    itself is not read.
    detected: maximum number of persons per frame that are kept from detections without identities (Kinetics-400).

    Raises:
        ValueError: the file is missing, damaged or in an unknown format, contains wrong values, or has no such part.
    """
    if not hold_out:
        return read_part(data_path, split, part, label_path, detected)
    clips = read_part(data_path, split, "train", label_path, detected)
    words = [set(NAME_WORD.findall(name)) for name in clips.name.tolist()]
    if clips.group is not None:
        words = [found | {group} for found, group in zip(words, clips.group.tolist(), strict=True)]
    unknown = [word for word in hold_out if not any(word in of_clip for of_clip in words)]
    if unknown:
        known = ", ".join(sorted(set().union(*words))[:100]) or "none"
        got = ", ".join(map(printable, unknown))
        raise ValueError(f"hold_out: expected words of the names of training clips, {printable(known)}, got {got}")
    held = np.array([not of_clip.isdisjoint(hold_out) for of_clip in words])
    if held.all():
        raise ValueError(f"hold_out: expected words that leave clips to train on, got {', '.join(hold_out)}")
    return clips.select(held if part == "test" else ~held)


def read_part(data_path: str, split: str, part: str, label_path: str, detected: int) -> ClipPart:
    """One published part, by the kind of file."""
    path, label_path = locate(data_path), str(locate(label_path)) if label_path else ""
    if label_path and path.suffix != ".npy":
        raise ValueError(f"label_path: expected none, because {path} contains its labels, got {quote(label_path)}")
    if path.suffix not in (".npz", ".npy", ".pkl") or os.path.isdir(path):
        return from_store(ClipStore(path), split, part)
    if path.suffix == ".npy":
        return read_npy(path, split, part, Path(label_path) if label_path else None)
    return read_npz(path, split, part) if path.suffix == ".npz" else read_pyskl(path, split, part, detected)


def read_npz(path: Path, split: str, part: str) -> ClipPart:
    """CTR-GCN's files: x_train, x_test (N, T, 6 V), y_* one-hot (N, classes); clips are named train_0, train_1, ..."""
    check_word("split", split, SPLIT_OF_FILE.get(path.stem), path)
    M, C = 2, 3
    with open_archive(path) as archive:
        x_shape, y_shape = archive.header(f"x_{part}", "f").shape, archive.header(f"y_{part}").shape
        if len(x_shape) != 3 or 0 in x_shape or x_shape[2] % (M * C) or x_shape[1] > MAX_LENGTH:
            raise ValueError(
                f"{path}: x_{part}: expected (N, T, 6 V), two persons of three coordinates, got shape {x_shape}"
            )
        if len(y_shape) != 2 or y_shape[0] != x_shape[0] or not 0 < y_shape[1] <= MAX_CLASSES:
            raise ValueError(f"{path}: y_{part}: expected ({x_shape[0]}, classes), got shape {y_shape}")
        x, y = native(archive.array(f"x_{part}", "f"), f"{path}: x_{part}"), archive.array(f"y_{part}", NUMBERS)
    if not ((y == 1).sum(1) == 1).all() or not ((y != 0).sum(1) == 1).all():
        raise ValueError(f"{path}: y_{part}: expected one-hot rows, got other numbers")
    N, T, width = x.shape
    frames = x.reshape(N * T * M, width // (M * C), C)
    first = torch.arange(N)[:, None] * (T * M) + torch.arange(M)
    name = [f"{part}_{i}" for i in range(N)]
    present, length = torch.ones(N, M, dtype=torch.bool), torch.full((N,), T)
    label = y.argmax(1)
    return ClipPart(path, frames, first, present, name, label, length, {"num_class": y.shape[1]}, stride=M)


def read_npy(path: Path, split: str, part: str, label_path: Path | None = None) -> ClipPart:
    """ST-GCN's and 2s-AGCN's arrays (N, C, T, V, M), with (names, labels) in a pickle; the modality is in the name."""
    match = re.fullmatch(r"(train|val|test)_data(?:_(\w+))?", path.stem)
    modality = match[2] or "joint" if match else "joint"
    if match:
        check_word("part", part, "train" if match[1] == "train" else "test", path)
    if path.parent.name in ("xsub", "xview", "xset"):
        check_word("split", split, path.parent.name, path)
    if modality not in COORDINATES:
        raise ValueError(f"{path}: expected {', '.join(COORDINATES)} in the name of the file, got {modality!r}")
    if label_path is None:
        if not match:
            raise ValueError(f"label_path: expected the path of the labels of {path}, got none")
        label_path = path.with_name(f"{match[1]}_label.pkl")
    data = native(open_array(path, "f"), str(path))
    if data.ndim != 5 or 0 in data.shape or data.shape[2] > MAX_LENGTH or data.shape[4] > MAX_SLOTS:
        raise ValueError(f"{path}: expected an array (N, C, T, V, M), got shape {data.shape}")
    pair = read_pickle(label_path)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{label_path}: expected a pair (names, labels), got {quote(type(pair).__name__)}")
    names, labels = check_names(pair[0], f"{label_path}: names"), check_labels(pair[1], f"{label_path}: labels")
    if not len(data) == len(names) == len(labels):
        raise ValueError(
            f"{label_path}: expected {len(data)} names and labels as in {path.name}, got {len(names)} and {len(labels)}"
        )
    names = [re.sub(r"\.(skeleton|json)$", "", PurePath(name).name) for name in names]
    return ArrayPart(path, data, names, labels, {"modality": modality})


def check_word(key: str, found: str, allowed: str | None, path: Path) -> None:
    """Raise ValueError if a split or part contradicts the name of a file; an empty word is always accepted."""
    if allowed and found not in ("", allowed):
        raise ValueError(f"{key}: expected {allowed!r}, which {path} contains, got {found!r}")


def native(data: np.ndarray, origin: str) -> np.ndarray:
    """The same array; raises ValueError if its byte order is not that of this machine, which PyTorch cannot map."""
    if not data.dtype.isnative:
        raise ValueError(f"{origin}: expected numbers in the byte order of this machine, got {data.dtype.str}")
    return data


def check_names(value: Any, origin: str) -> list[str]:
    """Names of clips from a pickle; raises ValueError unless they are a flat list of text."""
    names = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(names, list | tuple):
        raise ValueError(f"{origin}: expected a list of text, got {quote(names)}")
    for name in names:
        if not is_text(name) or len(name) > MAX_NAME:
            raise ValueError(f"{origin}: expected text of at most {MAX_NAME} characters, got {quote(name)}")
    return list(names)


def check_labels(value: Any, origin: str) -> list[int]:
    """Labels from a pickle; raises ValueError unless they are a flat list of class numbers."""
    labels = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(labels, list | tuple):
        raise ValueError(f"{origin}: expected a list of whole numbers, got {quote(labels)}")
    labels = [label.item() if isinstance(label, np.integer) else label for label in labels]
    for label in labels:
        if type(label) is not int or not 0 <= label < MAX_CLASSES:
            raise ValueError(f"{origin}: expected whole numbers from 0 to {MAX_CLASSES - 1}, got {quote(label)}")
    return labels


def read_pyskl(path: Path, split: str, part: str, detected: int) -> ClipPart:
    """PYSKL's annotations {"split": {name: ids}, "annotations": [records]}; scores become the last channel.

    A list of records without splits is used as the requested part (mmaction2 0.x has one file for each part).
    """
    content = read_pickle(path)
    is_list = isinstance(content, list) and all(isinstance(record, dict) for record in content)
    if is_list:
        if split:
            raise ValueError(f"split: expected '' for {path}, a list of records without splits, got {quote(split)}")
        content = {"split": {}, "annotations": content}
    if not isinstance(content, dict) or not {"split", "annotations"} <= content.keys():
        raise ValueError(f'{path}: expected {{"split": ..., "annotations": ...}}, got {quote(type(content).__name__)}')
    splits, records = content["split"], content["annotations"]
    if not isinstance(splits, dict) or not all(map(is_text, splits)):
        raise ValueError(f"{path}: split: expected a mapping of names to ids, got {quote(splits)}")
    if not isinstance(records, list | tuple) or not records or not all(isinstance(item, dict) for item in records):
        raise ValueError(f"{path}: annotations: expected a list of mappings, got {quote(records)}")
    key = "filename" if "filename" in records[0] else "frame_dir"
    check_names([record.get(key) for record in records], f"{path}: annotations: {key}")
    if not is_list:
        records = select(path, splits, records, key, split, part)
    size = path.stat().st_size
    if "raw_file" in records[0] and "keypoint" not in records[0]:
        records, more = add_key_points(path, records, key, detected)
        size += more
    return pack_records(path, records, key, MAX_EXPANSION * size)


def select(path: Path, splits: dict, records: list[dict], key: str, split: str, part: str) -> list[dict]:
    """The records of one part, in their order; raises ValueError if there is no such part, or it is empty or has two
    records with one name."""
    words = ("train",) if part == "train" else ("val", "test")
    names = [name for word in words for name in ((f"{split}_{word}", f"{word}{split}") if split else (word,))]
    chosen = [name for name in names if name in splits]
    if not chosen:
        raise ValueError(
            f"{path}: split: expected {' or '.join(names)}, got none of them; " + printable(nearest(names[0], splits))
        )
    ids = set(check_names(splits[chosen[0]], f"{path}: split: {chosen[0]}"))
    records = [record for record in records if record[key] in ids]
    if not records:
        raise ValueError(f"{path}: split: {chosen[0]}: expected the {key} of at least one annotation, got none")
    name, count = Counter(record[key] for record in records).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: annotations: {key}: expected each name once, got {quote(name)} {count} times")
    if len(records) < len(ids):
        lost = sorted(ids.difference(record[key] for record in records))
        clips = f"{counted(len(lost), 'clip')} without an annotation"
        log.warning("%s: split: %s: left out %s; the first is %s", path, chosen[0], clips, quote(lost[0]))
    return records


def pack_records(path: Path, records: list[dict], key: str, limit: int) -> ClipPart:
    """Checked records (M, T, V, C) as rows (V, C), one record after the other, in their data type.

    limit: the maximum number of bytes of key points that the files can contain.
    """
    shapes = [check_record(record, f"{path}: annotations: {record[key]}") for record in records]
    dtype = np.result_type(*(values.dtype for values in key_points(records[0]))).newbyteorder("=")
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float32)
    V, C = shapes[0][2:]
    for record, shape in zip(records, shapes, strict=True):
        if shape[2:] != (V, C):
            raise ValueError(
                f"{path}: annotations: {record[key]}: expected (M, T, {V}, {C}) as in the first clip, got {shape}"
            )
    persons, length = np.array([shape[:2] for shape in shapes]).T
    rows, M = persons * length, int(persons.max())
    size = int(rows.sum()) * V * C * dtype.itemsize
    if size > limit:
        raise ValueError(f"{path}: annotations: expected at most {limit} bytes of key points, got {size}")
    frames = np.empty((int(rows.sum()), V, C), dtype)
    start = np.cumsum(rows) - rows
    for record, begin, count in zip(records, start, rows, strict=True):
        channel = 0
        for values in key_points(record):
            end = channel + values.shape[-1]
            frames[begin : begin + count, :, channel:end] = values.reshape(count, V, -1)
            channel = end
        block = frames[begin : begin + count]
        if not (-LARGEST < float(block.min()) and float(block.max()) < LARGEST):
            raise ValueError(f"{path}: annotations: {record[key]}: expected finite coordinates below {LARGEST:g}")
    slot = np.arange(M)
    first = start[:, None] + np.minimum(slot, persons[:, None] - 1) * length[:, None]
    return ClipPart(
        path,
        frames,
        torch.from_numpy(first),
        torch.from_numpy(slot < persons[:, None]),
        [record[key] for record in records],
        check_labels([record.get("label") for record in records], f"{path}: annotations: label"),
        torch.from_numpy(length),
        {},
        image=image_sizes([record.get("img_shape") for record in records]),
        is_finite=True,
    )


def check_record(record: dict, origin: str) -> tuple[int, int, int, int]:
    """The shape (M, T, V, C) of a record's key points and scores; raises ValueError for a wrong record."""
    keypoint, score, image = record.get("keypoint"), record.get("keypoint_score"), record.get("img_shape")
    if (
        not isinstance(keypoint, np.ndarray)
        or keypoint.ndim != 4
        or keypoint.dtype.kind not in "fiu"
        or not keypoint.size
    ):
        raise ValueError(f"{origin}: keypoint: expected numbers (M, T, V, C), got {describe(keypoint)}")
    M, T, V, C = keypoint.shape
    if M > MAX_SLOTS or T > MAX_LENGTH:
        raise ValueError(
            f"{origin}: keypoint: expected at most {MAX_SLOTS} persons and {MAX_LENGTH} frames, got {M}, {T}"
        )
    if score is not None:
        if not isinstance(score, np.ndarray) or score.shape != (M, T, V) or score.dtype.kind not in "fiu":
            raise ValueError(f"{origin}: keypoint_score: expected numbers {(M, T, V)}, got {describe(score)}")
        C += 1
    if image is not None:
        sizes = tuple(image) if isinstance(image, list | tuple | np.ndarray) and np.ndim(image) == 1 else ()
        if len(sizes) != 2 or not all(isinstance(n, int | np.integer) and 0 < n < 1_000_000 for n in sizes):
            raise ValueError(f"{origin}: img_shape: expected height and width in pixels, got {quote(image)}")
    return M, T, V, C


def key_points(record: dict) -> list[np.ndarray]:
    """The arrays (M, T, V, n) of a checked record whose last axes are its channels."""
    score = record.get("keypoint_score")
    return [record["keypoint"]] if score is None else [record["keypoint"], score[..., None]]


def describe(value: Any) -> str:
    """A value that should be an array, as text for an error message."""
    return f"{value.dtype.str} {value.shape}" if isinstance(value, np.ndarray) else quote(value)

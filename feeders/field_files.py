"""The field's own files beside clip stores: `NTU60_CS.npz`, `*_data_joint.npy` with `*_label.pkl`, and pyskl's pickles.

Arrays are memory-mapped where the file allows it. Pickles are read by an unpickler that makes plain containers and NumPy arrays only.
"""

import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch

from feeders.clips import ClipStore
from feeders.modality import MODALITIES
from feeders.source import ArraySource, Source, from_store

PARTS = ("train", "test")
NAME_WORD = re.compile(r"[A-Za-z]+\d+")  # a01 s03 e00 v01 of NW-UCLA, S001 C002 P003 R001 A012 of NTU
SPLIT_OF_FILE = {"NTU60_CS": "xsub", "NTU60_CV": "xview", "NTU120_CSub": "xsub", "NTU120_CSet": "xset"}
PLAIN = {
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers, text and NumPy arrays; anything else could run a stranger's code."""

    def find_class(self, module: str, name: str):
        if (module, name) not in PLAIN:
            raise ValueError(
                f"found an object of type {module}.{name}; allowed are plain containers and NumPy arrays; do not trust this file"
            )
        return super().find_class(module, name)


def read_pickle(path: Path):
    """A pickle of plain data; raises ValueError for any other."""
    try:
        with path.open("rb") as file:
            return PlainUnpickler(file, encoding="latin1").load()
    except (ValueError, pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
        raise ValueError(f"{path}: not a pickle of plain data: {error}") from error


def open_source(data_path: str, split: str, part: str, label_path: str = "", hold_out: Sequence[str] = ()) -> Source:
    """The clips of one part, from whatever `data_path` is: a clip store, `.npz`, `.npy` or `.pkl`.

    hold_out: words of names as in `s03` or `P017`: the training clips with one of them stand for the test part, the others for the
    training part, and the test part itself is not read.

    Raises:
        ValueError: the file is not what it should be, or has no such part.
    """
    if part not in PARTS:
        raise ValueError(f"part: found {part!r}; allowed are {', '.join(PARTS)}; choose one")
    if not hold_out:
        return read_part(data_path, split, part, label_path)
    source = read_part(data_path, split, "train", label_path)
    words = [set(NAME_WORD.findall(name)) for name in source.name.tolist()]
    unknown = [word for word in hold_out if not any(word in of_clip for of_clip in words)]
    if unknown:
        known = ", ".join(sorted(set().union(*words))[:100]) or "none"
        raise ValueError(
            f"hold_out: found {', '.join(unknown)}; the names of the training clips have the words {known}; choose among them"
        )
    held = np.array([not of_clip.isdisjoint(hold_out) for of_clip in words])
    if held.all():
        raise ValueError(f"hold_out: found {', '.join(hold_out)}, which is every training clip; leave some to train on")
    return source.select(held if part == "test" else ~held)


def read_part(data_path: str, split: str, part: str, label_path: str) -> Source:
    """One published part, by the kind of file."""
    path = Path(data_path)
    if label_path and path.suffix != ".npy":
        raise ValueError(
            f"label_path: found {label_path!r} beside {path}; only .npy files have labels elsewhere; leave it out"
        )
    readers = {".npz": read_npz, ".npy": read_npy, ".pkl": read_pyskl}
    if path.suffix not in readers or path.is_dir():
        return from_store(ClipStore(path), split, part)
    if not path.is_file():
        raise ValueError(
            f"data_path: found no file {path}; a clip store or a file of the field is needed; prepare the data (see README.md)"
        )
    if path.suffix == ".npy":
        return read_npy(path, split, part, Path(label_path) if label_path else None)
    return readers[path.suffix](path, split, part)


def read_npz(path: Path, split: str, part: str) -> Source:
    """CTR-GCN's NTU files: x_train, x_test (N, T, persons joints 3), y_* one-hot; clips are named train_0, train_1, ..."""
    check_word("split", split, SPLIT_OF_FILE.get(path.stem), path)
    x, y = npz_member(path, f"x_{part}"), npz_member(path, f"y_{part}")
    if x.ndim != 3 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(
            f"{path}: found x_{part} {x.shape}, y_{part} {y.shape}; (N, T, 150) and one-hot (N, classes) are needed; prepare it again"
        )
    N, T, width = x.shape
    M, C = 2, 3
    if width % (M * C):
        raise ValueError(
            f"{path}: found {width} numbers in a frame; two persons of three coordinates are needed; prepare it again"
        )
    frames = x.reshape(N * T * M, width // (M * C), C)
    first = torch.arange(N)[:, None] * (T * M) + torch.arange(M)
    name = [f"{part}_{i}" for i in range(N)]
    present = torch.ones(N, M, dtype=torch.bool)
    return Source(frames, first, present, M, name, y.argmax(1), torch.full((N,), T), {"num_class": y.shape[1]})


def npz_member(path: Path, name: str) -> np.ndarray:
    """One array of an .npz file: memory-mapped if it is stored as it is, read whole if it is compressed."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ValueError(
                f"{path}: found {', '.join(archive.namelist())}; {name}.npy is needed; prepare the file again"
            )
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            with archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)
    with path.open("rb") as file:
        file.seek(
            info.header_offset + 26
        )  # the lengths of the name and of the extra field in a local header, which ends with both
        name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        file.seek(info.header_offset + 30 + name_length + extra_length)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def read_npy(path: Path, split: str, part: str, label_path: Path | None = None) -> Source:
    """ST-GCN's and 2s-AGCN's arrays (N, C, T, V, M) with a pickle of (names, labels); `train_data_bone.npy` holds bones."""
    match = re.fullmatch(r"(train|val|test)_data(?:_(\w+))?", path.stem)
    stream = match[2] or "joint" if match else "joint"
    if match:
        check_word("part", part, "train" if match[1] == "train" else "test", path)
    if path.parent.name in ("xsub", "xview", "xset"):
        check_word("split", split, path.parent.name, path)
    if stream not in MODALITIES:
        raise ValueError(
            f"{path}: found the stream {stream!r} in the name; allowed are {', '.join(MODALITIES)}; give a file of one of them"
        )
    if label_path is None:
        if not match:
            raise ValueError(
                f"label_path: found none for {path}; its name does not tell where the labels are; give the path of the labels"
            )
        label_path = path.with_name(f"{match[1]}_label.pkl")
    if not label_path.is_file():
        raise ValueError(
            f"label_path: found no file {label_path}; a pickle of (names, labels) is needed; give its path"
        )
    pair = read_pickle(label_path)
    data = np.load(path, mmap_mode="r")
    if not isinstance(pair, list | tuple) or len(pair) != 2 or len(pair[0]) != len(pair[1]):
        raise ValueError(
            f"{label_path}: found no pair of equally long lists; (names, labels) is needed; prepare it again"
        )
    if data.ndim != 5 or data.dtype.kind != "f" or len(data) != len(pair[0]):
        raise ValueError(
            f"{path}: found {data.dtype} {data.shape}, {len(pair[0])} labels; floats (N, C, T, V, M) are needed; prepare it again"
        )
    names = [re.sub(r"\.(skeleton|json)$", "", PurePath(name).name) for name in pair[0]]
    return ArraySource(data, names, pair[1], {"modality": stream})


def check_word(key: str, found: str, allowed: str | None, path: Path) -> None:
    """A split or part that the name of a file tells must not be contradicted; an empty word says nothing."""
    if allowed and found not in ("", allowed):
        raise ValueError(
            f"{key}: found {found!r}; {path} holds {allowed!r}; name the file of the {key} or correct the {key}"
        )


def read_pyskl(path: Path, split: str, part: str) -> Source:
    """pyskl's annotations: {"split": {name: ids}, "annotations": [records]}; 2-D key points get their score as third channel."""
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"split", "annotations"} <= content.keys() or not content["annotations"]:
        raise ValueError(
            f'{path}: found no {{"split": ..., "annotations": [...]}}; a pickle of pyskl is needed; see docs/feeders.md'
        )
    names = ("train",) if part == "train" else ("val", "test")
    names = [name for word in names for name in ((f"{split}_{word}", f"{word}{split}") if split else (word,))]
    chosen = [name for name in names if name in content["split"]]
    if not chosen:
        raise ValueError(
            f"split: found {split!r} ({part}); {path} has {', '.join(content['split'])}; name one of them without train, val or test"
        )
    ids = set(content["split"][chosen[0]])
    key = "filename" if "filename" in content["annotations"][0] else "frame_dir"
    records = [record for record in content["annotations"] if record[key] in ids]
    if not records:
        raise ValueError(
            f"{path}: found no record of the split {chosen[0]}; its ids must be the {key} of records; make the file again"
        )
    return pack_records(path, records, key)


def pack_records(path: Path, records: list[dict], key: str) -> Source:
    """Records (M, T, V, C) one after the other as rows (V, C), in the data type that they have."""
    first_clip = join_score(records[0])
    (_, _, V, C), dtype = first_clip.shape, first_clip.dtype
    shapes = [record["keypoint"].shape for record in records]
    persons, length = np.array([shape[:2] for shape in shapes]).T
    M = int(persons.max())
    frames = np.empty((int((persons * length).sum()), V, C), dtype)
    start = np.cumsum(persons * length) - persons * length
    for record, begin in zip(records, start, strict=True):
        clip = join_score(record)
        if clip.shape[2:] != (V, C):
            raise ValueError(
                f"{path}: found {record[key]} of shape {clip.shape}; (M, T, {V}, {C}) as in the first record is needed; leave it out"
            )
        frames[begin : begin + clip.shape[0] * clip.shape[1]] = clip.reshape(-1, V, C)
    slot = np.arange(M)
    first = start[:, None] + np.minimum(slot, persons[:, None] - 1) * length[:, None]
    present = torch.from_numpy(slot < persons[:, None])
    manifest = {
        "image": [record.get("img_shape") for record in records] if C == 3 and "keypoint_score" in records[0] else None
    }
    name, label = [record[key] for record in records], [record["label"] for record in records]
    return Source(frames, torch.from_numpy(first), present, 1, name, label, torch.from_numpy(length), manifest)


def join_score(record: dict) -> np.ndarray:
    """Key points (M, T, V, C) with their scores, if they have some, as last channel."""
    if "keypoint_score" in record:
        return np.concatenate([record["keypoint"], record["keypoint_score"][..., None]], -1)
    return record["keypoint"]

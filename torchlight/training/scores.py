"""Score files {sample name: scores}: writing, reading, joining by name, accuracy."""

import logging
import os
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.system.files import atomic
from torchlight.system.pickles import read_pickle
from torchlight.system.text import quote

log = logging.getLogger("torchlight")
SCORE_FILE = "epoch1_test_score.pkl"
EMA_SCORE_FILE = "epoch1_test_ema_score.pkl"
FEATURE_FILE = "epoch1_test_feature.pkl"
POSITION = re.compile(r"test_\d{1,9}", re.ASCII)
MAX_BYTES = 4 * 2**30  # of a score file
MAX_LENGTH = 100_000  # of one vector: classes or features
MAX_VALUES = 2**28  # of all vectors together, 2 GiB as float64; a pickle may refer to one vector many times
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def write_scores(path: Path, names: np.ndarray, scores: np.ndarray) -> None:
    """Write a pickled dict, sample name -> float32 (num_class,), in the order of `names`; the format of the published
    programs.

    Raises:
        ValueError: a name appears twice, or a score is not finite in float32.
        OSError: the file cannot be written.
    """
    with np.errstate(over="ignore"):
        rows = scores.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError(f"{path}: expected finite float32 scores, got NaN or larger ones; nothing was written")
    content = {str(name): row for name, row in zip(names, rows, strict=True)}
    if len(content) < len(names):
        twice = next(name for name, count in Counter(map(str, names)).items() if count > 1)
        raise ValueError(f"{path}: expected unique sample names, got {quote(twice)} twice; nothing was written")
    with atomic(path) as file:
        pickle.dump(content, file)


def read_scores(path: str | Path) -> dict[str | int, np.ndarray]:
    """Read a score file: {sample name or position: float64 (num_class,)}.

    Raises:
        ValueError: anything but a dict of equally long vectors of finite float32 numbers, or a file that is too large.
            The message names the file and the sample.
    """
    if os.path.isfile(path) and os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes of scores, got {os.path.getsize(path)}")
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected a non-empty dict {{sample name: scores}}, got {quote(content)}")
    scores: dict[str | int, np.ndarray] = {}
    names: dict[str, Any] = {}
    length = 0
    for key, value in content.items():
        key = read_key(key, path)
        if str(key) in names:
            raise ValueError(f"{path}: expected each sample once, got {quote(names[str(key)])} and {quote(key)}")
        row = read_row(value, f"{path}: sample {quote(key)}")
        length = length or len(row)
        if len(row) != length:
            raise ValueError(f"{path}: sample {quote(key)}: expected {length} scores as in the first, got {len(row)}")
        if length * len(content) > MAX_VALUES:
            raise ValueError(f"{path}: expected at most {MAX_VALUES} scores, got {len(content)} samples of {length}")
        names[str(key)], scores[key] = key, row.astype(np.float64)
    return scores


def read_key(key: Any, path: str | Path) -> str | int:
    """A sample name or position; raises ValueError for any other key."""
    if isinstance(key, str):
        return str(key)  # numpy.str_ too
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and abs(int(key)) < 2**63:
        return int(key)
    raise ValueError(f"{path}: expected sample names or positions as keys, got {quote(key)} ({type(key).__name__})")


def read_row(value: Any, origin: str) -> np.ndarray:
    """A vector of 1 to MAX_LENGTH finite numbers; raises ValueError, which begins with `origin`, for anything else."""
    row = value
    if isinstance(value, list | tuple) and len(value) <= MAX_LENGTH:
        row = np.array(value) if all(isinstance(x, int | float | np.number) for x in value) else None
    if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind not in "fiu":
        found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else quote(value)
        raise ValueError(f"{origin}: expected a vector of numbers, got {found}")
    if not 1 <= len(row) <= MAX_LENGTH:
        raise ValueError(f"{origin}: expected 1 to {MAX_LENGTH} numbers, got {len(row)}")
    if not (np.abs(row, dtype=np.float64) <= MAX_FLOAT32).all():
        raise ValueError(f"{origin}: expected finite float32 numbers, got NaN or larger ones")
    return row


def align(scores: dict[str | int, np.ndarray], names: np.ndarray, num_class: int, origin: str) -> np.ndarray:
    """Scores in the order of `names`: (n, num_class). Integer keys and `test_<i>` are positions in that order.

    Raises:
        ValueError: samples are missing, unknown or duplicated, or the number of classes differs; all of it in one
            message.
    """
    length, names = len(next(iter(scores.values()))), [str(name) for name in names]
    problems = []
    if length != num_class:
        problems.append(f"expected scores of {num_class} classes, got {length}; choose score files of this benchmark")
    if not set(names) & set(scores) and all(isinstance(key, int) or POSITION.fullmatch(key) for key in scores):
        log.warning("%s: the keys are positions; they are taken as the published test order of the benchmark", origin)
        numbers = [key if isinstance(key, int) else int(key[5:]) for key in scores]
        rows = {
            names[i] if 0 <= i < len(names) else f"position {i}": row
            for i, row in zip(numbers, scores.values(), strict=True)
        }
        if len(rows) < len(scores):
            problems.append("expected each position once, got one of them under two keys")
        scores = rows
    found = (
        ("missing", set(names) - set(scores)),
        ("not in the test part", set(map(str, set(scores) - set(names)))),
        ("twice in the data", {name for name, count in Counter(names).items() if count > 1}),
    )
    differences = [f"{len(some)} {what} (first: {quote(min(some))})" for what, some in found if some]
    if differences:
        expected = f"expected exactly the {len(names)} samples of the test part"
        problems.append(f"{expected}, got {' and '.join(differences)}; test the run again")
    if problems:
        raise ValueError("\n".join(f"{origin}: {problem}" for problem in problems))
    return np.stack([scores[name] for name in names])


def is_correct(scores: np.ndarray, label: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether the label is among the k highest scores: (n, num_class), (n,) -> (n,) bool. Ties and NaN count against
    the label."""
    return (~(scores < scores[np.arange(len(label)), label][:, None])).sum(1) <= k


def predicted_class(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The class with the highest score, by the rule of `is_correct`: of a tie with the label, the other class;
    (n, num_class), (n,) -> (n,)."""
    others = scores.astype(np.float64)
    others[np.arange(len(label)), label] = -np.inf
    return np.where(is_correct(scores, label), label, others.argmax(1))


def top_k(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of samples, in percent, whose label is among the k highest scores; (n, num_class), (n,)."""
    return 100.0 * float(is_correct(scores, label, k).mean())

"""Score files {sample name: logits}: writing, reading, joining by name, accuracy."""

import logging
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np

from torchlight.system.files import atomic
from torchlight.system.pickles import read_pickle

log = logging.getLogger("torchlight")
SCORE_FILE, EMA_SCORE_FILE, FEATURE_FILE = (
    "epoch1_test_score.pkl",
    "epoch1_test_ema_score.pkl",
    "epoch1_test_feature.pkl",
)
POSITION = re.compile(r"test_\d+")


def write_scores(path: Path, names: np.ndarray, scores: np.ndarray) -> None:
    """Write the field's score file: a pickled dict, sample name -> float32 (num_class,), in data set order."""
    with atomic(path) as file:
        pickle.dump({str(name): row for name, row in zip(names, scores.astype(np.float32), strict=True)}, file)


def read_scores(path: str | Path) -> dict[str | int, np.ndarray]:
    """Read a score file; keys are sample names or positions.

    Raises:
        ValueError: not a dict of equally long, finite number vectors, or a pickle that asks for more than that.
    """
    scores = read_pickle(path)
    if not isinstance(scores, dict) or not scores:
        raise ValueError(f"{path}: found {type(scores).__name__}; a non-empty dict {{sample name: scores}} is needed")
    out: dict[str | int, np.ndarray] = {}
    for key, row in scores.items():
        if isinstance(key, bool) or not isinstance(key, str | int | np.integer):
            raise ValueError(
                f"{path}: found the key {key!r} ({type(key).__name__}); sample names or positions are needed"
            )
        row = np.asarray(row)
        if row.dtype.kind not in "fiu" or row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(
                f"{path}: sample {key!r}: found {row.dtype} of shape {row.shape}; a vector of finite numbers is needed"
            )
        out[int(key) if isinstance(key, int | np.integer) else str(key)] = row.astype(np.float64)
    lengths = {len(row) for row in out.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"{path}: found score vectors of lengths {sorted(lengths)}; one per class everywhere is needed"
        )
    return out


def align(scores: dict[str | int, np.ndarray], names: np.ndarray, num_class: int, origin: str) -> np.ndarray:
    """Scores in the order of `names`: (n, num_class). Number keys and `test_<i>` count as positions in that order.

    Raises:
        ValueError: samples are missing, unknown or there twice, or the number of classes differs; all of it in one message.
    """
    length, names = len(next(iter(scores.values()))), [str(name) for name in names]
    problems = (
        []
        if length == num_class
        else [f"found scores of {length} classes; the data has {num_class}; give scores of this benchmark"]
    )
    if not set(names) & set(scores) and all(isinstance(key, int) or POSITION.fullmatch(key) for key in scores):
        log.warning(
            "%s: the keys are positions, not names; they are taken as the published test order of the benchmark", origin
        )
        numbers = [key if isinstance(key, int) else int(key[5:]) for key in scores]
        rows = {
            names[i] if 0 <= i < len(names) else f"position {i}": row
            for i, row in zip(numbers, scores.values(), strict=True)
        }
        if len(rows) < len(scores):
            problems.append(
                "found the same position under two keys; each sample must appear once; write the file again"
            )
        scores = rows
    found = (
        ("missing", set(names) - set(scores)),
        ("not in the test set", set(map(str, set(scores) - set(names)))),
        ("twice in the data", {name for name, count in Counter(names).items() if count > 1}),
    )
    parts = [f"{len(some)} {what} (first: {min(some)})" for what, some in found if some]
    if parts:
        problems.append(
            f"found {' and '.join(parts)} of {len(names)} samples; scores of exactly this test set are needed; test the run again"
        )
    if problems:
        raise ValueError("\n".join(f"{origin}: {problem}" for problem in problems))
    return np.stack([scores[name] for name in names])


def is_correct(scores: np.ndarray, label: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether the label is among the k highest scores: (n, num_class), (n,) -> (n,) bool. Ties and NaN count against the label."""
    return (~(scores < scores[np.arange(len(label)), label][:, None])).sum(1) <= k


def top_k(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of samples (in percent) whose label is among the k highest scores; (n, num_class), (n,)."""
    return 100.0 * float(is_correct(scores, label, k).mean())

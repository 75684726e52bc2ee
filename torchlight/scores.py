"""Score files {sample name: logits}: writing, reading, joining by name, accuracy."""

import logging
import pickle
import re
from pathlib import Path

import numpy as np

from torchlight.files import atomic, read_pickle

log = logging.getLogger("torchlight")
SCORE_FILE = "epoch1_test_score.pkl"


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
        row = np.asarray(row)
        if row.dtype.kind not in "fiu" or row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(f"{path}: sample {key!r}: found {row.dtype} of shape {row.shape}; a vector of finite numbers is needed")
        out[int(key) if isinstance(key, int | np.integer) else str(key)] = row.astype(np.float64)
    lengths = {len(row) for row in out.values()}
    if len(lengths) > 1:
        raise ValueError(f"{path}: found score vectors of lengths {sorted(lengths)}; one per class everywhere is needed")
    return out


def align(scores: dict[str | int, np.ndarray], names: np.ndarray, num_class: int, origin: str) -> np.ndarray:
    """Scores in the order of `names`: (n, num_class). Number keys and `test_<i>` count as positions in that order.

    Raises:
        ValueError: samples are missing or unknown, or the number of classes differs.
    """
    length = len(next(iter(scores.values())))
    if length != num_class:
        raise ValueError(f"{origin}: found scores of {length} classes; the data has {num_class}")
    names = [str(name) for name in names]
    if not set(names) & set(scores) and all(isinstance(k, int) or re.fullmatch(r"test_\d+", k) for k in scores):
        log.warning("%s: the keys are positions, not names; they are taken as the published test order of the benchmark", origin)
        numbers = [k if isinstance(k, int) else int(k[5:]) for k in scores]
        scores = {names[i] if 0 <= i < len(names) else f"position {i}": row for i, row in zip(numbers, scores.values(), strict=True)}
        if len(scores) < len(numbers):
            raise ValueError(f"{origin}: found the same position under two keys; each sample must appear once")
    missing, extra = sorted(set(names) - set(scores)), sorted(map(str, set(scores) - set(names)))
    if missing or extra:
        parts = [f"{len(s)} {what} (first: {s[0]})" for what, s in (("missing", missing), ("not in the test set", extra)) if s]
        raise ValueError(f"{origin}: {' and '.join(parts)} of {len(names)} samples; scores of exactly this test set are needed")
    return np.stack([scores[name] for name in names])


def top_k(scores: np.ndarray, label: np.ndarray, k: int) -> float:
    """Share of samples (in percent) whose label is among the k highest scores; (n, num_class), (n,). Ties count against the label."""
    own = scores[np.arange(len(label)), label][:, None]
    return 100.0 * float(((scores >= own).sum(1) <= k).mean())

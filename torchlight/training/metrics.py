"""Metrics of a test: accuracies for clips with one label, mean average precision for clips with several."""

from collections.abc import Mapping

import numpy as np

from torchlight.training.scores import is_correct, top_k

TOP5_CLASSES = 6  # minimum number of classes for which top-5 accuracy is shown
TITLES = {"top1": "top-1", "macro": "macro", "top5": "top-5", "map": "mAP"}


def class_recall(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Share of the samples of each class with its score as the highest, in percent; NaN for a class without samples.

    (n, num_class), (n,) -> (num_class,). Ties count against the label, as in `is_correct`.
    """
    count = np.bincount(label, minlength=scores.shape[1])
    right = np.bincount(label, is_correct(scores, label), scores.shape[1])
    return 100.0 * np.divide(right, count, out=np.full(len(count), np.nan), where=count > 0)


def accuracies(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """top1, macro (the mean recall of the classes that have samples) and, from six classes on, top5; in percent."""
    found = {"top1": top_k(scores, label, 1), "macro": float(np.nanmean(class_recall(scores, label)))}
    return found | ({"top5": top_k(scores, label, 5)} if scores.shape[1] >= TOP5_CLASSES else {})


def average_precision(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Average precision of each class in percent, (n, num_class) both -> (num_class,); NaN for a class without samples.

    The area under the steps of precision over recall (scikit-learn's `average_precision_score`).
    """
    from sklearn.metrics import average_precision_score  # slow to import, and needed for several labels only

    truth, found = target > 0.5, np.full(target.shape[1], np.nan)
    for k in np.flatnonzero(truth.any(0)):
        found[k] = 100.0 * average_precision_score(truth[:, k], scores[:, k])
    return found


def mean_average_precision(scores: np.ndarray, target: np.ndarray) -> float:
    """Mean of the average precisions of the classes that have samples, in percent."""
    return float(np.nanmean(average_precision(scores, target)))


def in_words(figures: Mapping[str, float], prefix: str = "") -> str:
    """The accuracies among `figures`, whose names begin with `prefix`.

    >>> in_words({"test_loss": 0.5, "test_macro": 80.0, "test_top1": 90.0}, "test_")
    'top-1 90.00 %, macro 80.00 %'
    """
    found = [(title, figures[prefix + key]) for key, title in TITLES.items() if prefix + key in figures]
    return ", ".join(f"{title} {value:.2f} %" for title, value in found)


def lowest(values: np.ndarray, names: list[str], count: int = 5) -> str:
    """The classes with the lowest values, the lowest first; NaN is left out."""
    order = [k for k in np.argsort(values, kind="stable") if not np.isnan(values[k])][:count]
    return ", ".join(f"{names[k]} {values[k]:.2f} %" for k in order)

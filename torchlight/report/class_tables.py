"""Recall (or average precision) of each class and confusion matrix, as CSV files and as a picture."""

from pathlib import Path

import numpy as np

from torchlight.report.safe_text import write_csv
from torchlight.training.scores import predicted_class


def confusion_matrix(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(num_class, num_class) counts: rows are the true classes, columns the predicted ones; the diagonal contains the
    clips of top-1."""
    num_class, predicted = logits.shape[1], predicted_class(logits, label)
    return np.bincount(label * num_class + predicted, minlength=num_class**2).reshape(num_class, num_class)


def write_class_tables(folder: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """Write each_class_acc.csv, confusion_matrix.csv and confusion_matrix.png.

    Raises:
        OSError: one of them cannot be written.
    """
    counts = matrix.sum(1)
    recall = np.divide(100.0 * matrix.diagonal(), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    names = [str(name) for name in class_names]
    write_each_class(folder, "recall", recall, counts, names)
    head = ["true \\ predicted", *names]
    write_csv(folder / "confusion_matrix.csv", head, ([n, *row] for n, row in zip(names, matrix.tolist(), strict=True)))
    from torchlight.report import pictures  # matplotlib is slow to import and only needed here

    pictures.to_png(pictures.confusion(matrix, names), folder / "confusion_matrix.png")


def write_average_precision(folder: Path, precision: np.ndarray, target: np.ndarray, class_names: list[str]) -> None:
    """Write each_class_acc.csv of clips with several labels: precision (num_class,) in percent, target (n, num_class).

    Raises:
        OSError: it cannot be written.
    """
    write_each_class(folder, "average_precision", precision, (target > 0.5).sum(0), class_names)


def write_each_class(folder: Path, title: str, values: np.ndarray, counts: np.ndarray, names: list[str]) -> None:
    """Write each_class_acc.csv with one value per class."""
    rows = zip(range(len(counts)), names, counts.tolist(), (f"{value:.2f}" for value in values), strict=True)
    write_csv(folder / "each_class_acc.csv", ["class", "name", "clips", title], rows)

"""Per-class accuracy and confusion matrix, as CSV and as a picture."""

import csv
from pathlib import Path

import numpy as np

from torchlight.system.files import atomic


def confusion_matrix(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(num_class, num_class) counts: rows are the true classes, columns the predicted ones."""
    num_class = logits.shape[1]
    return np.bincount(label * num_class + logits.argmax(1), minlength=num_class**2).reshape(num_class, num_class)


def write_class_tables(folder: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """Write each_class_acc.csv, confusion_matrix.csv and confusion_matrix.png."""
    counts = matrix.sum(1)
    accuracy = np.divide(100.0 * matrix.diagonal(), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    with atomic(folder / "each_class_acc.csv", "w") as file:
        rows = csv.writer(file)
        rows.writerow(["class", "name", "clips", "top1"])
        rows.writerows([i, class_names[i], counts[i], f"{accuracy[i]:.2f}"] for i in range(len(counts)))
    with atomic(folder / "confusion_matrix.csv", "w") as file:
        rows = csv.writer(file)
        rows.writerow(["true \\ predicted", *class_names])
        rows.writerows([name, *row] for name, row in zip(class_names, matrix.tolist(), strict=True))
    from torchlight.report import pictures  # matplotlib is slow to import, and only needed here

    pictures.to_png(pictures.confusion(matrix, class_names), folder / "confusion_matrix.png")

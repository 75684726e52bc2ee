"""Per-class accuracy and confusion matrix, as CSV and as a picture."""

import csv
from pathlib import Path

import numpy as np

from torchlight.files import atomic


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
    draw_confusion_matrix(folder / "confusion_matrix.png", matrix, class_names)


def draw_confusion_matrix(path: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """A heat map of the row-normalised confusion matrix; numbers and names as far as they can be read."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    num_class = len(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = min(4 + 0.25 * num_class, 30)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(num_class), yticks=range(num_class))
    axes.set_xticklabels(class_names, rotation=90, fontsize=8 if num_class <= 60 else 4)
    axes.set_yticklabels(class_names, fontsize=8 if num_class <= 60 else 4)
    for i, j in np.argwhere(matrix > 0) if num_class <= 20 else ():
        axes.text(j, i, matrix[i, j], ha="center", va="center", fontsize=8, color="white" if share[i, j] > 0.5 else "black")
    figure.colorbar(image, shrink=0.8, label="share of the true class")
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=120)

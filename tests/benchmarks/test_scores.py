"""The score files in benchmarks/results/scores give the accuracies in the table of results."""

import importlib
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pages, results_page
from benchmarks.results import RUNS
from torchlight.system.files import read_text
from torchlight.training.scores import SCORE_FILE, align, read_scores, top_k

SCORES = results_page.SCORES  # as RUNS / "full"
FILES = sorted(SCORES.rglob(SCORE_FILE))
ROWS = pages.read_table(results_page.TABLE, results_page.COLUMNS)


def run_directories(row):
    """Relative to RUNS / "full": the folder of a stream, those of the streams of a fusion; none for other rows."""
    words = shlex.split(row["command"].replace(";", " "))
    flags = [(flag, value) for flag, value in zip(words, words[1:], strict=False) if flag.endswith("-dir")]
    return [Path(value).relative_to(RUNS / "full") for _, value in flags if Path(value).is_relative_to(RUNS / "full")]


def scores_and_labels(folder):
    """The scores (n, num_class) of a run and the labels (n,) of the published test clips, whose names contain them."""
    ucla = importlib.import_module("data.NW-UCLA.prepare")
    names = np.array(read_text(ucla.TEST_ORDER).split())
    labels = np.array([ucla.ACTIONS.index(int(ucla.NAME.fullmatch(name)[1])) for name in names])
    return align(read_scores(SCORES / folder / SCORE_FILE), names, len(ucla.ACTIONS), folder.name), labels


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.parent.relative_to(SCORES).parts))
def test_a_score_file_gives_the_accuracy_of_its_row(file):
    folder = file.parent.relative_to(SCORES)
    (row,) = [row for row in ROWS if run_directories(row) == [folder]]
    assert f"{top_k(*scores_and_labels(folder), 1):.2f}" == row["last_epoch"]


def test_fused_score_files_give_the_accuracy_of_their_row():
    there = {file.parent.relative_to(SCORES) for file in FILES}
    fusions = [row for row in ROWS if len(run_directories(row)) > 1 and there.issuperset(run_directories(row))]
    assert fusions
    for row in fusions:
        weights = [float(word) for word in row["stream"].split(", ")[1].split(" : ")]
        parts = [scores_and_labels(folder) for folder in run_directories(row)]
        fused = sum(weight * scores for weight, (scores, _) in zip(weights, parts, strict=True))
        assert f"{top_k(fused, parts[0][1], 1):.2f}" == row["last_epoch"], row["stream"]

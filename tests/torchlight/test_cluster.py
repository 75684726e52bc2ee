"""Clusters: equal to the reference record, and written to files."""

import csv
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.torchlight.small_run import CLASSES, LABEL, NAMES, write_run, write_store
from torchlight.report.cluster import (
    NOISE,
    cluster,
    draw,
    main,
    principal_components,
    scatter,
    standardize,
    write_assignments,
)
from torchlight.system.paths import ROOT
from torchlight.training.scores import write_scores


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "tools_cluster.npz") as file:
        return dict(file)


def groups() -> np.ndarray:
    """Three tight groups of 19 in 6 dimensions, and three outliers."""
    random = np.random.default_rng(0)
    centers = 10 * np.eye(3, 6)
    return np.concatenate([np.repeat(centers, 19, 0) + 0.1 * random.normal(size=(57, 6)), 60 * np.eye(6)[3:]])


def test_standardized_features_equal_the_reference_record(record):
    assert np.allclose(standardize(record["X"]), record["Z"], atol=1e-6)


def test_a_constant_column_becomes_zero():
    assert np.array_equal(standardize(np.full((3, 2), 7.0)), np.zeros((3, 2)))


def test_dbscan_equals_the_reference_record_whose_clusters_count_from_one(record):
    found = cluster(standardize(record["X"]), "dbscan", eps=0.7, min_points=5)
    assert np.array_equal(np.where(found == NOISE, NOISE, found + 1), record["dbscan_labels"])
    assert found.max() > 0 and NOISE in found


def test_principal_components_equal_the_reference_record_up_to_sign(record):
    x, vectors = standardize(record["X"]), record["pca_vectors"]
    vectors = vectors if len(vectors) == len(record["pca_ratio"]) else vectors.T
    found = principal_components(x, len(vectors))
    expected = x @ vectors.T
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-3)
    assert np.allclose(found.var(0) / x.var(0).sum(), record["pca_ratio"], atol=1e-4)


@pytest.mark.parametrize("method", ["dbscan", "hdbscan"])
def test_both_methods_find_three_groups_and_three_outliers(method):
    found = cluster(groups(), method, eps=2.0, min_points=5)
    assert [len(set(found[19 * k : 19 * (k + 1)])) for k in range(3)] == [1, 1, 1]
    assert len(set(found[:57])) == 3 and (found[57:] == NOISE).all()


@pytest.fixture
def features(tmp_path):
    """A run directory with features whose groups are not the labels."""
    folder = write_run(tmp_path / "joint", write_store(tmp_path / "clips"))
    write_scores(folder / "epoch1_test_feature.pkl", NAMES, groups())
    return folder / "epoch1_test_feature.pkl"


@pytest.mark.parametrize(
    "more", [["--eps", "0.5"], ["--method", "hdbscan", "--pca", "3"], ["--eps", "0.5", "--pca", "1"]]
)
def test_the_command_writes_assignments_and_a_picture(more, features, tmp_path):
    assert main(["--features", str(features), "--out", str(tmp_path / "out" / "deep"), *more]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "deep" / "assignments.csv").open()))
    assert [row["name"] for row in rows] == NAMES.tolist()
    assert [row["label"] for row in rows] == [CLASSES[i] for i in LABEL]
    assert all((row["cluster"] == "-1") == (row["outlier"] == "yes") for row in rows)
    assert {row["cluster"] for row in rows[:57]} >= {"0", "1"}
    assert matplotlib.image.imread(tmp_path / "out" / "deep" / "clusters.png").std() > 0.01


def test_labels_of_any_kind_are_drawn_and_written(tmp_path):
    labels = ["_hidden", "$a_$", "", "unknown", "=1+1", "\u00b2", "9" * 5000, "\ud800", "10", "9"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tmp_path / "c.png", np.arange(20.0).reshape(10, 2), np.full(10, NOISE), labels)
        write_assignments(tmp_path / "a.csv", labels, np.zeros(10, int), labels)
    axes = Figure().add_subplot()
    scatter(axes, np.arange(20.0).reshape(10, 2), labels, "unknown")
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"_hidden", "$a_$", "=1+1", "\\ud800"} < set(shown) and shown.count("unknown") == 2
    assert shown[:2] == ["9", "10"] and max(map(len, shown)) == 32
    assert list(csv.reader((tmp_path / "a.csv").open()))[5] == ["'=1+1", "0", "no", "'=1+1"]


def test_one_sample_is_clustered(tmp_path):
    write_scores(tmp_path / "one.pkl", NAMES[:1], groups()[:1])
    assert main(["--features", str(tmp_path / "one.pkl"), "--out", str(tmp_path), "--min-points", "1"]) == 0


def test_labels_stay_empty_where_no_configuration_knows_them(features, tmp_path):
    alone = tmp_path / "alone.pkl"
    alone.write_bytes(features.read_bytes())
    assert main(["--features", str(alone), "--out", str(tmp_path), "--eps", "0.5"]) == 0
    assert {row["label"] for row in csv.DictReader((tmp_path / "assignments.csv").open())} == {""}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--eps", "0"], "eps: expected a number above 0, got 0.0"),
        (["--eps", "1", "--method", "hdbscan"], "has no effect on hdbscan"),
        (["--min-points", "61"], "min_points: expected 1 to 60, the number of samples, got 61"),
        (["--pca", "7"], "pca: expected 1 to 6 for 60 vectors of length 6, got 7"),
        (["--eps", "inf"], "eps: expected a number above 0, got inf"),
        (["--out", __file__], "out: expected a folder, got the file"),
        (["--out", "n" * 300], "expected names of at most 255 bytes"),
        (["--methd", "dbscan"], "unrecognized arguments"),
    ],
)
def test_a_mistake_is_one_error_message_and_nothing_is_written(more, message, features, tmp_path, capsys):
    assert main(["--features", str(features), "--out", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_interrupt_during_the_imports_prints_one_line(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    command = [sys.executable, "-m", "torchlight.report.cluster", "--help"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")

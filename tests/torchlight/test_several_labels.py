"""Clips with several labels, with soft labels and of unequal classes: from the store to the report."""

import numpy as np
import pytest

from tests.feeders.synthetic import rewrite_index, rewrite_manifest
from tests.torchlight import tiny
from torchlight.fusion import cli as fusion
from torchlight.predict import Recognizer
from torchlight.report.page import write_report
from torchlight.training.metrics import mean_average_precision
from torchlight.training.scores import SCORE_FILE, read_scores

NAMES = ["wave", "clap", "jump", "kick", "sit"]
TARGET = np.eye(5, dtype=np.float32)[np.arange(60) * 7 % 5]
BOTH = np.maximum(TARGET, np.roll(TARGET, 1, axis=1) * (np.arange(60) % 2)[:, None]).astype(np.float32)
MULTI = {"objective": "torchlight.objective.MultiLabel", "objective_args": {"pos_weight": {"wave": 2}}}


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """(kind of targets, targets) -> options of an experiment on such a store."""

    def write(kind, target):
        store = tiny.write_benchmark(tmp_path_factory.mktemp("labels") / "tiny.clips")
        rewrite_index(store, target=target, group=np.array([f"g{i % 3}" for i in range(60)]))
        rewrite_manifest(store, targets=kind, class_names=NAMES)
        return tiny.options(store) | tiny.PLAIN

    return write


def test_clips_with_several_labels_are_trained_tested_reported_and_predicted(tmp_path, labeled, experiment, main):
    options, run = labeled("multi-label", BOTH) | MULTI, tmp_path / "run"
    config = experiment(**options)
    code, out, err = main("--config", config, "--work-dir", run)
    assert code == 0, err
    assert "test mAP" in out and "lowest average precision" in out and "top-1" not in out
    last = tiny.metrics(run)[-1]
    assert {"train_loss", "test_cross_entropy", "test_map", "best_on_test_map"} < set(last) and "test_top1" not in last
    assert (run / "each_class_acc.csv").read_text().startswith("class,name,clips,average_precision\n0,wave,6,")
    assert not (run / "confusion_matrix.csv").exists()
    more = ("--num-epoch", "3", "--resume", "true")
    assert main("--config", config, "--work-dir", run, *more)[0] == 0 and len(tiny.metrics(run)) == 3
    flags = ("--phase", "test", "--weights", run / "last.pt", "--save-score", "true")
    assert main("--config", config, "--work-dir", run, *flags)[0] == 0
    scores = np.stack(list(read_scores(run / SCORE_FILE).values()))
    assert tiny.metrics(run)[-1]["test_map"] == pytest.approx(mean_average_precision(scores, BOTH[40:]), abs=1e-6)
    page = write_report([run]).read_text()
    assert f"{tiny.metrics(run)[-1]['test_map']:.2f} %" in page and "mean average precision" in page
    assert "Confusion matrix" not in page and "95 % interval" not in page
    (found,) = Recognizer(run / "last.pt", run / "config.yaml").predict(
        np.random.default_rng(0).normal(size=(20, 20, 3))
    )
    assert found.probabilities == pytest.approx(1 / (1 + np.exp(-found.scores.astype(float))))
    assert fusion.main(["--scores", str(run), str(run / SCORE_FILE)]) == 2


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("multi-label", {}, "objective: expected torchlight.objective.MultiLabel for clips with several labels"),
        ("multi-label", MULTI | {"sampler": "balanced"}, "sampler: expected shuffled for clips with several labels"),
        ("multi-label", MULTI | {"objective_args": {"pos_weight": [1]}}, "pos_weight: expected 5 weights"),
        ("soft", MULTI, "expected torchlight.objective.Classification for clips with weights of labels"),
        (None, MULTI, "objective: expected clips with several labels, got torchlight.objective.MultiLabel"),
    ],
)
def test_a_loss_or_sampler_that_does_not_fit_the_labels_is_refused(
    kind, changes, message, tmp_path, labeled, experiment, main
):
    config = experiment(**labeled(kind, None if kind is None else BOTH) | changes)
    code, _, err = main("--config", config, "--work-dir", tmp_path / "run")
    assert code == 2 and message in err and not (tmp_path / "run" / "config.yaml").exists()


def test_soft_labels_with_class_weights_and_balanced_batches_are_trained_and_groups_are_held_out(
    tmp_path, labeled, experiment, main
):
    options = labeled("soft", 0.7 * TARGET + 0.3 * np.roll(TARGET, 1, axis=1))
    options |= {"objective_args": {"class_weight": "balanced"}, "sampler": "balanced", "num_epoch": 1}
    flags = ("--hold-out", "g1", "--work-dir", tmp_path / "run")
    code, out, err = main("--config", experiment(**options), *flags)
    assert code == 0, err
    assert "27 training and 13 held-out clips" in out and "held-out top-1" in out and "lowest recall" in out
    assert "macro" in out and "top-5" not in out

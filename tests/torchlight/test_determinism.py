"""A run is a function of configuration, seed and data; precisions that are not float32 stay finite."""

import math

import pytest
import torch

from tests.torchlight import tiny
from torchlight.commands import main as cli


@pytest.fixture(scope="module")
def straight(tmp_path_factory, experiment):
    """The run directory of a run with seed 1 and without workers."""
    folder = tmp_path_factory.mktemp("straight")
    assert cli.main(["--config", str(experiment(**tiny.RICH | {"num_epoch": 2})), "--work-dir", str(folder)]) == 0
    return folder


def run(main, experiment, folder, **changes):
    assert main("--config", experiment(**tiny.RICH | {"num_epoch": 2} | changes), "--work-dir", folder)[0] == 0
    return folder


@pytest.mark.parametrize("num_worker", [1, 2])
def test_weights_and_figures_do_not_depend_on_the_number_of_workers(tmp_path, experiment, main, straight, num_worker):
    assert tiny.same_run(straight, run(main, experiment, tmp_path / "run", num_worker=num_worker))


def test_runs_with_another_seed_differ_and_runs_with_the_same_seed_are_equal(tmp_path, experiment, main, straight):
    same, other = (run(main, experiment, tmp_path / str(seed), seed=seed) for seed in (1, 2))
    assert tiny.same_run(straight, same) and tiny.metrics(straight) != tiny.metrics(other)
    first, second = tiny.weights(straight), tiny.weights(other)
    assert not torch.equal(first["fc.weight"], second["fc.weight"])


def test_two_epochs_see_different_clips_in_different_order(store):
    from feeders.feeder_ucla import Feeder
    from torchlight.training.sampler import TrainBatches

    feeder, batches, seen = Feeder(str(store), window_size=8), TrainBatches(40, 8, seed=1), []
    for epoch in (0, 1):
        feeder.set_epoch(epoch)
        batches.set(epoch)
        order = sum(batches, [])
        seen.append((order, feeder.__getitems__([0, 1, 2])["data"]))
    (first, x), (second, y) = seen
    assert sorted(first) == sorted(second) and first != second and not torch.equal(x, y)


def learn(experiment, folder, precision):
    changes = {"num_epoch": 4, "precision": precision, "base_lr": 0.05, "ema_decay": 0.5}
    assert cli.main(["--config", str(experiment(**changes)), "--work-dir", str(folder)]) == 0
    return tiny.metrics(folder)


@pytest.fixture(scope="module")
def exact(tmp_path_factory, experiment):
    """The figures of a training in float32."""
    return learn(experiment, tmp_path_factory.mktemp("runs") / "float32", "float32")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_with_finite_losses_that_fall_and_keeps_float32_weights(
    tmp_path, experiment, exact, precision
):
    lines = learn(experiment, tmp_path / precision, precision)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert lines[0]["train_loss"] == pytest.approx(exact[0]["train_loss"], rel=0.05) and lines != exact
    assert all(value.dtype != torch.float16 for value in tiny.weights(tmp_path / precision).values())
    content = torch.load(tmp_path / precision / "last.pt")
    assert bool(content["scaler"]) == (precision == "float16")


def test_the_moving_average_of_a_run_is_that_of_its_weights(tmp_path, experiment, main):
    settings = experiment(num_epoch=3, ema_decay=0.75, keep=3, batch_size=40, **tiny.PLAIN)
    assert main("--config", settings, "--work-dir", tmp_path)[0] == 0
    contents = [torch.load(tmp_path / f"epoch_{n}.pt") for n in (1, 2, 3)]  # an epoch is one step
    for before, after in zip(contents, contents[1:], strict=False):
        for name, value in after["model_ema"].items():
            torch.testing.assert_close(value, 0.75 * before["model_ema"][name] + 0.25 * after["model"][name])

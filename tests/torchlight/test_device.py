"""Training on a simulated GPU: no operation of a training step synchronizes the host with it, and the results are the
same."""

import copy

import pytest
import torch
from torch import nn

from feeders.feeder_ucla import Feeder
from tests.model.zoo import NETWORKS, narrow
from tests.model.zoo import build as build_network
from tests.pretend import Gpu, gpu
from tests.torchlight.parts import Plain
from torchlight.config.options import Config
from torchlight.distillation import DecoupledKnowledge, LogitDistillation
from torchlight.objective import Classification
from torchlight.training import engine, loader, optim
from torchlight.training.experiment import open_feeder
from torchlight.training.teacher import Teacher

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def train(objective: nn.Module, model: nn.Module, device: torch.device, watch: Gpu | None = None) -> dict[str, float]:
    """The means of an epoch of two steps, with all that a step may have."""
    torch.manual_seed(0)
    model.train().to(device)
    objective.to(device)
    optimizer = optim.build_optimizer(Config(base_lr=0.01), model, fused=device == CUDA)
    average, meter, scaler = optim.MovingAverage(model, 0.9), engine.Meter(), torch.amp.GradScaler("cpu", enabled=False)
    draw = torch.Generator().manual_seed(0)
    batches = [{"data": torch.randn(2, 3, 16, 25, 2, generator=draw), "label": torch.tensor([0, 3])} for _ in range(2)]
    batches = [engine.to_device(batch, device) for batch in batches]
    stepper = engine.Stepper(optimizer, device, clip_grad=1.0, scaler=scaler, after_step=average.update)
    if watch:
        watch.waits.clear()
        accumulate = stepper.accumulate

        def watched(*args):
            watch.crossings.clear()
            found = accumulate(*args)
            assert not watch.crossings  # a CUDA graph would repeat the values of the host
            return found

        stepper.accumulate = watched
    engine.train_one_epoch(model, objective, batches, stepper, meter, engine.Clock())
    if watch:
        assert not watch.waits
    return meter.means()


@pytest.mark.parametrize("name", NETWORKS)
def test_no_step_of_a_network_waits_for_a_gpu(name, monkeypatch):
    torch.manual_seed(0)
    model = build_network(name, **narrow(name, monkeypatch))
    expected = train(Classification(label_smoothing=0.1), copy.deepcopy(model), CPU)
    with gpu(monkeypatch) as watch:
        assert train(Classification(label_smoothing=0.1), model, CUDA, watch) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["mixup", "dkd", "kd"])
def test_no_step_of_an_objective_waits_for_a_gpu(kind, monkeypatch):
    def run(device, watch=None):
        torch.manual_seed(0)
        if kind == "mixup":
            return train(Classification(mixup_alpha=0.8, mixup_prob=0.5), Plain(5, 25, 2), device, watch)
        objective = DecoupledKnowledge() if kind == "dkd" else LogitDistillation()
        objective.teacher = Teacher([Plain(5, 25, 2), Plain(5, 25, 2)], ["data", "data"])
        return train(objective, Plain(5, 25, 2), device, watch)

    expected = run(CPU)
    with gpu(monkeypatch) as watch:
        assert run(CUDA, watch) == pytest.approx(expected, rel=1e-4)


def test_an_evaluation_waits_for_a_gpu_after_all_batches_are_launched(monkeypatch):
    torch.manual_seed(0)
    model = Plain(5, 20, 1)
    batches = [
        {"data": torch.randn(4, 3, 8, 20, 1), "label": torch.arange(4), "index": i + torch.arange(4)} for i in (4, 0)
    ]
    expected = engine.evaluate(model, Classification(), batches, CPU)
    with gpu(monkeypatch) as watch:
        model.to(CUDA)
        batches = [engine.to_device(batch, CUDA) for batch in batches]

        def watched():
            watch.waits.clear()
            yield from batches
            assert not watch.waits

        found = engine.evaluate(model, Classification(), watched(), CUDA)
    assert (found.scores == expected.scores).all() and found.index.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, CUDA),
        ({"num_worker": 0}, CUDA),
        ({"num_worker": 2}, CPU),
        ({"data_on_device": False}, CPU),
        ({"device": ["cpu"]}, CPU),
    ],
)
def test_clips_are_moved_to_the_gpu_unless_an_option_says_otherwise(store, monkeypatch, options, where):
    settings = Config(feeder="feeders.feeder_ucla.Feeder", train_feeder_args={"data_path": str(store)}, **options)
    with gpu(monkeypatch):
        feeder = open_feeder(settings, Feeder, "train", CPU if settings.device else CUDA)
        assert feeder.device == where
        assert where == CPU or loader.worker_count(settings, feeder, CUDA) == 0


def test_batches_made_on_the_gpu_are_made_in_the_main_process(store, monkeypatch):
    arguments = {"data_path": str(store), "window_size": 8}
    settings = Config(feeder="feeders.feeder_ucla.Feeder", train_feeder_args=arguments)
    expected = Feeder(str(store), window_size=8, seed=1).batch([3, 1], 0)["data"]
    with gpu(monkeypatch):
        feeder = open_feeder(settings, Feeder, "train", CUDA)
        (batch,) = loader.make_loader(settings, feeder, [[3, 1]], CUDA)
        assert batch["data"].device == CUDA
        torch.testing.assert_close(batch["data"].cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "device", "cores", "ranks", "workers"),
    [
        *((None, CPU, cores, 1, 0) for cores in (1, 2, 64)),  # the network needs the cores
        (None, CUDA, 1, 1, 0),
        (None, CUDA, 2, 1, 1),
        (None, CUDA, 64, 1, loader.MAX_WORKERS),
        (None, CUDA, 16, 8, 1),
        (None, CUDA, 8, 8, 0),
        (0, CUDA, 64, 1, 0),
        (7, CUDA, 2, 8, 7),
        (3, CPU, 2, 1, 3),
    ],
)
def test_the_number_of_workers_is_chosen_automatically_or_given(
    store, monkeypatch, given, device, cores, ranks, workers
):
    monkeypatch.setattr(loader.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert loader.worker_count(Config(num_worker=given), Feeder(str(store), window_size=8), device) == workers

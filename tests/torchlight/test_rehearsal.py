"""A trial step before the training: impossible trainings are refused, and the run is not changed by it."""

import copy

import pytest
import torch
from torch import nn

from tests.torchlight import tiny
from tests.torchlight.parts import Plain
from torchlight.config.load import load_config
from torchlight.objective import Classification
from torchlight.runtime.seed import rng_state
from torchlight.training import build, experiment
from torchlight.training.run_dir import RunDirectory
from torchlight.training.teacher import Teacher


class Counting(nn.Module):
    """A network with everything that a forward pass may change."""

    def __init__(self):
        super().__init__()
        self.plain, self.norm = Plain(5, 20, 1), nn.BatchNorm1d(5)
        self.register_buffer("hidden", torch.zeros(1), persistent=False)
        self.plain.first.bias.requires_grad_(False)

    def forward(self, data):
        self.hidden += 1
        return self.norm(self.plain(nn.functional.dropout(data, training=self.training)))


class Stateful(Classification):
    """An objective with a state, which follows the epochs and may ask a teacher."""

    def __init__(self):
        super().__init__()
        self.count, self.epoch, self.teacher = 0, 0, None
        self.register_buffer("mean", torch.zeros(1))

    def set_epoch(self, epoch):
        self.epoch = epoch

    def forward(self, model, batch):
        assert self.epoch == 1 and (self.teacher is None or self.teacher(batch).shape[1] == 5)
        self.count += 1
        self.mean = self.mean + 1
        return super().forward(model, batch)


@pytest.fixture
def parts(tmp_path, store, experiment_file):
    """An experiment of a network and an objective, not yet rehearsed."""
    config = load_config(experiment_file)
    feeder = build.build_feeder(config, build.preflight(config, ("feeder",))["feeder"], "train")

    def make(model, objective):
        run_dir = RunDirectory(tmp_path / "run")
        return experiment.Experiment(config, run_dir, torch.device("cpu"), {"train": feeder}, model, objective, [])

    return make


@pytest.fixture
def experiment_file(experiment):
    return experiment(freeze=["first"], freeze_epoch=1)


def state_of(part: nn.Module) -> dict:
    tensors = {name: value.detach().clone() for name, value in [*part.named_parameters(), *part.named_buffers()]}
    flags = {name: (value.requires_grad, value.grad) for name, value in part.named_parameters()}
    return {"tensors": tensors, "flags": flags, "numbers": {k: v for k, v in vars(part).items() if isinstance(v, int)}}


def test_a_rehearsal_changes_neither_network_nor_objective_nor_random_numbers(parts):
    model, objective = Counting(), Stateful()
    objective.teacher = Teacher([Plain(5, 20, 1)], ["data"], cache_size=40)
    before = copy.deepcopy((state_of(model), state_of(objective), rng_state()))
    experiment.rehearse(parts(model, objective))
    assert tiny.equal((state_of(model), state_of(objective), rng_state()), before)
    assert objective.teacher.cache is None


class Detached(Classification):
    """A loss that does not depend on the network."""

    def forward(self, model, batch):
        loss, logits, terms = super().forward(model, batch)
        return loss.detach() * torch.ones((), requires_grad=True), logits, terms


class Flat(Classification):
    """Predictions without a class axis."""

    def predict(self, model, batch):
        return super().predict(model, batch).argmax(1)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (Detached, "expected a loss that depends on trained parameters"),
        (Flat, "predict: expected logits .N, num_class."),
    ],
)
def test_an_objective_without_a_loss_or_prediction_is_refused(parts, objective, reason):
    with pytest.raises(ValueError, match=f"the first training step failed, nothing was written: ValueError: {reason}"):
        experiment.rehearse(parts(Plain(5, 20, 1), objective()))


class Scaled(Classification):
    """A loss with a parameter, which no optimizer would train."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, model, batch):
        loss, logits, terms = super().forward(model, batch)
        return self.scale * loss, logits, terms


def test_an_objective_with_parameters_is_refused_unless_they_are_frozen(parts):
    objective = Scaled()
    with pytest.raises(ValueError, match="objective: expected no parameters to train, .* got scale; make them part of"):
        experiment.rehearse(parts(Plain(5, 20, 1), objective))
    experiment.rehearse(parts(Plain(5, 20, 1), objective.requires_grad_(False)))


def test_a_state_of_cuda_is_saved_only_by_a_process_that_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "cuda" not in rng_state()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.ones(1))
    assert "cuda" in rng_state()

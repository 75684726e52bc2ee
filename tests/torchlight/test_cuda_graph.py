"""The training step as a CUDA graph: recorded once and replayed, it gives the same results as eager steps."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.model.zoo import NETWORKS, narrow
from tests.model.zoo import build as build_network
from tests.recorded import pretend_graphs
from tests.torchlight.parts import Heir, Plain
from tests.torchlight.tiny import equal
from torchlight.config.options import Config, ConfigError
from torchlight.contract import is_graph_safe
from torchlight.distillation import DecoupledKnowledge, LogitDistillation
from torchlight.objective import Classification
from torchlight.system.command import RunError
from torchlight.training import device, engine, optim
from torchlight.training.cuda_graph import StepGraphs, kind_of, step_graphs
from torchlight.training.teacher import Teacher

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def batches(number: int, sizes: tuple[int, ...] = (2,)) -> list[dict]:
    draw = torch.Generator().manual_seed(0)
    sizes = [sizes[i % len(sizes)] for i in range(number)]
    data = [torch.randn(size, 3, 16, 25, 2, generator=draw) for size in sizes]
    return [{"data": x, "label": torch.arange(len(x)) % 5, "index": torch.arange(len(x))} for x in data]


def train(model: nn.Module, objective: nn.Module, parts: list[dict], graphs: StepGraphs | None, **settings) -> dict:
    """Everything that an epoch changes."""
    torch.manual_seed(0)
    config = Config(**{"base_lr": 0.01, "clip_grad": 1.0} | settings)
    optimizer, average = optim.build_optimizer(config, model), optim.MovingAverage(model, 0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=config.precision == "float16", init_scale=1024.0)

    def after_step() -> None:
        average.update()
        for group in optimizer.param_groups:
            group["lr"] *= 0.9

    autocast = partial(device.autocast, config, CPU)
    stepper = engine.Stepper(
        *(optimizer, CPU, config.update_freq, config.clip_grad, autocast, scaler, after_step, graphs)
    )
    meter = engine.Meter()
    engine.train_one_epoch(model, objective, parts, stepper, meter, engine.Clock())
    found = {"model": dict(model.state_dict()), "average": dict(average.model.state_dict()), "sums": meter.sums}
    return found | {"optimizer": optimizer.state_dict()["state"], "rng": torch.get_rng_state()}


def compare(monkeypatch, model: nn.Module, objective: nn.Module, parts: list[dict], number: int = 1, **settings):
    """An epoch with graphs equals one without to the bit; `number` graphs were recorded."""
    other = copy.deepcopy(model)
    expected = train(other, objective, parts, None, **settings)
    made = pretend_graphs(monkeypatch, list(model.buffers()))
    found = train(model, objective, parts, StepGraphs(model.parameters()), **settings)
    assert len(made) == number
    assert equal(found, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_replayed_step_of_every_network_is_bit_identical_to_the_eager_step(name, monkeypatch):
    torch.manual_seed(0)
    model = build_network(name, **narrow(name, monkeypatch))
    assert is_graph_safe(model)
    # gradients of biases that are added share memory, unless they are recorded, and clipping would change it twice
    compare(monkeypatch, model, Classification(label_smoothing=0.1), batches(3), clip_grad=0.0)


class Dropping(nn.Module):
    """Batch norm, dropout, and a parameter that no gradient reaches: (N, C, T, V, M) -> (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.fc = nn.BatchNorm1d(150), nn.Dropout(0.3), nn.Linear(150, 5)
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, data: Tensor) -> Tensor:
        return self.fc(self.drop(self.norm(data.mean(2).flatten(1))))


@pytest.mark.parametrize(
    "settings", [{}, {"update_freq": 2}, {"optimizer": "AdamW"}, {"precision": "bfloat16"}, {"precision": "float16"}]
)
def test_graphs_work_with_accumulation_optimizers_and_precisions(settings, monkeypatch):
    compare(monkeypatch, Dropping(), Classification(), batches(8), **settings)


def test_mixed_and_plain_batches_have_separate_graphs_and_the_share_differs_between_steps(monkeypatch):
    objective = Classification(label_smoothing=0.1, mixup_alpha=0.8, mixup_prob=0.5)
    compare(monkeypatch, Dropping(), objective, batches(12), number=2)


def test_batches_of_another_size_have_a_graph_of_their_own(monkeypatch):
    compare(monkeypatch, Dropping(), Classification(), batches(10, sizes=(3, 2)), number=2)


def test_a_batch_with_other_values_or_types_is_of_another_kind():
    one = {"data": torch.zeros(2), "clips": 1}
    others = (one | {"clips": 2}, one | {"data": torch.zeros(2).double()}, {"data": one["data"]}, one | {"clips": None})
    assert kind_of([one]) == kind_of([{"clips": 1, "data": torch.ones(2)}])
    assert all(kind_of([one]) != kind_of([other]) for other in others) and kind_of([one]) != kind_of([one, one])


@pytest.mark.parametrize("kind", [DecoupledKnowledge, LogitDistillation])
def test_the_weight_of_a_teacher_may_change_between_replays(kind, monkeypatch):
    torch.manual_seed(0)
    objective, plain, parts = kind(warm_up_epoch=4), kind(warm_up_epoch=4), batches(4)
    objective.teacher = plain.teacher = Teacher([Plain(5, 25, 2)], ["data"])
    model = Dropping()
    other = copy.deepcopy(model)
    graphs, made = StepGraphs(model.parameters()), pretend_graphs(monkeypatch, list(model.buffers()))
    for epoch in (1, 2, 3):
        for one in (objective, plain):
            one.set_epoch(epoch)
        assert equal(train(model, objective, parts, graphs), train(other, plain, parts, None))
    assert len(made) == 1 and is_graph_safe(objective)


def test_a_host_decision_in_a_step_is_detected(monkeypatch):
    class Counting(Classification):
        count = 0

        def forward(self, model, batch):
            self.count += 1
            loss, logits, terms = super().forward(model, batch)
            return loss * self.count, logits, terms

    objective = Counting()
    assert not is_graph_safe(objective) and not is_graph_safe(Plain(5, 25, 2)) and is_graph_safe(Classification())
    with pytest.raises(AssertionError):
        compare(monkeypatch, Plain(5, 25, 2), objective, batches(4))


def test_graphs_are_recorded_again_after_a_reset(monkeypatch):
    model, parts = Dropping(), batches(3)
    made, graphs = pretend_graphs(monkeypatch, list(model.buffers())), StepGraphs(model.parameters())
    train(model, Classification(), parts, graphs)
    graphs.forget()
    train(model, Classification(), parts[:1], graphs)
    assert len(made) == 1
    made.clear()
    train(model, Classification(), parts, graphs)
    assert len(made) == 1


def test_a_step_that_cannot_be_recorded_says_what_to_do(monkeypatch):
    class Reading(Plain):
        def forward(self, data):
            self.count = getattr(self, "count", 0) + 1
            if self.count > 1:
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().forward(data)

    model = Reading(5, 25, 2)
    pretend_graphs(monkeypatch, [])
    with pytest.raises(RunError, match=r"recorded \(operation not permitted.*give --cuda-graph false"):
        train(model, Classification(), batches(3), StepGraphs(model.parameters()))


AUTO = {"cuda_graph": "auto"}


@pytest.mark.parametrize(
    ("where", "options", "network", "loss", "on"),
    [
        (CUDA, {}, "ctrgcn", Classification, False),
        (CUDA, AUTO, "ctrgcn", Classification, True),
        (CUDA, {"cuda_graph": False}, "ctrgcn", Classification, False),
        (CUDA, AUTO | {"compile": True}, "ctrgcn", Classification, False),
        (CUDA, AUTO | {"teacher_cache": True}, "ctrgcn", DecoupledKnowledge, False),
        (CUDA, AUTO, None, Classification, False),
        (CUDA, {"cuda_graph": True}, None, Classification, True),
        (CPU, AUTO, "ctrgcn", Classification, False),
    ],
)
def test_steps_are_recorded_on_a_gpu_if_the_classes_allow_it_or_if_requested(where, options, network, loss, on):
    model = Plain(5, 25, 2) if network is None else build_network(network)
    assert (step_graphs(Config(**options), where, model, loss()) is not None) == on


def test_a_subclass_has_to_declare_that_its_step_can_be_recorded():
    model = Heir(5, 25, 2, "graph.ntu_rgb_d.Graph")
    assert step_graphs(Config(**AUTO), CUDA, model, Classification()) is None


@pytest.mark.parametrize(
    ("where", "options", "reason"),
    [(CPU, {}, "the network runs on the CPU"), (CUDA, {"compile": True}, "of compile")],
)
def test_a_graph_that_is_impossible_is_refused(where, options, reason):
    with pytest.raises(ConfigError, match=f"cuda_graph: expected auto or false, because {reason}, got true"):
        step_graphs(Config(cuda_graph=True, **options), where, Plain(5, 25, 2), Classification())

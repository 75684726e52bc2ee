"""Schedules, parameter groups, freezing and the moving average."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.torchlight.parts import Plain
from torchlight.config.checks import idle_schedule
from torchlight.config.options import Config, Optimization
from torchlight.training import optim

TABLES = json.loads((Path(__file__).parent / "golden" / "modern_engine_lr.json").read_text())
TIMM_TABLES = json.loads((Path(__file__).parent / "golden" / "timm_lr.json").read_text())
STEP_RECIPES = {  # of the papers' programs: epochs, milestones, warm-up
    "ST-GCN, NTU": (80, (10, 50), 0),
    "ST-GCN, Kinetics": (50, (20, 30, 40, 50), 0),
    "2s-AGCN, NTU": (50, (30, 40), 0),
    "2s-AGCN, Kinetics": (65, (45, 55), 0),
    "AAGCN, NTU": (50, (30, 40), 5),
    "CTR-GCN, NTU": (65, (35, 55), 5),
    "CTR-GCN, NW-UCLA": (65, (50,), 5),
    "MS-G3D, NTU 120": (60, (30, 50), 0),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_learning_rates_of_tsgcnext_are_those_of_the_reference_record(name):
    table = TABLES[name]
    warm = table["warmup_steps"] / table["steps_per_epoch"] if table["warmup_steps"] > 0 else table["warmup_epochs"]
    recipe = Optimization(
        base_lr=table["base"],
        min_lr=table["min"],
        num_epoch=table["epochs"],
        warm_up_epoch=warm,
        lr_schedule="cosine",
        lr_interval="step",
    )
    assert table["length"] == table["epochs"] * table["steps_per_epoch"]
    for step, lr in table["lr"].items():
        assert optim.learning_rate(recipe, int(step), table["steps_per_epoch"]) == pytest.approx(
            lr, rel=1e-9, abs=1e-18
        ), step


@pytest.mark.parametrize("name", TIMM_TABLES)
def test_the_learning_rates_of_skateformer_are_those_of_timm(name):
    facts = TIMM_TABLES[name]
    recipe = Optimization(
        base_lr=facts["base_lr"],
        min_lr=facts["min_lr"],
        num_epoch=facts["epochs"],
        warm_up_epoch=facts["warm_up_epoch"],
        warm_up_lr=facts["warm_up_lr"],
        lr_schedule="cosine",
        lr_interval="step",
    )
    for step, lr in zip(facts["step"], facts["lr"], strict=True):
        assert optim.learning_rate(recipe, step, facts["steps_per_epoch"]) == pytest.approx(lr, rel=1e-12), step


@pytest.mark.parametrize("name", STEP_RECIPES)
def test_the_published_step_schedules_warm_up_linearly_and_decay_at_their_milestones(name):
    epochs, milestones, warm = STEP_RECIPES[name]
    recipe = Optimization(base_lr=0.1, num_epoch=epochs, step=list(milestones), warm_up_epoch=warm)
    for epoch in range(epochs):
        expected = 0.1 * (epoch + 1) / warm if epoch < warm else 0.1 * 0.1 ** len([m for m in milestones if m <= epoch])
        assert [optim.learning_rate(recipe, 7 * epoch + i, 7) for i in (0, 3, 6)] == pytest.approx([expected] * 3)


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ({"num_epoch": 65, "warm_up_epoch": 5, "step": [50, 70]}, []),
        ({"num_epoch": 65, "warm_up_epoch": 5, "step": [5]}, []),
        ({"num_epoch": 3, "warm_up_epoch": 5, "step": [50]}, ["all epochs are warm-up", "never decreases"]),
        ({"num_epoch": 65, "warm_up_epoch": 5, "step": [3, 50]}, ["expected epochs after the warm-up"]),
    ],
)
def test_parts_of_a_schedule_without_effect_are_named(schedule, named):
    notes = idle_schedule(Config(**schedule))
    assert len(notes) == len(named) and all(words in note for words, note in zip(named, notes, strict=True))


def test_the_rate_of_hdgcn_warms_up_by_epochs_and_then_follows_a_cosine_by_steps():
    recipe = Optimization(
        base_lr=0.1,
        min_lr=1e-4,
        num_epoch=90,
        warm_up_epoch=5,
        warm_up_interval="epoch",
        lr_schedule="cosine",
        lr_interval="step",
    )
    n = 7
    for step in range(90 * n):
        e, t = step // n, step - 5 * n
        expected = 0.1 * (e + 1) / 5 if e < 5 else 1e-4 + 0.5 * (0.1 - 1e-4) * (1 + math.cos(math.pi * t / (85 * n)))
        assert optim.learning_rate(recipe, step, n) == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_by_steps_can_precede_a_schedule_by_epochs():
    recipe = Optimization(base_lr=0.1, num_epoch=9, step=[3], warm_up_epoch=2, warm_up_interval="step")
    found = [optim.learning_rate(recipe, step, 5) for step in range(20)]
    assert found == pytest.approx([0.1 * i / 9 for i in range(10)] + [0.1] * 5 + [0.01] * 5)


def test_the_cosine_of_pyskl_begins_at_the_base_and_falls_with_every_step():
    recipe = Optimization(base_lr=0.1, num_epoch=16, lr_schedule="cosine", lr_interval="step")
    found = [optim.learning_rate(recipe, i, 9) for i in range(144)]
    assert found == pytest.approx([0.05 * (1 + math.cos(math.pi * i / 144)) for i in range(144)])


def test_the_weight_decay_is_constant_or_a_cosine_to_its_end():
    assert optim.weight_decay(Optimization(weight_decay=0.05), 77, 5) == 0.05
    recipe = Optimization(weight_decay=0.05, weight_decay_end=0.2, num_epoch=10)
    found = [optim.weight_decay(recipe, i, 5) for i in (0, 25, 49)]
    assert found == pytest.approx([0.05, 0.125, 0.2 - 0.075 * (1 - math.cos(math.pi / 50))])


def network() -> nn.Module:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Linear(4, 2))
    model.PA = nn.Parameter(torch.ones(3, 4, 4))
    model.conv = nn.Conv1d(3, 1, 1)
    model.conv.bias = nn.Parameter(torch.zeros(1, 1))  # a bias is told by its name, a vector by its shape
    model.alpha = nn.Parameter(torch.zeros(1), requires_grad=False)
    return model


def groups_by_name(recipe: Optimization, model: nn.Module) -> list[tuple[float, set[str]]]:
    names = {p: name for name, p in model.named_parameters()}
    return [
        (g["weight_decay"], {names[p] for p in g["params"]}) for g in optim.build_optimizer(recipe, model).param_groups
    ]


def test_with_decay_all_every_trained_parameter_decays():
    model = network()
    ((decay, names),) = groups_by_name(Optimization(weight_decay=0.1), model)
    assert decay == 0.1 and names == {name for name, p in model.named_parameters() if p.requires_grad}


def test_without_decay_all_vectors_and_biases_are_a_first_group_without_decay():
    plain, decayed = groups_by_name(Optimization(optimizer="AdamW", weight_decay=0.05, decay_all=False), network())
    assert plain == (0.0, {"0.weight", "0.bias", "1.bias", "2.bias", "conv.bias"})
    assert decayed == (0.05, {"1.weight", "2.weight", "PA", "conv.weight"})


def test_a_schedule_reaches_every_group_and_leaves_those_without_decay_alone():
    recipe = Optimization(
        optimizer="AdamW", base_lr=0.4, weight_decay=0.1, weight_decay_end=0.3, decay_all=False, num_epoch=2, step=[1]
    )
    optimizer = optim.build_optimizer(recipe, network())
    assert optim.set_schedule(optimizer, recipe, 5, 5) == pytest.approx(0.04)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.04, 0.04])
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.0, 0.2])


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)]
)
def test_an_optimizer_is_torchs_with_the_recipes_numbers(name, kind):
    optimizer = optim.build_optimizer(Optimization(optimizer=name, base_lr=0.2, momentum=0.8, nesterov=True), network())
    assert type(optimizer) is kind and optimizer.defaults["lr"] == 0.2
    if name == "SGD":
        assert optimizer.defaults["momentum"] == 0.8 and optimizer.defaults["nesterov"]
    else:
        assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["eps"] == 1e-8


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, number: int, overflow: bool, clip: float) -> torch.Tensor:
    """The weights after some steps with a loss scale, of which the first may overflow."""
    draw, scaler = torch.Generator().manual_seed(0), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(number):
        loss = model(torch.randn(5, 3, 4, 2, 1, generator=draw)).square().mean()
        scaler.scale(loss * torch.inf if overflow and step == 0 else loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def plain(recipe: Optimization, fused: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Plain(3, 2, 1)
    return model, optim.build_optimizer(recipe, model, fused)


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("overflow", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_fused_optimizer_steps_as_others_do_also_clipped_and_after_an_overflow(name, overflow, clip):
    recipe = Optimization(optimizer=name, base_lr=0.05, weight_decay=1e-2)
    one, other = (steps(*plain(recipe, fused), 4, overflow, clip) for fused in (False, True))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_fused_sgd_steps_on_when_a_parameter_thaws():
    found = []
    for fused in (False, True):
        model, optimizer = plain(Optimization(), fused)
        optim.set_frozen(model, ["first"], True)
        steps(model, optimizer, 2, False, 0.0)
        optim.set_frozen(model, ["first"], False)
        found.append(steps(model, optimizer, 2, False, 0.0))
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_continues_from_the_checkpoint_of_another_device_with_its_own_implementation(name, fused):
    recipe = Optimization(optimizer=name, base_lr=0.05)
    model, before = plain(recipe, not fused)
    optim.set_frozen(model, ["first"], True)  # of which no momentum is kept
    steps(model, before, 2, False, 0.0)
    optim.set_frozen(model, ["first"], False)
    copied, after = plain(recipe, fused)
    copied.load_state_dict(model.state_dict())
    optim.load_state(after, copy.deepcopy(before.state_dict()))
    assert [bool(group["fused"]) for group in after.param_groups] == [fused]
    torch.testing.assert_close(
        steps(model, before, 3, False, 0.0), steps(copied, after, 3, False, 0.0), rtol=0, atol=1e-6
    )


def test_the_moving_average_is_the_formula_running_statistics_included_and_counters_are_copied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = optim.MovingAverage(model, 0.9)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        model(torch.randn(5, 3))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        average.update()
        for name, value in model.state_dict().items():
            expected[name] = 0.9 * expected[name] + (1 - 0.9) * value if value.is_floating_point() else value.clone()
    found = average.model.state_dict()
    assert int(found["1.num_batches_tracked"]) == 3
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-7)
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training


def test_the_moving_average_of_a_tensor_with_two_names_is_updated_once():
    model = nn.Sequential(nn.Linear(2, 2))
    model.second = model[0]
    average = optim.MovingAverage(model, 0.9)
    before = model[0].weight.detach().clone()
    model[0].weight.data += 1
    average.update()
    torch.testing.assert_close(average.model.second.weight, before + 0.1)
    assert average.model.second.weight is average.model[0].weight


def test_freezing_removes_the_gradients_of_the_named_parameters_and_restores_them():
    model = Plain(2, 1, 1)
    model(torch.ones(1, 3, 2, 1, 1)).sum().backward()
    assert optim.set_frozen(model, ["first"], True) == ["first.weight", "first.bias"]
    assert model.first.weight.grad is None and model.fc.weight.grad is not None
    model(torch.ones(1, 3, 2, 1, 1)).sum().backward()
    assert model.first.weight.grad is None
    optim.set_frozen(model, ["first"], False)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("freeze_epoch", [1, 2])
def test_weight_decay_and_momentum_do_not_change_a_parameter_in_its_frozen_epochs(
    tmp_path, experiment, main, freeze_epoch
):
    config = experiment(freeze=["PA"], freeze_epoch=freeze_epoch, num_epoch=3, keep=3, weight_decay=0.1)
    assert main("--config", config, "--work-dir", tmp_path)[0] == 0
    start = torch.load(tmp_path / "epoch_1.pt")["model"]
    states = [torch.load(tmp_path / f"epoch_{n}.pt")["model"] for n in (1, 2, 3)]
    from graph.ucla import Graph

    moved = [not torch.equal(state["l1.gcn1.PA"], torch.from_numpy(Graph().A).float()) for state in states]
    assert moved == [epoch >= freeze_epoch for epoch in range(3)]
    assert not torch.equal(start["fc.weight"], states[1]["fc.weight"])


def test_a_word_that_freezes_nothing_is_refused(tmp_path, experiment, main):
    code, _, err = main(
        "--config", experiment(freeze=["PA", "nothing"], freeze_epoch=1), "--work-dir", tmp_path / "run"
    )
    assert code == 2 and "freeze: expected parts of parameter names, got 'nothing'" in err
    assert not (tmp_path / "run").exists()

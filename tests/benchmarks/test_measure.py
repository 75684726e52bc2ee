"""Ratios, training steps and inference, and the measurement of another checkout with its own code."""

import shutil
import sys

import pytest
import torch

from benchmarks import measure
from benchmarks.networks import Setting
from tests.recorded import pretend_graphs
from torchlight.system.paths import ROOT

CPU = torch.device("cpu")
SMALL = Setting("ctrgcn", 1, 4, {"channels": [8]})


def test_a_ratio_is_the_median_over_the_rounds_of_the_first_side_divided_by_the_second(monkeypatch):
    now = 0.0

    def works(*seconds):
        left = iter([100.0, *seconds])  # the first call only warms up

        def work():
            nonlocal now
            now += next(left)

        return work

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
    found = measure.in_turns({"slow": works(4, 9, 8), "fast": works(1, 3, 4)}, 3, CPU)
    assert found["slow"]["ratio"] == 1
    assert found["fast"] == {"seconds": 3, "ratio": 3, "low": 2.5, "high": 3.5}


def test_the_sides_of_a_comparison_are_measured_alternately():
    calls = []
    measure.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU)
    assert calls == ["a", "b"] * 3


def test_a_training_step_changes_the_weights_and_inference_does_not():
    model, (data, label) = SMALL.build(CPU), SMALL.clips(1, CPU)
    before = model.fc.weight.clone()
    measure.inference(model, data)()
    assert torch.equal(model.fc.weight, before) and not model.training
    measure.training_step(model, data, label)()
    assert not torch.equal(model.fc.weight, before) and model.training


def test_a_recorded_training_step_changes_the_weights_as_any_other(monkeypatch):
    weights = []
    for record in (False, True):
        model, (data, label) = SMALL.build(CPU), SMALL.clips(1, CPU)
        graphs = pretend_graphs(monkeypatch, list(model.buffers())) if record else []
        step = measure.training_step(model, data, label, record=record)
        for _ in range(4):
            step()
        assert len(graphs) == record
        weights.append(model.fc.weight.clone())
    assert torch.equal(*weights)


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose CTR-GCN adds 1 to its logits."""
    for folder in ("model", "graph", "torchlight"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "model/ctrgcn.py"
    text = file.read_text()
    file.write_text(text + "\n\nours = Model.forward\nModel.forward = lambda self, data: ours(self, data) + 1\n")
    return tmp_path


def test_a_network_of_another_checkout_uses_its_own_code_and_ours_is_unchanged(checkout):
    modules = dict(sys.modules)
    with measure.other_checkout(checkout):
        theirs = SMALL.build(CPU).eval()
    ours, (data, _) = SMALL.build(CPU).eval(), SMALL.clips(1, CPU)
    assert type(theirs).features.__code__.co_filename.startswith(str(checkout))
    assert type(ours).features.__code__.co_filename.startswith(str(ROOT))
    assert all(sys.modules[name] is module for name, module in modules.items())
    assert str(checkout) not in sys.path
    with torch.no_grad():
        assert torch.allclose(theirs(data), ours(data) + 1)


def test_a_folder_without_networks_is_not_accepted_as_a_checkout(tmp_path):
    with (
        pytest.raises(ValueError, match="--against: expected a checkout of this project"),
        measure.other_checkout(tmp_path),
    ):
        pass

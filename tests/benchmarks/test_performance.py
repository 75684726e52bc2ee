"""The benchmark runs, its ratios are ratios, and the page of performance is what the stored results say."""

import argparse
import json

import pytest
import torch

from benchmarks import measure, run
from benchmarks.networks import SETTINGS, Setting
from benchmarks.performance_page import PAGE, RESULTS, make_page
from model.fold import fold

CPU = torch.device("cpu")


def test_the_page_is_up_to_date_with_the_results():
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    assert PAGE.read_text() == make_page(results), "run python -m benchmarks.performance_page"


def test_a_ratio_is_the_median_over_the_rounds_of_the_first_side_by_the_other(monkeypatch):
    now = 0.0

    def works(*seconds):
        left = iter([100.0, *seconds])  # the first call only warms up

        def work():
            nonlocal now
            now += next(left)

        return work

    monkeypatch.setitem(measure.CLOCKS, "wall", lambda: now)
    found = measure.in_turns({"slow": works(4, 9, 8), "fast": works(1, 3, 4)}, 3, CPU)
    assert found["slow"]["ratio"] == 1
    assert found["fast"] == {"seconds": 3, "ratio": 3, "low": 2.5, "high": 3.5}


def test_every_setting_of_the_benchmark_is_a_network_of_its_paper_at_full_size():
    for setting in SETTINGS.values():
        assert sum(p.numel() for p in setting.build(CPU).parameters()) > 1e6


def test_a_training_step_moves_the_weights_and_inference_does_not():
    setting = Setting("ctrgcn", 1, 4, {"channels": [8]})
    model, float32 = setting.build(CPU), measure.Arithmetic("float32", CPU)
    data, label = setting.clips(1, CPU)
    before = model.fc.weight.clone()
    measure.inference(model, data, float32)()
    assert torch.equal(model.fc.weight, before)
    measure.training_step(model, data, label, float32)()
    assert not torch.equal(model.fc.weight, before)


def test_a_folded_network_is_measured_with_the_same_logits_as_the_literal_one():
    setting = Setting("ctrgcn", 1, 4, {"channels": [8, 16]})
    model, (data, _) = setting.build(CPU).eval(), setting.clips(2, CPU)
    with torch.no_grad():
        assert torch.allclose(fold(model)(data), run.literal(model)(data), atol=1e-5)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(before)


def test_one_run_measures_every_part_and_its_page_names_them(monkeypatch, one_thread):
    small = Setting("ctrgcn", 1, 4, {"channels": [8]}, published=(6.1, None))
    monkeypatch.setattr(run, "SETTINGS", {"CTR-GCN": small})
    monkeypatch.setattr(run, "peaks", lambda device: {"float32": 1e11, "bfloat16": 2e11, "bytes": 1e10})
    monkeypatch.setattr(run, "feeding_ratios", lambda rounds: {"joint": {"clip by clip": 1, "whole batches": 4, "ratio": 4}})
    monkeypatch.setattr(run, "epoch", lambda *_: {"clips_per_second": 7.0, "data_share": 0.0123, "clips": 8, "batch": 2})
    args = argparse.Namespace(clock="processor", rounds=2, parts=run.PARTS, compile=False)
    found = {"machine": run.machine(CPU), "command": "python"} | run.measure(args, ["CTR-GCN"], CPU)
    page = make_page([json.loads(json.dumps(found))])
    for word in (
        "Training step",
        "Inference",
        "One clip",
        "Kept for the backward pass",
        "Feeding",
        "An epoch",
        "1.2 %",
        "6.1",
        "of the bound",
    ):
        assert word in page
    assert set(found["networks"]["CTR-GCN"]["inference"][0]) == {"batch", "literal", "float32", "float32, folded", "bfloat16, folded"}

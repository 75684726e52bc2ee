"""The benchmark runs, its ratios are ratios, and the page of performance is what the stored results say."""

import argparse
import json

import pytest
import torch

from benchmarks import measure, profile_page, run
from benchmarks.kinds import KINDS, REST, kind_of, profiled
from benchmarks.networks import SETTINGS, Setting, multiply_adds
from benchmarks.performance_page import PAGE, RESULTS, make_page, picture_name
from benchmarks.plain import PlainProcess
from model.fuse_norms import fuse_norms
from torchlight.runtime.malloc import keep_memory

CPU = torch.device("cpu")


def test_the_page_is_up_to_date_with_the_results():
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    assert PAGE.read_text() == make_page(results), "run python -m benchmarks.performance_page"
    pictures = {picture_name(found) for found in results if profile_page.profiles_of(found)}
    assert {path.name for path in PAGE.parent.glob("performance-*.png")} == pictures, (
        "run python -m benchmarks.performance_page"
    )


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
        assert torch.allclose(fuse_norms(model)(data), run.reference(model)(data), atol=1e-5)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(before)


class NotElsewhere(PlainProcess):
    """Stands in for the other process, whose start takes seconds."""

    def __init__(self, setting, what, threads, clock):
        self.work = measure.inference(
            run.reference(setting.build(CPU)), setting.clips(1, CPU)[0], measure.Arithmetic("float32", CPU)
        )

    def __exit__(self, *_):
        pass

    def __call__(self):
        return measure.seconds(self.work, CPU)

    def profiled(self):
        return profiled(self.work)


def test_one_run_measures_every_part_and_its_page_names_them(monkeypatch, one_thread):
    small = Setting("ctrgcn", 1, 4, {"channels": [8]}, published=(6.1, None))
    monkeypatch.setattr(run, "SETTINGS", {"CTR-GCN": small})
    monkeypatch.setattr(run, "PlainProcess", NotElsewhere)
    monkeypatch.setattr(
        run, "peaks", lambda device: {"float32": 1e11, "float32, matrix product": 9e10, "bfloat16": 2e11, "bytes": 1e10}
    )
    monkeypatch.setattr(
        run, "feeding_ratios", lambda rounds: {"joint": {"clip by clip": 1, "whole batches": 4, "ratio": 4}}
    )
    monkeypatch.setattr(
        run, "epoch", lambda *_: {"clips_per_second": 7.0, "data_share": 0.0123, "clips": 8, "batch": 2}
    )
    args = argparse.Namespace(clock="processor", rounds=2, parts=run.PARTS, compile=False, threads=1)
    found = {"machine": run.machine(CPU), "command": "python", "clock": "processor"} | run.measure(
        args, ["CTR-GCN"], CPU
    )
    found = json.loads(json.dumps(found))
    page = make_page([found])
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
        "float32, folded against plain process",
        "Where the time goes",
        "of the machine's rate",
    ):
        assert word in page
    sides = {"literal", measure.PLAIN, "float32", "float32, folded", "bfloat16, folded"}
    assert set(found["networks"]["CTR-GCN"]["inference"][0]) == {"batch", *sides}
    drawn = profile_page.picture(found)
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in drawn.axes]
    assert names == [[measure.PLAIN, "literal", "float32"], [measure.PLAIN, "literal", "float32, folded"]]


def test_a_network_without_a_reference_formulation_is_reported_and_not_compared_with_itself(monkeypatch, capsys):
    monkeypatch.setattr(run, "SETTINGS", {"New": Setting("ctrgcn", 1, 4, {"channels": [8]})})
    monkeypatch.setattr(run, "has_reference", lambda model: False)
    monkeypatch.setattr(run, "peaks", lambda device: {})
    args = argparse.Namespace(clock="processor", rounds=1, parts=("networks", "latency", "memory", "profile"))
    entry = run.measure(args, ["New"], CPU)["networks"]["New"]
    assert entry.keys() == {"setting", "multiply_adds", "reference"}
    assert "New: no reference formulation" in capsys.readouterr().out


def test_the_plain_process_gets_new_pages_in_every_call_where_ours_keeps_them(one_thread):
    setting = Setting("ctrgcn", 4, 64, {"channels": [64]})  # maps of 3.3 MB
    assert keep_memory()
    data, _ = setting.clips(setting.batch, CPU)
    here = profiled(measure.inference(run.reference(setting.build(CPU)), data, measure.Arithmetic("float32", CPU)))
    with PlainProcess(setting, "inference", 1, "wall") as plain:
        there = plain.profiled()
        assert measure.seconds(plain, CPU) > 0
    assert there["multiply_adds"] == here["multiply_adds"]
    assert there["new_pages"] > 1000 > here["new_pages"]


def test_work_done_elsewhere_counts_the_seconds_that_it_returns(monkeypatch):
    monkeypatch.setitem(measure.CLOCKS, "wall", lambda: 0.0)
    found = measure.in_turns({"literal": lambda: 6.0, measure.PLAIN: lambda: 8.0, "float32": lambda: 4.0}, 2, CPU)
    assert [value["ratio"] for value in found.values()] == [1, 0.75, 1.5]
    assert [value["plain"]["ratio"] for value in found.values()] == [8 / 6, 1, 2]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten.convolution_backward", "convolution"),
        ("aten::bmm", "matrix product"),
        ("aten.baddbmm", "matrix product"),
        ("aten::addmm", "matrix product"),
        ("aten::native_batch_norm_backward", "norm"),
        ("aten::max_pool2d_with_indices", "pooling and sums"),
        ("aten::sum", "pooling and sums"),
        ("aten::copy_", "copies"),
        ("aten::cat", "copies"),
        ("aten::add_", "pointwise"),
        ("aten::tanh_backward", "pointwise"),
        ("aten::as_strided", REST),
        ("Optimizer.step#SGD.step", REST),
    ],
)
def test_every_operation_is_of_one_kind(operation, kind):
    assert kind_of(operation) == kind


def test_a_profile_shares_out_all_of_the_time_and_all_of_the_multiply_adds(one_thread):
    setting = Setting("ctrgcn", 1, 8, {"channels": [8]})
    model, (data, label) = setting.build(CPU), setting.clips(1, CPU)
    float32 = measure.Arithmetic("float32", CPU)
    found = profiled(measure.inference(model, data, float32))
    assert list(found["shares"]) == [*KINDS, REST] and sum(found["shares"].values()) == pytest.approx(1)
    assert all(found["shares"][kind] > 0 for kind in KINDS)
    assert set(found["multiply_adds"]) == {"convolution", "matrix product"}
    assert sum(found["multiply_adds"].values()) == multiply_adds(model, data)
    step = profiled(measure.training_step(model, data, label, float32))
    assert sum(step["multiply_adds"].values()) > 2 * multiply_adds(model, data)


def results(name="here", clock="wall", **networks):
    machine = {"name": name, "date": "today", "commit": "abc"}
    return {
        "machine": machine,
        "command": f"run {name}",
        "clock": clock,
        "rounds": 3,
        "peaks": len(networks),
        "networks": networks,
    }


def test_merged_results_replace_what_was_measured_again_and_keep_the_rest():
    old = results(A={"memory": 1, "training step": 2}, B={"memory": 3}) | {"feeding": 4}
    found = run.merge(old, results(A={"memory": 5}) | {"command": "again"})
    assert found["networks"] == {"A": {"memory": 5, "training step": 2}, "B": {"memory": 3}}
    assert found["feeding"] == 4 and found["command"] == "run here" and found["peaks"] == 2
    assert found["merged"] == [{"command": "again", "date": "today", "commit": "abc"}]
    timed = run.merge(found, results(C={"training step": 6}))
    assert timed["peaks"] == 1 and len(timed["merged"]) == 2 and list(timed["networks"]) == ["A", "B", "C"]


def test_results_of_another_machine_or_clock_or_none_at_all_are_not_merged_into(tmp_path):
    path = tmp_path / "here.json"
    with pytest.raises(ValueError, match="found no .*here.json"):
        run.results_to_keep(path, results())
    path.write_text(json.dumps(results()))
    assert run.results_to_keep(path, results(A={})) == results()
    with pytest.raises(ValueError, match="found the machine there; allowed is here"):
        run.results_to_keep(path, results("there"))
    with pytest.raises(ValueError, match="found the clock processor; allowed is wall"):
        run.results_to_keep(path, results(clock="processor"))

"""The benchmark runs, keeps what it does not measure anew, and the page of performance is what the stored results
say."""

import json

import pytest
import torch

from benchmarks import preparation, run
from benchmarks.networks import SETTINGS, Setting
from benchmarks.performance_page import PAGE, RESULTS, make_page, slug
from torchlight.training.engine import for_inference

CPU = torch.device("cpu")
SMALL = Setting("ctrgcn", 1, 4, {"channels": [8, 16]})
COSTS = {"clips_per_second": 500.0, "cpu_ms": 2.0, "bytes": 30000.0, "peak_mb": 100.0}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A small network and no programs; returns the flags for results in a file of its own."""
    monkeypatch.setitem(run.SETTINGS, "CTR-GCN", SMALL)
    monkeypatch.setattr(run.preparation, "measure", lambda checkouts, *_: {"agcn": dict.fromkeys(checkouts, COSTS)})
    monkeypatch.setattr(run, "epochs", lambda *_: {"0": {"clips_per_second": 7.0, "data_share": 0.0123, "batch": 2}})
    few = preparation.ntu_clips
    monkeypatch.setattr(run.preparation, "ntu_clips", lambda folder, performers: few(folder, 2))
    return ["--only", "CTR-GCN", "--rounds", "1", "--threads", "1", "--out", str(tmp_path / "found.json")]


def test_the_page_is_up_to_date_with_the_results():
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    assert PAGE.read_text() == make_page(results), "run python -m benchmarks.performance_page"


def test_every_file_of_results_has_the_name_of_its_machine():
    for path in RESULTS.glob("*.json"):
        assert path.stem == slug(json.loads(path.read_text())["machine"]["name"])


def test_one_run_measures_every_part_and_its_page_shows_them(small, tmp_path):
    assert run.main(small) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    network = found["networks"]["CTR-GCN"]
    assert list(network["training step"][0]["sides"]) == ["reference", "float32", "bfloat16"]
    assert list(network["inference"][0]["sides"]) == ["reference", "float32", "bfloat16"]
    page = make_page([found])
    titles = ("Training step", "Inference", "One clip", "Memory kept", "Feeding on", "Preparation of", "An epoch of")
    for text in (
        *titles,
        "| CTR-GCN | 4 | 1 |",
        "| bone motion |",
        "| `agcn` | 500 | 30,000 | 100 | 2.0 |",
        "| 1.2 % |",
    ):
        assert text in page, text
    assert "benchmarks.run --only CTR-GCN" in page


def test_another_checkout_is_measured_beside_this_one_and_not_stored(small, capsys):
    stored = sorted(RESULTS.iterdir())
    assert run.main([*small[:-2], "--parts", "networks", "preparation", "--against", str(run.ROOT)]) == 0
    printed = capsys.readouterr().out
    assert "training step, batch 1" in printed and "other checkout" in printed and "reference" not in printed
    assert "preparation, agcn, other checkout" in printed and sorted(RESULTS.iterdir()) == stored


def test_a_network_without_a_reference_formulation_has_speeds_and_no_factors(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "has_reference", lambda model: False)
    assert run.main([*small, "--parts", "networks"]) == 0
    assert "ctrgcn: no reference formulation" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    network = found["networks"]["CTR-GCN"]
    assert list(network["inference"][0]["sides"]) == ["float32", "bfloat16"] and list(network["memory"]) == ["float32"]
    assert "**" not in make_page([found]).split("## " + found["machine"]["name"])[1]


def test_a_network_of_other_size_in_the_other_checkout_is_refused(monkeypatch):
    sizes = iter([[8], [16]])
    build = Setting.build

    def build_another(self, device):
        return build(Setting("ctrgcn", 1, 4, {"channels": next(sizes)}), device)

    monkeypatch.setattr(Setting, "build", build_another)
    with pytest.raises(ValueError, match="--against: ctrgcn: expected .* parameters, got"):
        run.build_there(SMALL, run.ROOT, CPU)


def test_a_profile_names_the_operations_and_stores_nothing(small, tmp_path, capsys):
    assert run.main([*small, "--profile"]) == 0
    assert "aten::" in capsys.readouterr().out and not (tmp_path / "found.json").exists()


def test_new_results_replace_those_of_the_same_network_or_part_and_keep_the_rest():
    old = {"machine": {"name": "a"}, "networks": {"A": 1, "B": 2}, "feeding": 3, "epoch": 4}
    new = {"machine": {"name": "a"}, "networks": {"B": 5}, "epoch": 6}
    assert run.merge(old, new) == {"machine": {"name": "a"}, "networks": {"A": 1, "B": 5}, "feeding": 3, "epoch": 6}
    assert run.merge({}, {"feeding": 7}) == {"feeding": 7}


def test_networks_of_two_commands_are_listed_with_their_command():
    first = json.loads((RESULTS / "amd-epyc-2-threads.json").read_text())
    first["networks"]["ST-GCN"]["measured"] = first["networks"]["ST-GCN"]["measured"] | {"commit": "1234567"}
    page = make_page([first])
    assert "\nST-GCN: 2026-11-21, commit 1234567" in page and "\nCTR-GCN, CTR-GCN, NW-UCLA, " in page


def test_mistakes_are_one_line(capsys, tmp_path):
    assert run.main(["--only", "CTR-GNC"]) == 2
    assert "error: --only: unknown network CTR-GNC; did you mean CTR-GCN?" in capsys.readouterr().err
    assert run.main(["--rounds", "0"]) == 2
    assert "--rounds: expected at least 1, got 0" in capsys.readouterr().err
    assert run.main(["--parts", "networks", "--only", "CTR-GCN", "--against", str(tmp_path)]) == 2
    assert "--against: expected a checkout" in capsys.readouterr().err


def test_every_setting_of_the_benchmark_is_a_network_of_its_paper_at_full_size():
    for setting in SETTINGS.values():
        assert sum(p.numel() for p in setting.build(CPU).parameters()) > 1e6


def test_all_sides_of_a_comparison_compute_the_same_logits():
    model, (data, _) = SMALL.build(CPU).eval(), SMALL.clips(2, CPU)
    with torch.no_grad():
        assert torch.allclose(for_inference(model)(data), run.reference(model)(data), atol=1e-5)
        assert torch.allclose(model(data), run.reference(model)(data), atol=1e-5)


def test_preparation_is_measured_on_a_real_store():
    found = preparation.measure({"this checkout": run.ROOT}, 1, 1, performers=1)
    for recipe in ("ctrgcn", "agcn"):
        values = found[recipe]["this checkout"]
        assert values["bytes"] > 10000 and values["cpu_ms"] > 0 and values["clips_per_second"] > 0
        assert values["peak_mb"] > 10 or not preparation.tree_memory(1)


def test_both_ways_of_feeding_make_batches_of_the_same_clips(tmp_path):
    store = preparation.ntu_clips(tmp_path, performers=2)
    whole = run.feeding.whole_batches(store, "joint")
    single = run.feeding.clip_by_clip(store.with_name("NTU60_CS.npz"), "joint")
    batch = whole([0, 1, 2])["data"]
    assert batch.shape == single([0, 1, 2]).shape == (3, 3, 64, 25, 2)
    assert torch.equal(batch.any(1).any(1).any(1), single([0, 1, 2]).bool().any(1).any(1).any(1))

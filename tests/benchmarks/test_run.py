"""The benchmark runs, keeps the results that it does not measure again, and its page is up to date with the stored
results."""

import json
from argparse import Namespace

import pytest
import torch

from benchmarks import pages, performance_page, preparation, run
from benchmarks.networks import SETTINGS, Setting
from benchmarks.performance_page import RESULTS, make_page, slug
from model import gpu
from torchlight.training.engine import for_inference

CPU = torch.device("cpu")
SMALL = Setting("ctrgcn", 1, 4, {"channels": [8, 16]})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield torch.set_num_threads(1)
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A small network, few clips, and results and page in a folder of their own; returns flags."""
    make_raw = preparation.make_raw
    monkeypatch.setitem(run.SETTINGS, "CTR-GCN", SMALL)
    monkeypatch.setattr(preparation, "make_raw", lambda folder: make_raw(folder, 2))
    monkeypatch.setattr(preparation, "RECIPES", ("agcn",))
    monkeypatch.setattr(performance_page, "RESULTS", tmp_path)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(run, "machine", lambda device: {"name": "Test, 1 thread"})
    return ["--only", "CTR-GCN", "--rounds", "1", "--threads", "1"]


def test_the_page_is_up_to_date_with_the_results():
    assert (pages.DOCS / "performance.md").read_text() == make_page(), "run python -m benchmarks.performance_page"


def test_every_file_of_results_has_the_name_of_its_machine():
    for path in RESULTS.glob("*.json"):
        assert path.stem == slug(json.loads(path.read_text())["machine"]["name"])


def test_one_run_measures_every_part_and_its_page_shows_them(small, tmp_path):
    assert run.main(small) == 0
    found = json.loads((tmp_path / "test-1-thread.json").read_text())
    network = found["networks"]["CTR-GCN"]
    assert list(network["training step"][0]["sides"]) == ["reference", "float32", "bfloat16"]
    assert list(network["inference"][0]["sides"]) == ["reference", "float32", "bfloat16"]
    assert found["preparation"]["recipes"]["agcn"]["bytes"] > 10000
    assert found["preparation"]["recipes"]["agcn"]["peak_mb"] > 10
    page = (tmp_path / "performance.md").read_text()
    titles = (
        "## Test, 1 thread",
        "### Training step",
        "### Inference",
        "### One clip",
        "### Feeding",
        "### Preparation",
    )
    for text in (*titles, "| CTR-GCN | 4 | 1 |", "| bone motion |", "| `agcn` |"):
        assert text in page, text
    assert "benchmarks.run --only CTR-GCN --rounds 1 --threads 1`: CTR-GCN; feeding; preparation\n" in page


def test_another_checkout_is_measured_beside_this_one_and_not_stored(small, tmp_path, capsys):
    assert run.main([*small, "--against", str(run.ROOT)]) == 0
    printed = capsys.readouterr().out
    for what in (
        "CTR-GCN, training step, 1 clip",
        "CTR-GCN, inference, 1 clip",
        "feeding, joint",
        "preparation, agcn",
    ):
        assert [what in line for line in printed.splitlines() if "other checkout" in line].count(True), what
    assert "reference" not in printed and not any(tmp_path.iterdir())


def test_a_network_without_a_reference_formulation_has_speeds_and_no_factors(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "has_reference", lambda model: False)
    assert run.main([*small, "--parts", "networks"]) == 0
    assert "ctrgcn: no reference formulation" in capsys.readouterr().out
    found = json.loads((tmp_path / "test-1-thread.json").read_text())
    assert list(found["networks"]["CTR-GCN"]["inference"][0]["sides"]) == ["float32", "bfloat16"]
    assert "**" not in (tmp_path / "performance.md").read_text().split("## Test, 1 thread")[1]


def test_a_network_of_other_size_in_the_other_checkout_is_refused(monkeypatch):
    sizes = iter([[8], [16]])
    build = Setting.build

    def build_another(self, device):
        return build(Setting("ctrgcn", 1, 4, {"channels": next(sizes)}), device)

    monkeypatch.setattr(Setting, "build", build_another)
    with pytest.raises(ValueError, match="--against: ctrgcn: expected .* parameters, got"):
        run.build_there(SMALL, Namespace(against=run.ROOT, device=CPU))


def test_a_checkout_without_the_network_is_refused(monkeypatch):
    def missing(self, device):
        raise ModuleNotFoundError("no", name="model.ctrgcn")

    monkeypatch.setattr(Setting, "build", missing)
    with pytest.raises(ValueError, match="--against: .* has no model.ctrgcn; choose networks with --only"):
        run.build_there(SMALL, Namespace(against=run.ROOT, device=CPU))


def test_a_profile_names_the_operations_and_stores_nothing(small, tmp_path, capsys):
    assert run.main([*small, "--profile"]) == 0
    assert "aten::" in capsys.readouterr().out and not any(tmp_path.iterdir())


def test_new_results_replace_those_of_the_same_network_or_part_and_keep_the_rest(small, tmp_path):
    stored = json.loads(next(RESULTS.glob("*.json")).read_text()) | {"machine": {"name": "Test, 1 thread"}}
    networks = {name: stored["networks"][name] for name in ("CTR-GCN", "ST-GCN")}
    new = networks["CTR-GCN"] | {"frames": 65, "measured": networks["CTR-GCN"]["measured"] | {"commit": "1234567"}}
    (tmp_path / "test-1-thread.json").write_text(json.dumps(stored | {"networks": networks}))
    run.store(Namespace(device=CPU), {"networks": {"CTR-GCN": new}})
    found = json.loads((tmp_path / "test-1-thread.json").read_text())
    assert found == stored | {"networks": networks | {"CTR-GCN": new}}
    page = (tmp_path / "performance.md").read_text()
    assert "commit 1234567" in page and "`: ST-GCN" in page


def test_a_batch_too_large_for_the_gpu_is_left_out_and_the_rest_is_stored(small, tmp_path, monkeypatch, capsys):
    measure, full = run.in_turns, iter([True])

    def in_turns(*args):
        if next(full, False):
            raise torch.OutOfMemoryError
        return measure(*args)

    monkeypatch.setattr(run, "in_turns", in_turns)
    assert run.main([*small, "--parts", "networks"]) == 0
    assert "CTR-GCN, training step, 1 clip: not measured, out of GPU memory" in capsys.readouterr().out
    network = json.loads((tmp_path / "test-1-thread.json").read_text())["networks"]["CTR-GCN"]
    assert network["training step"] == [] and len(network["inference"]) == 1


def test_each_network_is_stored_as_soon_as_it_is_measured(small, tmp_path, monkeypatch):
    measure = run.network

    def network(name, args):
        if name == "ST-GCN":
            raise ValueError("no")
        return measure(name, args)

    monkeypatch.setattr(run, "network", network)
    assert run.main([*small[:2], "ST-GCN", *small[2:], "--parts", "networks"]) == 2
    assert list(json.loads((tmp_path / "test-1-thread.json").read_text())["networks"]) == ["CTR-GCN"]


def test_mistakes_are_one_line_errors(capsys, tmp_path):
    assert run.main(["--only", "CTR-GNC"]) == 2
    assert "error: --only: unknown network CTR-GNC; did you mean CTR-GCN?" in capsys.readouterr().err
    assert run.main(["--rounds", "0"]) == 2
    assert "--rounds: expected a whole number from 1 to 1000, got '0'" in capsys.readouterr().err
    assert run.main(["--parts", "networks", "--only", "CTR-GCN", "--against", str(tmp_path)]) == 2
    assert "--against: expected a checkout" in capsys.readouterr().err
    assert run.main(["--profile", "--against", str(run.ROOT)]) == 2
    assert "--profile: cannot be combined with --against" in capsys.readouterr().err
    assert run.main(["--compile"]) == 2
    assert "--compile: expected --device with the number of a GPU, got cpu" in capsys.readouterr().err


def test_every_setting_of_the_benchmark_is_a_network_of_its_paper_at_full_size():
    for setting in SETTINGS.values():
        assert sum(p.numel() for p in setting.build(CPU).parameters()) > 1e6


def test_all_sides_of_a_comparison_compute_the_same_logits():
    model, (data, _) = SMALL.build(CPU).eval(), SMALL.clips(2, CPU)
    with torch.no_grad():
        assert torch.allclose(for_inference(model)(data), run.reference(model)(data), atol=1e-5)
        assert torch.allclose(model(data), run.reference(model)(data), atol=1e-5)


def test_a_training_step_on_a_gpu_is_also_measured_with_all_options_that_the_network_supports(monkeypatch):
    monkeypatch.setattr(gpu, "can_load_block", lambda: True)
    ours, other = SMALL.build(CPU), SETTINGS["MS-G3D"].build(CPU)
    assert run.step_options(ours, False) == [("CUDA graph",), ("triton",), ("triton", "CUDA graph")]
    assert ("triton", "compile") in run.step_options(ours, True)
    assert not any("triton" in options for options in run.step_options(other, True))
    monkeypatch.setattr(gpu, "can_load_block", lambda: False)
    assert run.step_options(ours, False) == [("CUDA graph",)]


def test_feeding_asks_for_every_clip_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("feeders.feeder_ntu.Feeder.__getitems__", lambda self, indices: asked.extend(indices))
    preparation.make_raw(tmp_path, performers=3)
    preparation.prepare(tmp_path, "ctrgcn", 1)
    work, count = run.one_pass(tmp_path / "ntu.clips", "joint")
    work()
    assert count > 0 and sorted(asked) == list(range(count)) and asked != sorted(asked)

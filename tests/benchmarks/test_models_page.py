"""The page of networks shows what the code, the configurations and the table of published figures say."""

import pytest
import torch

from benchmarks import models_page, pages
from benchmarks.networks import CONFIG, FOLDERS, SETTINGS, clip_shape, networks, setting
from torchlight.config.imports import import_object
from torchlight.config.load import load_config

PAGE = pages.DOCS / "models.md"
SIZES = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
CELLS = {row.split("`")[1]: [cell.strip() for cell in row.split("|")[2:-1]] for row in SIZES}
SHOWN = {(name, folder): cell for name, row in CELLS.items() for folder, cell in zip(FOLDERS, row, strict=True) if cell}
AGAIN = "run python -m benchmarks.models_page"


def config_of(name, folder):
    return load_config(CONFIG / folder / f"{name}.yaml")


def test_the_text_and_the_published_figures_are_up_to_date(monkeypatch):
    shown = PAGE.read_text().split("\n\n")
    sizes = next(block for block in shown if block.startswith("|  | NTU"))
    monkeypatch.setattr(models_page, "size_table", lambda: sizes)
    assert models_page.make_page() == PAGE.read_text(), AGAIN


def test_every_network_and_every_recipe_of_another_network_is_on_the_page():
    assert list(CELLS) == list(models_page.recipes()), AGAIN
    recipes = {(n, f) for n in CELLS for f in FOLDERS if (CONFIG / f / f"{n}.yaml").is_file()}
    assert set(SHOWN) == recipes and len(recipes) >= 4 * 9
    assert set(networks()) <= set(CELLS)
    assert {"dke7", "dke9", "dke_s8"} <= set(CELLS) and "dke7_assistant" not in CELLS


@pytest.mark.parametrize(("name", "folder"), SHOWN)
def test_the_parameters_on_the_page_are_those_of_the_recipe(name, folder):
    config = config_of(name, folder)
    parameters = sum(p.numel() for p in import_object(config.model)(**config.model_args).parameters())
    assert SHOWN[name, folder].startswith(f"{parameters:,} / "), AGAIN


@pytest.mark.parametrize("name", CELLS)
def test_the_multiply_adds_on_the_page_are_those_of_the_code(name):
    folder = list(FOLDERS)[-1] if (name, "NW-UCLA") in SHOWN else next(f for n, f in SHOWN if n == name)
    assert models_page.size(config_of(name, folder)) == SHOWN[name, folder], AGAIN


def test_multiply_adds_are_counted_for_the_clip_that_the_recipe_tests_on():
    config = config_of("stgcn", "NW-UCLA")
    assert clip_shape(config) == ((3, 52, 20, 1), 1)
    assert clip_shape(config_of("dgstgcn", "kinetics")) == ((3, 100, 18, 2), 10)
    assert clip_shape(config_of("msg3d", "kinetics")) == ((3, 300, 18, 2), 1)
    models_page.size(config)
    assert next(import_object(config.model)(**config.model_args).parameters()).device == torch.device("cpu")


def test_a_network_that_the_template_does_not_mention_gets_a_section(tmp_path, monkeypatch):
    text = (pages.HERE / "models.template.md").read_text()
    assert models_page.others() == ""
    monkeypatch.setattr(pages, "HERE", tmp_path)
    (tmp_path / "models.template.md").write_text(text.replace("{{paper ctrgcn}}", ""))
    section = models_page.others()
    assert section.startswith("## CTR-GCN\n\n*CTR-GCN: Channel-wise Topology Refinement")
    assert section.endswith("    python main.py --config config/ntu/xsub/ctrgcn.yaml")


def test_the_benchmark_measures_every_network_at_the_size_of_its_recipe():
    assert {found.model for found in SETTINGS.values()} == set(networks())
    found = SETTINGS["MS-G3D"]
    assert (found.model, found.batch, found.frames, found.args["num_class"]) == ("msg3d", 2, 300, 60)
    assert found.args["num_gcn_scales"] == 13
    assert (SETTINGS["CTR-GCN"].batch, SETTINGS["CTR-GCN"].frames) == (8, 64)
    assert SETTINGS["CTR-GCN, NW-UCLA"].args["graph"] == "graph.ucla.Graph"
    assert setting("new", None).frames == 64
    assert SETTINGS["PoseConv3D"].clips(1, torch.device("meta"))[0].shape == (1, 17, 48, 64, 64)


def test_a_published_figure_of_an_unknown_stream_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(models_page, "PUBLISHED", tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("model,dataset,split,stream,top1,source\nctrgcn,ntu,xsub,joints,90.0,somewhere\n")
    with pytest.raises(ValueError, match="expected the streams .*, got \\['joints'\\]"):
        models_page.published("ctrgcn")
    (tmp_path / "p.csv").write_text("model,top1\n")
    with pytest.raises(ValueError, match="expected the columns model,.*, got model,top1"):
        models_page.published("ctrgcn")


def test_every_published_figure_is_shown_with_its_source():
    rows = models_page.read_published()
    assert all(0 < float(row["top1"]) < 100 and row["source"] for row in rows)
    page = PAGE.read_text()
    for name in {row["model"] for row in rows}:
        assert models_page.published(name) in page
    keys = [(row["model"], row["dataset"], row["split"], row["stream"], row["source"]) for row in rows]
    assert len(set(keys)) == len(keys)

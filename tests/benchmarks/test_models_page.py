"""The page of networks is what the code, the configurations and the table of published figures say."""

import pytest
import torch

from benchmarks import models_page
from benchmarks.models_page import FOLDERS, NETWORKS, PAGE, ROOT
from torchlight.config.imports import import_object
from torchlight.config.load import load_config

SIZES = [line for line in PAGE.read_text().splitlines() if line.startswith(("| | NTU", "|---|---|---|---|---|", "| `"))]
CELLS = {row.split("`")[1]: [cell.strip() for cell in row.split("|")[2:-1]] for row in SIZES if "`" in row}
SHOWN = {(name, folder): cell for name, row in CELLS.items() for folder, cell in zip(FOLDERS, row, strict=True) if cell}
AGAIN = "run python -m benchmarks.models_page"


def config_of(name, folder):
    return load_config(ROOT / "config" / folder / f"{name}.yaml")


def test_the_text_and_the_published_figures_are_up_to_date(monkeypatch):
    shown = PAGE.read_text().split("\n\n")
    sizes = next(block for block in shown if block.startswith("| | NTU"))
    monkeypatch.setattr(models_page, "size_table", lambda: sizes)
    assert models_page.make_page() == PAGE.read_text(), AGAIN


def test_every_network_of_every_benchmark_is_on_the_page():
    recipes = {
        (name, folder)
        for name in NETWORKS
        for folder in FOLDERS
        if (ROOT / "config" / folder / f"{name}.yaml").is_file()
    }
    assert set(SHOWN) == recipes and len(recipes) >= 4 * 9
    known = {path.stem for path in (ROOT / "model").glob("*.py")} - {"__init__", "blocks", "fold", "products"}
    assert known <= set(NETWORKS)


@pytest.mark.parametrize(("name", "folder"), SHOWN)
def test_the_parameters_on_the_page_are_those_of_the_recipe(name, folder):
    config = config_of(name, folder)
    parameters = sum(p.numel() for p in import_object(config.model)(**config.model_args).parameters())
    assert SHOWN[name, folder].startswith(f"{parameters:,} / "), AGAIN


def test_multiply_adds_are_counted_for_the_clip_that_the_recipe_tests_on():
    config = config_of("stgcn", "NW-UCLA")
    assert models_page.clip_shape(config) == ((3, 52, 20, 1), 1)
    assert models_page.clip_shape(config_of("dgstgcn", "kinetics")) == ((3, 100, 18, 2), 10)
    assert models_page.clip_shape(config_of("msg3d", "kinetics")) == ((3, 300, 18, 2), 1)
    assert " / ".join((*models_page.size(config), "52")) == SHOWN["stgcn", "NW-UCLA"], AGAIN
    assert next(import_object(config.model)(**config.model_args).parameters()).device == torch.device("cpu")


def test_a_published_figure_of_an_unknown_stream_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(models_page, "PUBLISHED", tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("model,dataset,split,stream,top1,source\nctrgcn,ntu,xsub,joints,90.0,somewhere\n")
    with pytest.raises(ValueError, match="found \\['joints'\\]"):
        models_page.published("ctrgcn")


def test_every_published_figure_is_shown_and_says_who_stated_it():
    rows = models_page.read_published()
    assert all(0 < float(row["top1"]) < 100 and row["source"] for row in rows)
    page = PAGE.read_text()
    for name in {row["model"] for row in rows}:
        assert models_page.published(name) in page
    keys = [(row["model"], row["dataset"], row["split"], row["stream"], row["source"]) for row in rows]
    assert len(set(keys)) == len(keys)

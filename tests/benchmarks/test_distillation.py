"""Teacher, student alone and student distilled: the trainings, the figures and the page."""

import numpy as np
import pytest
import yaml

from benchmarks import distillation, distillation_page, pages, results
from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.commands import programs
from torchlight.config.load import load_config
from torchlight.fusion.groups import Groups
from torchlight.training import teacher


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with recipes of a teacher and a student, as `config/toy`, in which the command works."""
    options = tiny.options(tiny.write_benchmark(tmp_path / "tiny.clips")) | {"num_epoch": 1}
    student = options | {"model_args": options["model_args"] | {"channels": [8]}}
    student |= {"objective": "torchlight.distillation.DecoupledKnowledge"}
    student |= {"teacher": {"model": options["model"], "model_args": {"channels": [8, 8]}, "weights": "elsewhere.pt"}}
    (tmp_path / "config/toy").mkdir(parents=True)
    for name, recipe in (("big", options), ("small", student)):
        (tmp_path / f"config/toy/{name}.yaml").write_text(yaml.safe_dump(recipe))
    table = tmp_path / "distillation.csv"
    table.write_text(",".join(distillation_page.COLUMNS) + "\n")
    for module, name, value in (
        (distillation, "ROOT", tmp_path),
        (results, "ROOT", tmp_path),
        (distillation, "TABLE", table),
        (distillation_page, "TABLE", table),
        (pages, "DOCS", tmp_path),
        (teacher, "CHANCE_FACTOR", 0),  # one epoch teaches nothing
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.chdir(tmp_path)

    def call(words, environment=None):
        print("$ python", *words)
        assert words[0] == "main.py" and cli.main(words[1:]) == 0

    monkeypatch.setattr(programs, "call", call)
    return tmp_path


def test_a_student_learns_from_the_teacher_of_its_seed_and_rows_contain_the_figures_of_the_runs(place, capfd):
    words = "--dataset toy --teacher big --student small --seeds 2 --budget full --rounds 2".split()
    assert distillation.main(words) == 0
    assert capfd.readouterr().out.count("$ python main.py") == 6
    runs = {role: place / f"work_dir/results/full/seed2/toy/{role}/joint" for role in ("big", "small_alone")}
    runs["small_distilled"] = runs["big"].parents[1] / "small_distilled/joint"
    configs = {role: load_config(folder / "config.yaml") for role, folder in runs.items()}
    assert configs["small_distilled"].teacher[0]["weights"] == "work_dir/results/full/seed2/toy/big/joint/last.pt"
    assert configs["small_alone"].teacher == [] and configs["small_alone"].objective.endswith("Classification")
    top1 = {role: tiny.metrics(folder)[-1]["test_top1"] for role, folder in runs.items()}
    rows = pages.read_table(distillation.TABLE, distillation_page.COLUMNS)
    assert [row["mean"] for row in rows] == [f"{value:.2f}" for value in top1.values()]
    teacher, alone, distilled = (row["difference"].split(" ")[0] for row in rows)
    assert teacher == f"{top1['big'] - top1['small_alone']:+.2f}" and alone == ""
    assert distilled == f"{top1['small_distilled'] - top1['small_alone']:+.2f}"
    assert rows[0]["parameters"] != rows[1]["parameters"] == rows[2]["parameters"]
    assert "| student distilled | small | toy | joint | 1 single passes" in (place / "distillation.md").read_text()
    assert distillation.main(words) == 0
    assert "$ python main.py" not in capfd.readouterr().out
    assert len(pages.read_table(distillation.TABLE, distillation_page.COLUMNS)) == 3


def test_an_interval_is_that_of_the_mean_over_seeds_and_groups_make_it_wider():
    values = np.repeat([0, 3], 60)  # a clip that all of three seeds classify correctly, or none
    alone = distillation.interval(values, Groups(None, "clips"), 3)
    grouped = distillation.interval(values, Groups(np.arange(120) // 12, "group"), 3)
    assert 35 < alone[0] < 50 < alone[1] < 65 and grouped[0] < alone[0] - 5 and grouped[1] > alone[1] + 5


def test_recipes_that_cannot_be_compared_are_refused(place, capfd):
    assert distillation.main("--dataset toy --teacher small --student big".split()) == 2
    assert "--student: expected a recipe with one teacher, got 0 in big" in capfd.readouterr().err
    assert distillation.main(["--dataset", "toy", "--", "--num-epoch", "1"]) == 2
    assert "--name: expected a name for the variant" in capfd.readouterr().err


def test_the_page_is_up_to_date_with_its_tables():
    page = (distillation_page.pages.DOCS / "distillation.md").read_text()
    assert page == distillation_page.make_page(), "run python -m benchmarks.distillation_page"

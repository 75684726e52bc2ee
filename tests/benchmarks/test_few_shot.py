"""The few-shot benchmark pre-trains once, trains from there and from scratch, and repeats no row."""

import pytest

from benchmarks import few_shot, pages
from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.training import checkpoint

TABLE = few_shot.TABLE


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The benchmark on tiny clips, in this process; returns the command lines that it has run."""
    calls = []

    def call(words, environment):
        calls.append(words)
        assert environment["OMP_NUM_THREADS"] == "1" and cli.main(words[1:]) == 0

    for name, value in {"call": call, "RUNS": tmp_path / "runs", "BASE": [0, 1], "NOVEL": [2, 3, 4]}.items():
        monkeypatch.setattr(few_shot, name, value)
    monkeypatch.setattr(few_shot, "TABLE", tmp_path / "few_shot.csv")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "few_shot.csv").write_text(",".join(few_shot.COLUMNS) + "\n")
    return calls


def test_rows_of_both_starts_are_written_once_and_the_page_shows_them(bench, tmp_path):
    store = tiny.write_benchmark(tmp_path / "tiny.clips")
    small = f"--feeder-args data_path={store} window_size=8 --model-args channels=[8,8] --num-epoch 1 --warm-up-epoch 0"
    words = [*"--clips 5 --draws 1 --".split(), *small.split(), "--device", "cpu"]
    assert few_shot.main(words) == 0 and len(bench) == 3
    rows = pages.read_table(few_shot.TABLE, few_shot.COLUMNS)
    assert [(row["clips"], row["start"]) for row in rows] == [("5", "finetuned"), ("5", "scratch")]
    assert rows[0]["command"].startswith("OMP_NUM_THREADS=1 python main.py --config config/NW-UCLA/ctrgcn.yaml config/")
    tuned = checkpoint.load(tmp_path / "runs/5_clips/draw1/finetuned/last.pt")
    assert tuned["initial_weights"]["file"] == str(tmp_path / "runs/pretrained/last.pt")
    assert tuned["clips"]["num_class"] == 3 and "clips_per_class: 5" in tuned["config"]
    page = (tmp_path / "finetune.md").read_text()
    assert f"| 5 | {rows[1]['last_epoch']} ({rows[1]['last_epoch']}) | {rows[0]['last_epoch']} (" in page
    assert few_shot.main(words) == 0 and len(bench) == 3


def test_the_figures_are_means_and_deviations_of_the_draws():
    row = dict.fromkeys(few_shot.COLUMNS, "x") | {"clips": "5", "start": "scratch"}
    rows = [row | {"draw": "1", "last_epoch": "50.00"}, row | {"draw": "2", "last_epoch": "60.00"}]
    assert "| 5 | 55.00 ± 7.07 (50.00, 60.00) |" in few_shot.figures(rows)
    assert few_shot.figures([]) == "Not measured yet."


def test_the_page_is_up_to_date_with_the_table():
    assert TABLE.with_name("finetune.md").read_text() == few_shot.make_page(), "run python -m benchmarks.few_shot"

"""The page of results is up to date with the table of results."""

import csv

import pytest

from benchmarks import pages, results_page
from benchmarks.results_page import COLUMNS, TABLE, make_page


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Function: rows -> page."""

    def make(*rows):
        monkeypatch.setattr(results_page, "TABLE", tmp_path / "r.csv")
        with open(tmp_path / "r.csv", "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        return make_page()

    return make


def row(**values):
    return (dict.fromkeys(COLUMNS, "x") | values).values()


def test_the_page_is_up_to_date_with_the_table():
    assert TABLE.with_suffix(".md").read_text() == make_page(), "run python -m benchmarks.results_page"


def test_every_value_and_every_command_of_a_row_is_on_the_page(page):
    values = [f"value{i}" for i in range(len(COLUMNS) - 1)]
    text = page([*values, "python main.py --step 1, 2"])
    assert f"| 1 | {' | '.join(values)} |" in text and "1. `python main.py --step 1, 2`" in text


def test_rows_of_held_out_clips_are_in_a_table_of_their_own_with_the_numbers_of_their_commands(page):
    held = row(dataset="NW-UCLA, s01 held out", command="python main.py --hold-out s01")
    before, after = page(held, row(model="a"), row(model="b|c")).split("## Recipes compared")
    assert "| 1 | a |" in before and "| 2 | b\\|c |" in before and "s01" not in before
    assert "| 3 | x | NW-UCLA, s01 held out |" in after and "3. `python main.py --hold-out s01`" in after


def test_a_table_without_rows_becomes_a_page_that_says_so(page):
    assert page().count("No rows.") == 2


def test_a_wrong_column_or_a_short_row_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("model,data\n")
    with pytest.raises(ValueError, match="expected the columns .*, got model,data"):
        pages.read_table(tmp_path / "r.csv", COLUMNS)
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\nctrgcn,NW-UCLA\n")
    with pytest.raises(ValueError, match="row 2: expected 13 values, got 2"):
        pages.read_table(tmp_path / "r.csv", COLUMNS)

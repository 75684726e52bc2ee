"""The page of results is what the table of results says."""

import pytest

from benchmarks.results_page import COLUMNS, TABLE, make_page, read_rows


def row(**values):
    return dict.fromkeys(COLUMNS, "x") | values


def test_the_page_is_up_to_date_with_the_table():
    page = TABLE.with_suffix(".md").read_text()
    assert page == make_page(read_rows(TABLE)), "run python -m benchmarks.results_page"


def test_every_value_and_every_command_of_a_row_is_on_the_page(tmp_path):
    values = [f"value{i}" for i in range(len(COLUMNS) - 1)]
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(values) + ',"python main.py --step 1, 2"\n')
    page = make_page(read_rows(tmp_path / "r.csv"))
    assert f"| 1 | {' | '.join(values)} |" in page and "1. `python main.py --step 1, 2`" in page


def test_rows_of_held_out_clips_are_in_a_table_of_their_own_with_the_numbers_of_their_commands():
    held = row(dataset="NW-UCLA, s01 held out", command="python main.py --hold-out s01")
    before, after = make_page([held, row(model="a"), row(model="b|c")]).split("## Recipes compared")
    assert "| 1 | a |" in before and "| 2 | b\\|c |" in before and "s01" not in before
    assert "| 3 | x | NW-UCLA, s01 held out |" in after and "3. `python main.py --hold-out s01`" in after


def test_a_table_without_rows_becomes_a_page_that_says_so():
    assert make_page([]).count("No rows.") == 2


def test_a_wrong_column_or_a_short_row_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("model,data\n")
    with pytest.raises(ValueError, match="expected the columns .*, got model,data"):
        read_rows(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\nctrgcn,NW-UCLA\n")
    with pytest.raises(ValueError, match="row 2: expected 13 values, got 2"):
        read_rows(tmp_path / "r.csv")

"""The page of results is what the table of results says."""

import pytest

from benchmarks.results_page import COLUMNS, DOCS, make_page, read_rows


def test_the_page_is_up_to_date_with_the_table():
    assert (DOCS / "results.md").read_text() == make_page(read_rows(DOCS / "results.csv")), (
        "run python -m benchmarks.results_page"
    )


def test_every_value_and_every_command_of_a_row_is_on_the_page(tmp_path):
    values = [f"value{i}" for i in range(len(COLUMNS) - 1)]
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(values) + ',"python main.py --step 1, 2"\n')
    page = make_page(read_rows(tmp_path / "r.csv"))
    assert f"| 1 | {' | '.join(values)} |" in page and "1. `python main.py --step 1, 2`" in page


def test_a_wrong_column_or_a_short_row_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("model,data\n")
    with pytest.raises(ValueError, match="found the columns model,data"):
        read_rows(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\nctrgcn,NW-UCLA\n")
    with pytest.raises(ValueError, match="line 2: found 2 values"):
        read_rows(tmp_path / "r.csv")

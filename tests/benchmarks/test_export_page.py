"""The page about exported networks is up to date with its template and the results."""

import json

import pytest

from benchmarks import export, export_page, pages


def test_the_page_is_up_to_date_with_the_results():
    page = (pages.DOCS / "export.md").read_text()
    assert page == export_page.make_page(), "run python -m benchmarks.export_page"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Function: results of networks -> page."""
    monkeypatch.setattr(export_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(export, "machine", lambda device: {"name": "A machine, 2 threads"})

    def make(**networks):
        export.store(networks)
        return export_page.make_page()

    return make


def entry(milliseconds=20, commit="abc"):
    """What is stored about one network."""
    file = {"kind": "ONNX", "difference": 2e-6, "operators": 121, "kinds": 9, "bytes": 12_300_000}
    times = {side: {"seconds": milliseconds / 1e3} for side in export_page.SIDES}
    measured = {"date": "2026-01-02", "commit": commit, "how": "`python -m benchmarks.export`"}
    return {"measured": measured, "files": [file], **dict.fromkeys(export_page.BATCHES, times)}


def test_a_network_has_a_row_for_each_file_and_one_of_times(page):
    text = page(First=entry(), Second=entry(30))
    assert "### A machine, 2 threads" in text and "commit abc" in text
    assert "| First | ONNX | 2.0e-06 | 121 (9) | 12.3 |" in text
    assert f"| Second |{' 30 |' * 8}" in text


def test_a_file_that_was_refused_has_its_difference(page):
    refused = entry()
    refused["files"].append({"kind": "ONNX, float16", "refused": "0.055"})
    assert "| First | ONNX, float16 | 5.5e-02, refused |  |  |" in page(First=refused)


def test_new_results_replace_those_of_the_same_network(page, tmp_path):
    page(First=entry(), Second=entry())
    text = page(First=entry(50, commit="def"))
    assert f"| First |{' 50 |' * 8}" in text and f"| Second |{' 20 |' * 8}" in text
    assert list(json.loads((tmp_path / "results/a-machine-2-threads.json").read_text())["networks"]) == [
        "First",
        "Second",
    ]

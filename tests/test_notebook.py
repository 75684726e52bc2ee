"""The code of the notebooks in docs/ runs in order, in an interpreter of its own without Jupyter."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
RUN = """
import json, sys
space = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
"""
PRINTED = {  # what each notebook must print
    "predict.ipynb": (
        r"A001\.skeleton \w+( \w+)* 0\.\d\d \[",  # a file
        r"99\.[78] % observed",  # an array with gaps
        r"\d to +\d\.\d\d s  \w+",  # segments
        r"(^ \d\.\d\d s (label|nothing)(.|\n)*){9}",  # a stream
    ),
    "train_ucla.ipynb": (
        r"^72 files$",
        r"(epoch +6/6 (.|\n)*){2}",  # two streams
        r"^fusion .*\d\d\.\d\d",
        r"wrote .*report\.html",
    ),
    "compare.ipynb": (
        r"^ctrgcn +1,4\d\d,\d{3} 1\.\d+ G \d+ ms$",
        r"(epoch +8/8 (.|\n)*){2}",
        r"difference [+-]\d+\.\d\d \(95 % interval",
    ),
}


def test_every_notebook_is_tested():
    assert {path.name for path in DOCS.glob("*.ipynb")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_a_notebook_has_the_published_format_and_no_outputs(name):
    book = json.loads((DOCS / name).read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_of_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = subprocess.run([sys.executable, "-c", RUN, DOCS / name], cwd=DOCS, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    missing = [pattern for pattern in PRINTED[name] if not re.search(pattern, found.stdout, re.MULTILINE)]
    assert not missing, found.stdout

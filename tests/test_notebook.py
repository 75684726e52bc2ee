"""The code of docs/predict.ipynb runs in order, in an interpreter of its own without Jupyter."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "predict.ipynb"
BOOK = json.loads(PAGE.read_text())
RUN = """
import json, sys
space = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
"""


def test_the_notebook_has_the_published_format_and_no_outputs():
    assert (BOOK["nbformat"], BOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in BOOK["cells"]}) == len(BOOK["cells"])
    for cell in BOOK["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = subprocess.run([sys.executable, "-c", RUN, PAGE], cwd=PAGE.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert re.search(r"A001\.skeleton \w+( \w+)* 0\.\d\d \[", found.stdout)  # a file
    assert "99.7 % observed" in found.stdout or "99.8 % observed" in found.stdout  # an array with gaps
    assert re.search(r"\d to +\d\.\d\d s  \w+", found.stdout)  # segments
    assert len(re.findall(r"^ \d\.\d\d s (label|nothing)", found.stdout, re.MULTILINE)) > 8  # a stream

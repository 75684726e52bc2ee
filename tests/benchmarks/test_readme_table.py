"""The table of networks in the README shows what the files say."""

import re

from benchmarks import pages, readme
from benchmarks.networks import networks
from tests.model.golden import CASES
from torchlight.zoo import catalog


def test_the_table_of_networks_is_up_to_date_and_complete():
    text = readme.README.read_text()
    assert readme.replaced(text) == text, "run python -m benchmarks.readme"
    assert all(f"| `{name}` | [" in text for name in networks())


def test_a_network_without_published_figures_or_checkpoints_has_empty_cells():
    assert readme.published("mbstgcn") == "" and readme.published("ctrgcn") == "92.4 (four streams)"
    assert readme.published("posec3d").endswith(", 2-D poses)")
    row = next(line for line in readme.table().splitlines() if line.startswith("| `mbstgcn`"))
    assert row.endswith("|  |  |  |")


def test_the_figures_in_the_text_are_those_of_the_pages():
    text = " ".join(readme.README.read_text().split())
    step = (pages.DOCS / "performance.md").read_text().split("### Training step")[1].split("###")[0]
    float32, bfloat16 = re.findall(r"\*\*([\d.]+)\*\*", next(row for row in step.splitlines() if "| CTR-GCN |" in row))
    assert f"is {float32} times as fast as its equations written literally, {bfloat16} times in bfloat16" in text
    recorded = {spec["model"] for spec in CASES.values()}
    assert f"In {len(CASES)} recorded cases of {len(recorded)} networks" in text and "to 1e-9 in float64" in text
    assert {spec["rtol"] for spec in CASES.values()} == {1e-9}
    assert f"{len(catalog.entries())} by name" in text
    clips = re.search(r"\n\| (\d+) \| (\d+) \| 0\.0e\+00 \|", (pages.DOCS / "prediction_results.md").read_text())
    assert f"{clips[1]} of {clips[2]} test clips" in text

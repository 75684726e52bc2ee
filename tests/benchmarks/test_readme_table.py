"""The table of networks in the README shows what the files say."""

from benchmarks import readme
from benchmarks.networks import networks


def test_the_table_of_networks_is_up_to_date_and_complete():
    text = readme.README.read_text()
    assert readme.replaced(text) == text, "run python -m benchmarks.readme"
    assert all(f"| `{name}` | [" in text for name in networks())


def test_a_network_without_published_figures_or_checkpoints_has_empty_cells():
    assert readme.published("mbstgcn") == "" and readme.published("ctrgcn") == "92.4 (four streams)"
    assert readme.published("posec3d").endswith(", 2-D poses)")
    row = next(line for line in readme.table().splitlines() if line.startswith("| `mbstgcn`"))
    assert row.endswith("|  |  |  |")

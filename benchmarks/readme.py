"""The table of networks in README.md, from model/, docs/models.md, published.csv, results.csv and the zoo.

python -m benchmarks.readme
"""

import re
import sys
from collections import Counter

from benchmarks import pages, results_page
from benchmarks.models_page import read_published
from benchmarks.networks import header, networks
from torchlight.system.command import Parser, run
from torchlight.system.files import atomic, read_text
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table
from torchlight.zoo import catalog

README, SIZES = ROOT / "README.md", ROOT / "docs/models.md"
BEGIN, END = "<!-- This table is made by `python -m benchmarks.readme`. -->\n\n", "\n\n<!-- end of the table -->"
HEAD = ("config", "network", "parameters", "multiply-adds", "published", "here", "checkpoints")
BUDGET = {"dataset": "NW-UCLA", "stream": "joint", "budget": "20 single passes", "seed": "1"}  # of the column `here`
POSES_2D, LARGE = "2-D joints", "; large"  # in the source of a published figure; a larger network than the first recipe


def table() -> str:
    """A line for each network."""
    weights = Counter(model_of(entry) for entry in catalog.entries().values())
    here = {row["model"]: row["last_epoch"] for row in rows_here()}
    rows = []
    for name in networks():
        parameters, multiply_adds, _ = size(name)
        sizes = (f"{parameters / 1e6:.2f} M", f"{multiply_adds:.2f} G")
        rows.append((f"`{name}`", paper(name), *sizes, published(name), here.get(name, ""), weights[name] or ""))
    return markdown_table(HEAD, rows)


def paper(name: str) -> str:
    """The short name with a link to the paper, the venue: `[CTR-GCN](https://arxiv.org/abs/2107.12213), ICCV 2021`."""
    short, _, authors, _ = header(name)
    authors = " ".join(authors.split())
    address, year = re.search(r"arXiv (\d+\.\d+)", authors)[1], re.findall(r"\b20\d\d\b", authors)[0]
    venue = re.search(r"[.,] ([\w ]+) 20\d\d[,;]", authors)
    return f"[{short}](https://arxiv.org/abs/{address}), {venue[1] + ' ' if venue else ''}{year}"


def size(name: str) -> tuple[int, float, str]:
    """Parameters, multiply-adds in billions and frames of the first recipe in the table of docs/models.md."""
    row = re.search(rf"^\| `{name}` \|(.*)\|$", read_text(SIZES), re.MULTILINE)[1]
    parameters, multiply_adds, frames = next(cell for cell in row.split("|") if cell.strip()).strip().split(" / ")
    return int(parameters.replace(",", "")), float(multiply_adds.split()[0]), frames


def published(name: str) -> str:
    """The best published figure on NTU RGB+D 60 cross-subject, on 3-D poses if there is one, and its streams."""
    rows = [row for row in read_published() if (row["model"], row["dataset"], row["split"]) == (name, "ntu", "xsub")]
    rows = [row for row in rows if LARGE not in row["source"]]
    rows = [row for row in rows if POSES_2D not in row["source"]] or rows
    best = max(rows, key=lambda row: float(row["top1"]), default=None)
    if best is None:
        return ""
    poses = ", 2-D poses" if POSES_2D in best["source"] else ""
    return f"{best['top1']} ({best['stream']}{poses})"


def rows_here() -> list[results_page.Row]:
    """The rows of results.csv that are comparable with each other."""
    rows = pages.read_table(results_page.TABLE, results_page.COLUMNS)
    return [row for row in rows if all(row[key] == value for key, value in BUDGET.items())]


def model_of(entry: catalog.Entry) -> str:
    """The file in model/ with the network of a checkpoint in the zoo."""
    models = [layer["model"] for layer in catalog.layers(entry) if "model" in layer]
    return models[-1].split(".")[1]


def replaced(text: str) -> str:
    """README.md with a new table."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END, 1)[1]


def act(argv: list[str]) -> None:
    """Write the table."""
    Parser(prog="python -m benchmarks.readme").parse_args(argv)
    text = replaced(read_text(README))
    with atomic(README, "w") as file:
        file.write(text)
    print(f"wrote {README}")


if __name__ == "__main__":
    sys.exit(run(act))

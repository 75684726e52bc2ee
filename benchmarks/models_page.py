"""docs/models.md from the code, the configurations, published.csv and the text in models.template.md.

python -m benchmarks.models_page

In the template `{{sizes}}` stands for the table of parameters and multiply-adds, `{{paper ctrgcn}}` for what the header of
model/ctrgcn.py says, and `{{published ctrgcn}}` for the rows of published.csv.
"""

import csv
import importlib
import inspect
import re
from pathlib import Path

import torch

from data.ntu.recipe_agcn_stgcn import WINDOW
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.system.files import atomic
from torchlight.training.model_size import model_size

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE, PUBLISHED, PAGE = ROOT / "benchmarks/models.template.md", ROOT / "benchmarks/published.csv", ROOT / "docs/models.md"

NETWORKS = ("stgcn", "agcn", "aagcn", "msg3d", "baseline", "ctrgcn", "dgstgcn", "stgcnpp", "tsgcnext", "dke9", "dke7", "dke_s8")
FOLDERS = {"ntu/xsub": "NTU RGB+D 60", "ntu120/xsub": "NTU RGB+D 120", "kinetics": "Kinetics-Skeleton", "NW-UCLA": "NW-UCLA"}
DATASETS = {folder.split("/")[0]: title for folder, title in FOLDERS.items()}
STREAMS = ("one stream", "joint", "bone", "joint motion", "bone motion", "two streams", "four streams")
COLUMNS = ["model", "dataset", "split", "stream", "top1", "source"]


def clip_shape(config: Config) -> tuple[tuple[int, int, int, int], int]:
    """(C, T, V, M) of a test clip as the recipe's feeder would yield it, and how many samples of a clip are averaged."""
    arguments = {name: p.default for name, p in inspect.signature(import_object(config.feeder)).parameters.items()}
    arguments |= config.test_feeder_args
    T = arguments["window_size"] or WINDOW  # 0: all frames of the padded files
    args = config.model_args
    return (args.get("in_channels", 3), T, args["num_point"], args["num_person"]), arguments.get("num_clips", 1)


def size(config: Config) -> tuple[str, str]:
    """Parameters and multiply-adds of one test clip; the meta device computes nothing."""
    model = import_object(config.model)(**config.model_args)
    shape, _ = clip_shape(config)
    with torch.device("meta"):
        found = model_size(model.to("meta"), shape)
    return found["parameters"].split(" (")[0], found["multiply-adds of one clip"]


def size_table() -> str:
    """Networks by benchmarks: parameters, multiply-adds, frames."""
    lines = ["| | " + " | ".join(FOLDERS.values()) + " |", "|---" * (len(FOLDERS) + 1) + "|"]
    for name in NETWORKS:
        cells = []
        for folder in FOLDERS:
            file = ROOT / "config" / folder / f"{name}.yaml"
            if not file.is_file():
                cells.append("")
                continue
            config = load_config(file)
            (_, T, _, _), samples = clip_shape(config)
            frames = f"{samples} x {T}" if samples > 1 else str(T)
            cells.append(" / ".join((*size(config), frames)))
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paper(name: str) -> str:
    """Title, authors, venue, arXiv and what differs, from the header of model/<name>.py."""
    title, authors, differs = inspect.getdoc(importlib.import_module(f"model.{name}")).split("\n\n")[:3]
    authors = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", authors)
    return f"*{title.rstrip('.')}.* {authors}\n\n{differs}"


def read_published() -> list[dict[str, str]]:
    """The rows of published.csv.

    Raises:
        ValueError: the columns are not COLUMNS, or a stream is none of STREAMS.
    """
    with open(PUBLISHED, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    unknown = sorted({row["stream"] for row in rows} - set(STREAMS)) if reader.fieldnames == COLUMNS else [reader.fieldnames]
    if unknown:
        raise ValueError(f"{PUBLISHED}: found {unknown}; the columns {','.join(COLUMNS)} and the streams {', '.join(STREAMS)} are needed")
    return rows


def published(name: str) -> str:
    """The published accuracies of a network: a line for each split and source."""
    rows = [row for row in read_published() if row["model"] == name]
    streams = [stream for stream in STREAMS if any(row["stream"] == stream for row in rows)]
    table: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        split = "" if row["split"] == row["dataset"] else f" {row['split']}"
        table.setdefault((DATASETS[row["dataset"]] + split, row["source"]), {})[row["stream"]] = row["top1"]
    lines = ["| top-1, percent | " + " | ".join(streams) + " | stated by |", "|---" * (len(streams) + 2) + "|"]
    for (benchmark, source), figures in table.items():
        lines.append(f"| {benchmark} | " + " | ".join(figures.get(stream, "") for stream in streams) + f" | {source} |")
    return "\n".join(lines)


def make_page() -> str:
    """The page as Markdown."""
    makers = {"sizes": size_table, "paper": paper, "published": published}
    return re.sub(r"\{\{(\w+) ?(\w*)\}\}", lambda match: makers[match[1]](*filter(None, [match[2]])), TEMPLATE.read_text())


def main() -> None:
    """Write docs/models.md."""
    with atomic(PAGE, "w") as file:
        file.write(make_page())


if __name__ == "__main__":
    main()

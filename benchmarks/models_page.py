"""docs/models.md from code, configurations, published.csv, models.template.md: python -m benchmarks.models_page

In the template, `{{sizes}}` is replaced by the table of parameters and multiply-adds, `{{paper ctrgcn}}` by the header
of model/ctrgcn.py, `{{published ctrgcn}}` by the rows of published.csv, and `{{others}}` by a section for every network
that the template does not mention.
"""

import json
import re
import sys
from pathlib import Path

import torch

from benchmarks import pages
from benchmarks.networks import CONFIG, FOLDERS, clip_shape, header, networks, recipe
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table
from torchlight.training.model_size import model_size

PUBLISHED = pages.HERE / "published.csv"
DATASETS = {folder.split("/")[0]: title for folder, title in FOLDERS.items()}
STREAMS = (
    "one stream",
    "joint",
    "bone",
    "joint motion",
    "bone motion",
    "limb",
    "two streams",
    "four streams",
    "six streams",
)
COLUMNS = ("model", "dataset", "split", "stream", "top1", "source")


def recipes() -> dict[str, dict[str, Config]]:
    """{name: {folder: configuration}}: names of networks in the order of the papers, then other names.

    If several recipes train the same network, only the first name is listed.
    """
    own = networks()
    files = {file.stem for folder in FOLDERS for file in (CONFIG / folder).glob("*.yaml")}
    found: dict[str, tuple[str, dict[str, Config]]] = {}
    for name in [*(name for name in own if name in files), *sorted(files - set(own))]:
        paths = {folder: CONFIG / folder / f"{name}.yaml" for folder in FOLDERS}
        configs = {folder: load_config(file) for folder, file in paths.items() if file.is_file()}
        first = next(iter(configs.values()))
        found.setdefault(first.model + json.dumps(first.model_args, sort_keys=True), (name, configs))
    return dict(found.values())


def size(config: Config) -> str:
    """Parameters, multiply-adds and frames of a test clip of a recipe, counted on the meta device."""
    model = import_object(config.model)(**config.model_args)
    shape, samples = clip_shape(config)
    with torch.device("meta"):
        found = model_size(model.to("meta"), shape)
    frames = f"{samples} x {shape[1]}" if samples > 1 else str(shape[1])
    return " / ".join((found["parameters"].split(" (")[0], found["multiply-adds of one clip"], frames))


def size_table() -> str:
    """A row for each network and a column for each benchmark; cells without a recipe are empty."""
    rows = [
        (f"`{name}`", *(size(configs[folder]) if folder in configs else "" for folder in FOLDERS))
        for name, configs in recipes().items()
    ]
    return markdown_table(("", *FOLDERS.values()), rows)


def paper(name: str) -> str:
    """Title, authors, venue, arXiv and what differs, from the header of model/<name>.py."""
    short, title, authors, differences = header(name)
    authors = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", authors)
    return f"*{short}: {title}.* {authors}\n\n{differences}"


def others() -> str:
    """A section with header, published figures and command for every network that the template does not mention."""
    text, sections = (pages.HERE / "models.template.md").read_text(), []
    for name in networks():
        if f"{{{{paper {name}}}}}" in text:
            continue
        sections += [f"## {header(name)[0]}", paper(name), published(name)]
        if (config := recipe(name)) is not None:
            sections.append(f"    python main.py --config {Path(config.config).relative_to(ROOT)}")
    return "\n\n".join(sections)


def read_published() -> list[dict[str, str]]:
    """The rows of published.csv.

    Raises:
        ValueError: the columns are not COLUMNS, or a stream is not in STREAMS.
    """
    rows = pages.read_table(PUBLISHED, COLUMNS)
    if unknown := sorted({row["stream"] for row in rows} - set(STREAMS)):
        raise ValueError(f"{PUBLISHED}: expected the streams {', '.join(STREAMS)}, got {unknown}")
    return rows


def published(name: str) -> str:
    """The published accuracies of a network, a line for each split and source; empty if there is none."""
    rows = [row for row in read_published() if row["model"] == name]
    streams = [stream for stream in STREAMS if any(row["stream"] == stream for row in rows)]
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        split = "" if row["split"] == row["dataset"] else f" {row['split']}"
        found.setdefault((DATASETS[row["dataset"]] + split, row["source"]), {})[row["stream"]] = row["top1"]
    lines = [(title, *(top1.get(s, "") for s in streams), source) for (title, source), top1 in found.items()]
    return markdown_table(("top-1, percent", *streams, "stated by"), lines) if rows else ""


def make_page() -> str:
    """The page as Markdown."""
    return pages.fill("models", {"sizes": size_table, "paper": paper, "published": published, "others": others})


if __name__ == "__main__":
    sys.exit(pages.program("models", make_page))

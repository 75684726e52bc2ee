"""docs/models.md from the code, the configurations, published.csv and the text in models.template.md.

python -m benchmarks.models_page

In the template `{{sizes}}` becomes the table of parameters and multiply-adds, `{{paper ctrgcn}}` what the header of
model/ctrgcn.py says, `{{published ctrgcn}}` the rows of published.csv, and `{{others}}` a section for every network
that the template does not mention.
"""

import csv
import json
import re
from pathlib import Path

import torch

from benchmarks.networks import CONFIG, FOLDERS, clip_shape, header, networks, recipe
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.system.files import atomic
from torchlight.training.model_size import model_size

ROOT = CONFIG.parent
TEMPLATE = ROOT / "benchmarks/models.template.md"
PUBLISHED, PAGE = ROOT / "benchmarks/published.csv", ROOT / "docs/models.md"

DATASETS = {folder.split("/")[0]: title for folder, title in FOLDERS.items()}
STREAMS = ("one stream", "joint", "bone", "joint motion", "bone motion", "two streams", "four streams")
COLUMNS = ["model", "dataset", "split", "stream", "top1", "source"]


def recipes() -> list[str]:
    """Names of the recipes in FOLDERS: first those named like a network, in the order of the papers, then the others.

    Of recipes that train the same network only the first name is listed.
    """
    own = networks()
    files = {file.stem for folder in FOLDERS for file in (CONFIG / folder).glob("*.yaml")}
    names, seen = [], set()
    for name in [*(name for name in own if name in files), *sorted(files - set(own))]:
        config = next(load_config(CONFIG / folder / f"{name}.yaml") for folder in FOLDERS if has_recipe(folder, name))
        network = config.model + json.dumps(config.model_args, sort_keys=True)
        if network not in seen:
            names.append(name)
        seen.add(network)
    return names


def has_recipe(folder: str, name: str) -> bool:
    return (CONFIG / folder / f"{name}.yaml").is_file()


def size(config: Config) -> tuple[str, str]:
    """Parameters and multiply-adds of one test clip; the meta device computes nothing."""
    model = import_object(config.model)(**config.model_args)
    shape, _ = clip_shape(config)
    with torch.device("meta"):
        found = model_size(model.to("meta"), shape)
    return found["parameters"].split(" (")[0], found["multiply-adds of one clip"]


def cell(folder: str, name: str) -> str:
    """Parameters, multiply-adds and frames of a recipe; empty if there is none."""
    if not has_recipe(folder, name):
        return ""
    config = load_config(CONFIG / folder / f"{name}.yaml")
    (_, T, _, _), samples = clip_shape(config)
    return " / ".join((*size(config), f"{samples} x {T}" if samples > 1 else str(T)))


def size_table() -> str:
    """Networks by benchmarks: parameters, multiply-adds, frames."""
    lines = ["| | " + " | ".join(FOLDERS.values()) + " |", "|---" * (len(FOLDERS) + 1) + "|"]
    lines += [f"| `{name}` | " + " | ".join(cell(folder, name) for folder in FOLDERS) + " |" for name in recipes()]
    return "\n".join(lines)


def paper(name: str) -> str:
    """Title, authors, venue, arXiv and what differs, from the header of model/<name>.py."""
    found = header(name)
    authors = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", found.authors)
    return f"*{found.name}: {found.title}.* {authors}\n\n{found.differences}"


def others() -> str:
    """A section with header, published figures and command for every network that the template does not mention."""
    text, sections = TEMPLATE.read_text(), []
    for name in networks():
        if f"{{{{paper {name}}}}}" in text:
            continue
        sections += [f"## {header(name).name}", paper(name)]
        if any(row["model"] == name for row in read_published()):
            sections.append(published(name))
        if (config := recipe(name)) is not None:
            sections.append(f"    python main.py --config {Path(config.config).relative_to(ROOT)}")
    return "\n\n".join(sections)


def read_published() -> list[dict[str, str]]:
    """The rows of published.csv.

    Raises:
        ValueError: other columns than COLUMNS, or a stream that is not in STREAMS.
    """
    with open(PUBLISHED, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    if reader.fieldnames != COLUMNS:
        raise ValueError(f"{PUBLISHED}: expected the columns {','.join(COLUMNS)}, got {reader.fieldnames}")
    if unknown := sorted({row["stream"] for row in rows} - set(STREAMS)):
        raise ValueError(f"{PUBLISHED}: expected the streams {', '.join(STREAMS)}, got {unknown}")
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
    makers = {"sizes": size_table, "paper": paper, "published": published, "others": others}
    text = TEMPLATE.read_text()
    text = re.sub(r"\{\{(\w+) ?(\w*)\}\}", lambda match: makers[match[1]](*filter(None, [match[2]])), text)
    return re.sub("\n{3,}", "\n\n", text)


def main() -> None:
    """Write docs/models.md."""
    with atomic(PAGE, "w") as file:
        file.write(make_page())


if __name__ == "__main__":
    main()

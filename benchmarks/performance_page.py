"""benchmarks/results/*.json and performance.template.md -> docs/performance.md.

python -m benchmarks.performance_page
"""

import re
import sys
from collections.abc import Callable

from torchlight.system.command import Parser, run
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table

RESULTS, PAGE = ROOT / "benchmarks/results", ROOT / "docs/performance.md"
TEMPLATE = ROOT / "benchmarks/performance.template.md"
Rows = list[tuple[object, ...]]


def slug(machine: str) -> str:
    """AMD EPYC, 2 threads -> amd-epyc-2-threads"""
    return re.sub("[^a-z0-9]+", "-", machine.lower()).strip("-")


def write_page(argv: list[str] | None = None) -> None:
    """Write the page from all results."""
    Parser(prog="python -m benchmarks.performance_page", description=__doc__).parse_args(argv or [])
    with atomic(PAGE, "w") as file:
        file.write(make_page([read_json(path) for path in sorted(RESULTS.glob("*.json"))]))


def make_page(results: list[dict]) -> str:
    """The page as Markdown: the template, then a chapter for each machine."""
    return "\n".join([TEMPLATE.read_text(), *(chapter(found) for found in results)])


def chapter(found: dict) -> str:
    """All tables of one machine."""
    machine, networks = found["machine"], found.get("networks", {})
    instructions = f"Instruction set: {machine['isa']}.\n" if "isa" in machine else ""
    parts = [f"## {machine['name']}\n\n{instructions}"]
    measured = [(entry["measured"], name) for name, entry in networks.items()]
    for what in ("training step", "inference"):
        rows = [
            ((name, entry["frames"], result["batch"]), result["sides"])
            for name, entry in networks.items()
            for result in entry[what]
        ]
        if rows:
            parts.append(section(f"{what.capitalize()}, clips per second", measured, speed_table(rows)))
    if networks:
        latencies = [((name,), entry["one clip"]) for name, entry in networks.items()]
        parts.append(section("One clip, milliseconds", [], table(("network",), latencies, milliseconds)))
        memory = [((name,), entry["memory"]) for name, entry in networks.items()]
        title = "Memory kept for the backward pass, MB per clip"
        parts.append(section(title, [], table(("network",), memory, lambda value: f"{value / 1e6:.0f}")))
    for name, write in (("feeding", feeding), ("preparation", preparation), ("epoch", epoch)):
        if name in found:
            title, lines = write(found[name])
            parts.append(section(title, [(found[name]["measured"], "")], lines))
    return "\n".join(parts)


def section(title: str, measured: list[tuple[dict, str]], lines: str) -> str:
    """A heading, the command behind the figures (of several, with the networks that each measured), a table."""
    origins: dict[str, list[str]] = {}
    for run_of, name in measured:
        origins.setdefault(origin(run_of), []).append(name)
    if len(origins) == 1:
        notes = [*origins]
    else:
        notes = [f"{', '.join(names)}: {text}" for text, names in origins.items()]
    return "\n".join([f"### {title}", "", *(f"{note}\n" for note in notes), lines, ""])


def origin(measured: dict) -> str:
    """Date, commit, versions and command (or another note) of a measurement."""
    torch = f", PyTorch {measured['torch']}" if "torch" in measured else ""
    clock = ", processor time" if measured["clock"] == "processor" else ""
    how = measured.get("note") or f"`{measured['command']}`"
    return f"{measured['date']}, commit {measured['commit']}{torch}{clock}, {how}"


def table(head: tuple[str, ...], rows: list[tuple[tuple, dict]], show: Callable[[dict], str]) -> str:
    """A column for every side that any row has."""
    sides = list(dict.fromkeys(side for _, values in rows for side in values))
    cells = [(*first, *(show(values[side]) if side in values else "" for side in sides)) for first, values in rows]
    return markdown_table((*head, *sides), cells)


def speed_table(rows: list[tuple[tuple, dict]]) -> str:
    """Clips per second, and the factor against the reference where the network has one."""
    speeds = []
    for first, sides in rows:
        without = {} if "reference" in sides else {"ratio": 1}
        cells = {s: value | without | {"clips_per_second": first[-1] / value["seconds"]} for s, value in sides.items()}
        speeds.append((first, cells))
    return table(("network", "T", "N"), speeds, speed)


def speed(value: dict) -> str:
    """13.2, **1.42** (1.40-1.89); the side that the others are compared with has no factor."""
    rate = value["clips_per_second"]
    text = f"{rate:,.0f}" if rate >= 1000 else f"{rate:.1f}"
    if value["ratio"] == 1:
        return text
    return f"{text}, **{value['ratio']:.2f}**" + (
        f" ({value['low']:.2f}–{value['high']:.2f})" if "low" in value else ""
    )


def milliseconds(value: dict) -> str:
    return f"{1e3 * value['seconds']:.1f}"


def feeding(found: dict) -> tuple[str, str]:
    rows = [((modality.replace("_", " "),), sides) for modality, sides in found["modalities"].items()]
    return "Feeding on one core, clips per second", table(("modality",), rows, speed)


def preparation(found: dict) -> tuple[str, str]:
    rows: Rows = [
        (
            f"`{recipe}`",
            *(f"{value[key]:,.0f}" for key in ("clips_per_second", "bytes", "peak_mb")),
            f"{value['cpu_ms']:.1f}",
        )
        for recipe, sides in found["recipes"].items()
        for value in [sides["this checkout"]]
    ]
    head = ("recipe", "clips per second", "bytes per clip on disk", "memory, MB", "CPU ms per clip")
    return f"Preparation of NTU RGB+D with {found['workers']} workers", markdown_table(head, rows)


def epoch(found: dict) -> tuple[str, str]:
    rows: Rows = [
        (workers, value["batch"], f"{value['clips_per_second']:.1f}", f"{100 * value['data_share']:.1f} %")
        for workers, value in found["workers"].items()
    ]
    head = ("workers", "batch", "clips per second", "waiting for data")
    return "An epoch of CTR-GCN through `main.py`", markdown_table(head, rows)


if __name__ == "__main__":
    sys.exit(run(write_page))

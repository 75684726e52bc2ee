"""docs/performance.md from results/*.json and performance.template.md: python -m benchmarks.performance_page"""

import re
import sys
from collections.abc import Iterator

from benchmarks import pages
from torchlight.system.files import read_json
from torchlight.system.text import markdown_table

RESULTS = pages.HERE / "results"
PREPARATION = {
    "clips_per_second": "clips per second",
    "bytes": "bytes per clip on disk",
    "peak_mb": "memory of a process, MB",
}


def slug(machine: str) -> str:
    """AMD EPYC, 2 threads -> amd-epyc-2-threads"""
    return re.sub("[^a-z0-9]+", "-", machine.lower()).strip("-")


def make_page() -> str:
    """The page as Markdown: a chapter for each machine."""
    results = [read_json(path) for path in sorted(RESULTS.glob("*.json"))]
    return pages.fill("performance", {"machines": lambda: "\n\n".join(b for found in results for b in blocks(found))})


def blocks(found: dict) -> Iterator[str]:
    """The chapter of one machine: how it was measured, and all tables."""
    networks = found.get("networks", {})
    yield f"## {found['machine']['name']}"
    if "isa" in found["machine"]:
        yield f"Instruction set: {found['machine']['isa']}."
    yield sources(networks | {part: found[part] for part in ("feeding", "preparation") if part in found})
    for what in ("training step", "inference") if networks else ():
        rows = [(name, e["frames"], r["batch"], r["sides"]) for name, e in networks.items() for r in e[what]]
        sides = list(dict.fromkeys(side for *_, row in rows for side in row))
        cells = [(name, T, N, *(speed(N, row, side) for side in sides)) for name, T, N, row in rows]
        yield f"### {what.capitalize()}, clips per second\n\n{markdown_table(('network', 'T', 'N', *sides), cells)}"
    if networks:
        rows = [(name, entry["one clip"]) for name, entry in networks.items()]
        cells = [(n, *(f"{1e3 * r[s]['seconds']:.1f}" if s in r else "" for s in sides)) for n, r in rows]
        yield f"### One clip, milliseconds\n\n{markdown_table(('network', *sides), cells)}"
    if feeding := found.get("feeding"):
        cells = [(modality.replace("_", " "), f"{rate:,.0f}") for modality, rate in feeding["modalities"].items()]
        yield f"### Feeding on one core\n\n{markdown_table(('modality', 'clips per second'), cells)}"
    if made := found.get("preparation"):
        cells = [(f"`{recipe}`", *(f"{v[k]:,.0f}" for k in PREPARATION)) for recipe, v in made["recipes"].items()]
        table = markdown_table(("recipe", *PREPARATION.values()), cells)
        yield f"### Preparation of NTU RGB+D with {made['workers']} workers\n\n{table}"


def sources(parts: dict[str, dict]) -> str:
    """A line for every command, with the networks and parts that it measured."""
    origins: dict[str, list[str]] = {}
    for name, part in parts.items():
        of = part["measured"]
        origins.setdefault(f"{of['date']}, commit {of['commit']}, {of['how']}", []).append(name)
    return "\n".join(f"* {how}: {'; '.join(names)}" for how, names in origins.items())


def speed(batch: int, sides: dict[str, dict], side: str) -> str:
    """Clips per second and, if the network has a reference, the factor relative to it: 13.2, **1.42** (1.40–1.89)"""
    if side not in sides:
        return ""
    value = sides[side]
    text = f"{batch / value['seconds']:,.1f}"
    if side == "reference" or "reference" not in sides:
        return text
    return f"{text}, **{value['ratio']:.2f}** ({value['low']:.2f}–{value['high']:.2f})"


if __name__ == "__main__":
    sys.exit(pages.program("performance", make_page))

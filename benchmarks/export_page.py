"""docs/export.md from results/export/*.json and export.template.md: python -m benchmarks.export_page"""

import sys
from collections.abc import Iterator

from benchmarks import pages
from torchlight.system.files import read_json
from torchlight.system.text import markdown_table

RESULTS = pages.HERE / "results" / "export"
SIDES = ("PyTorch", "bfloat16", "fused", "onnxruntime")
BATCHES = ("one clip", "16 clips")


def make_page() -> str:
    """The page as Markdown, with a chapter for each machine."""
    results = [read_json(path) for path in sorted(RESULTS.glob("*.json"))]
    makers = {"machines": lambda: "\n\n".join(b for found in results for b in blocks(found)) or "No results."}
    return pages.fill("export", makers)


def blocks(found: dict) -> Iterator[str]:
    """The chapter of one machine."""
    networks = found["networks"]
    yield f"### {found['machine']['name']}"
    origins: dict[str, list[str]] = {}
    for name, entry in networks.items():
        of = entry["measured"]
        origins.setdefault(f"{of['date']}, commit {of['commit']}, {of['how']}", []).append(name)
    yield "\n".join(f"* {how}: {'; '.join(names)}" for how, names in origins.items())
    rows = [(name, file) for name, entry in networks.items() for file in entry["files"]]
    cells = [(name, f["kind"], *figures(f)) for name, f in rows]
    yield markdown_table(("network", "file", "largest difference", "operators", "MB"), cells)
    head = [f"{side}, {batch}" for batch in BATCHES for side in SIDES]
    cells = [
        (name, *(f"{1e3 * entry[batch][side]['seconds']:.0f}" for batch in BATCHES for side in SIDES))
        for name, entry in networks.items()
    ]
    yield f"Milliseconds:\n\n{markdown_table(('network', *head), cells)}"


def figures(file: dict) -> tuple[str, str, str]:
    """Difference, operators and size of a file; if the file was refused, only the difference."""
    if "refused" in file:
        return f"{float(file['refused']):.1e}, refused", "", ""
    return f"{file['difference']:.1e}", f"{file['operators']} ({file['kinds']})", f"{file['bytes'] / 1e6:.1f}"


if __name__ == "__main__":
    sys.exit(pages.program("export", make_page))

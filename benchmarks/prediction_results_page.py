"""docs/prediction_results.md from results/prediction/*.json: python -m benchmarks.prediction_results_page"""

import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import pages
from torchlight.system.files import read_json
from torchlight.system.text import counted, markdown_table

RESULTS = pages.HERE / "results" / "prediction"
FIGURES = ("frame accuracy", "frame accuracy without background", "edit score", "F1@10", "F1@25", "F1@50", "mAP@0.5")


def make_page() -> str:
    """The page as Markdown: a chapter for each network."""
    results = [read_json(path) for path in sorted(RESULTS.glob("*.json"))]
    makers = {"networks": lambda: "\n\n".join(block for found in results for block in blocks(found)) or "No results."}
    return pages.fill("prediction_results", makers)


def blocks(found: dict[str, Any]) -> Iterator[str]:
    """The chapter of one network."""
    of = found["network"]
    yield f"## {of['model']}, {of['modality']}"
    yield f"Epoch {of['epoch']} of {of['epochs']} of the training; SHA-256 of the weights `{of['sha256'][:16]}`."
    for part, table in TABLES.items():
        if part in found:
            how = found[part]["measured"]
            yield f"### {part.capitalize()}\n\n{table(found[part])}"
            yield f"{how['date']}, commit {how['commit']}, {how['machine']}."


def equality(found: dict[str, Any]) -> str:
    """Predictions for raw files compared with the test phase."""
    head = ("test clips", "equal top-1", "largest difference of a logit", "largest logit", "top-1 of both")
    top1 = " and ".join(dict.fromkeys(f"{found[key]:.2f}" for key in ("top1_test", "top1_predict")))
    row = (found["clips"], found["equal"], f"{found['difference']:.1e}", f"{found['largest']:.1f}", top1)
    return markdown_table(head, [row])


def layouts(found: dict[str, Any]) -> str:
    """Accuracy by layout."""
    first = found["rows"][0]["top1"]
    rows = (
        (r["layout"], r["imputed"], f"{r['top1']:.2f}", f"{r['top1'] - first:+.2f}", r["refused"])
        for r in found["rows"]
    )
    text = markdown_table(("layout", "joints not measured", "top-1", "difference", "clips refused"), rows)
    return f"{text}\n\nNot possible, because no map leads there from kinect_v1_20: {', '.join(found['impossible'])}."


def segments(found: dict[str, Any]) -> str:
    """Figures of long recordings, and how the options were chosen."""
    recordings, clips = counted(len(found["performers"]), "recording"), counted(found["clips"], "clip")
    text = f"{recordings} of {found['seconds']:.0f} s together, made of {clips}; {found['short']} of them "
    text += f"are shorter than 0.5 s, the shortest segment. Stride {found['stride']:g} s.\n\n"
    head = ("windows", "seconds", "threshold", "switch cost", "segments", "frames", "frames of actions", "idle frames")
    head += ("edit", *FIGURES[3:], "p of actions", "p of idle")
    rows = []
    for r in found["rows"]:
        figures = [r["figures"][key] for key in FIGURES]
        shown = [f"{value:.1f}" for value in (*figures[:2], r["idle"], *figures[2:])]
        shown += [f"{r[key]:.2f}" for key in ("probability of actions", "probability of idle")]
        options = (r["threshold"], r["switch_cost"], r["figures"]["predicted segments"])
        rows.append((r["windows"], f"{r['window']:.2f}", *options, *shown))
    text += markdown_table(head, rows) + "\n\n"
    text += f"Chosen by F1@50 on the training views of {', '.join(found['tuned_on'])}:\n\n"
    tried = ((f"{t['window']:.2f}", t["options"][0], t["options"][1], f"{t['F1@50']:.1f}") for t in found["tried"])
    return text + markdown_table(("window, seconds", "best threshold", "best switch cost", "F1@50"), tried)


def live(found: dict[str, Any]) -> str:
    """Speed and memory of a stream."""
    memory = [f"resident memory after {int(n):,} frames, MB" for n in found["memory_mb"]]
    head = ("window, s", "stride, s", "updates", "updates/s", "p50, ms", "p95, ms", "processor time, ms", *memory)
    shown = [f"{found['window']:.2f}", f"{found['stride']:.2f}", f"{found['updates']:,}"]
    shown += [
        f"{found['updates_per_second']:.1f}",
        *(f"{found[key]:.0f}" for key in ("p50_ms", "p95_ms", "processor_ms")),
    ]
    return markdown_table(head, [[*shown, *(f"{x:.0f}" for x in found["memory_mb"].values())]])


TABLES = {"equality": equality, "layouts": layouts, "segments": segments, "live": live}

if __name__ == "__main__":
    sys.exit(pages.program("prediction_results", make_page))

"""benchmarks/results/*.json -> docs/performance.md and its pictures.

python -m benchmarks.performance_page
"""

import json
import re
import sys
from pathlib import Path

from benchmarks import profile_page
from benchmarks.markdown import table
from benchmarks.measure import PLAIN
from torchlight.report.pictures import to_png
from torchlight.system.files import atomic

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"

# CTR-GCN, bytes of activations of one clip of 64 frames, float32. Inference: every unit reads its input and writes the output of its
# graph convolution and its own. Training: batch norm needs its whole input before it gives anything, so maps are cut there; the backward
# pass counts as two forward passes.
CTRGCN_BYTES = {"inference": 35.3e6, "training step": 3 * 89.3e6}

INTRODUCTION = """# Performance

`python -m benchmarks.run` measures this on your machine and writes this page from `benchmarks/results/`. *Literal* is the same network with
its paper's equations taken as they stand, one operation for each term (`benchmarks/literal.py`); tests hold both to the published numbers.
All columns of a row were measured in turns. The factor is the literal time divided by the time of the column, the median of the rounds,
with its quartiles in brackets. A training step is forward, loss, backward and SGD. All columns but one share a process that keeps the
memory it frees. *Literal, plain process* is the literal network in a process that does nothing else and that nobody has set up, and the
last factor sets float32 against that one. `python -m benchmarks.run --parts networks profile --merge` measures these tables and the
profiles alone and puts them into the results that are there.

What makes the difference, none of it an approximation:

* Feature maps keep the channels last in memory, from the data norm to the head. Convolutions need no reordering, batch norm and pooling
  work on whole rows, and the products over joints move whole rows of channels.
* Frames are averaged before the 1x1 convolutions that make CTR-GCN's topologies. The constant part of a topology and its bias are two
  more rows of the matrix product that makes it, and the three subsets are summed in place.
* The 1x1 convolutions that read one map run as one: the embeddings of 2s-AGCN, the entries of the temporal branches. So do the three that
  end in one sum.
* TSGCNeXt's groups of channels pass one after the other, so nothing is dealt out or joined. MS-G3D's windows are views of the frames.
* Freed memory stays with the process (`torchlight/memory.py`, on the CPU): glibc otherwise returns the large maps of a step to the
  system and gets them back as new pages to be zeroed.
* Every evaluation, and a teacher, runs a copy of the network whose batch norms are merged into its convolutions (`model/fold.py`).
* On a GPU the host runs ahead: between two looks at the loss (`log_interval`) no step waits for the device (but `teacher_cache`).
  Optimizers are fused, and the clips lie in the memory of the GPU, where batches are made, if they fill less than a quarter of what is
  free (`data_on_device`).

`torch.compile` is off by default: on a CPU, CTR-GCN's inference took two minutes to compile and then lost. bfloat16 (`--precision
bfloat16`) pays on processors that have it (avx512_bf16, amx). A process uses a thread for each physical core, which is PyTorch's own
choice (`OMP_NUM_THREADS` changes it); the processes of one run share them, and a worker of a feeder has one. Several runs on one machine
must share the cores, `OMP_NUM_THREADS=1` for two of them on two cores: threads that wait for each other's turn can cost ten times the
time. With a single thread PyTorch has another, slower 1x1 convolution for fewer than 16 persons in a batch, which makes the factors of
such batches smaller.

`num_worker` left out is what pays: 0 on a CPU, where workers take the cores from a network that needs them hundreds of times longer (the
table of an epoch below); 0 where batches are made on the GPU; else up to four beside each GPU, of the cores that the ranks of a machine
share. A number that is given is obeyed, and one above 0 keeps the clips in main memory. TF32 (`tf32`) is off unless asked for.
"""


def write_page() -> None:
    """Write the page and its pictures from all results."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for found in results:
        if figure := profile_page.picture(found):
            to_png(figure, PAGE.parent / picture_name(found))
    with atomic(PAGE, "w") as file:
        file.write(make_page(results))


def slug(machine: str) -> str:
    """AMD EPYC, 2 threads -> amd-epyc-2-threads"""
    return re.sub("[^a-z0-9]+", "-", machine.lower()).strip("-")


def picture_name(found: dict) -> str:
    return f"performance-{slug(found['machine']['name'])}.png"


def make_page(results: list[dict]) -> str:
    """The page as Markdown, a chapter for each machine."""
    return "\n".join([INTRODUCTION, *(part for found in results for part in chapter(found))])


def chapter(found: dict) -> list[str]:
    """All tables of one machine."""
    machine, networks = found["machine"], found["networks"]
    lines = [f"## {machine['name']}", ""]
    lines += [
        f"{machine['isa']}, PyTorch {machine['torch']}, {machine['date']}, commit {machine['commit']}, `{found['command']}`"
    ]
    lines += [
        f"then {later['date']}, commit {later['commit']}, `{later['command']}`" for later in found.get("merged", [])
    ]
    if found["clock"] == "processor":
        lines += ["", "**Measured in processor time on a busy machine: the factors are rough.**"]
    for what in ("training step", "inference"):
        rows = [(name, entry, result) for name, entry in networks.items() for result in entry.get(what, [])]
        if rows:
            lines += ["", f"### {what.capitalize()}, clips per second", "", *speed_table(what, rows)]
    rows = [(name, entry["one clip"]) for name, entry in networks.items() if "one clip" in entry]
    if rows:
        lines += ["", "### One clip, milliseconds", "", *latency_table(rows)]
    rows = [(name, entry["memory"]) for name, entry in networks.items() if "memory" in entry]
    if rows:
        lines += [
            "",
            "### Kept for the backward pass, MB for each clip, float32",
            "",
            *table(("", *rows[0][1]), memory_rows(rows)),
        ]
    if "feeding" in found:
        header = ("modality", "clip by clip", "whole batches", "factor")
        cells = [
            (m, f"{f['clip by clip']:,.0f}", f"{f['whole batches']:,.0f}", f"{f['ratio']:.1f}")
            for m, f in found["feeding"].items()
        ]
        lines += ["", "### Feeding, clips per second on one core", "", *table(header, cells)]
    if "epoch" in found:
        lines += ["", "### An epoch of CTR-GCN through `main.py`", "", *epoch_table(found["epoch"])]
    return [*lines, "", *roofline(found), "", *profile_page.section(found, picture_name(found)), ""]


def factor(value: dict) -> str:
    return f"**{value['ratio']:.2f}** ({value['low']:.2f}–{value['high']:.2f})"


def sides_of(results: list[dict]) -> list[str]:
    return list(dict.fromkeys(side for result in results for side, value in result.items() if isinstance(value, dict)))


def speed_table(what: str, rows: list[tuple[str, dict, dict]]) -> list[str]:
    sides = sides_of([result for _, _, result in rows])
    ours = [side for side in sides if side.startswith("float32")][-1]
    plain = PLAIN in sides
    cells = []
    for name, entry, result in rows:
        batch, published = result["batch"], entry["setting"]["published"][what == "inference"]
        row = [name, str(entry["setting"]["frames"]), str(batch)]
        for side in sides:
            speed = f"{batch / result[side]['seconds']:.1f}" if side in result else ""
            row.append(speed if side == "literal" or not speed else f"{speed}, {factor(result[side])}")
        if plain:
            row.append(factor(result[ours]["plain"]) if PLAIN in result else "")
        cells.append((*row, f"{published}" if published and batch == entry["setting"]["batch"] else ""))
    against = (f"{ours} against plain process",) * plain
    return [
        *table(("network", "T", "N", *sides, *against, "published code¹"), cells),
        "",
        "¹ float32, on another machine of two cores.",
    ]


def latency_table(rows: list[tuple[str, dict]]) -> list[str]:
    sides = sides_of([result for _, result in rows])
    return table(
        ("network", *sides),
        [(name, *(f"{1e3 * result[side]['seconds']:.1f}" for side in sides)) for name, result in rows],
    )


def memory_rows(rows: list[tuple[str, dict]]) -> list[tuple]:
    return [(name, *(f"{value / 1e6:.0f}" for value in entry.values())) for name, entry in rows]


def epoch_table(found: dict) -> list[str]:
    cells = [
        (w, f"{e['batch']}", f"{e['clips_per_second']:.1f}", f"{100 * e['data_share']:.1f} %") for w, e in found.items()
    ]
    return table(("workers", "batch", "clips per second", "waiting for data"), cells)


def roofline(found: dict) -> list[str]:
    """How near CTR-GCN is to what the machine's arithmetic and memory allow."""
    peak, entry = found["peaks"], found["networks"].get("CTR-GCN", {})
    lines = ["### How near the bound", ""]
    arithmetic = ", ".join(
        f"{value / 1e9:,.0f} G multiply-adds/s in {name}" for name, value in peak.items() if name != "bytes"
    )
    lines += [
        f"Measured here: {arithmetic} (a large 1x1 convolution or matrix product), {peak['bytes'] / 1e9:,.0f} GB/s (a large copy)."
    ]
    if "training step" not in entry:
        return lines
    macs = entry["multiply_adds"]
    lines += [
        f"CTR-GCN needs {macs / 1e9:.2f} G multiply-adds for a clip of 64 frames, three times that in a training step.",
        "",
    ]
    cells = []
    for what, weight in (("training step", 3), ("inference", 1)):
        for result in entry[what]:
            for side in (side for side in sides_of([result]) if "compiled" not in side and "literal" not in side):
                name = side.split(",")[0]
                compute = weight * macs / peak[name]
                traffic = CTRGCN_BYTES[what] / (2 if name == "bfloat16" else 1) / peak["bytes"]
                taken = result[side]["seconds"] / result["batch"]
                numbers = [f"{1e3 * value:.2f}" for value in (compute, traffic, taken)]
                cells.append(
                    (what, side, str(result["batch"]), *numbers, f"{100 * max(compute, traffic) / taken:.0f} %")
                )
    return lines + table(
        ("", "arithmetic", "N", "arithmetic alone, ms", "traffic alone, ms", "measured, ms per clip", "of the bound"),
        cells,
    )


if __name__ == "__main__":
    write_page()
    sys.exit()

"""Preparing NTU RGB+D: `data/ntu/prepare.py` on synthetic recordings of NTU's size (261 kB).

python -m benchmarks.preparation    # the same as: python -m benchmarks.run --parts preparation
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.demo.make import make
from torchlight.system.command import RunError
from torchlight.system.paths import ROOT

FRAMES = (40, 132)  # 86 on average, as in NTU RGB+D
REST = " 269.9884 247.5943 1001.277 645.032 0.67427 0.18301 -0.66061 -0.27471 2\n"  # fields that no recipe reads
PER_PERFORMER = 24  # recordings: eight actions, three cameras
RECIPES = ("ctrgcn", "agcn")


def measure(checkouts: dict[str, Path], rounds: int, workers: int, performers: int = 42) -> dict[str, dict]:
    """Prepare the same recordings in every round, each checkout in turn.

    Returns {recipe: {checkout: {clips_per_second, cpu_ms (per clip), bytes (per clip), peak_mb}}}: medians over the
    rounds. Memory is measured in one round more, because looking at it takes time.
    """
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), performers * PER_PERFORMER
        make(folder / "raw", performers=performers, frames=FRAMES, rest=REST)
        for recipe in RECIPES:
            options = ["--recipe", recipe, "--workers", str(workers), "--overwrite"]
            runs: dict[str, list[dict]] = {side: [] for side in checkouts}
            for number in range(rounds + 1):
                for side, root in checkouts.items():
                    runs[side].append(prepare(folder, options, root, watch=number == 0))
            found[recipe] = {
                side: {
                    "clips_per_second": count / statistics.median(run["wall"] for run in timed),
                    "cpu_ms": round(1e3 * statistics.median(run["cpu"] for run in timed) / count, 1),
                    "bytes": watched["bytes"] / count,
                    "peak_mb": watched["peak"] / 1e6,
                }
                for side, (watched, *timed) in runs.items()
            }
    return found


def ntu_clips(folder: Path, performers: int = 42) -> Path:
    """A clip store of synthetic recordings."""
    make(folder / "raw", performers=performers, frames=FRAMES, rest=REST)
    prepare(folder, [], ROOT)
    return folder / "ntu.clips"


def prepare(folder: Path, options: list[str], root: Path, watch: bool = False) -> dict[str, float]:
    """`folder`/raw -> `folder`/ntu.clips by the program of a checkout.

    Returns wall (seconds), cpu (seconds of all cores), peak (bytes of memory, if watched) and bytes (of the store).
    """
    store = folder / "ntu.clips"
    command = [sys.executable, "data/ntu/prepare.py", "--raw", str(folder / "raw"), "--out", str(store)]
    start, before, peak = time.perf_counter(), os.times(), 0
    with subprocess.Popen(command + options, cwd=root, stdout=subprocess.DEVNULL) as process:
        while watch and process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RunError(f"{root}/data/ntu/prepare.py ended with code {process.returncode}")
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": cpu, "peak": peak, "bytes": sum(path.stat().st_size for path in store.iterdir())}


def tree_memory(pid: int) -> int:
    """Bytes that a process and its children hold, shared pages counted once; 0 where the system does not tell."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # no Linux, or the process has just ended
        return 0
    own = sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) * 1024
    return own + sum(tree_memory(int(child)) for child in children)


if __name__ == "__main__":
    from benchmarks.run import main

    sys.exit(main(["--parts", "preparation", *sys.argv[1:]]))

"""Preparation of NTU RGB+D: `data/ntu/prepare.py` on synthetic recordings of the same size as in NTU (261 kB)."""

import subprocess
import sys
from pathlib import Path

from data.demo.make import make
from torchlight.system.command import RunError
from torchlight.system.paths import ROOT

FRAMES = (40, 132)  # 86 on average, as in NTU RGB+D
REST = " 269.9884 247.5943 1001.277 645.032 0.67427 0.18301 -0.66061 -0.27471 2\n"  # fields that no recipe reads
RECIPES = ("ctrgcn", "agcn")
# The memory of a process includes that of the process that started it, which may contain networks here. Therefore, a
# small process starts the preparation.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def make_raw(folder: Path, performers: int = 42) -> int:
    """Write recordings of eight actions by three cameras to `folder`/raw; returns their number."""
    return make(folder / "raw", performers=performers, frames=FRAMES, rest=REST)


def prepare(folder: Path, recipe: str, workers: int, root: Path = ROOT) -> int:
    """Prepare the clip store `folder`/ntu.clips from `folder`/raw with the program of a checkout.

    Returns the peak memory of the largest of its processes in bytes.
    """
    command = [sys.executable, "data/ntu/prepare.py", "--recipe", recipe, "--workers", str(workers), "--overwrite"]
    command += ["--raw", str(folder / "raw"), "--out", str(folder / "ntu.clips")]
    process = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=root, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise RunError(f"{root}/data/ntu/prepare.py ended with code {process.returncode}")
    return int(process.stdout) * 1024

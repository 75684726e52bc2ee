"""Preparing NTU RGB+D: clips per second, memory and size on disk, on synthetic recordings of NTU's size.

    python benchmarks/preparation.py --files 1000 --workers 2            # speed and size
    python benchmarks/preparation.py --memory 2000 10000 --workers 2     # peak memory of all processes

"plain" is one process that takes the format at its word: float() for every field, one matrix product per joint, arrays of 300 frames.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data.demo.make import CAMERAS, make
from data.ntu.recipe_agcn_stgcn import WINDOW, angle, best_two, rotation
from data.ntu.recipe_ctrgcn import assemble
from data.ntu.skeleton_file import Recording

ROOT = Path(__file__).resolve().parents[1]
FRAMES = (40, 132)  # 86 on average, as in NTU RGB+D
REST = " 269.9884 247.5943 1001.277 645.032 0.67427 0.18301 -0.66061 -0.27471 2\n"
ORIGINALS = 1008  # different recordings; more files are further names of these


def write_files(folder: Path, count: int) -> list[Path]:
    """`count` recordings; beyond the first thousand hard links, which cost the reader the same and the disk nothing."""
    make(folder, performers=ORIGINALS // (8 * len(CAMERAS)), frames=FRAMES, rest=REST)
    originals = sorted(folder.iterdir())
    for i in range(ORIGINALS, count):
        path = originals[i % ORIGINALS]
        os.link(path, folder / path.name.replace("R001", f"R{1 + i // ORIGINALS:03d}"))
    for path in sorted(folder.iterdir())[count:]:
        path.unlink()
    return sorted(folder.iterdir())


def plain_read(path: Path) -> Recording:
    with open(path) as file:
        ids, poses = [], []
        for _ in range(int(file.readline())):
            frame = []
            for _ in range(int(file.readline())):
                frame.append(file.readline().split()[0].encode())
                joints = [[float(field) for field in file.readline().split()] for _ in range(int(file.readline()))]
                poses.append([joint[:3] for joint in joints])
            ids.append(frame)
    return Recording(ids, np.array(poses).reshape(-1, 25, 3))


def plain_ctrgcn(path: Path) -> np.ndarray:
    tracks = assemble(plain_read(path))
    data = np.zeros((WINDOW, 150), np.float32)
    for actor, track in enumerate(tracks):
        data[: len(track), 75 * actor : 75 * (actor + 1)] = track.reshape(-1, 75)
    return data


def plain_agcn(path: Path) -> np.ndarray:
    persons = best_two(plain_read(path))
    data = np.zeros((2, WINDOW, 25, 3), np.float32)
    for m, person in enumerate(persons):
        frames = [frame for frame in person if frame.sum() != 0]
        for t in range(WINDOW if frames else 0):
            data[m, t] = frames[t % len(frames)]
    centre = data[0, :, 1].copy()
    for m in range(2):
        for t in range(WINDOW):
            if data[m, t].sum() != 0:
                data[m, t] -= centre[t]
    for (a, b), axis in (((1, 0), [0, 0, 1]), ((8, 4), [1, 0, 0])):
        vector = data[0, 0, a] - data[0, 0, b]
        R = rotation(np.cross(vector, axis), angle(vector, np.array(axis)))
        for m in range(2):
            for t in range(WINDOW):
                if data[m, t].sum() != 0:
                    for v in range(25):
                        data[m, t, v] = R @ data[m, t, v]
    return data


def prepare(raw: Path, out: Path, recipe: str, workers: int) -> None:
    command = [
        sys.executable,
        "data/ntu/prepare.py",
        "--raw",
        raw,
        "--recipe",
        recipe,
        "--out",
        out,
        "--workers",
        str(workers),
        "--strict",
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable, *arguments) -> tuple[float, float]:
    """Seconds by the clock, and of processor time in this process and its children: the latter also holds on a busy machine."""
    start, before = time.perf_counter(), os.times()
    work(*arguments)
    return time.perf_counter() - start, sum(os.times()[:4]) - sum(before[:4])


def speed(folder: Path, count: int, workers: int) -> None:
    """Both sides read the same files, warm in the page cache; the plain side a share of them that takes seconds, not minutes."""
    files = write_files(folder / "raw", count)
    for path in files:
        path.read_bytes()
    print(f"{count} recordings of {sum(path.stat().st_size for path in files) / count / 1e3:.0f} kB")
    print(f"{'recipe':<8}{'':<18}{'clips per second':>18}{'CPU ms per clip':>18}{'bytes per clip':>18}")
    for recipe, plain, share in (("ctrgcn", plain_ctrgcn, files[::5]), ("agcn", plain_agcn, files[::20])):
        clock, cpu = seconds(lambda work, paths: [work(path) for path in paths], plain, share)
        print(
            f"{recipe:<8}{'plain, 1 process':<18}{len(share) / clock:>18.0f}{cpu / len(share) * 1e3:>18.1f}{WINDOW * 150 * 4:>18}"
        )
        out = folder / f"{recipe}.clips"
        clock, cpu = seconds(prepare, folder / "raw", out, recipe, workers)
        size = sum(path.stat().st_size for path in out.iterdir())
        print(
            f"{'':<8}{f'here, {workers} workers':<18}{count / clock:>18.0f}{cpu / count * 1e3:>18.1f}{size // count:>18}"
        )


def tree_memory(pid: int) -> int:
    """Bytes that a process and its children hold, shared pages counted once (Linux)."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += tree_memory(int(child))
    except (OSError, ValueError):
        pass  # the process has just ended
    return total


def memory(folder: Path, count: int, recipe: str, workers: int) -> None:
    write_files(folder / "raw", count)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            peak = max(peak, sum(tree_memory(int(child)) for child in children))

    watcher = threading.Thread(target=watch)
    watcher.start()
    prepare(folder / "raw", folder / f"{recipe}.clips", recipe, workers)
    done.set()
    watcher.join()
    print(f"{recipe:<8}{count:>8} recordings: at most {peak / 1e6:.0f} MB in all processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--memory", type=int, nargs="+", metavar="FILES", help="measure memory for these numbers of files instead"
    )
    args = parser.parse_args()
    if args.memory:
        for count in args.memory:
            for recipe in ("ctrgcn", "agcn"):
                with tempfile.TemporaryDirectory() as folder:
                    memory(Path(folder), count, recipe, args.workers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            speed(Path(folder), args.files, args.workers)


if __name__ == "__main__":
    main()

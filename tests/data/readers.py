"""Raw files and readers for the tests of the store, in a module that worker processes can import."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from data.clip import BadFile, Clip
from data.store import RawSource

FACTS = {
    "num_class": 2,
    "num_point": 3,
    "num_person": 2,
    "channels": 2,
    "class_names": ["a", "b"],
    "recipe": "plain",
    "pad": None,
    "skeleton": str(Path(__file__).with_name("body.yaml")),
    "up": "y",
}


def write_raw(folder: Path, count: int) -> list[Path]:
    """Write raw files `0000.txt`, ... that contain the number of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i:04d}.txt").write_text(str(1 + i % 5))
    return sorted(folder.glob("*.txt"))


def tracks_of(number: int, frames: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(1 + number % 2, frames, 3, 2)).astype(np.float32)


def read(path: Path) -> list[Clip]:
    if "torch" in sys.modules and os.environ.get("NO_TORCH"):
        raise BadFile("torch was imported")
    text = path.read_text()
    if not text.isdigit():
        raise BadFile("no number")
    number = int(path.stem)
    with open(path.parent / "read.log", "a") as log:
        log.write(f"{path.stem}\n")
    return [Clip(path.stem, number % 2, tracks_of(number, int(text)), (0, 1 if number % 2 else -1))]


def read_slowly(path: Path) -> list[Clip]:
    time.sleep(0.005)
    return read(path)


def die_once(path: Path) -> list[Clip]:
    mark = path.parent / "died"
    if path.stem == "0200" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)


def halves(names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    return {"half": {"train": np.arange(0, len(names), 2), "test": np.arange(1, len(names), 2)}}


def source(files: list[Path], reader=read, **facts) -> RawSource:
    return RawSource(files, reader, halves, FACTS | facts)


def arguments_source(args) -> RawSource:
    return source(sorted(args.raw[0].glob("*.txt")), read_slowly)


def main(argv: list[str] | None = None) -> int:
    from data.cli import Benchmark, main  # after the readers, which worker processes import

    benchmark = Benchmark("tests", ("plain", "other"), arguments_source, export={"npz": lambda store, folder: []})
    return main(benchmark, "Prepares text files.", argv)


if __name__ == "__main__":
    sys.exit(main())

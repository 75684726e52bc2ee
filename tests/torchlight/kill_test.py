"""Kill trainings at random times, resume them, and compare the result with that of an uninterrupted run.

python -m tests.torchlight.kill_test --runs 30
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.torchlight import tiny


def killed_run(config: Path, folder: Path, draw: random.Random, seconds: float, kills: int, num_worker: int) -> int:
    """Train with SIGKILLs, then to the end; returns how many kills interrupted the writing of a file.

    The times of the kills are drawn from (0, `seconds`); every second kill then waits until a file is being written.

    Raises:
        AssertionError: the resumed run failed, or a file cannot be read.
    """
    argv, within = ("--config", config, "--work-dir", folder, "--resume", "true", "--num-worker", num_worker), 0
    for number in range(kills):
        process = tiny.start(*argv)
        process.join(draw.uniform(0, seconds))
        while number % 2 == 0 and process.is_alive() and not any(folder.glob("*.tmp")):
            time.sleep(0.0005)
        process.kill()
        process.join()
        if folder.exists():
            within += any(folder.glob("*.tmp"))
            tiny.check_readable(folder)
    code = tiny.finish(tiny.start(*argv, output=folder.with_suffix(".txt")))
    assert code == 0, folder.with_suffix(".txt").read_text()
    tiny.check_readable(folder)
    assert not any(folder.glob("*.tmp"))
    return within


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=3, help="largest number of kills in a run")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw, same, within, total = random.Random(args.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(tiny.options(tiny.write_benchmark(folder / "tiny.clips")) | tiny.RICH))
        for _ in range(2):  # the first run is a warm-up
            begin = time.monotonic()
            assert (
                tiny.finish(tiny.start("--config", config, "--work-dir", folder / "straight", "--overwrite", "true"))
                == 0
            )
            seconds = time.monotonic() - begin
        for number in range(args.runs):
            kills, run = draw.randint(1, args.kills), folder / f"run_{number}"
            caught = killed_run(config, run, draw, seconds, kills, num_worker=number % 3)
            equal = tiny.same_run(folder / "straight", run)
            same, within, total = same + equal, within + caught, total + kills
            print(
                f"run {number + 1:>2}: {kills} kills, {caught} while a file was written: "
                f"{'the same' if equal else 'DIFFERENT'}",
                flush=True,
            )
    print(
        f"{same} of {args.runs} runs end like the uninterrupted one; {total} kills, {within} of them while a file was "
        "written"
    )
    return int(same < args.runs)


if __name__ == "__main__":
    sys.exit(main())

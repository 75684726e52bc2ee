"""Fuzzing: damaged and malicious files for the readers of this project.

    python -m tests.fuzz --count 20000 --formats all --seed 1

Each mutation of a valid file must be read, or refused with a ValueError of one line. Every other exception, a signal
such as a segmentation fault, and a mutation that takes more than SECONDS or more memory than MEMORY is a failure. It is
printed with the number that `--only` takes to repeat it. The formats are in `tests/fuzz_formats.py`.
"""

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.damage import damage

SECONDS = 30  # for one mutation
MEMORY = 3 * 2**30  # bytes that reading may take
BATCH = 2000  # mutations in one process
CONTEXT = multiprocessing.get_context("fork")  # the modules are imported once
ODD = (
    None,
    True,
    -1,
    0,
    3,
    1.5,
    float("nan"),
    float("inf"),
    10**12,
    10**30,
    2**63,
    "x",
    "",
    "\ud800",
    "a\0b",
    "é" * 5000,
    b"x",
)
ODD += ([], {}, (), [[]], [None], {"x": 1}, {1: 2}, [1, "a"], "graph.ucla", np.float32("nan"), np.int64(-5), 5j, {1, 2})
DTYPES = ("O", "f2", "f4", "f8", ">f4", "i1", "i8", "u8", "?", "c8", "S3", "U3", "M8[s]", "i4,f4", "f16")
NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e38, -1, 10**9, 2**62)
FORGED = (  # an object array whose pointers are the bytes AAAAAAAA
    b"cnumpy.core.numeric\n_frombuffer\n(B\x08\x00\x00\x00AAAAAAAA"
    b"cnumpy\ndtype\n(VO\nI0\nI1\ntR(I3\nV|\nNNNI8\nI8\nI0\ntb(I1\ntVC\ntR"
)
PIECES = (  # of pickles and of NumPy headers
    FORGED,
    b"ccollections\nOrderedDict\n(" + FORGED + b"tR.",
    b"(" + FORGED + b"lp0\n(I0\nltp1\n.",
    b"cos\nsystem\n(Vtrue\ntR.",
    b"ccollections\nOrderedDict\n(I1\nI2\nI3\ntR.",
    b"c_codecs\nencode\n(Vx\nVno codec\ntR.",
    b"cnumpy\ndtype\n(Vzz9\ntR.",
    b"cnumpy\nndarray\n((L10000000000000L\ntVf8\ntR.",
    b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40",
    b"\x80\x04\x8d\x00\x00\x00\x00\x00\x01\x00\x00x.",
    b"\x80\x02r\xff\xff\xff\x7f.",
    b"(" * 5000 + b"t" * 5000 + b".",
    b"\x80\x02]q\x00(h\x00h\x00e.",
    b"\x93NUMPY\x01\x00",
    b"PK\x03\x04",
    b"\x00" * 64,
    b"\xff" * 64,
    b"nan",
    b"Infinity",
    b"-1",
    b"1e400",
    b"99999999999999999999",
    b"null",
    b"[" * 100_000,
)
DESCRIPTIONS = (b"'O'  ", b"'|O8'", b"'>f4'", b"'<f2'", b"'<i4'", b"'<u8'", b"'|V4'", b"'<c8'", b"'<U9'", b"'<M8'")


@dataclass(frozen=True)
class Format:
    """One file format.

    content: returns a valid tree of containers and arrays. write: writes a tree, which may contain any types, to a
    folder. read: raises ValueError for errors in the files of the folder, and AssertionError for a wrong result.
    """

    content: Callable[[], Any]
    write: Callable[[Any, Path, random.Random], None]
    read: Callable[[Path], None]


@dataclass
class Result:
    """Outcomes of mutations (`read`, `refused`) and failures as (number, text)."""

    counts: Counter = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)


def mutate_tree(value: Any, rng: random.Random) -> Any:
    """The same tree with one change at a random place."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.05:
            return value | {rng.choice(("x", 5, "", "split/a", "x/y/z")): value[key]}
        return value | {key: mutate_tree(value[key], rng)}
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        middle = [[], [value[i]] * 2, [mutate_tree(value[i], rng)]][rng.choice((0, 1, 2, 2, 2, 2))]
        return type(value)([*value[:i], *middle, *value[i + 1 :]])
    if isinstance(value, np.ndarray) and rng.random() < 0.95:
        return mutate_array(value, rng)
    return rng.choice(ODD)


def mutate_array(x: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another dtype, shape or number."""
    kind = rng.randrange(9)
    if kind == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return x.astype(rng.choice(DTYPES))
            except (ValueError, TypeError):
                return x.astype(object)
    if kind == 1:
        return [x.ravel(), x[None], x.T, x[..., None], np.asfortranarray(x), x[:0], x[..., :0]][rng.randrange(7)]
    if kind == 2:
        return x[: rng.randrange(len(x) + 1)] if x.ndim else x
    if kind == 3:
        return np.concatenate([x, x]) if x.ndim else x
    if kind == 4:
        return np.array(rng.choice(ODD), dtype=object)
    if x.dtype.kind not in "fiu" or not x.size:
        return x.astype(object)
    x, number = x.copy(), rng.choice(NUMBERS)
    if x.dtype.kind != "f":
        info = np.iinfo(x.dtype)
        number = int(np.clip(number, info.min, info.max)) if np.isfinite(number) else info.max
    with np.errstate(over="ignore"):
        if kind == 5:
            x[...] = number
        else:
            x.flat[rng.randrange(x.size)] = number
    return x


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut, remove, duplicate, change, insert or replace bytes, or forge a NumPy header."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(8)
        if kind < 4:
            data = damage(data, kind, a, b, rng)
        elif kind == 4:
            data = data[:a] + rng.choice(PIECES) + data[a:]
        elif kind == 5:
            data = rng.choice(PIECES) if rng.random() < 0.2 else data[:a] + bytes(min(b - a, 100)) + data[b:]
        else:
            data = forge_header(data, rng)
    return data


def forge_header(data: bytes, rng: random.Random) -> bytes:
    """Change dtype or shape in one of the NumPy headers, which keeps its length; without a header, change a byte."""
    places = [match.start() for match in re.finditer(rb"\x93NUMPY", data)]
    if not places:
        a = rng.randrange(len(data) + 1)
        return data[:a] + bytes([rng.randrange(256)]) + data[a + 1 :]
    begin = rng.choice(places) + 10
    end = begin + int.from_bytes(data[begin - 2 : begin], "little")
    text = data[begin:end]
    if rng.random() < 0.4:
        new = re.sub(rb"'[<>|=][^']+'", rng.choice(DESCRIPTIONS), text, count=1)
    elif rng.random() < 0.2:
        new = text.replace(b"False", b"True", 1)
    else:
        numbers = list(re.finditer(rb"\d+", text[text.find(b"shape") :])) or [None]
        chosen = rng.choice(numbers)
        if chosen is None:
            return data
        a, b = (place + text.find(b"shape") for place in chosen.span())
        new = (
            text[:a] + rng.choice((b"0", b"1", b"-1", b"7", b"1000000", b"99999999999999", b"1.5", b"None")) + text[b:]
        )
    new = new.rstrip(b" \n")[: len(text) - 1].ljust(len(text) - 1) + b"\n"
    return data[:begin] + new + data[end:]


def make_mutation(kind: Format, folder: Path, rng: random.Random) -> None:
    """Write one mutation of the valid content into an empty folder."""
    structured = rng.random() < 0.5
    try:
        tree = kind.content()
        for _ in range(rng.randint(1, 2) if structured else 0):
            tree = mutate_tree(tree, rng)
        kind.write(tree, folder, rng)
    except Exception:  # a change that NumPy refuses, or a tree that this format cannot store
        structured = False
        kind.write(kind.content(), folder, rng)
    if not structured or rng.random() < 0.1:
        path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def outcome(kind: Format, folder: Path) -> str:
    """`read`, `refused`, or a description of a failure."""
    try:
        kind.read(folder)
        return "read"
    except ValueError as error:
        return "refused" if str(error) and "\n" not in str(error) else f"message of several lines: {error}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


def work(kind: Format, name: str, seed: int, numbers: range, progress: Any, sink: Any) -> None:
    """Read mutations in this process; `progress` is set to the number of the current one."""
    warnings.simplefilter("ignore")
    faulthandler.disable()  # the exit code shows the signal
    torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            make_mutation(kind, Path(folder), random.Random(f"{seed} {name} {number}"))
            progress.value = number
            sink.send((number, outcome(kind, Path(folder))))
    sink.close()
    os._exit(0)


def fuzz(name: str, kind: Format, numbers: range, seed: int, seconds: float = SECONDS) -> Result:
    """The outcomes of mutations of one format, in processes of at most BATCH mutations."""
    result, following = Result(), numbers.start
    with tempfile.TemporaryDirectory() as folder:
        kind.write(kind.content(), Path(folder), random.Random(0))
        assert outcome(kind, Path(folder)) == "read", (name, outcome(kind, Path(folder)))
    while following < numbers.stop:
        batch = range(following, min(following + BATCH, numbers.stop))
        source, sink = CONTEXT.Pipe(duplex=False)
        progress = CONTEXT.Value("q", batch.start)
        process = CONTEXT.Process(target=work, args=(kind, name, seed, batch, progress, sink))
        process.start()
        sink.close()
        following = batch.start
        last_report = time.monotonic()
        while following < batch.stop:
            try:
                if source.poll(0.5):
                    number, text = source.recv()
                    last_report, following = time.monotonic(), number + 1
                    result.counts[text if text in ("read", "refused") else "failed"] += 1
                    if text not in ("read", "refused"):
                        result.failures.append((number, text))
                elif time.monotonic() - last_report > seconds:
                    text = f"no result within {seconds:g} s"
                    process.kill()
                    raise EOFError
            except EOFError:  # the process has ended before its batch
                process.join()
                text = f"exit code {process.exitcode}" if time.monotonic() - last_report <= seconds else text
                result.failures.append((following, text))
                result.counts["failed"] += 1
                following += 1
                break
        process.join(seconds)
    return result


def main() -> int:
    """Run the command line."""
    from tests.fuzz_formats import FORMATS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutations of each format (%(default)s)")
    parser.add_argument("--formats", nargs="+", default=["all"], choices=["all", *FORMATS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this mutation alone, in this process, with the traceback")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    args = parser.parse_args()
    names = list(FORMATS) if "all" in args.formats else args.formats
    if args.only is not None:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                make_mutation(FORMATS[name], Path(folder), random.Random(f"{args.seed} {name} {args.only}"))
                FORMATS[name].read(Path(folder))
        return 0
    results = {}
    for name in names:
        result = results[name] = fuzz(name, FORMATS[name], range(args.count), args.seed)
        print(f"{name:<14}", ", ".join(f"{n} {word}" for word, n in sorted(result.counts.items())), flush=True)
        for number, text in result.failures[:20]:
            print(f"  --formats {name} --seed {args.seed} --only {number}: {text[:300]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({name: dict(result.counts) for name, result in results.items()}, indent=1))
    return 1 if any(result.failures for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line that all prepare.py share."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.check import common_problems
from data.store import Source, partial_folder, prepare, report_path
from feeders.clips import ClipStore

HERE = Path(__file__).resolve().parent
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Benchmark:
    """What prepare.py of one benchmark adds to the common command line.

    folder: its folder under data/. recipes: names of the preparations, the default first. source: parsed arguments -> what to read.
    arguments: adds flags of its own. check: store -> what is wrong with it, beyond what every store is checked for.
    export: {format: writer(store, folder)} of the field's own files. raw_flags: further spellings of --raw.
    """

    folder: str
    recipes: Sequence[str]
    source: Callable[[argparse.Namespace], Source]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    check: Callable[[ClipStore], list[str]] = lambda store: []
    export: dict[str, Callable[[ClipStore, Path], list[Path]]] = field(default_factory=dict)
    raw_flags: Sequence[str] = ()


def main(benchmark: Benchmark, description: str, argv: list[str] | None = None) -> int:
    """Prepare, check or export a benchmark; the exit code of the process."""
    args = _parser(benchmark, description).parse_args(argv)
    args.out = args.out or HERE / benchmark.folder / f"{args.recipe}.clips"
    try:
        return _act(benchmark, args)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {_explain(error, args.out)}", file=sys.stderr)
    return 2


def class_names(folder: str | Path) -> list[str]:
    """The names in `classes.txt` of a folder under data/, in label order."""
    return (HERE / folder / "classes.txt").read_text(encoding="utf-8").split("\n")[:-1]


def raw_files(folders: Sequence[Path], pattern: str) -> list[Path]:
    """Files below the folders that match, sorted by name. Raises ValueError: two files of one name."""
    files = sorted(
        (file for folder in folders for file in folder.rglob(pattern)), key=lambda file: (file.stem, str(file))
    )
    for one, other in zip(files, files[1:], strict=False):
        if one.stem == other.stem:
            raise ValueError(
                f"found {one} and {other}; a clip's name must be unique; remove one of them or give narrower --raw folders"
            )
    return files


def _parser(benchmark: Benchmark, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--raw", *benchmark.raw_flags, type=Path, nargs="+", metavar="DIR", help="folders with the raw files"
    )
    parser.add_argument(
        "--out", type=Path, metavar="STORE", help=f"where the store goes (data/{benchmark.folder}/<recipe>.clips)"
    )
    parser.add_argument(
        "--recipe", choices=benchmark.recipes, default=benchmark.recipes[0], help="which preparation (%(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N", help="reading processes (%(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="refuse to leave files out that cannot be used")
    parser.add_argument("--overwrite", action="store_true", help="replace the store if it exists")
    parser.add_argument("--check", action="store_true", help="check the store (after making it, if --raw is given)")
    if benchmark.export:
        parser.add_argument("--export", choices=benchmark.export, help="also write the field's files from the store")
        parser.add_argument(
            "--export-dir", type=Path, metavar="DIR", help="where exported files go (the store's folder)"
        )
    benchmark.arguments(parser)
    return parser


def _act(benchmark: Benchmark, args: argparse.Namespace) -> int:
    exporting = getattr(args, "export", None)
    if not (args.raw or args.check or exporting):
        raise ValueError(
            "found nothing to do; give --raw DIR to prepare, or --check or --export for a store that exists"
        )
    if args.workers < 1:
        raise ValueError(f"--workers: found {args.workers}; 1 or more is needed")
    for folder in args.raw or ():
        if not folder.is_dir():
            raise ValueError(f"--raw {folder}: found no such folder")
    if args.raw:
        store = prepare(benchmark.source(args), args.out, args.workers, args.strict, args.overwrite)
        _summary(store)
    else:
        store = ClipStore(args.out)
    if exporting:
        (args.export_dir or args.out.parent).mkdir(parents=True, exist_ok=True)
        for path in benchmark.export[exporting](store, args.export_dir or args.out.parent):
            print(f"wrote {path}")
    return _check(benchmark, store) if args.check else 0


def _summary(store: ClipStore) -> None:
    for split, parts in store.splits.items():
        counts = " and ".join(
            f"{len(numbers)} {'training' if part == 'train' else part}" for part, numbers in parts.items()
        )
        print(f"{split}: {counts} clips" if len(store.splits) > 1 else f"{counts} clips")
    left_out = store.manifest["source"]["left_out"]
    if left_out:
        print(f"{left_out} raw files cannot be used and were left out; the reasons are in {report_path(store.path)}")
    print(f"wrote {store.path}")


def _check(benchmark: Benchmark, store: ClipStore) -> int:
    problems = common_problems(store) + benchmark.check(store)
    for problem in problems:
        print(f"problem: {problem}")
    print(
        f"{store.path}: {len(problems)} problems"
        if problems
        else f"{store.path}: {len(store)} clips, all checks passed"
    )
    return 1 if problems else 0


def _explain(error: OSError, out: Path) -> str:
    if error.errno not in NO_ROOM:
        return f"{error.filename}: {error.strerror}"
    return (
        f"{error.filename}: no room while writing it ({error.strerror}); the finished parts in {partial_folder(out)} are kept; "
        "free some room and give the same command again, or choose another disk with --out"
    )

"""The common command line of all prepare.py scripts, and the parts of it that other programs in data/ use."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data.check import common_problems
from data.export import check_recipe
from data.raw_files import read_class_names
from data.store import RawSource, partial_folder, prepare, report_path
from feeders.clip_store import ClipStore
from torchlight.system.command import (
    FAILED,
    NO_SPACE,
    SUCCESS,
    Parser,
    RunError,
    Terminated,
    explain_os_error,
    run,
)
from torchlight.system.paths import below_data_root
from torchlight.system.text import counted, printable

HERE = Path(__file__).resolve().parent
CONTINUES = "the same command continues where it stopped"
WITHOUT_RAW = ("data_root", "out", "workers", "check", "export", "export_dir")  # options of a store that exists
EPILOG = """\
exit codes: 0 the store is written (raw files that cannot be used are left out and listed in <store>.report.json;
--strict refuses them), 1 --check found a problem, or the disk is full, 2 user error, 130 interrupted, 143 terminated.
--debug also prints the traceback of an error.
"""


@dataclass(frozen=True)
class Benchmark:
    """The settings that the prepare.py of one benchmark adds to the common command line.

    Attributes:
        folder: its folder below data/.
        recipes: names of the preparations, the default first.
        source: parsed arguments -> the data to read.
        arguments: adds options.
        check: store -> problems that are specific to this benchmark.
        export: {format: writer(store, folder)} of published file formats.
        raw_flags: other names of the option --raw.
        splits, skeleton: of every store of this benchmark; empty if they depend on the data.
    """

    folder: str
    recipes: Sequence[str]
    source: Callable[[argparse.Namespace], RawSource]
    arguments: Callable[[Parser], None] = lambda parser: None
    check: Callable[[ClipStore], list[str]] = lambda store: []
    export: dict[str, Callable[[ClipStore, Path], list[Path]]] = field(default_factory=dict)
    raw_flags: Sequence[str] = ()
    splits: Collection[str] = ()
    skeleton: str = ""


def main(benchmark: Benchmark, description: str, argv: list[str] | None = None) -> int:
    """Prepare, check or export a benchmark; the exit code of the process."""
    return program(partial(_act, benchmark, description), argv)


def program(act: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """`torchlight.system.command.run` for a program that also ends cleanly at SIGTERM."""
    with _terminable():
        return run(act, argv)


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise Terminated at SIGTERM, so that temporary files are removed and worker processes end."""

    def end(*_: object) -> None:
        raise Terminated("terminated")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: object) -> None:
    """Print one line; characters that control the terminal or cannot be displayed become escape sequences."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(printable(str(text)).encode(encoding, "backslashreplace").decode(encoding))


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number in this range."""

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
        if number is None or not low <= number <= high:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {low} to {high}, got {printable(text)[:40]!r}"
            )
        return number

    return parse


def class_names(folder: str) -> list[str]:
    """The names in `classes.txt` of a folder below data/, in label order."""
    return read_class_names(HERE / folder / "classes.txt")


def _parser(benchmark: Benchmark, description: str) -> Parser:
    parser = Parser(description=description, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.option("raw", *benchmark.raw_flags, type=Path, nargs="+", metavar="DIR", help="folders with the raw files")
    parser.option("data-root", type=Path, metavar="DIR", help="folder of prepared data ($SKELETON_DATA, else data)")
    parser.option("out", type=Path, metavar="STORE", help=f"the store (<data root>/{benchmark.folder}/<recipe>.clips)")
    parser.option("recipe", choices=benchmark.recipes, default=benchmark.recipes[0], help="preparation (%(default)s)")
    workers = min(8, os.cpu_count() or 1)
    parser.option(
        "workers", type=whole_number(1, 1024), default=workers, metavar="N", help="reading processes (%(default)s)"
    )
    parser.switch("strict", help="refuse raw files that cannot be used instead of leaving them out")
    parser.switch("overwrite", help="replace the store if it exists")
    parser.switch("check", help="check the store (after writing it, if --raw is given)")
    if benchmark.export:
        parser.option("export", choices=benchmark.export, help="also write the published file format from the store")
        parser.option("export-dir", type=Path, metavar="DIR", help="folder of exported files (that of the store)")
    benchmark.arguments(parser)
    return parser


def _act(benchmark: Benchmark, description: str, argv: list[str]) -> int:
    parser = _parser(benchmark, description)
    args = parser.parse_args(argv)
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    args.out = below_data_root(args.out or f"data/{benchmark.folder}/{args.recipe}.clips", args.data_root)
    exporting = getattr(args, "export", None)
    flag = f"--{[*benchmark.raw_flags, 'raw'][0]}"
    if not (args.raw or args.check or exporting):
        raise ValueError(f"expected {flag} DIR to prepare a store, or --check or --export for one that exists")
    if "export_dir" in given and not exporting:
        raise ValueError("--export-dir: expected --export as well, got none; it has no effect without it")
    for folder in args.raw or ():
        if not folder.is_dir():
            raise ValueError(f"{flag} {folder}: expected a folder, got {'a file' if folder.exists() else 'nothing'}")
    if args.raw and exporting:
        check_recipe(exporting, args.recipe)
    if args.raw:
        store = _prepare(benchmark.source(args), args)
        _summarize(store)
    else:
        store = ClipStore(args.out)
        _check_benchmark(benchmark, store)
        used = WITHOUT_RAW if "out" in given else (*WITHOUT_RAW, "recipe")
        if unused := [f"--{name.replace('_', '-')}" for name in given if name not in used]:
            say(f"no effect without {flag}: {', '.join(unused)}")
    if exporting:
        folder = args.export_dir or args.out.parent
        folder.mkdir(parents=True, exist_ok=True)
        for path in benchmark.export[exporting](store, folder):
            say(f"wrote {path}")
    return _check(benchmark, store) if args.check else SUCCESS


def _check_benchmark(benchmark: Benchmark, store: ClipStore) -> None:
    """Raise ValueError if a store is of another benchmark."""
    expected = (benchmark.skeleton, sorted(benchmark.splits))
    found = (store.manifest.get("skeleton"), sorted(store.splits))
    if benchmark.splits and found != expected:
        one, other = (
            f"the skeleton {skeleton} and the splits {', '.join(splits)}" for skeleton, splits in (expected, found)
        )
        raise ValueError(
            f"{store.path}: expected a store of {benchmark.folder} with {one}, got {other}; use another --out"
        )


def _prepare(source: RawSource, args: argparse.Namespace) -> ClipStore:
    """Call `prepare`; if it ends early, the message states whether finished work is kept."""
    try:
        return prepare(source, args.out, args.workers, args.strict, args.overwrite)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {CONTINUES}") from None
    except Terminated:
        raise Terminated(f"terminated; {CONTINUES}") from None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        folder = partial_folder(args.out)
        kept = (
            f"finished work is kept in {folder}; {CONTINUES}" if any(folder.glob("*.shard")) else "nothing is finished"
        )
        raise RunError(f"{explain_os_error(error)}; {kept}") from error


def _summarize(store: ClipStore) -> None:
    for split, parts in store.splits.items():
        counts = " and ".join(
            f"{len(numbers)} {'training' if part == 'train' else part}" for part, numbers in parts.items()
        )
        say(f"{split}: {counts} clips" if len(store.splits) > 1 else f"{counts} clips")
    source = store.manifest["source"]
    for text, count in source.get("guessed", {}).items():
        say(f"assumed for {counted(count, 'clip')}: {text}")
    report = report_path(store.path)
    if gaps := source.get("missing_joints"):
        ((name, most),) = gaps["max"].items()
        say(
            f"joints are missing in {counted(gaps['clips'], 'clip')}: {100 * gaps['mean']:.1f} % on average, "
            f"{100 * most:.1f} % at most ({name}); all shares are in {report}"
        )
    if source["left_out"]:
        say(f"left out {counted(source['left_out'], 'raw file')} that cannot be used; the reasons are in {report}")
    say(f"wrote {store.path}")


def _check(benchmark: Benchmark, store: ClipStore) -> int:
    problems = common_problems(store) + benchmark.check(store)
    for problem in problems:
        say(f"problem: {problem}")
    clips, found = counted(len(store), "clip"), counted(len(problems), "problem")
    say(f"{store.path}: {found}" if problems else f"{store.path}: {clips}, all checks passed")
    return FAILED if problems else SUCCESS

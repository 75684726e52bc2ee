"""How fast this project is on this machine, for docs/performance.md.

    python -m benchmarks.run                                             # everything: about ten minutes on two cores
    python -m benchmarks.run --only CTR-GCN --rounds 3                   # one network
    python -m benchmarks.run --against ../before --parts networks        # beside another checkout of this project
    python -m benchmarks.run --only CTR-GCN --profile                    # the operations that take most of the time

Results replace those of the same network or part in benchmarks/results/<machine>.json; --against and --profile only
print.
"""

import argparse
import dataclasses
import datetime
import gc
import json
import platform
import re
import shlex
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from benchmarks import feeding, performance_page, preparation
from benchmarks.measure import Work, in_turns, inference, other_checkout, training_step
from benchmarks.networks import SETTINGS, Setting
from benchmarks.reference import has_reference, reference
from model import catalog
from torchlight.runtime.malloc import keep_memory
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.system.text import counted, nearest
from torchlight.training.engine import for_inference
from torchlight.training.run_dir import git_commit

PARTS = ("networks", "feeding", "preparation")
STEP, INFERENCE = "training step", "inference"
CPU = torch.device("cpu")


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (everything)")
    parser.option("only", nargs="+", default=list(SETTINGS), metavar="NETWORK", help=f"of {', '.join(SETTINGS)}")
    parser.option("rounds", type=int, default=7, help="rounds of every comparison (7)")
    parser.option("threads", type=int, default=torch.get_num_threads(), help="CPU threads (all cores)")
    parser.option("device", default="cpu", help="cpu, or the number of a GPU (cpu)")
    parser.option("against", type=Path, metavar="PATH", help="compare with another checkout of this project")
    parser.option("profile", action="store_true", help="print where the time of each network goes")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Measure what was asked for, store it, write the page."""
    args = build_parser().parse_args(argv)
    if unknown := [name for name in args.only if name not in SETTINGS]:
        raise ValueError(f"--only: unknown network {unknown[0]}; {nearest(unknown[0], SETTINGS)}")
    if min(args.rounds, args.threads) < 1:
        raise ValueError(f"--rounds, --threads: expected at least 1, got {args.rounds} and {args.threads}")
    args.device = CPU if args.device == "cpu" else torch.device(f"cuda:{args.device}")
    torch.set_num_threads(args.threads)
    keep_memory()
    measured = {
        "command": shlex.join(["python", "-m", "benchmarks.run", *argv]),
        "date": f"{datetime.date.today()}",
        "commit": (git_commit() or "unknown")[:7],
        "torch": torch.__version__,
    }
    found: dict[str, dict] = {"machine": machine(args.device)}
    if args.profile:
        return profile(args)
    if "networks" in args.parts:
        found["networks"] = {name: {"measured": measured} | network(name, args) for name in args.only}
    if "feeding" in args.parts:
        found["feeding"] = {"measured": measured, "modalities": feed(args)}
    if "preparation" in args.parts:
        found["preparation"] = {"measured": measured, "workers": args.threads, "recipes": prepare(args)}
    if not args.against:
        store(found)


def store(found: dict[str, dict]) -> None:
    """Add results to those of the machine and write the page."""
    path = performance_page.RESULTS / f"{performance_page.slug(found['machine']['name'])}.json"
    old = read_json(path) if path.exists() else {}
    with atomic(path, "w") as file:
        json.dump(merge(old, found), file, indent=1)
        file.write("\n")
    print(f"wrote {path}")
    performance_page.write_page()


def merge(old: dict, new: dict) -> dict:
    """The old results, with the new ones in the place of those of the same network or part."""
    networks = old.get("networks", {}) | new.get("networks", {})
    return old | new | ({"networks": networks} if networks else {})


def machine(device: torch.device) -> dict[str, str]:
    """The machine that results belong to."""
    if device.type == "cuda":
        return {"name": torch.cuda.get_device_name(device)}
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    processor = models[0] if models else platform.processor() or platform.machine()
    name = f"{processor}, {counted(torch.get_num_threads(), 'thread')}"
    return {"name": name, "isa": torch.backends.cpu.get_cpu_capability()}


def network(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Training step and inference of a network at its batch sizes, and inference of one clip."""
    setting = SETTINGS[name]
    if not has_reference(setting.build(CPU)):
        print(f"{setting.model}: no reference formulation, so there are no factors", flush=True)

    def compare(what: str, batch: int) -> dict[str, dict[str, float]]:
        result = in_turns(network_sides(setting, what, batch, args), args.rounds, args.device)
        gc.collect()
        report(f"{name}, {what}", batch, result)
        return result

    batches = (setting.batch,) if args.device == CPU else (setting.batch, 64, 256)
    found = {what: [{"batch": N, "sides": compare(what, N)} for N in batches] for what in (STEP, INFERENCE)}
    return {"frames": setting.frames, **found, "one clip": compare(INFERENCE, 1)}


def network_sides(setting: Setting, what: str, batch: int, args: argparse.Namespace) -> dict[str, Work]:
    """{side: work}: the reference first, then this project's network in each precision; or two checkouts."""
    data, label = setting.clips(batch, args.device)

    def work(model: nn.Module, precision: str = "float32") -> Work:
        return training_step(model, data, label, precision) if what == STEP else inference(model, data, precision)

    def ours(model: nn.Module, precision: str = "float32") -> Work:
        return work(model if what == STEP else for_inference(model), precision)

    model = setting.build(args.device)
    if args.against:
        return {"other checkout": ours(build_there(setting, args)), "this checkout": ours(model)}
    sides = {"reference": work(reference(model))} if has_reference(model) else {}
    precisions = ("float32", "bfloat16") if args.device == CPU else ("float32", "tf32", "bfloat16")
    return sides | {precision: ours(setting.build(args.device), precision) for precision in precisions}


def build_there(setting: Setting, args: argparse.Namespace) -> nn.Module:
    """The network of another checkout with the arguments that it has in this one.

    Raises:
        ValueError: it has another number of parameters there.
    """
    there = dataclasses.replace(setting, args=catalog.example_args(setting.model) | setting.args)
    with other_checkout(args.against):
        model = there.build(args.device)
    expected, got = (sum(p.numel() for p in m.parameters()) for m in (setting.build(CPU), model))
    if expected != got:
        raise ValueError(f"--against: {setting.model}: expected {expected} parameters, got {got} in {args.against}")
    return model


def report(title: str, clips: int, result: dict[str, dict[str, float]]) -> None:
    """Print one comparison."""
    for side, value in result.items():
        print(
            f"{title + f', {clips} clips':<48} {side:<15} {1e3 * value['seconds']:9.1f} ms  "
            f"{clips / value['seconds']:9,.1f} clips/s  x {value['ratio']:5.2f}  "
            f"({value['low']:.2f} to {value['high']:.2f})",
            flush=True,
        )


def profile(args: argparse.Namespace) -> None:
    """Print the operations that take most of the time of a training step and of an inference."""
    for name in args.only:
        setting = SETTINGS[name]
        data, label = setting.clips(setting.batch, args.device)
        works = {STEP: training_step(setting.build(args.device), data, label)}
        works[INFERENCE] = inference(for_inference(setting.build(args.device)), data)
        for what, work in works.items():
            work()
            with torch.profiler.profile() as found:
                work()
            print(f"\n{name}, {what}, batch {setting.batch}")
            print(found.key_averages().table(sort_by=f"self_{args.device.type}_time_total", row_limit=15), flush=True)


def feed(args: argparse.Namespace) -> dict[str, float]:
    """{modality: clips per second on one thread}."""
    found = {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = preparation.ntu_clips(Path(folder))
        for modality in feeding.MODALITIES:
            sides = {}
            if args.against:
                with other_checkout(args.against):
                    sides["other checkout"], _ = feeding.one_pass(clips, modality)
            sides["this checkout"], count = feeding.one_pass(clips, modality)
            result = in_turns(sides, args.rounds, CPU)
            report(f"feeding, {modality}", count, result)
            found[modality] = count / result["this checkout"]["seconds"]
    torch.set_num_threads(args.threads)
    return found


def prepare(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """{recipe: what `preparation.measure` finds for this checkout}."""
    checkouts = {"other checkout": args.against} if args.against else {}
    recipes = preparation.measure(checkouts | {"this checkout": ROOT}, args.rounds, args.threads)
    for recipe, sides in recipes.items():
        for side, values in sides.items():
            print(f"preparation, {recipe}, {side}: " + ", ".join(f"{k} {v:,.1f}" for k, v in values.items()))
    return {recipe: sides["this checkout"] for recipe, sides in recipes.items()}


if __name__ == "__main__":
    sys.exit(main())

"""Measure the speed of this project on this machine, for docs/performance.md.

    python -m benchmarks.run                                        # everything: about ten minutes on two cores
    python -m benchmarks.run --only CTR-GCN --rounds 3
    python -m benchmarks.run --parts networks --against ../before   # compared with another checkout of this project

Results replace those of the same network or part in benchmarks/results/<machine>.json. With --against or --profile,
they are only printed.
"""

import argparse
import dataclasses
import datetime
import gc
import json
import pkgutil
import platform
import re
import shlex
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks import pages, performance_page, preparation
from benchmarks.measure import Work, in_turns, inference, other_checkout, training_step
from benchmarks.networks import SETTINGS, Setting, check_names, select_kernels
from benchmarks.reference import has_reference, reference
from data.cli import whole_number
from model import catalog, gpu
from torchlight.contract import is_graph_safe
from torchlight.runtime.malloc import keep_memory
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.system.text import counted
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
    parser.option("rounds", type=whole_number(1, 1000), default=7, help="rounds of every comparison (7)")
    threads = torch.get_num_threads()
    parser.option("threads", type=whole_number(1, 1024), default=threads, help="CPU threads (all cores)")
    parser.option("device", default="cpu", help="cpu, or the number of a GPU (cpu)")
    parser.option("compile", action="store_true", help="on a GPU: also measure compiled training steps, takes minutes")
    parser.option("against", type=Path, metavar="PATH", help="compare with another checkout of this project")
    parser.option("profile", action="store_true", help="print where the time of each network goes")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Measure the selected parts, store the results and write the page."""
    args = build_parser().parse_args(argv)
    check_names(args.only)
    if args.profile and args.against:
        raise ValueError("--profile: cannot be combined with --against")
    args.device = CPU if args.device == "cpu" else torch.device(f"cuda:{args.device}")
    if args.compile and args.device == CPU:
        raise ValueError("--compile: expected --device with the number of a GPU, got cpu")
    if args.device != CPU:
        torch.cuda.set_device(args.device)  # CUDA graphs and Triton use the current device
    torch.set_num_threads(args.threads)
    keep_memory()
    how = f"PyTorch {torch.__version__}, `{shlex.join(['python', '-m', 'benchmarks.run', *argv])}`"
    measured = {"date": f"{datetime.date.today()}", "commit": (git_commit() or "unknown")[:7], "how": how}
    if args.profile:
        return profile(args)
    for name in args.only if "networks" in args.parts else ():
        result = {"networks": {name: {"measured": measured} | network(name, args)}}
        if not args.against:
            store(args, result)  # after every network: a run takes long
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "feeding" in args.parts:
            found["feeding"] = {"measured": measured, "modalities": feed(args, Path(folder))}
        if "preparation" in args.parts:
            recipes = prepare(args, Path(folder))
            found["preparation"] = {"measured": measured, "workers": args.threads, "recipes": recipes}
    if found and not args.against:
        store(args, found)


def store(args: argparse.Namespace, found: dict[str, dict]) -> None:
    """Replace the results of the same networks and parts on this machine, and write the page."""
    facts = machine(args.device)
    path = performance_page.RESULTS / f"{performance_page.slug(facts['name'])}.json"
    old = read_json(path) if path.exists() else {}
    found = old | {"machine": facts} | found | {"networks": old.get("networks", {}) | found.get("networks", {})}
    with atomic(path, "w") as file:
        file.write(json.dumps(found, indent=1) + "\n")
    print(f"wrote {path}")
    pages.write("performance", performance_page.make_page)


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
        print(f"{setting.model}: no reference formulation, so no factors are measured", flush=True)

    def compare(what: str, batch: int) -> dict[str, dict[str, float]]:
        try:
            result = in_turns(network_sides(setting, what, batch, args), args.rounds, args.device)
        except torch.OutOfMemoryError:
            result = {}
            print(f"{name}, {what}, {counted(batch, 'clip')}: not measured, out of GPU memory", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
        report(f"{name}, {what}", batch, result)
        return result

    batches = (setting.batch,) if args.device == CPU else (setting.batch, 64, 256)
    found = {
        what: [{"batch": N, "sides": sides} for N in batches if (sides := compare(what, N))]
        for what in (STEP, INFERENCE)
    }
    return {"frames": setting.frames, **found, "one clip": compare(INFERENCE, 1)}


def network_sides(setting: Setting, what: str, batch: int, args: argparse.Namespace) -> dict[str, Work]:
    """{side: work}: the reference first, then this project's network in each precision; or two checkouts."""
    data, label = setting.clips(batch, args.device)

    def work(model: nn.Module, precision: str = "float32", merge: bool = True) -> Work:
        if what == STEP:
            return training_step(model, data, label, precision)
        return inference(for_inference(model) if merge else model, data, precision)

    model = setting.build(args.device)
    if args.against:
        return {"other checkout": work(build_there(setting, args)), "this checkout": work(model)}
    sides = {"reference": work(reference(model), merge=False)} if has_reference(model) else {}
    on_gpu = () if args.device == CPU else ("tf32 convolutions", "tf32")
    precisions = ("float32", *on_gpu, "bfloat16")
    sides |= {precision: work(setting.build(args.device), precision) for precision in precisions}
    if what == STEP and on_gpu:
        sides |= {
            ", ".join(("bfloat16", *options)): training_step_with(setting.build(args.device), data, label, options)
            for options in step_options(model, args.compile)
        }
    return sides


def step_options(model: nn.Module, compiled: bool) -> list[tuple[str, ...]]:
    """Combinations of options that make a training step on a GPU faster and that the network supports."""
    kernels = ((), ("triton",)) if select_kernels(model, "auto") and gpu.can_load_block() else ((),)
    runs = ((), *((("CUDA graph",),) if is_graph_safe(model) else ()), *((("compile",),) if compiled else ()))
    return [kernel + how for kernel in kernels for how in runs if kernel + how]


def training_step_with(model: nn.Module, data: torch.Tensor, label: torch.Tensor, options: tuple[str, ...]) -> Work:
    """`training_step` in bfloat16 with some of `step_options`."""
    select_kernels(model, "triton" if "triton" in options else "auto")
    model = torch.compile(model) if "compile" in options else model
    return training_step(model, data, label, "bfloat16", record="CUDA graph" in options)


def build_there(setting: Setting, args: argparse.Namespace) -> nn.Module:
    """The network of another checkout with the arguments that it has in this one.

    Raises:
        ValueError: the other checkout does not have the network, or its network has another number of parameters.
    """
    there = dataclasses.replace(setting, args=catalog.example_args(setting.model) | setting.args)
    with other_checkout(args.against):
        try:
            model = there.build(args.device)
        except ModuleNotFoundError as error:
            raise ValueError(f"--against: {args.against} has no {error.name}; choose networks with --only") from error
    expected, got = (sum(p.numel() for p in m.parameters()) for m in (setting.build(CPU), model))
    if expected != got:
        raise ValueError(f"--against: {setting.model}: expected {expected} parameters, got {got} in {args.against}")
    return model


def report(title: str, clips: int, result: dict[str, dict[str, float]]) -> None:
    """Print one comparison."""
    for side, value in result.items():
        speed = f"{1e3 * value['seconds']:9.1f} ms  {clips / value['seconds']:9,.1f} clips/s"
        factor = f"x {value['ratio']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
        print(f"{title + ', ' + counted(clips, 'clip'):<48} {side:<15} {speed}  {factor}", flush=True)


def profile(args: argparse.Namespace) -> None:
    """Print the operations that take the most time in a training step and in inference."""
    for name in args.only:
        batch = SETTINGS[name].batch
        for what in (STEP, INFERENCE):
            work = network_sides(SETTINGS[name], what, batch, args)["float32"]
            work()
            with torch.profiler.profile() as found:
                work()
            table = found.key_averages().table(sort_by=f"self_{args.device.type}_time_total", row_limit=15)
            print(f"\n{name}, {what}, {counted(batch, 'clip')}\n{table}", flush=True)


def feed(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """{modality: clips per second on one thread}."""
    preparation.make_raw(folder)
    preparation.prepare(folder, "ctrgcn", args.threads)
    clips, found = folder / "ntu.clips", {}
    torch.set_num_threads(1)
    for modality in ("joint", "bone_motion"):
        sides = {}
        if args.against:
            with other_checkout(args.against):
                sides["other checkout"], _ = one_pass(clips, modality)
        sides["this checkout"], count = one_pass(clips, modality)
        result = in_turns(sides, args.rounds, CPU)
        report(f"feeding, {modality}", count, result)
        found[modality] = count / result["this checkout"]["seconds"]
    torch.set_num_threads(args.threads)
    return found


def one_pass(clips: Path, modality: str) -> tuple[Work, int]:
    """A function that feeds all clips of a store once in random batches, with CTR-GCN's recipe for training, and the
    number of clips."""
    feeder = pkgutil.resolve_name("feeders.feeder_ntu.Feeder")  # of the checkout that is imported now
    recipe = {"window_size": 64, "p_interval": [0.5, 1], "random_rot": True}
    feeder = feeder(data_path=str(clips), split="xsub", part="train", modality=modality, **recipe)
    batches = torch.randperm(len(feeder), generator=torch.Generator().manual_seed(0)).split(64)

    def work() -> None:
        for batch in batches:
            feeder.__getitems__(batch.tolist())

    return work, len(feeder)


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """{recipe: clips_per_second, bytes (per clip), peak_mb}."""
    count, found = preparation.make_raw(folder), {}
    checkouts = ({"other checkout": args.against} if args.against else {}) | {"this checkout": ROOT}
    for recipe in preparation.RECIPES:
        work = partial(preparation.prepare, folder, recipe, args.threads)
        result = in_turns({side: partial(work, root) for side, root in checkouts.items()}, args.rounds, CPU)
        report(f"preparation, {recipe}", count, result)
        found[recipe] = {
            "clips_per_second": count / result["this checkout"]["seconds"],
            "peak_mb": work() / 1e6,
            "bytes": sum(file.stat().st_size for file in (folder / "ntu.clips").iterdir()) / count,
        }
    return found


if __name__ == "__main__":
    sys.exit(main())

"""How fast this project is on this machine.

    python -m benchmarks.run                                    # everything: about ten minutes on two cores
    python -m benchmarks.run --only CTR-GCN --rounds 3          # one network
    python -m benchmarks.run --parts feeding preparation
    python -m benchmarks.run --against ../before --parts networks    # another checkout of this project, before / after
    python -m benchmarks.run --only CTR-GCN --profile           # print the operations that take most of the time

Every ratio is measured within one run, its sides in turns. Results replace the older ones of the same network or part
in benchmarks/results/<machine>.json, and docs/performance.md is written from there; --against and --profile only print.
"""

import argparse
import dataclasses
import datetime
import gc
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import feeding, preparation
from benchmarks.measure import (
    in_turns,
    inference,
    other_checkout,
    precisions,
    print_profile,
    training_step,
)
from benchmarks.networks import SETTINGS, Setting
from benchmarks.performance_page import RESULTS, slug, write_page
from benchmarks.reference import has_reference, reference
from model import catalog
from torchlight.runtime.malloc import keep_memory
from torchlight.system.command import Parser, RunError
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest
from torchlight.training.engine import for_inference
from torchlight.training.model_size import kept_for_backward
from torchlight.training.run_dir import git_commit

PARTS = ("networks", "feeding", "preparation", "epoch")
STEP, INFERENCE = "training step", "inference"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("device", default="cpu", help="cpu, or the number of a GPU (cpu)")
    parser.option("parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (everything)")
    parser.option("only", nargs="+", default=list(SETTINGS), metavar="NETWORK", help=f"of {', '.join(SETTINGS)}")
    parser.option("rounds", type=int, default=7, help="rounds of every comparison (7)")
    parser.option("threads", type=int, default=torch.get_num_threads(), help="CPU threads (all cores)")
    parser.option("clock", choices=("wall", "processor"), default="wall", help="processor: for a busy machine (wall)")
    parser.option("compile", action="store_true", help="also networks under torch.compile, minutes for each")
    parser.option("against", type=Path, metavar="PATH", help="compare with another checkout of this project")
    parser.option("profile", action="store_true", help="print where the time of each network goes")
    parser.option("out", type=Path, help="another file for the results; docs/performance.md is then not written")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Measure what was asked for, store it, write the page."""
    args = build_parser().parse_args(argv)
    if unknown := [name for name in args.only if name not in SETTINGS]:
        raise ValueError(f"--only: unknown network {unknown[0]}; {nearest(unknown[0], SETTINGS)}")
    if args.rounds < 1:
        raise ValueError(f"--rounds: expected at least 1, got {args.rounds}")
    device = torch.device("cpu" if args.device == "cpu" else f"cuda:{args.device}")
    torch.set_num_threads(args.threads)
    keep_memory()
    if args.profile:
        for name in args.only:
            profile(name, device)
        return
    found = measure(args, device, {"command": shlex.join(["python", "-m", "benchmarks.run", *argv]), **origin(args)})
    if args.against and not args.out:
        return
    path = args.out or RESULTS / f"{slug(found['machine']['name'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path, "w") as file:
        json.dump(merge(read_json(path) if path.exists() else {}, found), file, indent=1)
        file.write("\n")
    print(f"wrote {path}")
    if not args.out:
        write_page()


def origin(args: argparse.Namespace) -> dict[str, Any]:
    """When, with what and how results were measured."""
    now = {"date": f"{datetime.date.today()}", "commit": (git_commit() or "unknown")[:7], "torch": torch.__version__}
    return now | {"clock": args.clock, "rounds": args.rounds}


def machine(device: torch.device) -> dict[str, str]:
    """The machine that results belong to."""
    if device.type == "cuda":
        return {"name": torch.cuda.get_device_name(device)}
    info, threads = Path("/proc/cpuinfo"), torch.get_num_threads()
    models = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    processor = models[0] if models else platform.processor() or platform.machine()
    name = f"{processor}, {threads} thread{'s' * (threads > 1)}"
    return {"name": name, "isa": torch.backends.cpu.get_cpu_capability()}


def merge(old: dict, new: dict) -> dict:
    """The old results, with the new ones in the place of those of the same network or part."""
    networks = old.get("networks", {}) | new.get("networks", {})
    return old | new | ({"networks": networks} if networks else {})


def measure(args: argparse.Namespace, device: torch.device, measured: dict[str, Any]) -> dict[str, Any]:
    """All parts that were asked for, printed as they come; `measured` is stored with each."""
    found: dict[str, Any] = {"machine": machine(device)}
    if "networks" in args.parts:
        found["networks"] = {}
        for name in args.only:
            found["networks"][name] = {"measured": measured, **network(name, device, args)}
    if "feeding" in args.parts:
        found["feeding"] = {"measured": measured, "modalities": feed(args)}
    if "preparation" in args.parts:
        checkouts = {"other checkout": args.against} if args.against else {}
        recipes = preparation.measure(checkouts | {"this checkout": ROOT}, args.rounds, args.threads)
        for recipe, sides in recipes.items():
            for side, values in sides.items():
                print(f"preparation, {recipe}, {side}: " + ", ".join(f"{k} {v:,.1f}" for k, v in values.items()))
        found["preparation"] = {"measured": measured, "workers": args.threads, "recipes": recipes}
    if "epoch" in args.parts and not args.against:
        found["epoch"] = {"measured": measured, "workers": epochs(args, device)}
    return found


def network(name: str, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Training step and inference of a network at its batch sizes, one clip, and the memory of training."""
    setting = SETTINGS[name]
    found: dict[str, Any] = {"frames": setting.frames, STEP: [], INFERENCE: []}
    for batch in (setting.batch,) if device.type == "cpu" else (setting.batch, 64, 256):
        for what in (STEP, INFERENCE):
            result = in_turns(network_sides(setting, what, batch, device, args), args.rounds, device, args.clock)
            found[what].append({"batch": batch, "sides": result})
            report(f"{name}, {what}, batch {batch}", result)
            gc.collect()
    one = in_turns(network_sides(setting, INFERENCE, 1, device, args), args.rounds, device, args.clock)
    report(f"{name}, one clip", one)
    data = setting.clips(2, device)[0]
    models = with_reference(setting, device) | {"float32": setting.build(device)}
    memory = {side: kept_for_backward(model, data) / 2 for side, model in models.items()}
    return found | {"one clip": one, "memory": memory}


def network_sides(
    setting: Setting, what: str, batch: int, device: torch.device, args: argparse.Namespace
) -> dict[str, Callable[[], None]]:
    """{side: work}: the reference first, then this project's network in each precision; or two checkouts."""
    data, label = setting.clips(batch, device)

    def for_use(model: nn.Module) -> nn.Module:
        return model if what == STEP else for_inference(model)

    def work(model: nn.Module, precision: str = "float32") -> Callable[[], None]:
        return training_step(model, data, label, precision) if what == STEP else inference(model, data, precision)

    if args.against:
        theirs, ours = build_there(setting, args.against, device), setting.build(device)
        return {"other checkout": work(for_use(theirs)), "this checkout": work(for_use(ours))}
    sides = {name: work(model) for name, model in with_reference(setting, device).items()}
    sides |= {precision: work(for_use(setting.build(device)), precision) for precision in precisions(device)}
    if args.compile:
        precision = precisions(device)[-1]
        sides[f"{precision}, compiled"] = work(torch.compile(for_use(setting.build(device))), precision)
    return sides


def with_reference(setting: Setting, device: torch.device) -> dict[str, nn.Module]:
    """{"reference": the literal formulation of a network}; empty, with a message, for a network that has none."""
    model = setting.build(device)
    if has_reference(model):
        return {"reference": reference(model)}
    print(f"{setting.model}: no reference formulation, so there are no factors", flush=True)
    return {}


def build_there(setting: Setting, root: Path, device: torch.device) -> nn.Module:
    """The network of another checkout with the arguments that it has in this one.

    Raises:
        ValueError: it has another number of parameters there.
    """
    there = dataclasses.replace(setting, args=catalog.example_args(setting.model) | setting.args)
    with other_checkout(root):
        model = there.build(device)
    expected, got = (sum(p.numel() for p in m.parameters()) for m in (setting.build(device), model))
    if expected != got:
        raise ValueError(f"--against: {setting.model}: expected {expected} parameters, got {got} in {root}")
    return model


def report(title: str, result: dict[str, dict[str, float]]) -> None:
    """Print one comparison."""
    for side, value in result.items():
        spread = f"({value['low']:.2f} to {value['high']:.2f})"
        print(f"{title:<44} {side:<19} {1e3 * value['seconds']:9.1f} ms  x {value['ratio']:5.2f}  {spread}", flush=True)


def profile(name: str, device: torch.device) -> None:
    """Print the operations of a training step and of an inference."""
    setting = SETTINGS[name]
    data, label = setting.clips(setting.batch, device)
    works = {STEP: training_step(setting.build(device), data, label)}
    works[INFERENCE] = inference(for_inference(setting.build(device)), data)
    for what, work in works.items():
        print(f"\n{name}, {what}, batch {setting.batch}")
        print_profile(work, device)


def feed(args: argparse.Namespace) -> dict[str, dict]:
    """{modality: {side: clips_per_second, ratio, low, high}} on one thread, in processor time."""
    found: dict[str, dict] = {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = preparation.ntu_clips(Path(folder), performers=42)
        for modality in feeding.MODALITIES:
            makers = {"clip by clip": feeding.clip_by_clip(store.with_name("NTU60_CS.npz"), modality)}
            if args.against:
                with other_checkout(args.against):
                    makers = {"other checkout": feeding.whole_batches(store, modality)}
            ours = "this checkout" if args.against else "whole batches"
            makers[ours] = feeding.whole_batches(store, modality)
            clips = len(makers[ours].__self__)
            works = {side: feeding.one_pass(make, clips) for side, make in makers.items()}
            result = in_turns(works, args.rounds, torch.device("cpu"), "processor")
            report(f"feeding {clips} clips, {modality}", result)
            found[modality] = {
                side: {"clips_per_second": clips / value.pop("seconds"), **value} for side, value in result.items()
            }
    torch.set_num_threads(args.threads)
    return found


def epochs(args: argparse.Namespace, device: torch.device) -> dict[str, dict[str, float]]:
    """{workers: clips per second, and the share of the time spent waiting for data} of CTR-GCN through main.py."""
    performers, batch, repeat = (6, 8, 1) if device.type == "cpu" else (42, 64, 25)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = preparation.ntu_clips(Path(folder), performers)
        for workers in (0, 1, 2):
            run = f"{folder}/run{workers}"
            command = [sys.executable, "main.py", "--config", "config/ntu/xsub/ctrgcn.yaml", "--work-dir", run]
            command += ["--train-feeder-args", f"data_path={store}", f"repeat={repeat}"]
            command += ["--test-feeder-args", f"data_path={store}", "--num-epoch", "2", "--eval-interval", "2"]
            command += ["--batch-size", str(batch), "--num-worker", str(workers), "--device", args.device]
            environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RunError(f"main.py ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
            line = json.loads((Path(run) / "metrics.jsonl").read_text().splitlines()[-1])
            found[str(workers)] = {key: line[key] for key in ("clips_per_second", "data_share")} | {"batch": batch}
            print(f"epoch, {workers} workers: {line['clips_per_second']:.1f} clips/s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

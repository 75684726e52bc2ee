"""How fast this machine is, side by side with the papers' equations taken literally.

    python -m benchmarks.run                 # everything: some minutes on two cores
    python -m benchmarks.run --quick         # three rounds of the first two networks
    python -m benchmarks.run --device 0      # a GPU: more batch sizes, TF32, compiled networks
    python -m benchmarks.run --parts profile --merge    # one part anew, into the results that are there

Results go to benchmarks/results/<machine>.json and from there to docs/performance.md. All sides of a comparison run in turns in this one
process, but the literal network of a plain process, which has its turns in one of its own. `--clock processor` counts processor time
instead, for a machine that others use too.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import feeding
from benchmarks.kinds import profiled
from benchmarks.measure import PLAIN, Arithmetic, in_turns, inference, peaks, training_step
from benchmarks.networks import SETTINGS, Setting, multiply_adds
from benchmarks.performance_page import RESULTS, slug, write_page
from benchmarks.plain import PlainProcess
from benchmarks.reference import has_reference, reference
from model.fuse_norms import fuse_norms
from torchlight.runtime.malloc import keep_memory
from torchlight.training.model_size import kept_for_backward

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("networks", "latency", "memory", "profile", "feeding", "epoch")


def main() -> int:
    """Measure, store, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU (cpu)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NETWORK", help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (everything)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of every comparison (7)")
    parser.add_argument("--quick", action="store_true", help="three rounds, the first two networks")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads on the CPU (all cores)")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument(
        "--compile", action="store_true", help="also compiled networks (always on a GPU); minutes for each"
    )
    parser.add_argument(
        "--merge", action="store_true", help="keep what the file of results holds beside what is measured now"
    )
    parser.add_argument("--out", type=Path, help="another file for the results; the page is then left alone")
    args = parser.parse_args()
    if unknown := [name for name in args.only if name not in SETTINGS]:
        parser.error(f"--only: found {', '.join(unknown)}; allowed are {', '.join(SETTINGS)}")
    device = torch.device("cpu" if args.device == "cpu" else f"cuda:{args.device}")
    torch.set_num_threads(args.threads)
    if args.quick:
        args.rounds, args.only = 3, args.only or list(SETTINGS)[:2]
    names = args.only or list(SETTINGS)
    found = {
        "machine": machine(device),
        "command": shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]]),
        "clock": args.clock,
    }
    path = args.out or RESULTS / f"{slug(found['machine']['name'])}.json"
    try:
        old = results_to_keep(path, found) if args.merge else None
    except ValueError as error:
        parser.error(f"{error}")
    found |= measure(args, names, device)
    if old:
        found = merge(old, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"wrote {path}")
    if not args.out:
        write_page()
    return 0


def measure(args: argparse.Namespace, names: list[str], device: torch.device) -> dict:
    """All parts that were asked for, printed as they come."""
    found: dict = {"rounds": args.rounds, "networks": {name: {} for name in names}}
    keep_memory()
    found["peaks"] = peaks(device)
    for name, entry in found["networks"].items():
        setting = SETTINGS[name]
        batches = [setting.batch] if device.type == "cpu" else [setting.batch, 64, 256]
        entry["setting"] = {"frames": setting.frames, "batch": setting.batch, "published": setting.published}
        entry["multiply_adds"] = multiply_adds(setting.build(device), setting.clips(1, device)[0])
        if not has_reference(setting.build(device)):
            entry["reference"] = "no reference formulation"
            print(f"{name}: no reference formulation, so nothing to compare with")
            continue
        if "networks" in args.parts:
            for batch in batches:
                for what, sides in comparisons(setting, batch, device, args.compile).items():
                    with beside_a_plain_process(sides, setting, what, device, args) as sides:
                        result = {"batch": batch} | in_turns(sides, args.rounds, device, args.clock)
                    entry.setdefault(what, []).append(result)
                    report(f"{name}, {what}, batch {batch}", result)
                    gc.collect()
        if "latency" in args.parts:
            entry["one clip"] = in_turns(
                inference_sides(setting, 1, device, args.compile), args.rounds, device, args.clock
            )
            report(f"{name}, one clip", entry["one clip"])
        if "memory" in args.parts:
            entry["memory"] = memory(setting, device)
        if "profile" in args.parts and device.type == "cpu":
            rates = {"rate": found["peaks"]["float32"], "product": found["peaks"]["float32, matrix product"]}
            entry["profile"] = rates | profile(setting, device, args)
    if "feeding" in args.parts:
        found["feeding"] = feeding_ratios(args.rounds)
    if "epoch" in args.parts:
        found["epoch"] = {str(workers): epoch(workers, args, device) for workers in (0, 1, 2)}
    return found


@contextmanager
def beside_a_plain_process(
    sides: dict[str, Callable], setting: Setting, what: str, device: torch.device, args: argparse.Namespace
) -> Iterator[dict[str, Callable]]:
    """The sides, and on the CPU, as the second, the literal network in a process that nobody has set up."""
    if device.type != "cpu":
        yield sides
        return
    with PlainProcess(setting, what, args.threads, args.clock) as plain:
        yield {"literal": sides["literal"], PLAIN: plain} | sides


def profile(setting: Setting, device: torch.device, args: argparse.Namespace) -> dict[str, dict[str, dict]]:
    """{training step, inference: {side: seconds in turns, and where they go}}: literal, the same elsewhere, and the fastest float32."""
    found = {}
    for what, sides in comparisons(setting, setting.batch, device, False).items():
        ours = [side for side in sides if side.startswith("float32")][-1]
        two = {side: sides[side] for side in ("literal", ours)}
        with beside_a_plain_process(two, setting, what, device, args) as three:
            result = in_turns(three, args.rounds, device, args.clock)
            for side, work in three.items():
                result[side] |= work.profiled() if isinstance(work, PlainProcess) else profiled(work)
        report(f"{setting.model}, {what}, profiled", result)
        found[what] = result
    return found


def results_to_keep(path: Path, new: dict) -> dict:
    """The results that new ones go into. Raises ValueError where there are none, or where their figures would not belong together."""
    if not path.is_file():
        raise ValueError(f"--merge: found no {path}; allowed are results that are there; leave --merge out once")
    old = json.loads(path.read_text())
    for key, was, now in (
        ("machine", old["machine"]["name"], new["machine"]["name"]),
        ("clock", old["clock"], new["clock"]),
    ):
        if was != now:
            raise ValueError(
                f"--merge: found the {key} {now}; allowed is {was}, as in {path}; measure everything on one {key}"
            )
    return old


def merge(old: dict, new: dict) -> dict:
    """The old results with the new ones in their place; `merged` says with which commands those came later.

    What the machine can (`peaks`) stays what it was when the networks were timed.
    """
    networks = {
        name: old["networks"].get(name, {}) | new["networks"].get(name, {})
        for name in old["networks"] | new["networks"]
    }
    timed = any("training step" in entry for entry in new["networks"].values())
    later = {"command": new["command"], "date": new["machine"]["date"], "commit": new["machine"]["commit"]}
    kept = ("machine", "command", "rounds") if timed else ("machine", "command", "rounds", "peaks")
    return (
        old | new | {key: old[key] for key in kept} | {"networks": networks, "merged": [*old.get("merged", []), later]}
    )


def report(title: str, result: dict) -> None:
    """Lines on the terminal."""
    for side, value in result.items():
        if isinstance(value, dict):
            print(
                f"{title:<44} {side:<20} {1000 * value['seconds']:9.1f} ms  "
                f"x {value['ratio']:5.2f}  ({value['low']:.2f} to {value['high']:.2f})",
                flush=True,
            )


def arithmetics(device: torch.device) -> list[str]:
    """What is worth measuring: TF32 is a matter of GPUs."""
    return ["float32", "tf32", "bfloat16"] if device.type == "cuda" else ["float32", "bfloat16"]


def comparisons(setting: Setting, batch: int, device: torch.device, compiled: bool) -> dict[str, dict]:
    """{training step, inference: {side: work}}, the literal network first."""
    data, label = setting.clips(batch, device)
    steps = {"literal": training_step(reference(setting.build(device)), data, label, Arithmetic("float32", device))}
    for name in arithmetics(device):
        steps[name] = training_step(setting.build(device), data, label, Arithmetic(name, device))
    if compiled or device.type == "cuda":
        name = arithmetics(device)[-1]
        steps[f"{name}, compiled"] = training_step(
            torch.compile(setting.build(device)), data, label, Arithmetic(name, device)
        )
    return {"training step": steps, "inference": inference_sides(setting, batch, device, compiled)}


def inference_sides(setting: Setting, batch: int, device: torch.device, compiled: bool) -> dict:
    """Literal, as it is, folded, in every arithmetic."""
    data, _ = setting.clips(batch, device)
    sides = {"literal": inference(reference(setting.build(device)), data, Arithmetic("float32", device))}
    sides["float32"] = inference(setting.build(device), data, Arithmetic("float32", device))
    for name in arithmetics(device):
        sides[f"{name}, folded"] = inference(fuse_norms(setting.build(device)), data, Arithmetic(name, device))
    if compiled or device.type == "cuda":
        name = arithmetics(device)[-1]
        sides[f"{name}, compiled"] = inference(
            torch.compile(fuse_norms(setting.build(device))), data, Arithmetic(name, device)
        )
    return sides


def memory(setting: Setting, device: torch.device) -> dict[str, float]:
    """Bytes per clip kept for the backward pass, literal and here; on a GPU also the peak of a training step of the setting's batch."""
    data, _ = setting.clips(2, device)
    model = setting.build(device)
    found = {"literal": kept_for_backward(reference(model), data) / 2, "here": kept_for_backward(model, data) / 2}
    if device.type == "cuda":
        for side, network in (("literal", reference(model)), ("here", model)):
            torch.cuda.reset_peak_memory_stats(device)
            training_step(network, *setting.clips(setting.batch, device), Arithmetic("float32", device))()
            found[f"{side}, peak"] = torch.cuda.max_memory_allocated(device)
    return found


def feeding_ratios(rounds: int, clips: int = 512) -> dict[str, dict]:
    """Batches of CTR-GCN's recipe for NTU RGB+D, clip by clip and whole, on one thread, in processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = feeding.synthetic_store(Path(folder) / "synthetic.clips", clips)
        for modality in ("joint", "bone_motion"):
            plain, whole = feeding.clip_by_clip(path, modality), feeding.whole_batches(path, modality)
            pairs = [(feeding.timed(plain, clips), feeding.timed(whole, clips)) for _ in range(rounds)]
            slow, fast = (clips / statistics.median(side) for side in zip(*pairs, strict=True))
            found[modality] = {"clip by clip": slow, "whole batches": fast, "ratio": fast / slow}
            print(f"feeding, {modality:<13} {slow:,.0f} and {fast:,.0f} clips/s, x {fast / slow:.1f}")
    torch.set_num_threads(threads)
    return found


def epoch(workers: int, args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """An epoch of CTR-GCN on NTU-like clips through main.py: clips per second, and the share of it spent waiting for data."""
    clips, batch = (64, 8) if device.type == "cpu" else (12800, 64)
    clips = clips // 2 if args.quick else clips
    with tempfile.TemporaryDirectory() as folder:
        store = feeding.synthetic_store(Path(folder) / "synthetic.clips", clips)
        command = [sys.executable, "main.py", "--config", "config/ntu/xsub/ctrgcn.yaml", "--work-dir", f"{folder}/run"]
        command += ["--train-feeder-args.data_path", str(store), "--test-feeder-args.data_path", str(store)]
        command += ["--num-epoch", "2", "--eval-interval", "2", "--batch-size", str(batch)]
        command += ["--num-worker", str(workers), "--device", args.device]
        threads = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        subprocess.run(command, cwd=ROOT, check=True, env=threads, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        line = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    print(
        f"epoch, {workers} workers: {line['clips_per_second']:.1f} clips/s, {100 * line['data_share']:.1f} % waiting for data",
        flush=True,
    )
    return {key: line[key] for key in ("clips_per_second", "data_share")} | {"clips": clips, "batch": batch}


def machine(device: torch.device) -> dict[str, str | int]:
    """What the figures belong to."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        models = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
        threads = torch.get_num_threads()
        name = f"{models[0] if models else platform.processor() or platform.machine()}, {threads} thread{'s' * (threads > 1)}"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    isa = torch.backends.cpu.get_cpu_capability()
    return {"name": name, "isa": isa, "torch": torch.__version__, "commit": commit, "date": f"{datetime.date.today()}"}


if __name__ == "__main__":
    sys.exit(main())

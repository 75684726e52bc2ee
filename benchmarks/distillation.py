"""What a teacher costs: time and memory of a training step with and without it, side by side.

    python benchmarks/distillation.py
    python benchmarks/distillation.py --config config/ntu/xsub/dke7.yaml --batch-size 64 --device cuda

Both sides train the same student on the same random clips, in turns; the weights are random, which changes no time. On a CPU one thread
works and processor time counts; memory is the peak of the device, on a CPU that of a process of its own. Read the ratios, the rest is the
machine's.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from torchlight import distillation
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.objective import Classification

SIDES = ("alone", "distilled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", default="config/NW-UCLA/dke7.yaml", help="a configuration with a teacher (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="clips of a step (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each side that are timed (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    args = parser.parse_args()
    steps = {side: make_step(args, side) for side in SIDES}
    seconds = {side: [] for side in SIDES}
    for number in range(args.rounds + 2):
        for side, step in steps.items():
            passed = clock(step, args.device)
            if number >= 2:  # the first steps warm up
                seconds[side].append(passed)
    time_of = {side: statistics.median(values) for side, values in seconds.items()}
    memory = {side: peak_memory(args, side) for side in SIDES}
    report = {"config": args.config, "device": args.device, "batch_size": args.batch_size}
    report |= {"ms": {side: round(1000 * value, 2) for side, value in time_of.items()}, "MB": memory}
    report |= {
        "time_ratio": round(time_of["distilled"] / time_of["alone"], 3),
        "memory_ratio": round(memory["distilled"] / memory["alone"], 3),
    }
    print(json.dumps(report, indent=1))


def make_step(args: argparse.Namespace, side: str) -> Callable[[], None]:
    """A function that trains one step of the student."""
    torch.manual_seed(0)
    if args.device == "cpu":
        torch.set_num_threads(1)
    config = load_config(args.config)
    student = import_object(config.model)(**config.model_args).to(args.device)
    objective = Classification()
    if side == "distilled":
        objective = import_object(config.objective)(**config.objective_args)
        teachers = distillation.teacher_configs(config)
        models = [import_object(teacher.model)(**teacher.model_args) for teacher in teachers]
        objective.teacher = distillation.Teacher(models, ["data"] * len(models)).to(args.device)
    shape = (
        config.train_feeder_args.get("window_size", 52),
        config.model_args["num_point"],
        config.model_args["num_person"],
    )
    data = torch.randn(args.batch_size, 3, *shape, device=args.device)
    label = torch.arange(args.batch_size, device=args.device) % config.model_args["num_class"]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        loss = objective(student, {"data": data, "label": label})[0]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def clock(step: Callable[[], None], device: str) -> float:
    """Seconds of a step: processor time on a CPU, else until the device is done."""
    now = time.process_time if device == "cpu" else time.perf_counter
    begin = now()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return now() - begin


def peak_memory(args: argparse.Namespace, side: str) -> float:
    """Megabytes at the peak of two steps, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (args, side))


def measure(args: argparse.Namespace, side: str) -> float:
    step = make_step(args, side)
    step()
    step()
    if args.device != "cpu":
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmHWM"].split()[0]) / 1024, 1)


if __name__ == "__main__":
    main()

"""Where the time of a network goes, by kind of operation (PyTorch's profiler, on the CPU)."""

import os
import re
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler otherwise tells the terminal that it starts and stops
REST = "rest"  # views, dispatch, Python
KINDS = {  # the first whose pattern is the name of an operation
    "convolution": r"\w*conv\w*",
    "matrix product": r"(badd)?bmm_?|mm|mv|add(b?mm|mv)_?",
    "norm": r"\w*(batch|layer)_norm\w*",
    "pooling and sums": r"\w*pool\w*|mean|sum|\w*softmax\w*|\w*norm",
    "copies": r"copy_|clone|cat|stack|fill_|zero_|zeros|im2col|col2im|unfold_backward",
    "pointwise": r"(add|sub|rsub|mul|div|neg|exp|pow|sqrt|tanh|sigmoid|relu|gelu|clamp|clamp_min|threshold|addcmul)(_backward)?_?",
}


def kind_of(operation: str) -> str:
    """aten::bmm, or aten.bmm -> matrix product."""
    name = re.sub(r"^aten(::|\.)", "", operation)
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), REST)


def profiled(work: Callable, calls: int = 3) -> dict[str, Any]:
    """What a call of the work consists of, after one to warm up.

    Returns shares {kind: part of the time, together 1}, multiply_adds {kind: number, as the operations that ran have it}, new_pages
    (pages that the system had to map) and kernel (seconds of processor time in the system, of all threads).
    """
    work()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(calls):
        work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        taken = time.perf_counter() - start
    shares = dict.fromkeys([*KINDS, REST], 0.0)
    for event in found.key_averages():
        shares[kind_of(event.key)] += event.self_cpu_time_total / 1e6 / taken
    shares[REST] += 1 - sum(shares.values())
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    multiply_adds: dict[str, float] = defaultdict(float)
    for operation, flops in counter.get_flop_counts()["Global"].items():
        multiply_adds[kind_of(str(operation))] += flops / 2
    return {
        "shares": shares,
        "multiply_adds": dict(multiply_adds),
        "new_pages": (after.ru_minflt - before.ru_minflt) / calls,
        "kernel": (after.ru_stime - before.ru_stime) / calls,
    }

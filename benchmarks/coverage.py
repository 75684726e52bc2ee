"""How often 95 % intervals cover the true accuracy, and how often tests reject two equal runs at the 5 % level.

Clips are treated as independent, or grouped by performance (the clips of all its cameras).

    python -m benchmarks.coverage
"""

import sys
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from torchlight.fusion.intervals import bootstrap_interval, compare
from torchlight.system.command import Parser, run
from torchlight.system.text import markdown_table

PERFORMANCES, CAMERAS = 300, 3
# Mean of the score of a clip, and its variances that the clips of a performance share: for all runs, and for each run.
MEAN, SHARED, OWN = 1.5, 0.3, 1.2


@dataclass(frozen=True)
class Rates:
    """In percent: intervals of an accuracy and of a difference that cover the true value, and tests that reject a true
    null hypothesis at the 5 % level."""

    accuracy: float
    difference: float
    rejection: float


def draw_runs(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two runs of equal true accuracy on PERFORMANCES x CAMERAS clips: whether each clip is classified correctly, (n,)
    bool for each run.

    A clip is correct if the sum of MEAN, an effect of the performance, an effect of the performance in this run, and
    noise is positive.
    """
    difficulty = random.normal(0, SHARED**0.5, (PERFORMANCES, 1))
    talent = random.normal(0, OWN**0.5, (2, PERFORMANCES, 1))
    first, second = MEAN + difficulty + talent + random.normal(size=(2, PERFORMANCES, CAMERAS)) > 0
    return first.ravel(), second.ravel()


def simulate(grouped: bool, repeats: int, seed: int = 0, draws: int = 1000) -> Rates:
    """The rates over `repeats` pairs of runs, with or without groups; `draws` samples per bootstrap."""
    random, truth = np.random.default_rng(seed), 100 * NormalDist().cdf(MEAN / (1 + SHARED + OWN) ** 0.5)
    group = np.repeat(np.arange(PERFORMANCES), CAMERAS) if grouped else None
    seen = []
    for i in range(repeats):
        first, second = draw_runs(random)
        low, high = bootstrap_interval(first, i, group, draws=draws)
        result = compare(first, second, i, group, draws=draws)
        seen.append((low <= truth <= high, result.interval[0] <= 0 <= result.interval[1], result.p < 0.05))
    return Rates(*(100 * np.mean(seen, axis=0)).tolist())


def act(argv: list[str]) -> None:
    """Print the rates with and without groups."""
    parser = Parser(prog="python -m benchmarks.coverage", description="Coverage of intervals, rejections of tests.")
    parser.option("repeats", type=int, default=2000, help="simulated pairs of runs (2000)")
    parser.option("seed", type=int, default=0, help="seed of the simulation (0)")
    args = parser.parse_args(argv)
    rows = []
    for grouped, words in ((False, "clips"), (True, "performances")):
        rates = simulate(grouped, args.repeats, args.seed)
        rows.append((words, *(f"{rate:.1f} %" for rate in vars(rates).values())))
    head = ("groups", "intervals of an accuracy that cover it", "of a difference", "rejections of equal runs at 5 %")
    print(f"{PERFORMANCES} performances of {CAMERAS} cameras, {args.repeats} pairs of runs of equal accuracy\n")
    print(markdown_table(head, rows))


if __name__ == "__main__":
    sys.exit(run(act))

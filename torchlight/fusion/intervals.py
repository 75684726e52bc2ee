"""Confidence intervals of an accuracy, and the comparison of two runs on the same clips."""

import math
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


def bootstrap_interval(
    correct: np.ndarray, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy, in percent; correct (n,) bool.

    A bootstrap sample of n clips, k of which are correct, has a binomial number of correct clips; this number is
    sampled directly. The interval covers the choice of test clips, not the seed of the training.
    """
    n = len(correct)
    means = 100.0 * np.random.default_rng(seed).binomial(n, np.mean(correct), draws) / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same n clips: clips that only A, only B classifies correctly, exact two-sided p, and A - B in
    percent."""

    n: int
    only_a: int
    only_b: int
    p: float
    difference: float
    interval: tuple[float, float]


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p value of McNemar's test (1947), from the numbers of clips that only one of two runs classifies
    correctly.

    Null hypothesis: each of these clips is as likely to be in either group.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = term = 1
    for i in range(fewer):  # each binomial coefficient follows from the one before
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n) if n < 1000 else min(1.0, math.exp(math.log(2 * tail) - n * math.log(2)))


def compare(correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Paired comparison of two runs; both (n,) bool, in the same order of clips. The interval is a bootstrap over
    clips."""
    assert correct_a.shape == correct_b.shape, (correct_a.shape, correct_b.shape)
    n = len(correct_a)
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    counts = np.random.default_rng(seed).multinomial(n, [only_a / n, only_b / n, 1 - (only_a + only_b) / n], draws)
    low, high = np.quantile(100.0 * (counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
    return Comparison(
        n, only_a, only_b, mcnemar(only_a, only_b), 100.0 * (only_a - only_b) / n, (float(low), float(high))
    )

"""How much a measured accuracy can be trusted: intervals, and the comparison of two runs on the same clips."""

import math
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


def bootstrap_interval(
    correct: np.ndarray, seed: int = 0, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy, in percent; correct (n,) bool.

    Drawing n clips with replacement from k right and n - k wrong ones gives a binomial number of right ones, so that is what is drawn.
    It tells how far the figure depends on these test clips; it does not know of other seeds of the training.
    """
    n = len(correct)
    means = 100.0 * np.random.default_rng(seed).binomial(n, np.mean(correct), draws) / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same n clips: how many only A, only B got right, McNemar's exact two-sided p, and A - B in percent."""

    n: int
    only_a: int
    only_b: int
    p: float
    difference: float
    interval: tuple[float, float]


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p value that two runs are equally good, from the clips which only one of them gets right (McNemar 1947).

    Under that assumption each such clip is a fair coin.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = term = 1
    for i in range(fewer):  # the binomial coefficients one from the other
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n) if n < 1000 else min(1.0, math.exp(math.log(2 * tail) - n * math.log(2)))


def compare(correct_a: np.ndarray, correct_b: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Paired comparison of two runs; both (n,) bool, in the same order of clips. The interval is a bootstrap over clips."""
    assert correct_a.shape == correct_b.shape, (correct_a.shape, correct_b.shape)
    n = len(correct_a)
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    counts = np.random.default_rng(seed).multinomial(n, [only_a / n, only_b / n, 1 - (only_a + only_b) / n], draws)
    low, high = np.quantile(100.0 * (counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
    return Comparison(
        n, only_a, only_b, mcnemar(only_a, only_b), 100.0 * (only_a - only_b) / n, (float(low), float(high))
    )

"""Confidence intervals of an accuracy, and the comparison of two runs on the same clips.

Clips of one group (`torchlight.fusion.groups`) depend on each other: the cameras of one performance record the same
movement. Therefore groups are resampled and compared, not clips. An interval accounts for the choice of the test clips,
but not for the training seed.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


def bootstrap_interval(
    correct: np.ndarray, seed: int = 0, group: np.ndarray | None = None, level: float = 0.95, draws: int = DRAWS
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy, in percent; correct (n,) bool.

    group (n,): the number of each clip's group; groups are resampled (cluster bootstrap; Field and Welsh, J. R. Stat.
    Soc. B 2007). None: every clip is a group of its own.
    """
    means = bootstrap_means(correct.astype(int), group, seed, draws)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_means(values: np.ndarray, group: np.ndarray | None, seed: int, draws: int) -> np.ndarray:
    """100 times the mean over clips of integer `values` (n,), in each of `draws` samples of groups: (draws,).

    Groups with the same number of clips and the same sum are interchangeable. A sample is therefore a multinomial draw
    of the number of groups of each such kind.
    """
    sums, sizes = sums_of_groups(values, group), sums_of_groups(np.ones_like(values), group)
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    kinds, counts = kinds[:, ::-1], counts[::-1]
    samples = np.random.default_rng(seed).multinomial(len(sums), counts / len(sums), draws)  # (draws, kinds)
    return 100.0 * (samples @ kinds[0]) / (samples @ kinds[1])


def sums_of_groups(values: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """The sum of integer values (n,) in each group, (G,)."""
    return values if group is None else np.rint(np.bincount(group, values)).astype(int)


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs, A and B, on the same n clips.

    only_a, only_b: numbers of clips that only A, or only B, classifies correctly. difference, interval: A - B in
    percent and its 95 % interval. p, p_clips: two-sided p values of the sign-flip test over groups, and of McNemar's
    exact test, which treats clips as independent.
    """

    n: int
    only_a: int
    only_b: int
    p: float
    p_clips: float
    difference: float
    interval: tuple[float, float]


def sign_flip(differences: np.ndarray) -> float:
    """Exact two-sided p value of the sign-flip test (Fisher, 1935) for integer differences (G,) of groups.

    Null hypothesis: in each group the two runs are exchangeable, so a difference is as likely as its negative. The
    distribution of the sum is computed exactly. With groups of one clip this is McNemar's exact test (1947).
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    chance = np.ones(1)  # chance[i]: probability that the positive differences sum to i
    for size, count in zip(sizes, counts, strict=True):
        own = np.zeros(size * count + 1)
        own[::size] = coin_flips(count)
        chance = np.convolve(chance, own)
    total, seen = len(chance) - 1, abs(int(differences.sum()))
    return min(1.0, 2 * float(chance[: (total - seen) // 2 + 1].sum())) if seen else 1.0


def coin_flips(count: int) -> np.ndarray:
    """Probabilities of 0 to `count` heads in `count` flips of a fair coin: (count + 1,)."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    return np.exp(log_factorial[-1] - log_factorial - log_factorial[::-1] - count * np.log(2))


def compare(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    seed: int = 0,
    group: np.ndarray | None = None,
    draws: int = DRAWS,
) -> Comparison:
    """Paired comparison of two runs.

    correct_a, correct_b: (n,) bool, with the clips in the same order. group (n,): the number of each clip's group;
    None: every clip is a group of its own.
    """
    assert correct_a.shape == correct_b.shape, (correct_a.shape, correct_b.shape)
    difference = correct_a.astype(int) - correct_b.astype(int)
    low, high = np.quantile(bootstrap_means(difference, group, seed, draws), [0.025, 0.975])
    return Comparison(
        len(difference),
        *(int((difference == sign).sum()) for sign in (1, -1)),
        *(sign_flip(sums_of_groups(difference, by)) for by in (group, None)),
        100.0 * float(difference.mean()),
        (float(low), float(high)),
    )

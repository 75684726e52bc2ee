import numpy as np
import torch

from feeders.random_numbers import RandomNumbers, mix, normal

INDEX = torch.arange(20000)


def test_the_mixing_function_is_that_of_splitmix64():
    """First outputs of SplitMix64 from state 0, by its authors' reference implementation."""
    state = torch.arange(1, 4) * (0x9E3779B97F4A7C15 - (1 << 64))
    assert [x % (1 << 64) for x in mix(state).tolist()] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_numbers_are_uniform_and_neighboring_numbers_are_independent():
    u = RandomNumbers(1, 2, INDEX).uniform(6)
    assert u.min() >= 0 and u.max() < 1
    for moment in (1, 2, 3, 4):
        assert abs((u**moment).mean() - 1 / (moment + 1)) < 4e-3
    counts = torch.histc(u, 100, 0, 1)
    assert ((counts - 1200) ** 2 / 1200).sum() < 160  # chi-square with 99 degrees of freedom: 148 at 0.1 %
    neighbours = [
        (u[1:], u[:-1]),
        (u[:, 1:], u[:, :-1]),
        (RandomNumbers(1, 3, INDEX).uniform(6), u),
        (RandomNumbers(2, 2, INDEX).uniform(6), u),
    ]
    for a, b in neighbours:
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.012
    low_bits = RandomNumbers(1, 2, INDEX).bits(6) & 1
    assert abs(low_bits.double().mean() - 0.5) < 6e-3


def test_a_sample_gets_the_same_numbers_in_every_batch():
    alone, together = RandomNumbers(5, 7, torch.tensor([42])), RandomNumbers(5, 7, INDEX)
    for call in (lambda d: d.uniform(3), lambda d: d.integer(-2, 9, 4), lambda d: d.subset(5, 8 + 0 * d.key)):
        assert torch.equal(call(alone)[0], call(together)[42])


def test_integers_reach_both_bounds_evenly():
    high = torch.where(INDEX % 2 == 0, 3, 8)[:, None]
    x = RandomNumbers(0, 0, INDEX).integer(-1, high, 5)
    assert x[::2].unique().tolist() == [-1, 0, 1, 2] and x[1::2].unique().tolist() == list(range(-1, 8))
    share = torch.bincount(x[::2].flatten() + 1) / x[::2].numel()
    assert (share - 0.25).abs().max() < 0.01


def test_subsets_are_sorted_different_and_equally_likely():
    n = torch.where(INDEX % 2 == 0, 5, 9)
    s = RandomNumbers(1, 0, INDEX).subset(3, n)
    assert (s.diff(dim=1) > 0).all() and s.min() == 0 and s[::2].max() == 4 and s[1::2].max() == 8
    code = s[::2] @ torch.tensor([25, 5, 1])
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 10 and (counts / 10000 - 0.1).abs().max() < 0.012
    assert torch.equal(RandomNumbers(0, 0, INDEX).subset(4, n * 0 + 4), torch.arange(4).expand(len(n), 4))


def test_normal_numbers_have_the_moments_of_the_normal_distribution():
    draws = RandomNumbers(3, 1, INDEX)
    x = normal(draws.uniform(5), draws.uniform(5))
    for moment, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert abs((x**moment).mean() - expected) < 0.08

"""Random numbers that are a function of (seed, epoch, index, number of the call).

Each sample of a batch has its own sequence: a counter mapped by the SplitMix64 finalizer, vectorized over the batch.
The augmentation of a clip is therefore the same in every batch, worker process and rank, and different in every epoch
and repeat. There is no state to save.
"""

import math

import torch
from torch import Tensor

from feeders.device import constant


def _signed(word: int) -> int:
    """A 64-bit word as a signed integer, as in torch.int64."""
    return word - (1 << 64) if word >= 1 << 63 else word


STEP = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """The SplitMix64 finalizer, a bijection of 64-bit words that mixes all bits (Steele et al. 2014)."""
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; the shift of torch keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class RandomNumbers:
    """The random numbers of a batch; every call returns the next numbers of each sample's sequence.

    index: (N,) sample numbers in the repeated dataset. All results are (N, k), on the device of `index`.
    """

    def __init__(self, seed: int, epoch: int, index: Tensor):
        key = torch.zeros((), dtype=torch.int64, device=index.device)
        for word in (seed, epoch, index.long()):
            key = mix((key ^ word) + STEP)
        self.key = key
        self.taken = 0

    def bits(self, k: int) -> Tensor:
        """k random words -> (N, k) int64."""
        number = torch.arange(self.taken + 1, self.taken + k + 1, device=self.key.device)
        self.taken += k
        return mix(self.key[:, None] + number * STEP)

    def uniform(self, k: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high) -> (N, k) float64."""
        return _shift(self.bits(k), 11).double() * 2.0**-53 * (high - low) + low

    def integer(self, low: Tensor | int, high: Tensor | int, k: int = 1) -> Tensor:
        """Uniform integers in low .. high-1, bounds (N, 1) or numbers -> (N, k) int64."""
        return low + (self.uniform(k) * (high - low)).long()

    def choice(self, values: list[float], k: int) -> Tensor:
        """Values of a list, with replacement -> (N, k) float64."""
        return constant(tuple(values), self.key.device)[self.integer(0, len(values), k)]

    def subset(self, k: int, n: Tensor) -> Tensor:
        """k distinct numbers from 0 .. n-1, sorted, each subset equally likely (Floyd): n (N,) -> (N, k) int64."""
        assert n.is_cuda or int(n.min()) >= k, (n, k)  # on a GPU the test would be a host sync
        uniform = self.uniform(k)
        chosen = torch.full((len(n), k), -1, device=n.device)
        for i in range(k):
            last = n - k + i
            drawn = (uniform[:, i] * (last + 1)).long()
            taken = (chosen[:, :i] == drawn[:, None]).any(1)
            chosen[:, i] = torch.where(taken, last, drawn)
        return chosen.sort(1).values


def normal(u: Tensor, v: Tensor) -> Tensor:
    """Standard normal numbers from two tensors of uniform numbers (Box and Muller), same shape."""
    return (-2 * torch.log1p(-u)).sqrt() * torch.cos(2 * math.pi * v)

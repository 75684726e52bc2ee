"""Random damage to the bytes of a file, for the fuzz programs; imports nothing that is slow."""

import random


def damage(data: bytes, kind: int, a: int, b: int, rng: random.Random) -> bytes:
    """Cut at a (kind 0), a lost piece (1), a doubled piece (2) or a changed byte (3) between a and b."""
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[min(b, a + rng.choice((1, 20, 4000))) :]
    if kind == 2:
        return data[:b] + data[a : min(b, a + 5000)] + data[b:]
    return data[:a] + bytes([rng.randrange(256)]) + data[a + 1 :]

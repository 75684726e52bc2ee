"""Random damage to the bytes of a file, for the fuzz programs; imports no slow packages."""

import random


def damage(data: bytes, kind: int, a: int, b: int, rng: random.Random) -> bytes:
    """Cut the data at a (kind 0), or remove (1), duplicate (2) or change (3, one byte) a piece between a and b."""
    if kind == 0:
        return data[:a]
    if kind == 1:
        return data[:a] + data[min(b, a + rng.choice((1, 20, 4000))) :]
    if kind == 2:
        return data[:b] + data[a : min(b, a + 5000)] + data[b:]
    return data[:a] + bytes([rng.randrange(256)]) + data[a + 1 :]

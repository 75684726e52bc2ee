"""The memory of the process."""

import ctypes
import sys


def keep_memory() -> bool:
    """Keep what tensors free for the next ones, instead of returning it to the system and zeroing new pages in every step (glibc).

    False where that cannot be set.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3
    return mallopt is not None and all(mallopt(option, 2**30) == 1 for option in (mmap_threshold, trim_threshold))

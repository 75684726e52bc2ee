"""Settings of the memory allocator of the C library (glibc)."""

import ctypes
import sys


def keep_memory() -> bool:
    """Tell malloc to keep freed memory. Otherwise the operating system provides new, zeroed pages in every step.

    Returns False if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3
    return mallopt is not None and all(mallopt(option, 2**30) == 1 for option in (mmap_threshold, trim_threshold))

"""What a serving process asks of the C library's memory.

Requests make arrays of a few hundred kilobytes and let go of them. As it comes, glibc gives such
memory back to the system, and each request faults it in again.
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Source: malloc.h of glibc; mallopt(3)."""
_KEPT = {_TRIM_THRESHOLD: 64 << 20, _TOP_PAD: 4 << 20, _MMAP_THRESHOLD: 32 << 20}


def keep_freed() -> bool:
    """Let this process keep up to 64 MiB that it freed; say whether its C library knows how."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) == 1 for option in _KEPT.items())

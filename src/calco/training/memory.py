"""How the memory of a processor is used again from step to step."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # as malloc.h numbers them
_PAD_BYTES = 64 << 20


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep what one step frees for the next, for the whole process.

    By itself glibc's gives large blocks back to the system and fetches them anew, which then fills
    them with zeros page by page: that took a tenth of the first steps and a twentieth of all.

    Returns:
        Whether it could be asked to; others than glibc's are left as they are.

    Reference:
        https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (
        OSError,
        AttributeError,
        TypeError,
    ):  # musl and macOS have none, Windows no such library
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _PAD_BYTES))
    return all([bool(mallopt(name, value)) for name, value in settings])

"""Keep the stack on which signals are handled from libraries that leave theirs behind."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    )


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give the calling thread the signal stack back that it had; on other systems do nothing.

    OpenVINO puts one of its own in place while it computes, and frees it later without a word:
    the next Ctrl-C, which Python handles on it, then ends the process by a segmentation fault.
    """
    if sys.platform != "linux":
        yield
        return
    before = _Stack()
    libc = ctypes.CDLL(None)
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)

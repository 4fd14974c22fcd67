"""Signals are handled on the stack that was there before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from calco.inference.signal_stack import signal_stack_kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stack_t is that of Linux")

LEAVE = """
import ctypes, mmap, os, signal
from contextlib import nullcontext
from calco.inference.signal_stack import _Stack, signal_stack_kept

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
size = 1 << 16
with {guard}():
    own = libc.mmap(None, size, 3, 0x22, -1, 0)
    libc.sigaltstack(ctypes.byref(_Stack(own, 0, size)), None)
libc.munmap(own, size)  # freed while it may still be in place
signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(("guard", "code"), [("signal_stack_kept", 0), ("nullcontext", -11)])
def test_a_stack_that_was_freed_is_not_used(guard: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVE.format(guard=guard)], capture_output=True, text=True
    )
    assert ended.returncode == code
    assert ended.stdout == ("handled\n" if code == 0 else "")


def test_a_stack_of_ones_own_is_kept() -> None:
    from calco.inference.signal_stack import _Stack

    libc, before, seen = ctypes.CDLL(None), _Stack(), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    memory = ctypes.create_string_buffer(1 << 16)
    own = _Stack(ctypes.cast(memory, ctypes.c_void_p), 0, len(memory))
    try:
        libc.sigaltstack(ctypes.byref(own), None)
        with signal_stack_kept():
            libc.sigaltstack(ctypes.byref(_Stack(None, 2, 0)), None)  # switched off
        libc.sigaltstack(None, ctypes.byref(seen))
        assert (seen.ss_sp, seen.ss_size) == (own.ss_sp, own.ss_size)
    finally:
        libc.sigaltstack(ctypes.byref(before), None)

"""Memory that is freed is used again, and not fetched anew from the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from calco.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
    np.ones(1 << 25)  # 256 MiB: fetched once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(1 << 25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    line = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is asked")
def test_large_blocks_are_fetched_once() -> None:
    assert faults("usual") > 300  # the control: as many as huge pages leave
    assert faults("kept") < 100

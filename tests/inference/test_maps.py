from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from calco.errors import CalcoError
from calco.inference.maps import ProbMap

LEVELS = np.zeros((3, 4), np.uint8)
TRUE = np.zeros((3, 4), bool)


def test_is_frozen() -> None:
    m = ProbMap("a", "g", LEVELS, TRUE)
    with pytest.raises(FrozenInstanceError):
        m.id = "b"  # type: ignore[misc]


def test_sizes_that_differ_are_named_with_the_image() -> None:
    with pytest.raises(CalcoError, match=r"a/07.*levels \(3, 4\) uint8, true \(4, 3\) bool"):
        ProbMap("a/07", "g", LEVELS, TRUE.T)


def test_floats_are_refused() -> None:
    with pytest.raises(CalcoError, match="float32"):
        ProbMap("a", "g", LEVELS.astype(np.float32), TRUE)


def test_masks_of_numbers_are_refused() -> None:
    with pytest.raises(CalcoError, match=r"true .* uint8"):
        ProbMap("a", "g", LEVELS, LEVELS)  # type: ignore[arg-type]


def test_scoring_needs_no_torch() -> None:
    code = (
        "import calco.stages.tune, calco.inference.postprocess, calco.metrics.summary, sys;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from calco.errors import CalcoError
from calco.inference.maps import ProbMap, save_grey, save_levels

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


def test_pictures_are_saved_level_by_level_in_folders_of_their_ids(tmp_path: Path) -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 23  # (3, 4)
    save_grey(levels, tmp_path, "b/07")
    assert_array_equal(np.asarray(Image.open(tmp_path / "b/07.png")), levels)
    save_levels([ProbMap("c", "g", levels, TRUE)], tmp_path)
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "b/07.png").read_bytes()


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/a"])
def test_an_id_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "masks"
    with pytest.raises(CalcoError, match="ID_UNSAFE"):
        save_grey(LEVELS, root, name)
    assert not list(tmp_path.rglob("*"))


def test_scoring_needs_no_torch() -> None:
    code = (
        "import calco.stages.tune, calco.inference.postprocess, calco.metrics.summary, sys;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

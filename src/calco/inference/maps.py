"""Predicted probabilities beside their truth: what tuning and evaluation work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.files import write_atomic


@dataclass(frozen=True, eq=False)
class ProbMap:
    """One labelled image's prediction at its original resolution.

    Probabilities are kept as 8-bit levels: a quarter of the memory of float32, and exactly what a
    saved probability image holds.

    Attributes:
        id: Sample.
        group: Unit that the bootstrap resamples.
        levels: (H, W) uint8, ``rint(255 * prob)``.
        true: (H, W) bool.

    Raises:
        CalcoError: When the two do not fit each other.
    """

    id: str
    group: str
    levels: NDArray[np.uint8]
    true: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes_fit = self.levels.shape == self.true.shape and self.true.ndim == 2
        if not shapes_fit or self.levels.dtype != np.uint8 or self.true.dtype != np.bool_:
            raise CalcoError(
                Problem(
                    "MASK_SIZE",
                    "prediction and truth do not fit",
                    where=self.id,
                    got=f"levels {self.levels.shape} {self.levels.dtype},"
                    f" true {self.true.shape} {self.true.dtype}",
                    expected="(H, W) uint8 and (H, W) bool of one size",
                    do="predict at the original resolution",
                )
            )


def save_levels(maps: Sequence[ProbMap], root: Path) -> None:
    """Write each map as ``<root>/<id>.png``, grey, 255 is certain foreground.

    Raises:
        CalcoError: When an id would leave the folder.
    """
    for m in maps:
        save_grey(m.levels, root, m.id)


def save_grey(levels: NDArray[np.uint8], root: Path, id: str) -> None:
    """Write a map or a mask as ``<root>/<id>.png``.

    Args:
        levels: (H, W) uint8.
        root: Folder; made, with those within it that the id names.
        id: Of the sample.

    Raises:
        CalcoError: When the id would leave the folder.
    """
    path = root / f"{id}.png"
    if not path.resolve().is_relative_to(root.resolve()):
        raise CalcoError(
            Problem("ID_UNSAFE", "the id leaves its folder", got=repr(id), do="rename the image")
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _, png = cv2.imencode(".png", levels)
    write_atomic(path, png.tobytes())

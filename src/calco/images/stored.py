"""What an image file stores, before any conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem

Values = NDArray[Any]

# what each EXIF orientation asks for, on (H, W) or (H, W, C)
TURNS: dict[int, Callable[[Values], Values]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}
FIRST_SIDEWAYS = 5  # orientations from here on swap height and width


@dataclass(frozen=True, eq=False)
class Stored:
    """What an image file holds, upright but not converted.

    Attributes:
        values: (H, W) or (H, W, C), bool, uint8, uint16 or float32; palette indices stay indices.
        mode: What is stored, in Pillow's words (``L``, ``RGBA``, ``P``), 16-bit as ``RGB;16``.
        palette: (N, 4) uint8 RGBA of a palette image.
        has_alpha: Whether the last channel is opacity.
        orientation: EXIF orientation that was applied, 1 to 8; 1 is upright as stored.
        notes: What was done on the way, for people.
        profile: ICC profile that the values are still in; None for sRGB, or nobody knows.
    """

    values: Values
    mode: str
    palette: NDArray[np.uint8] | None = None
    has_alpha: bool = False
    orientation: int = 1
    notes: tuple[str, ...] = ()
    profile: bytes | None = None


def upright(stored: Stored, orientation: int) -> Stored:
    """Turn an image as its EXIF orientation asks, and say so."""
    if orientation == 1:
        return stored
    return replace(
        stored,
        values=np.ascontiguousarray(TURNS[orientation](stored.values)),
        orientation=orientation,
        notes=(*stored.notes, f"turned upright by its EXIF orientation {orientation}"),
    )


def native(values: Values, path: Path) -> tuple[Values, tuple[str, ...]]:
    """Bring an array to bool, uint8, uint16 or float32 in native byte order."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b" or (kind == "u" and size <= 2):
        return values.astype(values.dtype.newbyteorder("="), copy=False), ()
    if kind == "f":
        return values.astype(np.float32), ()
    if kind in "iu":
        return values.astype(np.float32), (f"read from {values.dtype.name} as float32",)
    raise CalcoError(
        Problem(
            "IMG_FORMAT",
            "pixel type is not supported",
            str(path),
            got=values.dtype.name,
            expected="integers or real numbers",
            do="save it as 8- or 16-bit",
        )
    )


def require_finite(values: Values, path: Path) -> None:
    """Refuse floats that are no numbers.

    Raises:
        CalcoError: IMG_NONFINITE.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    first = ", ".join(str(i) for i in bad[0][:2])
    raise CalcoError(
        Problem(
            "IMG_NONFINITE",
            "image has pixels that are not numbers",
            str(path),
            got=f"{len(bad)} NaN or infinite values, first at (row, col) = ({first})",
            do="replace them in the file, e.g. by the background value",
        )
    )

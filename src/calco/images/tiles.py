"""Large images in overlapping tiles, blended so that no seam shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A rectangle of an image: rows [top, top + height), columns [left, left + width)."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an (H, W, ...) array."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)


def windows(size: tuple[int, int], tile_px: int, overlap_px: int) -> list[Window]:
    """Cover an image with equal tiles that overlap at least so much and never leave it.

    Args:
        size: (height, width) of the image.
        tile_px: Side of a tile; smaller along a side on which the image is smaller.
        overlap_px: Least overlap of neighbours, in [0, tile_px).

    Returns:
        Tiles in reading order.

    Example:
        >>> [w.left for w in windows((4, 10), tile_px=4, overlap_px=1)]
        [0, 3, 6]
    """
    if not 0 <= overlap_px < tile_px:
        raise ValueError(f"overlap of {overlap_px} px; expected 0 to {tile_px - 1}")
    height, width = (min(side, tile_px) for side in size)
    tops = _starts(size[0], height, overlap_px)
    lefts = _starts(size[1], width, overlap_px)
    return [Window(top, left, height, width) for top in tops for left in lefts]


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Spread tiles evenly from the first pixel to the last."""
    room = side - tile
    gaps = -(-room // (tile - overlap)) if room else 0  # steps of tile - overlap at most
    return [round(room * i / gaps) for i in range(gaps)] + [room]


def blend_weights(height: int, width: int) -> FloatMap:
    """Return how much each pixel of a tile is believed: least at its border, where context ends.

    Returns:
        (height, width) float32 in (0, 1]: a Gaussian with a sigma of an eighth of each side.

    Reference:
        Isensee et al. (2021), nnU-Net, https://doi.org/10.1038/s41592-020-01008-z
    """

    def bell(side: int) -> NDArray[np.float64]:
        offsets = np.arange(side) - (side - 1) / 2
        return np.exp(-0.5 * (8 * offsets / side) ** 2)

    return np.outer(bell(height), bell(width)).astype(np.float32)


def blend(
    size: tuple[int, int], tiles: list[Window], predict: Callable[[Window], FloatMap]
) -> FloatMap:
    """Predict tile by tile and average where tiles overlap.

    Args:
        size: (height, width) of the image.
        tiles: As ``windows`` returns them: of one size, covering the image.
        predict: Returns the (height, width) float32 map of a tile.

    Returns:
        (H, W) float32; within rounding inside the range of what ``predict`` returned.
    """
    weights = blend_weights(tiles[0].height, tiles[0].width)
    total = np.zeros(size, np.float32)
    weight = np.zeros(size, np.float32)
    for tile in tiles:
        total[tile.slices] += weights * predict(tile)
        weight[tile.slices] += weights
    return np.divide(total, weight, out=total)

"""Large images in overlapping tiles, blended so that no seam shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]

_STEPS = 2**13
"""Shares of the tiles of a pixel are multiples of 1 / 8192 along rows and along columns. The
product with a float32 then has 13 + 13 + 24 bits, which a float64 holds: no sum is rounded."""


_COARSEST_GRID_PX = 128
"""Networks pool 32 times at most, at a quarter of the image's scale at most."""


@dataclass(frozen=True)
class Tiling:
    """How an image that is too large to be seen whole is cut.

    Attributes:
        tile_px: Side of a tile.
        overlap_px: Least overlap of neighbours, in [0, tile_px).
    """

    tile_px: int
    overlap_px: int


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


@dataclass(frozen=True, eq=False)
class _Axis:
    """Tiles along one side of an image.

    Attributes:
        starts: First pixel of each tile.
        ends: Where each tile's last word ends: the start of the next one, or the image's end.
        shares: float64 for each pixel of each tile, what it counts; 1 in sum wherever one is.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    shares: Sequence[NDArray[np.float64]]


def windows(size: tuple[int, int], tiling: Tiling) -> list[Window]:
    """Cover an image with tiles that overlap at least so much and never leave it.

    They start at multiples of one step, or of its common divisor with 128 for the last of a row or
    column, which is smaller by less than that. Where that is a multiple of what the network pools,
    all tiles see the same grid and agree.

    Args:
        size: (height, width) of the image; a tile is smaller along a side that is.
        tiling: Tile and overlap.

    Returns:
        Tiles in reading order.

    Example:
        >>> [w.left for w in windows((4, 10), Tiling(tile_px=4, overlap_px=1))]
        [0, 3, 6]
    """
    if not 0 <= tiling.overlap_px < tiling.tile_px:
        raise ValueError(f"overlap of {tiling.overlap_px} px; expected 0 to {tiling.tile_px - 1}")
    tops, lefts = (_starts(side, tiling) for side in size)
    return [_window(size, tiling, top, left) for top in tops for left in lefts]


def blended(
    size: tuple[int, int],
    tiling: Tiling,
    predict: Callable[[Iterable[Window]], Iterable[FloatMap]],
    first_row: int = 0,
) -> Iterator[tuple[Window, FloatMap]]:
    """Average maps of tiles where they overlap; a pixel is given out when no later tile has it.

    A tile counts most in its middle and nothing in a quarter of the overlap at its inner borders,
    where the network lacks context. Shares add up to 1 without rounding: where all tiles say the
    same, that is the result, to the bit. Held are a tile and the rows in which tiles overlap.

    Args:
        size: (height, width) of the image.
        tiling: Tile and overlap.
        predict: Yields the float32 map of each tile, of its size and in the order given.
        first_row: What lies above is left out, with the tiles that nothing else needs. It must be
            the top of a tile.

    Yields:
        Windows that together cover the rows from ``first_row`` once, and their float32 values,
        within the range of what ``predict`` returned. Those of a row of tiles come together.

    Reference:
        Isensee et al. (2021), nnU-Net, https://doi.org/10.1038/s41592-020-01008-z, for the
        Gaussian with a sigma of an eighth of the tile.
    """
    down, across = (_axis(side, tiling) for side in size)
    needed = [i for i, top in enumerate(down.starts) if top + len(down.shares[i]) > first_row]
    maps = iter(
        predict(
            _window(size, tiling, down.starts[i], left) for i in needed for left in across.starts
        )
    )
    # rows that a tile shares with those below
    reach = max(s + len(w) - e for s, w, e in zip(down.starts, down.shares, down.ends, strict=True))
    above = np.zeros((reach, size[1]))  # (reach, W) float64: what upper rows of tiles have begun
    for i in needed:
        top, height, n_rows = down.starts[i], len(down.shares[i]), down.ends[i] - down.starts[i]
        before = np.zeros((height, 0))  # what tiles to the left have begun
        for left, end, share in zip(across.starts, across.ends, across.shares, strict=True):
            sums = down.shares[i][:, None] * share * next(maps)  # (tile, tile) float64
            sums[:, : before.shape[1]] += before
            before = sums[:, end - left :]
            done = sums[:, : end - left]
            done[:reach] += above[:height, left:end]
            above[: height - n_rows, left:end] = done[n_rows:]
            above[height - n_rows :, left:end] = 0
            if top >= first_row:
                yield Window(top, left, n_rows, end - left), done[:n_rows].astype(np.float32)


def blend(size: tuple[int, int], tiling: Tiling, predict: Callable[[Window], FloatMap]) -> FloatMap:
    """Predict tile by tile and average as ``blended`` does.

    Args:
        size: (height, width) of the image.
        tiling: Tile and overlap.
        predict: Returns the float32 map of a tile, of its size.

    Returns:
        (H, W) float32.
    """
    result = np.empty(size, np.float32)
    for window, values in blended(size, tiling, lambda tiles: map(predict, tiles)):
        result[window.slices] = values
    return result


def _starts(side: int, tiling: Tiling) -> list[int]:
    room, step = max(0, side - tiling.tile_px), tiling.tile_px - tiling.overlap_px
    grid = math.gcd(step, _COARSEST_GRID_PX)
    return [*range(0, room, step), -(-room // grid) * grid]


def _window(size: tuple[int, int], tiling: Tiling, top: int, left: int) -> Window:
    height, width = min(tiling.tile_px, size[0] - top), min(tiling.tile_px, size[1] - left)
    return Window(top, left, height, width)


def _axis(side: int, tiling: Tiling) -> _Axis:
    starts = _starts(side, tiling)
    margin = tiling.overlap_px // 4
    places = [slice(start, min(start + tiling.tile_px, side)) for start in starts]
    weights = [_bell(place.stop - place.start) for place in places]
    for weight in weights[1:]:
        weight[:margin] = 0
    for weight in weights[:-1]:
        weight[len(weight) - margin :] = 0
    total, reached, given = np.zeros((3, side))
    for place, weight in zip(places, weights, strict=True):
        total[place] += weight
    shares = []
    for place, weight in zip(places, weights, strict=True):
        reached[place] += weight  # in the order of the total: the last one makes exactly that
        upto = np.rint(reached[place] / total[place] * _STEPS) / _STEPS
        shares.append(upto - given[place])
        given[place] = upto
    ends = [*(following for _, following in pairwise(starts)), side]
    return _Axis(starts, ends, shares)


def _bell(side: int) -> NDArray[np.float64]:
    offsets = np.arange(side) - (side - 1) / 2
    return np.exp(-0.5 * (8 * offsets / side) ** 2)

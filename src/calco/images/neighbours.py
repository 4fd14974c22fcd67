"""Neighbours: for each thumbnail of a set, the few others that resemble it at low resolution.

An inverted file: each thumbnail lies in the cell of the pivot that it resembles most, and its views
(turned, mirrored, cropped) are compared only with the members of the cells whose pivots resemble
them. With as many pivots as the root of the number of images, the work grows with its power 1.5;
sets of up to 256 images are compared in full.

Cells are chosen at 8 x 8 pixels, where a copy that is cropped off the grid still resembles its
original, and members are compared at 16 x 16, where fewer others do. Measured against 300 pivots on
546 microscope pictures: 16 cells miss none of the copies cropped by 5 % and 6 in 1,000 of those
cropped by 10 %; cells chosen at 16 x 16 pixels miss 26.

Reference:
    Jegou, Douze and Schmid (2011), Product quantization for nearest neighbor search,
    https://doi.org/10.1109/TPAMI.2010.57, section IV
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 64  # of a thumbnail: texture beyond the layout, survives JPEG quality 30 and halving
COARSE_PX = 16  # tolerates half a crop of 5 %
CELL_PX = 8  # tolerates a crop of 10 %
MIN_COARSE = 0.45  # 1 in 1,700 distinct pairs lies above it, and all copies cropped by 10 %
NEAREST = 8  # candidates per image: bounds the work when a whole set looks alike
PROBES = 16  # cells that are searched for each view
LIGHT_PX = 33  # window of the local mean: alike illumination brings no candidates
CROPS_PX = (61, 57)  # windows of 64 that stand for crops of 5 % and 10 %
BLOCK = 512  # images whose views are held at once
MAX_SCORES = 1 << 22  # of the products held at once: all images may lie in one cell

Array = NDArray[np.float32]
Places = NDArray[np.int64]


class _Hits(NamedTuple):
    """Pairs that look alike, as columns of equal length."""

    image: Places  # whose view it is
    other: Places
    view: Places
    score: Array


@dataclass(frozen=True, eq=False)
class _Cells:
    """Thumbnails sorted by the pivot they resemble most.

    Attributes:
        pivots: (p, 64) float32.
        ends: (p + 1,) rows at which the cells begin and the last one ends.
        rows: (n, 256) float32, cell by cell.
        places: (n,) position of each row in the set.
    """

    pivots: Array
    ends: Places
    rows: Array
    places: Places


def find_candidates(n: int, thumbnail: Callable[[int], Array]) -> Places:
    """Find the nearest few of each image at low resolution.

    Args:
        n: Number of images.
        thumbnail: Gives the (64, 64) float32 thumbnail of one of them; asked twice for each.

    Returns:
        (m, 3) int64: two images, the first before the second, and how the second is to be
        ``turned`` to look like the first; sorted, each row once.
    """
    if n < 2:
        return np.empty((0, 3), np.int64)

    def block(start: int) -> Array:
        images = range(start, min(start + BLOCK, n))
        return np.stack([detail(thumbnail(i), LIGHT_PX) for i in images])  # (b, 64, 64)

    starts = range(0, n, BLOCK)
    rows = np.empty((n, COARSE_PX**2), np.float32)
    for start in starts:
        rows[start : start + BLOCK] = _coarse(block(start))
    cells = _sorted_into_cells(rows)
    found = [_candidates(start, _views(block(start)), cells) for start in starts]
    return np.unique(np.concatenate(found), axis=0)


def detail(thumbnail: Array, window_px: int) -> Array:
    """Subtract the mean of each pixel's surroundings."""
    window = (window_px, window_px)
    local_mean = cv2.blur(thumbnail, window, borderType=cv2.BORDER_REFLECT)
    return np.asarray(thumbnail - local_mean, np.float32)


def turned(thumbnails: Array, turn: int) -> Array:
    """Turn by ``turn`` % 4 quarters, then mirror when ``turn`` >= 4; last two axes."""
    quarters = np.rot90(thumbnails, turn % 4, axes=(-2, -1))
    return np.ascontiguousarray(quarters[..., ::-1] if turn >= 4 else quarters)


def standardised(rows: Array) -> Array:
    """Give each row mean 0 and length 1; rows without contrast become 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(
        np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-6), np.float32
    )


# --- views


def _views(thumbnails: Array) -> Array:
    """Return (18, n, 256): eight turns, then ten crops, standardised."""
    whole = _coarse(thumbnails).reshape(-1, COARSE_PX, COARSE_PX)
    views = [turned(whole, turn).reshape(len(whole), -1) for turn in range(8)]
    views += [_cropped(thumbnails, window) for window in _crop_windows()]
    return np.stack(views)


def _crop_windows() -> Iterator[tuple[int, int, int]]:
    """Yield (row, col, side) of a window in the middle and in each corner, per crop size."""
    for side_px in CROPS_PX:
        end = SIDE_PX - side_px
        yield end // 2, end // 2, side_px
        yield from ((row, col, side_px) for row in (0, end) for col in (0, end))


def _cropped(thumbnails: Array, window: tuple[int, int, int]) -> Array:
    """Average a (row, col, side) window of (n, 64, 64) to (n, 256), standardised."""
    row, col, side_px = window
    rows, cols = (_averaging(SIDE_PX, COARSE_PX, start, side_px) for start in (row, col))
    views = np.asarray(rows @ thumbnails @ cols.T, np.float32)  # (n, 16, 16)
    return standardised(views.reshape(len(views), -1))


def _coarse(thumbnails: Array) -> Array:
    """Average (n, 64, 64) to (n, 256), standardised."""
    return _cropped(thumbnails, (0, 0, SIDE_PX))


def _for_cells(rows: Array) -> Array:
    """Average (n, 256) to (n, 64), standardised."""
    squares = _averaging(COARSE_PX, CELL_PX, 0, COARSE_PX)  # (8, 16)
    return standardised(rows @ np.kron(squares, squares).T)


def _averaging(side_px: int, n: int, start: int, length_px: int) -> Array:
    """Return the (n, side_px) weights that average a part of a line to ``n`` equal pieces."""
    ends = start + length_px / n * np.arange(n + 1)  # (n + 1,)
    pixels = np.arange(side_px)
    shares = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    return np.asarray(shares.clip(0) * n / length_px, np.float32)


# --- search


def _sorted_into_cells(rows: Array) -> _Cells:
    """Put each (n, 256) row into a cell; the rows are sorted in place."""
    n_pivots = math.isqrt(max(len(rows) - 1, 0)) + 1
    low = _for_cells(rows)  # (n, 64)
    pivots = low[np.arange(n_pivots) * len(rows) // n_pivots]  # (p, 64)
    blocks = (low[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    cell = np.concatenate([(block @ pivots.T).argmax(axis=1) for block in blocks])  # (n,)
    places = np.argsort(cell, kind="stable")
    ends = np.searchsorted(cell[places], np.arange(n_pivots + 1))
    for columns in np.array_split(np.arange(rows.shape[1]), 8):  # a whole copy is 100 MB of 100,000
        rows[:, columns] = rows[places[:, None], columns]
    return _Cells(pivots, ends, rows, places)


def _candidates(start: int, views: Array, cells: _Cells) -> Places:
    """Return the candidates of the images ``start``, ``start + 1`` ... with (18, b, 256) views."""
    n_images = views.shape[1]
    found = [*_hits(views.reshape(-1, views.shape[-1]), cells)]
    found.append((np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)))
    row, other, score = (np.concatenate(column) for column in zip(*found, strict=True))
    image, other, view = _nearest(_Hits(start + row % n_images, other, row // n_images, score))
    turn = np.where(view < 8, view, 0)
    # the other way round, quarter turns turn back; mirroring is its own inverse
    back = np.where(turn < 4, -turn % 4, turn)
    before = other < image
    first, second = np.where(before, other, image), np.where(before, image, other)
    return np.stack([first, second, np.where(before, turn, back)], axis=1)


def _hits(rows: Array, cells: _Cells) -> Iterator[tuple[Places, Places, Array]]:
    """Yield rows, places of the images they resemble and their correlations, cell by cell."""
    n_probes = min(PROBES, len(cells.pivots))
    likeness = _for_cells(rows) @ cells.pivots.T  # (rows, p)
    probed = np.argpartition(-likeness, n_probes - 1, axis=1)[:, :n_probes]
    order = np.argsort(probed, axis=None, kind="stable")
    ends = np.searchsorted(probed.ravel()[order], np.arange(len(cells.pivots) + 1))
    for cell in range(len(cells.pivots)):
        members = slice(cells.ends[cell], cells.ends[cell + 1])
        visitors = order[ends[cell] : ends[cell + 1]] // n_probes
        n_at_once = max(1, MAX_SCORES // max(1, members.stop - members.start))
        for begin in range(0, len(visitors), n_at_once):
            some = visitors[begin : begin + n_at_once]
            scores = rows[some] @ cells.rows[members].T  # (visitors, members)
            row, column = _close(scores)
            if len(row):
                yield some[row], cells.places[members][column], scores[row, column]


def _close(scores: Array) -> tuple[Places, Places]:
    """Return rows and columns of what lies above the limit, of each row its largest few at most."""
    # five times as fast as numpy.nonzero with two axes
    row, column = np.divmod(np.flatnonzero(scores > MIN_COARSE), max(1, scores.shape[1]))
    crowded = np.bincount(row, minlength=len(scores)) > NEAREST + 1  # one may be the image itself
    if not crowded.any():
        return row, column
    least = np.full(len(scores), MIN_COARSE, np.float32)
    least[crowded] = np.partition(scores[crowded], -NEAREST - 1, axis=1)[:, -NEAREST - 1]
    kept = scores[row, column] >= least[row]
    return row[kept], column[kept]


def _nearest(hits: _Hits) -> tuple[Places, Places, Places]:
    """Return image, other and best view of each pair, for the nearest few of each image."""
    pairs = np.flatnonzero(hits.image != hits.other)
    image, other = hits.image[pairs], hits.other[pairs]
    view, score = hits.view[pairs], hits.score[pairs]
    by_pair = np.lexsort((view, -score, other, image))
    pair = image[by_pair] * (other.max(initial=0) + 1) + other[by_pair]
    best = by_pair[np.flatnonzero(np.diff(pair, prepend=-1))]
    ranked = best[np.lexsort((other[best], -score[best], image[best]))]
    rank = np.arange(len(ranked)) - np.searchsorted(image[ranked], image[ranked])
    kept = ranked[rank < NEAREST]
    return image[kept], other[kept], view[kept]

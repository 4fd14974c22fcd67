"""Outlines of objects along the edges of their pixels, and back, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = NDArray[np.int64]  # (N, 2) corners (x, y) in pixels, the first not repeated
Polygon: TypeAlias = tuple[Ring, ...]  # outer ring, then its holes


def trace(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Trace an object along the edges of its pixels.

    Pixels that touch at a corner only are in polygons of their own, and no ring touches itself, as
    the Simple Features standard and with it GeoJSON want it.

    Args:
        mask: (H, W) bool. The pixel in row r and column c is the square from (c, r) to
            (c + 1, r + 1).

    Returns:
        Polygons whose first ring turns from x towards y and whose other rings, holes, turn back.

    Example:
        >>> [ring.tolist() for ring in trace(np.array([[0, 1, 1]], bool))[0]]
        [[[1, 0], [3, 0], [3, 1], [1, 1]]]
    """
    corners, following = _corners(np.pad(mask, 1).astype(np.int8))
    rings = [part for ring in _follow(following) for part in _parted(corners[ring])]
    outers = [(ring,) for ring in rings if _area(ring) > 0]
    holes = [ring for ring in rings if _area(ring) < 0]
    if len(outers) == 1:
        return [(*outers[0], *holes)]
    return _with_holes(outers, holes)


def fill(polygons: Iterable[Polygon], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw polygons whose sides all run along the edges of pixels.

    Args:
        polygons: As ``trace`` returns them.
        size: (height, width).

    Returns:
        (H, W) bool: the pixels inside by the even-odd rule.

    Raises:
        ValueError: When a side is slanted or a corner outside of the image.
    """
    height, width = size
    turns = np.zeros((height + 1, width + 1), np.int32)  # how often inside begins or ends here
    for ring in (ring for polygon in polygons for ring in polygon):
        ends = np.roll(ring, -1, axis=0)
        if (ring != ends).all(axis=1).any() or ring.min() < 0 or (ring > (width, height)).any():
            raise ValueError("not an outline along the edges of pixels")
        upright = ring[:, 0] == ends[:, 0]
        x = ring[upright, 0]
        np.add.at(turns, (np.minimum(ring, ends)[upright, 1], x), 1)
        np.add.at(turns, (np.maximum(ring, ends)[upright, 1], x), -1)
    inside = np.cumsum(np.cumsum(turns, axis=0), axis=1) % 2 == 1
    return np.asarray(inside[:height, :width])


def _corners(padded: NDArray[np.int8]) -> tuple[Ring, NDArray[np.int64]]:
    """Return all corners, (N, 2), and for each the corner that follows it on its ring.

    Where two pixels touch at a corner only, that corner is there twice, once for each pixel.
    """
    nw, ne = padded[:-1, :-1], padded[:-1, 1:]
    sw, se = padded[1:, :-1], padded[1:, 1:]
    shared = (nw == se) & (ne == sw) & (nw != ne)
    ys, xs = np.nonzero((nw + ne + sw + se) % 2 + 2 * shared)
    twice = shared[ys, xs]
    repeat = 1 + twice
    x, y = np.repeat(xs, repeat), np.repeat(ys, repeat)
    second = np.arange(len(x)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    falling = np.repeat(twice & (nw[ys, xs] == 0), repeat)  # the pixels are NE and SW
    following = np.zeros(len(x), np.int64)
    # along every line of the grid corners come in pairs, with a side between
    left, right = np.lexsort((second, x, y)).reshape(-1, 2).T
    rightwards = padded[y[left] + 1, x[left] + 1] == 1  # the object lies below
    following[np.where(rightwards, left, right)] = np.where(rightwards, right, left)
    # of the copies of a corner, the first belongs to the left pixel; is it the upper one?
    upper, lower = np.lexsort((second ^ falling, y, x)).reshape(-1, 2).T
    downwards = padded[y[upper] + 1, x[upper]] == 1  # the object lies to the left
    following[np.where(downwards, upper, lower)] = np.where(downwards, lower, upper)
    return np.stack([x, y], axis=1), following


def _follow(following: NDArray[np.int64]) -> list[list[int]]:
    """Collect the rings, each from its topmost, then leftmost corner."""
    left = following.tolist()
    rings = []
    for start in range(len(left)):
        ring, at = [], start
        while left[at] >= 0:
            ring.append(at)
            left[at], at = -1, left[at]
        if ring:
            rings.append(ring)
    return rings


def _parted(ring: Ring) -> list[Ring]:
    """Part a ring that passes a corner twice there, so that none touches itself."""
    if len(np.unique(ring, axis=0)) == len(ring):
        return [ring]
    parts: list[Ring] = []
    way: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for x, y in ring.tolist():
        corner = x, y
        if corner in seen:
            begin = seen[corner]
            parts.append(np.array(way[begin:], np.int64))
            for passed in way[begin + 1 :]:
                del seen[passed]
            del way[begin + 1 :]
        else:
            seen[corner] = len(way)
            way.append(corner)
    return [*parts, np.array(way, np.int64)]


def _area(ring: Ring) -> int:
    """Return twice the area, positive when the ring turns from x towards y."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _with_holes(outers: Sequence[Polygon], holes: Sequence[Ring]) -> list[Polygon]:
    """Give each hole to the smallest outer ring around it."""
    polygons = sorted(outers, key=lambda polygon: _area(polygon[0]))
    for hole in holes:
        inner = _pixel_inside(hole)
        owner = next(n for n, polygon in enumerate(polygons) if _is_around(polygon[0], inner))
        polygons[owner] = (*polygons[owner], hole)
    return sorted(polygons, key=lambda polygon: (polygon[0][0, 1], polygon[0][0, 0]))


def _pixel_inside(hole: Ring) -> tuple[float, float]:
    top = hole[np.lexsort((hole[:, 0], hole[:, 1]))[0]]
    return float(top[0]) + 0.5, float(top[1]) + 0.5


def _is_around(ring: Ring, point: tuple[float, float]) -> bool:
    """Tell whether a ray from a point crosses a ring an odd number of times."""
    ends = np.roll(ring, -1, axis=0)
    upright = (ring[:, 0] == ends[:, 0]) & (ring[:, 0] > point[0])
    low, high = np.minimum(ring, ends)[:, 1], np.maximum(ring, ends)[:, 1]
    return bool((upright & (low < point[1]) & (point[1] < high)).sum() % 2)

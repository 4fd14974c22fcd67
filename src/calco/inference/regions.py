"""The clean-up of ``calco.inference.postprocess`` for maps too large for memory, strip by strip.

A region that ends within its strip is judged there. What touches the first or last row of a strip
is remembered, joined with what it touches in the next one, and judged by the sums of all its parts.
Labels are numbered anew whenever a strip is read again: always the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calco.inference.postprocess import number_regions
from calco.records import Postprocess

Levels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Strips = Callable[[], Iterator[Levels]]
"""Reads the (h, W) strips of a map from the top, each time it is called; all of one width."""

_Labels = NDArray[np.int32]
_Sums = NDArray[np.int64]


@dataclass
class _Seams:
    """Regions of a map that touch the borders of its strips, and which of them are one.

    Attributes:
        reach: Columns by which touching pixels of two rows may differ: 1 when diagonals count.
    """

    reach: int
    _border: list[NDArray[np.int64]] = field(default_factory=list)  # labels, strip by strip
    _sums: list[_Sums] = field(default_factory=list)  # of those labels: (N, K)
    _pairs: list[NDArray[np.int64]] = field(default_factory=list)  # (M, 2) nodes that are one
    _last_row: NDArray[np.int64] | None = None  # (W,) node + 1 of each pixel, 0 outside
    _n_nodes: int = 0

    def add(self, labels: _Labels, sums: _Sums) -> None:
        """Take in the next strip: (h, W) labels, 0 outside of regions, and (N, K) sums of each."""
        touching = np.unique(labels[[0, -1]]).astype(np.int64)
        border = touching[touching > 0]
        node = np.zeros(len(sums), np.int64)
        node[border] = self._n_nodes + 1 + np.arange(len(border))
        if self._last_row is not None:
            self._join(self._last_row, node[labels[0]])
        self._last_row = node[labels[-1]]
        self._n_nodes += len(border)
        self._border.append(border)
        self._sums.append(sums[border])

    def _join(self, upper: NDArray[np.int64], lower: NDArray[np.int64]) -> None:
        width = len(upper)
        for shift in range(-self.reach, self.reach + 1):
            above = upper[max(0, shift) : width + min(0, shift)]
            below = lower[max(0, -shift) : width - max(0, shift)]
            touching = (above > 0) & (below > 0)
            pairs = np.stack([above[touching], below[touching]], axis=1) - 1
            self._pairs.append(np.unique(pairs, axis=0))

    def totals(self) -> Iterator[tuple[NDArray[np.int64], _Sums]]:
        """Yield, strip by strip, the labels that touch its border and the sums of their regions."""
        sums = np.concatenate(self._sums)
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._pairs])
        if len(sums):
            links = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
            graph = coo_array(links, shape=(len(sums), len(sums)))
            n_regions, region = connected_components(graph, directed=False)
            of_region = np.zeros((n_regions, sums.shape[1]), np.int64)
            np.add.at(of_region, region, sums)
            sums = of_region[region]
        start = 0
        for border in self._border:
            yield border, sums[start : start + len(border)]
            start += len(border)


def clean_strips(strips: Strips, params: Postprocess) -> Iterator[Mask]:
    """Turn probabilities into a mask, to the same pixels as ``clean`` does with all of the map.

    The map is read once, and once more for objects and for holes where they have a rule. Memory
    goes by the strip and by the number of regions that cross from strip to strip.

    Args:
        strips: Reads the uint8 levels, ``rint(255 * prob)``.
        params: As for ``clean``.

    Yields:
        (h, W) bool, of each strip.
    """
    bound = math.floor(params.threshold * 255)

    def masks() -> Iterator[Mask]:
        return (levels > bound for levels in strips())

    if params.min_area_px > 1 or params.min_peak > params.threshold:
        found = _object_totals(strips, params)
        cleaned: Callable[[], Iterator[Mask]] = lambda: _without_small(strips, params, found)  # noqa: E731
    else:
        cleaned = masks
    if params.max_hole_px > 0:
        return _without_holes(cleaned, params.max_hole_px)
    return cleaned()


# --- objects: sums are the area and the pixels above the peak


def _objects(levels: Levels, params: Postprocess) -> tuple[_Labels, _Sums]:
    labels = number_regions(levels > math.floor(params.threshold * 255), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=1)
    peaks = labels[levels > math.floor(params.min_peak * 255)]
    return labels, np.stack([areas, np.bincount(peaks, minlength=len(areas))], axis=1)


def _object_totals(strips: Strips, params: Postprocess) -> list[tuple[NDArray[np.int64], _Sums]]:
    seams = _Seams(reach=1)
    for levels in strips():
        seams.add(*_objects(levels, params))
    return list(seams.totals())


def _without_small(
    strips: Strips, params: Postprocess, totals: list[tuple[NDArray[np.int64], _Sums]]
) -> Iterator[Mask]:
    for levels, (border, whole) in zip(strips(), totals, strict=True):
        labels, sums = _objects(levels, params)
        sums[border] = whole
        keeps = (sums[:, 0] >= max(params.min_area_px, 1)) & (sums[:, 1] > 0)
        keeps[0] = False
        yield keeps[labels]


# --- holes: sums are the area and the pixels at the border of the map


def _gaps(mask: Mask, at_top: bool, at_bottom: bool) -> tuple[_Labels, _Sums]:
    labels = number_regions(~mask, connectivity=4)
    areas = np.bincount(labels.ravel(), minlength=1)
    edges = [labels[:, 0], labels[:, -1]]
    edges += [labels[0]] if at_top else []
    edges += [labels[-1]] if at_bottom else []
    at_edge = np.bincount(np.concatenate(edges), minlength=len(areas))
    return labels, np.stack([areas, at_edge], axis=1)


def _without_holes(masks: Callable[[], Iterator[Mask]], max_hole_px: int) -> Iterator[Mask]:
    seams = _Seams(reach=0)
    for mask, at_top, at_bottom in _with_ends(masks()):
        seams.add(*_gaps(mask, at_top, at_bottom))
    totals = seams.totals()
    for (mask, at_top, at_bottom), (border, whole) in zip(_with_ends(masks()), totals, strict=True):
        labels, sums = _gaps(mask, at_top, at_bottom)
        sums[border] = whole
        fills = (sums[:, 0] <= max_hole_px) & (sums[:, 1] == 0)
        fills[0] = False
        yield mask | fills[labels]


def _with_ends(masks: Iterator[Mask]) -> Iterator[tuple[Mask, bool, bool]]:
    """Say of each strip whether it is the first, and whether the last."""
    at_top, waiting = True, next(masks, None)
    while waiting is not None:
        following = next(masks, None)
        yield waiting, at_top, following is None
        at_top, waiting = False, following

"""How far the outlines of two masks lie apart: HD95, ASSD, NSD and boundary IoU."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from calco.metrics.counts import require_comparable
from calco.records import BoundaryScore

PERCENTILE = 95
BAND_FRACTION = 0.02  # of the image diagonal, as published with boundary IoU
# a search among the pixels of an outline costs each of them what a map costs 20 pixels of its area
MAP_PER_SEARCH = 20
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

Pixels = NDArray[np.uint8]
Distances = NDArray[np.float64]


def score_boundary(
    pred: NDArray[np.bool_], true: NDArray[np.bool_], tolerance_px: float
) -> BoundaryScore:
    """Score the outline of one predicted mask: HD95, ASSD, NSD and boundary IoU at once.

    The outline is every foreground pixel with a background 4-neighbour; what lies outside the image
    counts as background. Distances run between pixel centres, in pixels.

    Args:
        pred: (H, W) bool.
        true: (H, W) bool.
        tolerance_px: Largest distance at which a pixel of an outline counts as right in the NSD.

    Returns:
        HD95, the larger of the two directed 95 % percentiles (linear between two values); ASSD, the
        mean over the pixels of both outlines; NSD, the share of them within the tolerance; boundary
        IoU. Both masks empty: 0, 0, 1, 1. One empty: the image diagonal twice and 0, 0, since a
        total miss must not drop out of a mean.

    Raises:
        CalcoError: When the shapes differ or a mask is not bool.

    Reference:
        HD95: Huttenlocher et al. (1993), IEEE TPAMI 15(9), https://doi.org/10.1109/34.232073
        ASSD: Heimann et al. (2009), IEEE TMI 28(8), https://doi.org/10.1109/TMI.2009.2013851
        NSD: Nikolov et al. (2021), JMIR 23(7), https://doi.org/10.2196/26151
        Boundary IoU: Cheng et al. (2021), CVPR, https://arxiv.org/abs/2103.16562

    Example:
        >>> dot = np.zeros((30, 40), bool)
        >>> dot[5, 5] = True
        >>> score_boundary(np.roll(dot, 3, axis=1), dot, tolerance_px=3)
        BoundaryScore(hd95_px=3.0, assd_px=3.0, nsd=1.0, boundary_iou=0.0)
    """
    require_comparable(pred, true)
    diagonal_px = math.hypot(*true.shape)
    found = bool(pred.any()), bool(true.any())
    if not any(found):
        return BoundaryScore(hd95_px=0.0, assd_px=0.0, nsd=1.0, boundary_iou=1.0)
    if not all(found):
        return BoundaryScore(hd95_px=diagonal_px, assd_px=diagonal_px, nsd=0.0, boundary_iou=0.0)
    pred_pixels, true_pixels = _crop(pred, true)
    there, back = _edge_distances(pred_pixels, true_pixels)
    n_edge = len(there) + len(back)
    n_near = sum(int(np.count_nonzero(d <= tolerance_px)) for d in (there, back))
    return BoundaryScore(
        hd95_px=max(float(np.percentile(d, PERCENTILE)) for d in (there, back)),
        assd_px=float(there.sum() + back.sum()) / n_edge,
        nsd=n_near / n_edge,
        boundary_iou=_band_iou(pred_pixels, true_pixels, diagonal_px),
    )


def _crop(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[Pixels, Pixels]:
    """Cut both masks to the smallest box around either; all that is cut off is background.

    Outlines lie inside the box and distances are straight lines, so neither changes.
    """
    left, top, width, height = cv2.boundingRect((pred | true).view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    return (
        np.ascontiguousarray(pred[box]).view(np.uint8),
        np.ascontiguousarray(true[box]).view(np.uint8),
    )


def _edge_distances(pred: Pixels, true: Pixels) -> tuple[Distances, Distances]:
    """Return the sorted distances from pred's outline to the true one, and back."""
    pred_edge, true_edge = _edge(pred), _edge(true)
    return _distances(pred_edge, true_edge), _distances(true_edge, pred_edge)


def _edge(mask: Pixels) -> NDArray[np.bool_]:
    # a constant border of 0: OpenCV's default would leave pixels at the image edge inside
    inner = cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    edge: NDArray[np.bool_] = np.greater(mask, inner)  # (H, W)
    return edge


def _distances(start: NDArray[np.bool_], goal: NDArray[np.bool_]) -> Distances:
    """Return the distance of every starting pixel to the nearest goal, ascending.

    Sorted, they add up to one sum however the image is turned. Outlines that fill their box, such
    as those of noise, are looked up in a map; usual ones are searched, which is faster by far in
    large images.
    """
    n_pixels = np.count_nonzero(start) + np.count_nonzero(goal)
    by_map = n_pixels * MAP_PER_SEARCH > start.size
    return _distances_by_map(start, goal) if by_map else _distances_by_search(start, goal)


def _distances_by_search(start: NDArray[np.bool_], goal: NDArray[np.bool_]) -> Distances:
    tree = KDTree(_places(goal), compact_nodes=False, balanced_tree=False)
    away, _ = tree.query(_places(start & ~goal))  # (pixels,)
    n_shared = np.count_nonzero(start & goal)
    return np.concatenate([np.zeros(n_shared), np.sort(away)])


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    # ten times as fast as np.argwhere, which takes as long as building the tree
    return np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1]), axis=1)  # (pixels, 2)


def _distances_by_map(start: NDArray[np.bool_], goal: NDArray[np.bool_]) -> Distances:
    to_goal = cv2.distanceTransform(
        np.logical_not(goal).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )  # (H, W) float32
    # squared distances between pixels are whole numbers: rounding them undoes single precision,
    # exactly up to 2000 px
    squares = np.rint(np.square(to_goal[start], dtype=np.float64))  # (pixels,)
    distances: Distances = np.sqrt(np.sort(squares))
    return distances


def _band_iou(pred: Pixels, true: Pixels, diagonal_px: float) -> float:
    """Return the IoU of the bands inside both outlines; neither mask may be empty.

    The band is what erosion by a square takes away, as in the authors' own code, not a Euclidean
    distance as in their text: the figures that others publish are made with the code.
    """
    width_px = max(1, round(BAND_FRACTION * diagonal_px))
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * width_px + 1, 2 * width_px + 1))
    bands = []
    for mask in (pred, true):
        inner = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        bands.append(np.greater(mask, inner))
    n_shared = int(np.count_nonzero(bands[0] & bands[1]))
    return n_shared / int(np.count_nonzero(bands[0] | bands[1]))

"""From probability to mask: threshold, drop small and doubtful objects, fill small holes."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.records import Postprocess

_NEVER = np.iinfo(np.int64).max  # area given to regions that no rule may touch


def to_levels(prob: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantise probabilities to 8 bits.

    Args:
        prob: (H, W) float32 in [0, 1].

    Returns:
        (H, W) uint8, ``rint(255 * prob)``.

    Example:
        >>> to_levels(np.array([[0, 0.5, 1]], np.float32))
        array([[  0, 128, 255]], dtype=uint8)
    """
    levels: NDArray[np.uint8] = np.rint(prob * np.float32(255)).astype(np.uint8)
    return levels


def clean(prob: NDArray[np.float32] | NDArray[np.uint8], params: Postprocess) -> NDArray[np.bool_]:
    """Turn probabilities into a mask.

    The threshold is applied to 8-bit levels even when floats are given, so that thresholding a
    saved probability image gives exactly the mask written beside it. Objects go before holes are
    filled, so that a speck inside a hole does not keep it open; cleaning twice changes nothing.

    Args:
        prob: (H, W) probabilities: float32 in [0, 1] or their uint8 levels.
        params: ``level > threshold * 255`` is foreground; 8-connected objects smaller than
            ``min_area_px`` go, and those without a ``level > min_peak * 255``; 4-connected holes
            of up to ``max_hole_px`` are filled, unless they touch the border, where their true
            size is unknown.

    Returns:
        (H, W) bool.
    """
    levels = prob if prob.dtype == np.uint8 else to_levels(prob.astype(np.float32, copy=False))
    # an integer bound keeps the comparison in uint8, several times faster than in float
    mask: NDArray[np.bool_] = levels > math.floor(params.threshold * 255)
    if params.min_area_px > 1 or params.min_peak > params.threshold:
        labels, areas = label_objects(mask)
        certain = np.zeros(len(areas), bool)
        certain[labels[levels > math.floor(params.min_peak * 255)]] = True
        mask = (certain & (areas >= max(params.min_area_px, 1)))[labels]
    if params.max_hole_px > 0:
        labels, areas = label_holes(mask)
        mask = mask | (areas <= params.max_hole_px)[labels]
    return mask


def label_objects(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the 8-connected objects of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) int32 labels, 0 in the background, and the area in pixels of each label; the
        background's is given as 0.
    """
    labels = number_regions(mask, connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=1)
    areas[0] = 0
    return labels, areas


def label_holes(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the 4-connected background regions of a mask, the dual of 8-connected objects.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) int32 labels, 0 in the foreground, and the area in pixels of each label; what is no
        hole (the foreground, regions that touch the border) is given the largest integer.
    """
    labels = number_regions(~mask, connectivity=4)
    areas = np.bincount(labels.ravel(), minlength=1)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        areas[edge] = _NEVER
    areas[0] = _NEVER
    return labels, areas


def number_regions(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.int32]:
    """Number the 4- or 8-connected regions of an (H, W) bool mask: int32, 0 outside of them."""
    # areas by bincount afterwards: 1.4x faster than connectedComponentsWithStats
    _, labels = cv2.connectedComponents(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    found: NDArray[np.int32] = labels
    return found

"""Scores that count objects instead of pixels; objects are the 8-connected parts of a mask."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.metrics.counts import require_comparable
from calco.records import OBJECT_IOU_PERCENT, Counts, ObjectCounts


def match_objects(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> ObjectCounts:
    """Match the objects of a predicted mask with the true ones, at ten limits of their IoU.

    Two objects match when their IoU exceeds the limit. An IoU above one half is possible with one
    partner only, so matches are one to one without any rule for ties; an IoU of exactly 0.50, or
    of any other limit, is no match at it. IoU are compared as whole numbers of pixels.

    Args:
        pred: (H, W) bool. Objects that touch, also at a corner, are one.
        true: (H, W) bool.

    Returns:
        Objects of both masks, and matches at every limit of ``OBJECT_IOU_PERCENT``.

    Raises:
        CalcoError: When the shapes differ or a mask is not bool.

    Reference:
        Uniqueness above one half: Kirillov et al. (2019), CVPR, https://arxiv.org/abs/1801.00868
        The ten limits: Caicedo et al. (2019), Nature Methods 16,
        https://doi.org/10.1038/s41592-019-0612-7

    Example:
        >>> pred = np.array([[1, 1, 1, 0, 1]], bool)
        >>> true = np.array([[1, 1, 0, 0, 0]], bool)
        >>> match_objects(pred, true)
        ObjectCounts(n_pred=2, n_true=1, tp=(1, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    """
    require_comparable(pred, true)
    pred_labels, pred_areas = _label(pred)
    true_labels, true_areas = _label(true)
    shared = pred & true
    # one whole number per pair of objects: only pairs that share a pixel are ever looked at
    codes = pred_labels[shared].astype(np.int64) * len(true_areas) + true_labels[shared]
    pairs, overlaps = np.unique(codes, return_counts=True)  # (pairs,)
    of_pred, of_true = np.divmod(pairs, len(true_areas))
    unions = pred_areas[of_pred] + true_areas[of_true] - overlaps
    matches = 100 * overlaps > np.outer(OBJECT_IOU_PERCENT, unions)  # (limits, pairs)
    return ObjectCounts(
        n_pred=len(pred_areas) - 1,
        n_true=len(true_areas) - 1,
        tp=tuple(int(n) for n in matches.sum(axis=1)),
    )


def object_f1(objects: ObjectCounts, iou_percent: int = 50) -> float:
    """F1 of objects found: 2 tp / (predicted + true).

    Args:
        objects: Of one image, or the sum over many.
        iou_percent: One of ``OBJECT_IOU_PERCENT``.

    Returns:
        Score in [0, 1]; NaN when there is no object in either mask.

    Example:
        >>> object_f1(ObjectCounts(n_pred=2, n_true=1, tp=(1,) * 4 + (0,) * 6))
        0.6666666666666666
    """
    tp = objects.tp[OBJECT_IOU_PERCENT.index(iou_percent)]
    total = objects.n_pred + objects.n_true
    return 2 * tp / total if total else math.nan


def dsb2018(objects: ObjectCounts) -> float:
    """Score of one image in the 2018 Data Science Bowl: mean of tp / (tp + fp + fn) at ten limits.

    Args:
        objects: Of one image.

    Returns:
        Score in [0, 1]; 1 when there is no object in either mask.

    Example:
        >>> dsb2018(ObjectCounts(n_pred=2, n_true=1, tp=(1,) * 4 + (0,) * 6))
        0.2
    """
    total = objects.n_pred + objects.n_true
    if not total:
        return 1.0
    return math.fsum(tp / (total - tp) for tp in objects.tp) / len(objects.tp)


def tgs(counts: Counts) -> float:
    """Score of one image in the TGS salt competition: share of ten limits that its IoU exceeds.

    Args:
        counts: Of the whole mask, which that competition treats as one object.

    Returns:
        Score in [0, 1]; 1 when both masks are empty, 0 when one is.

    Example:
        >>> tgs(Counts(tp=2, fp=1, fn=0))  # IoU 0.67: above 0.50, 0.55, 0.60 and 0.65
        0.4
    """
    union = counts.tp + counts.fp + counts.fn
    if not union:
        return 1.0
    passed = sum(100 * counts.tp > percent * union for percent in OBJECT_IOU_PERCENT)
    return passed / len(OBJECT_IOU_PERCENT)


def _label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the objects from 1; return (H, W) labels and the pixels of each, background first."""
    _, found = cv2.connectedComponents(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    labels: NDArray[np.int32] = found
    return labels, np.bincount(labels.ravel(), minlength=1)

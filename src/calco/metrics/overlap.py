"""Overlap ratios of one mask, or of pooled counts; 0/0 is NaN, so that the caller decides."""

from __future__ import annotations

import math

from calco.records import Counts


def dice(counts: Counts) -> float:
    """Dice coefficient, 2 tp / (2 tp + fp + fn).

    Args:
        counts: Pixel counts of a thresholded mask against the truth.

    Returns:
        Score in [0, 1]; NaN when both masks are empty.

    Reference:
        Dice (1945), Ecology 26(3), https://doi.org/10.2307/1932409

    Example:
        >>> dice(Counts(tp=2, fp=1, fn=1))
        0.6666666666666666
    """
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts) -> float:
    """Intersection over union, tp / (tp + fp + fn); the Jaccard index.

    Args:
        counts: Pixel counts of a thresholded mask against the truth.

    Returns:
        Score in [0, 1]; NaN when both masks are empty.

    Reference:
        Jaccard (1912), New Phytologist 11(2),
        https://doi.org/10.1111/j.1469-8137.1912.tb05611.x

    Example:
        >>> iou(Counts(tp=2, fp=1, fn=1))
        0.5
    """
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> float:
    """Share of the predicted pixels that are true, tp / (tp + fp).

    Args:
        counts: Pixel counts of a thresholded mask against the truth.

    Returns:
        Score in [0, 1]; NaN when nothing was predicted.

    Example:
        >>> precision(Counts(tp=3, fp=1, fn=5))
        0.75
    """
    return _ratio(counts.tp, counts.tp + counts.fp)


def recall(counts: Counts) -> float:
    """Share of the true pixels that were predicted, tp / (tp + fn); sensitivity.

    Args:
        counts: Pixel counts of a thresholded mask against the truth.

    Returns:
        Score in [0, 1]; NaN when the truth is empty.

    Example:
        >>> recall(Counts(tp=3, fp=5, fn=1))
        0.75
    """
    return _ratio(counts.tp, counts.tp + counts.fn)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan

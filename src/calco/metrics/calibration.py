"""Whether a probability means what it says: calibration, precision and recall over all thresholds.

Everything comes from one histogram of whole numbers, how many background and foreground pixels got
each 8-bit level, so that neither order nor batching can change a figure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calco.records import Calibration, CurvePoint, ReliabilityBin

N_LEVELS = 256
N_BINS = 15  # of equal width, as usual since Guo et al. (2017)
_TOP = N_LEVELS - 1
_LEVELS = np.arange(N_LEVELS)
# 17 levels each; the last holds probability 1 too
_BIN_OF_LEVEL = np.minimum(_LEVELS * N_BINS // _TOP, N_BINS - 1)

Histogram = NDArray[np.int64]


def count_levels(levels: NDArray[np.uint8], true: NDArray[np.bool_]) -> Histogram:
    """Count the background and the foreground pixels of one image at each probability level.

    Args:
        levels: (H, W) uint8, ``rint(255 * prob)``.
        true: (H, W) bool.

    Returns:
        (256, 2) int64, background first; histograms of images add up.

    Example:
        >>> levels = np.array([[0, 0, 255]], np.uint8)
        >>> count_levels(levels, np.array([[False, True, True]]))[[0, 255]]
        array([[1, 1],
               [0, 1]])
    """
    total = np.bincount(levels.ravel(), minlength=N_LEVELS)
    foreground = np.bincount(levels[true], minlength=N_LEVELS)
    return np.stack([total - foreground, foreground], axis=1)  # (256, 2)


def calibrate(histogram: Histogram) -> Calibration:
    """Say how well probabilities agree with the truth.

    Args:
        histogram: (256, 2), the sum over images of ``count_levels``.

    Returns:
        Expected calibration error over 15 bins of equal width, their table, the precision-recall
        curve over all thresholds and its average precision. NaN where there is nothing to divide
        by: no pixels at all, or no foreground for recall and average precision.

    Reference:
        Guo et al. (2017), ICML, https://arxiv.org/abs/1706.04599; here, with two classes, a bin
        compares the probability of foreground with the share of foreground.

    Example:
        >>> histogram = np.zeros((256, 2), int)
        >>> histogram[51] = 8, 2  # probability 0.2, and a fifth of the pixels is foreground
        >>> calibrate(histogram).ece
        0.0
    """
    bins = tuple(_bin(histogram, number) for number in range(N_BINS))
    n_pixels, n_foreground = int(histogram.sum()), int(histogram[:, 1].sum())
    gaps = [b.n_pixels * abs(b.mean_prob - b.foreground_fraction) for b in bins if b.n_pixels]
    curve = _curve(histogram)
    return Calibration(
        n_pixels=n_pixels,
        n_foreground=n_foreground,
        ece=math.fsum(gaps) / n_pixels if n_pixels else math.nan,
        average_precision=_average_precision(histogram, curve) if n_foreground else math.nan,
        bins=bins,
        curve=curve,
    )


def _bin(histogram: Histogram, number: int) -> ReliabilityBin:
    inside = np.equal(_BIN_OF_LEVEL, number)  # (256,)
    n_pixels, n_foreground = int(histogram[inside].sum()), int(histogram[inside, 1].sum())
    sum_of_levels = int(_LEVELS[inside] @ histogram[inside].sum(axis=1))
    return ReliabilityBin(
        low=number / N_BINS,
        high=(number + 1) / N_BINS,
        n_pixels=n_pixels,
        mean_prob=sum_of_levels / (_TOP * n_pixels) if n_pixels else math.nan,
        foreground_fraction=n_foreground / n_pixels if n_pixels else math.nan,
    )


def _curve(histogram: Histogram) -> tuple[CurvePoint, ...]:
    """Return one point per level that occurs, from the highest threshold down."""
    n_foreground = int(histogram[:, 1].sum())
    tp = np.cumsum(histogram[::-1, 1])  # (256,) from the top level down
    traced = np.cumsum(histogram.sum(axis=1)[::-1])
    used = np.flatnonzero(histogram.sum(axis=1)[::-1])
    return tuple(
        CurvePoint(
            level=_TOP - int(i),
            precision=int(tp[i]) / int(traced[i]),
            recall=int(tp[i]) / n_foreground if n_foreground else math.nan,
        )
        for i in used
    )


def _average_precision(histogram: Histogram, curve: tuple[CurvePoint, ...]) -> float:
    """Return the precision of each step of recall, weighed by that step; no interpolation."""
    found = [int(histogram[point.level, 1]) * point.precision for point in curve]
    return math.fsum(found) / int(histogram[:, 1].sum())

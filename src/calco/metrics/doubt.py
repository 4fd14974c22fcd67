"""Whether the estimated Dice of masks tells the good ones from the bad ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

MIN_IMAGES = 3  # ranks of two images agree or not by chance

Curve = NDArray[np.float64]


def rank_correlation(estimated: Sequence[float], dices: Sequence[float]) -> float:
    """Return how far the estimate ranks images as their true Dice does.

    Args:
        estimated: Estimated Dice of each image.
        dices: Its true Dice.

    Returns:
        Spearman's correlation in [-1, 1]; NaN with fewer than three images, or when all estimates
        or all true values are equal, or one is NaN.

    Reference:
        Spearman (1904), https://doi.org/10.2307/1412159

    Example:
        >>> rank_correlation([0.9, 0.8, 0.95], [0.7, 0.2, 0.9])
        1.0
    """
    values = np.array([estimated, dices], np.float64)  # (2, images)
    if (
        values.shape[1] < MIN_IMAGES
        or np.isnan(values).any()
        or (np.ptp(values, axis=1) == 0).any()
    ):
        return math.nan
    return float(np.round(spearmanr(*values).statistic, 12))


def kept_means(order_by: Sequence[float], dices: Sequence[float]) -> Curve:
    """Return the mean Dice that is left when the least sure images go to a person.

    Args:
        order_by: Estimated Dice of each image; the lowest go first. Among equals the mean over
            all orders counts, as if each were a little of all of them.
        dices: True Dice of each image.

    Returns:
        (images,) mean over the 1, 2 ... all images of the highest estimates: the risk-coverage
        curve, with Dice instead of risk.

    Reference:
        El-Yaniv and Wiener (2010), JMLR 11, On the foundations of noise-free selective
        classification

    Example:
        >>> kept_means([0.9, 0.1], [0.8, 0.2]).tolist()
        [0.8, 0.5]
    """
    estimates, scores = np.array(order_by, np.float64), np.array(dices, np.float64)
    order = np.argsort(-estimates, kind="stable")
    _, group = np.unique(-estimates[order], return_inverse=True)
    of_equals = np.bincount(group, scores[order]) / np.bincount(group)  # (groups,)
    smooth = of_equals[group]  # (images,)
    means: Curve = smooth.cumsum() / np.arange(1, len(smooth) + 1)
    return means

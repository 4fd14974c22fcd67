"""How sure a mean over images is: intervals and tests that treat each group as one draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERVAL = (0.025, 0.975)
# group numbers or signs drawn and held at once; bounds memory for data sets with very many groups
BLOCK = 1_000_000


def mean_interval(
    values: Sequence[float], groups: Sequence[str], bootstrap: int, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a mean over images, whole groups resampled.

    Images of one group (patient, slide, scene) are alike, so resampling images would promise more
    than the data can keep. A resample's mean weighs its images equally, as the mean itself does.

    Args:
        values: One per image.
        groups: Group of each image.
        bootstrap: Number of resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end; (NaN, NaN) with fewer than two groups, which say nothing about others.

    Reference:
        Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8,
        https://doi.org/10.1017/CBO9780511802843
    """
    totals, sizes = _by_group(values, groups)
    if len(totals) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = []
    for rows in _blocks(bootstrap, len(totals)):
        drawn = rng.integers(len(totals), size=(rows, len(totals)))  # (rows, groups)
        means.append(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), INTERVAL)
    return float(low), float(high)


def sign_flip_p(
    differences: Sequence[float], groups: Sequence[str], draws: int, seed: int = 0
) -> float:
    """Return how often chance alone makes paired differences as large as these, on average.

    If both methods were equally good, the sign of a group's differences would be a coin toss. All
    sign patterns are counted where they are no more than ``draws``, else that many are drawn.

    Args:
        differences: Second score minus first, one per image.
        groups: Group of each image; its differences keep or change their sign together.
        draws: Most sign patterns looked at.
        seed: Of the drawing.

    Returns:
        Two-sided p-value in (0, 1]; NaN without images.

    Reference:
        Phipson and Smyth (2010), Permutation p-values should never be zero,
        https://doi.org/10.2202/1544-6115.1585
    """
    totals, _ = _by_group(differences, groups)
    if not len(totals):
        return math.nan
    observed = abs(math.fsum(totals)) - 1e-12  # sums of the same numbers may differ in rounding
    if 2 ** len(totals) <= draws:
        patterns = np.arange(2 ** len(totals))[:, None] >> np.arange(len(totals)) & 1
        return float(np.mean(abs((1 - 2 * patterns) @ totals) >= observed))
    rng = np.random.default_rng(seed)
    as_large = 0
    for rows in _blocks(draws, len(totals)):
        signs = 1 - 2 * rng.integers(2, size=(rows, len(totals)))  # (rows, groups)
        as_large += int(np.count_nonzero(abs(signs @ totals) >= observed))
    return (as_large + 1) / (draws + 1)


def _by_group(
    values: Sequence[float], groups: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the sum and the count of each group's values, in the order of their names."""
    names, group_of = np.unique(np.array(groups, dtype=str), return_inverse=True)
    parts: list[list[float]] = [[] for _ in names]
    for group, value in zip(group_of, values, strict=True):
        parts[group].append(value)
    # fsum rounds once, so that the order of images changes nothing
    totals = np.array([math.fsum(part) for part in parts])  # (groups,)
    return totals, np.array([len(part) for part in parts])  # (groups,)


def _blocks(total: int, width: int) -> list[int]:
    """Cut ``total`` rows of ``width`` numbers into blocks that fit into memory."""
    rows = max(1, BLOCK // width)
    return [min(rows, total - start) for start in range(0, total, rows)]

"""How sure a mean over images is: intervals and tests that treat each group as one draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

INTERVAL = (0.025, 0.975)
# group numbers or signs drawn and held at once; bounds memory for data sets with very many groups
BLOCK = 1_000_000
# decimals of an end: products of matrices may round the last ones differently from block to block
DIGITS = 9

Interval = tuple[float, float]


def mean_interval(
    values: Sequence[float], groups: Sequence[str], bootstrap: int, seed: int = 0
) -> Interval:
    """Return the interval of one mean over images; see ``mean_intervals``."""
    return mean_intervals([values], groups, bootstrap, seed)[0]


def mean_intervals(
    columns: Sequence[Sequence[float]], groups: Sequence[str], bootstrap: int, seed: int = 0
) -> list[Interval]:
    """Return the 95 % percentile intervals of means over images, whole groups resampled.

    Images of one group (patient, slide, scene) are alike, so resampling images would promise more
    than the data can keep. A resample's mean weighs its images equally, as the mean itself does.
    All columns are seen in the same resamples, so each gets the interval that it gets alone.

    Args:
        columns: Each one value per image.
        groups: Group of each image.
        bootstrap: Number of resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end of each column; (NaN, NaN) where a value is NaN, and everywhere with
        fewer than two groups, which say nothing about others.

    Reference:
        Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8,
        https://doi.org/10.1017/CBO9780511802843

    Example:
        >>> mean_intervals([[0.0, 1.0], [0.3, 0.3]], ["a", "b"], bootstrap=1000)
        [(0.0, 1.0), (0.3, 0.3)]
    """
    names, group_of = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return [(math.nan, math.nan)] * len(columns)
    sums = [_sums(values, group_of, len(names)) for values in columns]
    sizes = np.bincount(group_of)
    table = np.stack([*sums, sizes], axis=1)  # (groups, columns + 1)
    rng = np.random.default_rng(seed)
    means = []
    for rows in _blocks(bootstrap, len(names)):
        drawn = rng.integers(len(names), size=(rows, len(names)))  # (rows, groups)
        totals = _times(drawn) @ table  # (rows, columns + 1)
        means.append(totals[:, :-1] / totals[:, -1:])
    ends = np.quantile(np.concatenate(means), INTERVAL, axis=0)  # (2, columns)
    return [_interval(low, high) for low, high in ends.round(DIGITS).T.tolist()]


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
    names, group_of = np.unique(np.array(groups, dtype=str), return_inverse=True)
    totals = _sums(differences, group_of, len(names))  # (groups,)
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


def _sums(
    values: Sequence[float], group_of: NDArray[np.intp], n_groups: int
) -> NDArray[np.float64]:
    """Return the sum of each group's values."""
    parts: list[list[float]] = [[] for _ in range(n_groups)]
    for group, value in zip(group_of, values, strict=True):
        parts[group].append(value)
    # fsum rounds once, so that the order of images changes nothing
    return np.array([math.fsum(part) for part in parts])  # (groups,)


def _times(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count how often each row drew each of its numbers, (rows, n) below n."""
    rows, n = drawn.shape
    flat = (drawn + n * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(np.float64)


def _interval(low: float, high: float) -> Interval:
    # the one NaN that records compare equal with
    return (math.nan, math.nan) if math.isnan(low) else (low, high)


def _blocks(total: int, width: int) -> list[int]:
    """Cut ``total`` rows of ``width`` numbers into blocks that fit into memory."""
    rows = max(1, BLOCK // width)
    return [min(rows, total - start) for start in range(0, total, rows)]

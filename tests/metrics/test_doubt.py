from __future__ import annotations

import math

import numpy as np
import pytest

from calco.metrics.doubt import kept_means, rank_correlation


def test_correlation_is_that_of_the_ranks() -> None:
    dices = [0.1, 0.4, 0.6, 0.9]
    assert rank_correlation([0.2, 0.21, 0.5, 0.999], dices) == 1.0
    assert rank_correlation([-d for d in dices], dices) == -1.0
    # one neighbouring pair swapped among four: 1 - 6 * 2 / (4 * 15)
    assert rank_correlation([1, 3, 2, 4], dices) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("estimated", "dices"),
    [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, math.nan, 2], [1, 2, 3])],
)
def test_there_may_be_nothing_to_correlate(estimated: list[float], dices: list[float]) -> None:
    assert math.isnan(rank_correlation(estimated, dices))


def test_means_are_those_of_the_surest() -> None:
    kept = kept_means([0.5, 0.9, 0.7], [0.2, 1.0, 0.6])
    assert kept == pytest.approx([1.0, 0.8, 0.6])


def test_equals_are_kept_in_no_order() -> None:
    estimated, dices = [0.9, 0.5, 0.5], [1.0, 0.0, 0.8]
    kept = kept_means(estimated, dices)
    assert kept == pytest.approx([1.0, 0.7, 0.6])
    assert kept == pytest.approx(kept_means([0.9, 0.5, 0.5], [1.0, 0.8, 0.0]))


def test_an_estimate_that_knows_nothing_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    dices = rng.beta(8, 2, 5000).tolist()
    kept = kept_means(rng.random(5000).tolist(), dices)
    assert kept[500:] == pytest.approx(np.mean(dices), abs=0.02)
    assert kept_means(dices, dices)[500] > np.mean(dices) + 0.1  # a good one does

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calco.metrics.overlap import dice, iou, precision, recall
from calco.records import Counts

PIXELS = st.integers(0, 10**9)
ANY_COUNTS = st.builds(Counts, tp=PIXELS, fp=PIXELS, fn=PIXELS, tn=PIXELS)
NAN = math.nan


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "expected"),  # expected: dice, iou, precision, recall
    [
        (0, 0, 0, (NAN, NAN, NAN, NAN)),  # both empty
        (0, 5, 0, (0, 0, 0, NAN)),  # a spot on an empty image
        (0, 0, 5, (0, 0, NAN, 0)),  # a total miss
        (0, 3, 5, (0, 0, 0, 0)),  # beside the object
        (1, 0, 0, (1, 1, 1, 1)),  # a single pixel, found
        (7, 0, 0, (1, 1, 1, 1)),  # perfect
        (2, 1, 1, (4 / 6, 2 / 4, 2 / 3, 2 / 3)),
        (3, 0, 3, (6 / 9, 3 / 6, 1, 1 / 2)),  # half of it found, nothing else
        (3, 3, 0, (6 / 9, 3 / 6, 1 / 2, 1)),  # all of it found, twice as large
        (1, 0, 9, (2 / 11, 1 / 10, 1, 1 / 10)),
        (1, 9, 0, (2 / 11, 1 / 10, 1 / 10, 1)),
        (50, 25, 25, (100 / 150, 50 / 100, 2 / 3, 2 / 3)),
        (10**12, 1, 0, (2e12 / (2e12 + 1), 1e12 / (1e12 + 1), 1e12 / (1e12 + 1), 1)),
    ],
)
def test_golden_table(
    tp: int, fp: int, fn: int, expected: tuple[float, float, float, float]
) -> None:
    counts = Counts(tp, fp, fn, tn=100)
    scores = (dice(counts), iou(counts), precision(counts), recall(counts))
    assert scores == pytest.approx(expected, nan_ok=True, abs=1e-15)


@given(ANY_COUNTS)
def test_scores_stay_in_the_unit_interval(counts: Counts) -> None:
    for score in (dice, iou, precision, recall):
        value = score(counts)
        assert math.isnan(value) or 0 <= value <= 1


@given(ANY_COUNTS)
def test_dice_and_iou_are_the_same_ranking(counts: Counts) -> None:
    if not math.isnan(dice(counts)):
        overlap_share = iou(counts)
        assert dice(counts) == pytest.approx(2 * overlap_share / (1 + overlap_share))


@given(ANY_COUNTS)
def test_dice_is_the_harmonic_mean_of_precision_and_recall(counts: Counts) -> None:
    if counts.tp:
        p, r = precision(counts), recall(counts)
        assert dice(counts) == pytest.approx(2 * p * r / (p + r))


@given(ANY_COUNTS, PIXELS)
def test_true_negatives_do_not_matter(counts: Counts, more: int) -> None:
    grown = counts + Counts(0, 0, 0, tn=more)
    assert dice(grown) == pytest.approx(dice(counts), nan_ok=True)
    assert recall(grown) == pytest.approx(recall(counts), nan_ok=True)

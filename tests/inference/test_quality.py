"""The estimate is the Dice itself where it can be known."""

from __future__ import annotations

import numpy as np
import pytest

from calco.inference.quality import estimate_dice


def test_a_certain_mask_is_expected_to_be_right() -> None:
    levels = np.zeros((6, 7), np.uint8)
    levels[2:4, 2:5] = 255
    assert estimate_dice(levels, levels > 127) == 1.0


def test_doubt_inside_and_outside_lowers_it() -> None:
    levels = np.zeros((10, 10), np.uint8)
    levels[2:6, 2:6] = 204  # 0.8
    assert estimate_dice(levels, levels > 127) == pytest.approx(2 * 12.8 / (16 + 12.8))
    levels[8, :] = 102  # ten pixels of 0.4 that the mask leaves out
    assert estimate_dice(levels, levels > 127) == pytest.approx(2 * 12.8 / (16 + 12.8 + 4))


@pytest.mark.parametrize(("peak", "expected"), [(0, 1.0), (51, 0.8), (255, 0.0)])
def test_an_empty_mask_is_as_good_as_the_peak_is_low(peak: int, expected: float) -> None:
    levels = np.zeros((4, 4), np.uint8)
    levels[1, 1] = peak
    assert estimate_dice(levels, np.zeros((4, 4), bool)) == pytest.approx(expected)


def test_it_is_the_mean_dice_of_truths_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    prob = rng.beta(0.3, 0.3, (60, 60))
    levels = np.rint(255 * prob).astype(np.uint8)
    mask = levels > 127
    truths = rng.random((200, 60, 60)) < levels / 255
    overlaps = (truths & mask).sum(axis=(1, 2))
    dices = 2 * overlaps / (mask.sum() + truths.sum(axis=(1, 2)))
    assert estimate_dice(levels, mask) == pytest.approx(dices.mean(), abs=0.002)

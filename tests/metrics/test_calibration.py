from __future__ import annotations

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.metrics.calibration import calibrate, count_levels
from calco.records import Calibration

NAN = math.nan


def histogram(**pixels: tuple[int, int]) -> NDArray[np.int64]:
    """Place (background, foreground) pixels at levels: ``_204=(0, 10)``."""
    table = np.zeros((256, 2), np.int64)
    for level, counts in pixels.items():
        table[int(level[1:])] = counts
    return table


@pytest.mark.parametrize(
    ("pixels", "ece", "average_precision"),
    [
        ({"_0": (9, 0), "_255": (0, 3)}, 0, 1),  # sure and right
        ({"_0": (0, 3), "_255": (9, 0)}, 1, 3 / 12),  # sure and wrong: all found at level 0 alone
        ({"_255": (4, 0)}, 1, NAN),  # no foreground to find
        ({"_0": (4, 0)}, 0, NAN),
        ({"_255": (0, 4)}, 0, 1),
        ({"_51": (8, 2)}, 0, 0.2),  # 0.2, and a fifth is foreground
        ({"_204": (0, 10), "_51": (10, 0)}, 0.2, 1),  # right order, too cautious by 0.2
        ({"_204": (10, 0), "_51": (0, 10)}, 0.8, 0.5),  # wrong order
        ({"_51": (0, 1)}, 0.8, 1),
        ({"_51": (1, 0), "_204": (3, 0)}, 0.2 / 4 + 0.8 * 3 / 4, NAN),  # gaps weigh as pixels
        # one bin: mean probability 8/255, half of it foreground
        ({"_0": (1, 0), "_16": (0, 1)}, 0.5 - 8 / 255, 1),
        # neighbours, but in two bins: 1/2 * 16/255 + 1/2 * (1 - 17/255)
        ({"_16": (1, 0), "_17": (0, 1)}, (16 + 238) / 510, 1),
        # precision 1/2 for the first half of recall, 2/3 for the second
        ({"_200": (1, 1), "_100": (0, 1), "_50": (1, 0)}, None, 1 / 4 + 1 / 3),
    ],
)
def test_golden_histograms(
    pixels: dict[str, tuple[int, int]], ece: float | None, average_precision: float
) -> None:
    found = calibrate(histogram(**pixels))
    assert found.average_precision == pytest.approx(average_precision, abs=1e-12, nan_ok=True)
    if ece is not None:
        assert found.ece == pytest.approx(ece, abs=1e-12)


def test_no_pixels_are_nan_not_zero() -> None:
    found = calibrate(np.zeros((256, 2), np.int64))
    assert math.isnan(found.ece)
    assert math.isnan(found.average_precision)
    assert found.curve == ()


@pytest.mark.parametrize(
    ("level", "number"),
    [(0, 0), (16, 0), (17, 1), (33, 1), (34, 2), (127, 7), (237, 13), (238, 14), (255, 14)],
)
def test_bins_are_equally_wide_and_the_last_holds_probability_1(level: int, number: int) -> None:
    found = calibrate(histogram(**{f"_{level}": (1, 0)}))
    assert [b.n_pixels for b in found.bins] == [int(i == number) for i in range(15)]
    used = found.bins[number]
    assert used.low <= level / 255 <= used.high
    assert used.mean_prob == pytest.approx(level / 255)
    assert math.isnan(found.bins[(number + 1) % 15].mean_prob)


def test_the_table_by_hand() -> None:
    found = calibrate(histogram(_0=(3, 1), _10=(4, 0), _250=(0, 2)))
    assert (found.n_pixels, found.n_foreground) == (10, 3)
    first, last = found.bins[0], found.bins[-1]
    assert (first.n_pixels, first.foreground_fraction) == (8, 1 / 8)
    assert first.mean_prob == pytest.approx(40 / 255 / 8)
    assert (last.n_pixels, last.foreground_fraction) == (2, 1)
    assert found.ece == pytest.approx((8 * (1 / 8 - 5 / 255) + 2 * (1 - 250 / 255)) / 10)
    points = [(point.level, point.precision, point.recall) for point in found.curve]
    assert points == [(250, 1, 2 / 3), (10, 2 / 6, 2 / 3), (0, 3 / 10, 1)]


def by_hand(levels: list[int], true: list[bool]) -> tuple[float, float]:
    """Go through pixels and thresholds one by one."""
    ece = 0.0
    for number in range(15):
        high = 255 if number == 14 else 17 * number + 16
        inside = [i for i, level in enumerate(levels) if 17 * number <= level <= high]
        if inside:
            gap = sum(levels[i] / 255 for i in inside) - sum(true[i] for i in inside)
            ece += abs(gap) / len(levels)
    average, before = 0.0, 0.0
    for threshold in range(255, -1, -1):
        traced = [i for i, level in enumerate(levels) if level >= threshold]
        if traced and sum(true):
            tp = sum(true[i] for i in traced)
            average += (tp / sum(true) - before) * tp / len(traced)
            before = tp / sum(true)
    return ece, average if sum(true) else NAN


def test_agrees_with_going_through_all_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = tuple(rng.integers(1, 9, 2))
        true = rng.random(size) < rng.choice([0, 0.1, 0.5, 1])
        sharpness = rng.choice([0, 100, 250])
        levels = (rng.random(size) * 255 + sharpness * (true - 0.5)).clip(0, 255).astype(np.uint8)
        found = calibrate(count_levels(levels, true))
        expected = by_hand(levels.ravel().tolist(), true.ravel().tolist())
        assert (found.ece, found.average_precision) == pytest.approx(
            expected, abs=1e-12, nan_ok=True
        )


def noise(seed: int, n: int = 12) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return [
        count_levels(rng.integers(0, 256, (7, 9), np.uint8), rng.random((7, 9)) < 0.3)
        for _ in range(n)
    ]


def test_neither_order_nor_batches_change_a_bit() -> None:
    parts = noise(0)
    expected = calibrate(np.sum(parts, axis=0))
    for seed in range(5):
        shuffled = random.Random(seed).sample(parts, len(parts))
        batches = [np.sum(shuffled[:5], axis=0), np.sum(shuffled[5:], axis=0)]
        assert same(calibrate(np.sum(batches, axis=0)), expected)


def same(one: Calibration, other: Calibration) -> bool:
    """Compare records in which NaN equals NaN."""
    return repr(one) == repr(other)


def test_probabilities_of_chance_have_the_average_precision_of_chance() -> None:
    rng = np.random.default_rng(1)
    levels, true = rng.integers(0, 256, (500, 500), np.uint8), rng.random((500, 500)) < 0.3
    assert calibrate(count_levels(levels, true)).average_precision == pytest.approx(0.3, abs=0.01)


def test_probabilities_drawn_as_they_say_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    levels = rng.integers(0, 256, (500, 500), np.uint8)
    honest = rng.random((500, 500)) < levels / 255
    assert calibrate(count_levels(levels, honest)).ece < 0.01
    too_sure = rng.random((500, 500)) < 0.25 + 0.5 * levels / 255
    assert calibrate(count_levels(levels, too_sure)).ece == pytest.approx(1 / 8, abs=0.01)


def test_recall_grows_down_the_curve() -> None:
    curve = calibrate(np.sum(noise(3), axis=0)).curve
    assert [point.level for point in curve] == sorted((p.level for p in curve), reverse=True)
    assert [point.recall for point in curve] == sorted(point.recall for point in curve)
    assert curve[-1].recall == 1


EACH_ONCE = {f"_{level}": (int(level <= 99), int(level > 99)) for level in range(256)}


def test_counts_every_pixel_once() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (count_levels(levels, levels > 99) == histogram(**EACH_ONCE)).all()
    assert (count_levels(levels[::-1], levels[::-1] > 99) == histogram(**EACH_ONCE)).all()

"""What a learning curve foretells, against curves whose future is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.files import from_json, to_json
from calco.records import LearningCurve, LearningPoint
from calco.stages.learning_curve import Trial, forecast

Share = NDArray[np.float64]
NAN = math.nan

CURVES: dict[str, Callable[[Share], Share]] = {
    "flat": lambda share: share**0,
    "power 0.2": lambda share: share**-0.2,
    "power 0.4": lambda share: share**-0.4,
    "power 0.7": lambda share: share**-0.7,
    "half cannot be learnt": lambda share: 0.5 + 0.5 * share**-0.5,
    "four fifths cannot be learnt": lambda share: 0.8 + 0.2 / share,
    "labels harm": lambda share: share**0.15,
}
ERROR = 0.15  # of a training on all images
SIZES = np.array([48, 24, 12, 6])


def true_gain(name: str) -> float:
    now, twice = CURVES[name](np.array([1.0, 2.0]))
    return ERROR * float(now - twice)


def simulated(
    name: str,
    rng: np.random.Generator,
    n_groups: int = 20,
    luck: float = 0.06,
    chains: int = 1,
) -> tuple[list[Trial], list[str]]:
    """Draw trainings from a known curve: their luck, hard and easy groups, and noise of images."""
    sizes = np.tile(SIZES, chains)
    share = sizes / SIZES.max()
    errors = ERROR * CURVES[name](share) * np.exp(luck * rng.normal(size=sizes.size) * share**-0.25)
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 4, n_groups))
    hard = np.exp(0.6 * rng.normal(size=n_groups) - 0.18)[groups]  # mean 1
    noise = np.exp(0.15 * rng.normal(size=(sizes.size, groups.size)))
    dices = 1 - np.clip(errors[:, None] * hard * noise, 0, 1)
    trials = [Trial(int(n), d) for n, d in zip(sizes, dices, strict=True)]
    return trials, groups.astype(str).tolist()


def exact(errors: Sequence[float], sizes: Sequence[int] = (48, 24, 12, 6)) -> LearningCurve:
    """Forecast from trainings without noise, on twelve images that are all alike."""
    trials = [Trial(n, np.full(12, 1 - e)) for n, e in zip(sizes, errors, strict=True)]
    return forecast(trials, [f"g{i}" for i in range(12)])


@pytest.mark.parametrize("n_groups", [5, 20])
@pytest.mark.parametrize("name", CURVES)
def test_the_band_holds_the_truth_as_often_as_it_says(name: str, n_groups: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(100):
        curve = forecast(*simulated(name, rng, n_groups), seed=trial)
        low, high = curve.ci95
        assert low <= curve.gain <= high
        held += low <= true_gain(name) <= high
    assert held >= 90


def test_a_band_without_the_luck_of_training_would_promise_too_much() -> None:
    """The negative control: many validation groups alone make the band of the mean narrow."""
    rng = np.random.default_rng(1)
    widths = []
    for n_groups in (20, 2000):
        curve = forecast(*simulated("power 0.2", rng, n_groups))
        widths.append(curve.ci95[1] - curve.ci95[0])
    assert widths[1] > 0.5 * widths[0]
    steady = forecast(*simulated("power 0.2", rng, 2000, luck=0.0))
    assert steady.ci95[1] - steady.ci95[0] < 0.8 * widths[1]


def test_few_validation_groups_are_not_taken_for_all_there_are() -> None:
    """Three groups gain unequally; the plain bootstrap holds it in three of four."""
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(100):
        curve = forecast(*simulated("power 0.7", rng, 3, luck=0.01), seed=trial)
        low, high = curve.ci95
        held += low <= true_gain("power 0.7") <= high
    assert held >= 88


@pytest.mark.parametrize("name", ["flat", "labels harm"])
def test_what_does_not_grow_is_not_shown_to(name: str) -> None:
    rng = np.random.default_rng(2)
    shown = [forecast(*simulated(name, rng, 30), seed=i).shown for i in range(100)]
    assert sum(shown) <= 3


def test_steep_curves_are_shown_and_repeats_show_more() -> None:
    rng = np.random.default_rng(3)
    once = [forecast(*simulated("power 0.4", rng, 30)).shown for _ in range(60)]
    thrice = [forecast(*simulated("power 0.4", rng, 30, chains=3)).shown for _ in range(60)]
    assert sum(once) >= 20
    assert sum(thrice) > sum(once)


def test_a_power_law_without_noise_is_continued() -> None:
    """Errors 0.30, 0.25 ... shrink by 1/1.2 per doubling: 0.15 becomes 0.125, a gain of 0.025."""
    curve = exact([0.15 * 1.2**k for k in range(4)])
    assert curve.gain == pytest.approx(0.025, abs=0.004)
    assert curve.shown
    assert curve.forecast_dice == pytest.approx(0.875, abs=0.005)


def test_a_curve_that_levels_off_promises_less_than_a_straight_one() -> None:
    straight = exact([0.15 * 1.2**k for k in range(4)])
    level = exact([0.15, 0.152, 0.165, 0.15 * 1.2**3])  # the same ends
    assert level.gain < 0.5 * straight.gain
    assert not level.shown


def test_a_bend_goes_on_if_less() -> None:
    """Log errors 0.3 k + 0.05 k^2 above the last, k halvings back: 0.25 below one ahead."""
    curve = exact([0.15 * math.exp(0.3 * k + 0.05 * k**2) for k in range(4)])
    assert curve.gain == pytest.approx(0.15 * (1 - math.exp(-0.25)), abs=0.006)


def test_sizes_that_hardly_differ_say_next_to_nothing() -> None:
    curve = exact([0.15, 0.151], sizes=(40, 29))
    assert abs(curve.gain) < 0.01
    assert curve.ci95[1] - curve.ci95[0] > 0.05


def test_scatter_of_small_parts_is_forgiven() -> None:
    sizes = (48, 24, 12, 6) * 2
    line = [0.15 * 1.2**k for k in range(4)]
    widths = []
    for off in (3, 0):  # the smallest, the largest
        scattered = line * 2
        scattered[off] *= 1.2
        scattered[4 + off] /= 1.2
        low, high = exact(scattered, sizes).ci95
        widths.append(high - low)
    assert widths[0] < widths[1]


def test_a_flat_curve_promises_nothing() -> None:
    curve = exact([0.15] * 4)
    assert abs(curve.gain) < 0.004
    assert not curve.shown


@pytest.mark.parametrize(
    "errors",
    [
        [0.9, 0.5, 0.3, 0.1],  # falls apart as images are added
        [0.05, 1.0, 1.0, 1.0],  # learnt nothing but once
        [1.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.2, 0.21],
    ],
)
def test_odd_curves_do_not_extrapolate_into_nonsense(errors: list[float]) -> None:
    curve = exact(errors, SIZES[: len(errors)].tolist())
    low, high = curve.ci95
    now = curve.points[-1].fitted_dice
    for dice in (now, curve.forecast_dice):
        assert 0 <= dice <= 1
    assert -1 <= low <= curve.gain <= high <= 1


def test_labels_that_harmed_are_not_said_to_help() -> None:
    curve = exact([0.3, 0.25, 0.2, 0.15])
    assert not curve.shown
    assert curve.gain < 0.01


def test_one_validation_group_gives_no_band() -> None:
    trials = [Trial(n, np.full(3, d)) for n, d in ((20, 0.9), (10, 0.8))]
    curve = forecast(trials, ["a", "a", "a"])
    assert all(math.isnan(end) for end in curve.ci95)
    assert not curve.shown
    assert curve.sentence.endswith("validated on one group: not shown")


def test_copies_of_a_validation_image_add_no_certainty() -> None:
    rng = np.random.default_rng(4)
    trials, _ = simulated("power 0.2", rng, 8)
    groups = [str(i) for i in range(trials[0].dices.size)]
    copied = [Trial(t.n_images, np.tile(t.dices, 5)) for t in trials]
    assert forecast(copied, groups * 5).ci95 == pytest.approx(forecast(trials, groups).ci95)


# --- what is said ------------------------------------------------------------------------------

POINTS = (LearningPoint(12, (0.80, 0.82), 0.81), LearningPoint(24, (0.84,), 0.835))


@pytest.mark.parametrize(
    ("gain", "ci95", "end"),
    [
        (0.0123, (-0.0031, 0.0279), "+1.2 Dice points, 95 % band -0.3 to 2.8: not shown"),
        (0.0123, (0.0031, 0.0279), "+1.2 Dice points, 95 % band 0.3 to 2.8: shown"),
        (-0.0003, (-0.02, -0.0001), "0.0 Dice points, 95 % band -2.0 to 0.0: not shown"),
    ],
)
def test_one_sentence_says_it(gain: float, ci95: tuple[float, float], end: str) -> None:
    curve = LearningCurve(POINTS, gain, ci95, 12, 20.0)
    assert curve.sentence == f"twice as many labels (48 instead of 24): {end}"


def test_a_curve_is_kept_as_json() -> None:
    curve = LearningCurve(POINTS, 0.01, (-0.01, 0.03), 12, 20.0)
    assert from_json(LearningCurve, to_json(curve), "learning.json") == curve
    lone = LearningCurve(POINTS, 0.01, (NAN, NAN), 12, 20.0)
    assert not from_json(LearningCurve, to_json(lone), "learning.json").shown

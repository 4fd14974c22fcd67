"""The clock, moved by hand."""

import math
import time

import pytest

from calco.training import budget
from calco.training.budget import Clock


def clock_at(elapsed_s: float, budget_s: float | None) -> Clock:
    """A clock whose run began some seconds ago."""
    return Clock(budget_s, time.monotonic() - elapsed_s)


def test_without_a_budget_time_never_ends() -> None:
    clock = clock_at(1e6, None)
    clock.reserve_for(10.0, 2.0)
    assert clock.fit_left_s == math.inf
    assert clock.progress(0.0) == 0.0


def test_fit_ends_before_what_must_follow() -> None:
    clock = clock_at(100.0, 600.0)
    assert clock.fit_left_s == pytest.approx(600 * (1 - budget.FIRST_RESERVE) - 100, abs=0.1)
    clock.reserve_for(validation_s=25.0, tested_ratio=1.0)  # mirrored it would be 280 s
    after = 25 + budget.SAFETY * 25 + budget.FIXED_RESERVE_S  # the last validation, then test
    assert clock.fit_left_s == pytest.approx(600 - after - 100, abs=0.1)


def test_mirror_images_are_paid_for_where_they_are_cheap() -> None:
    clock = clock_at(0.0, 1000.0)
    clock.reserve_for(validation_s=10.0, tested_ratio=1.0)  # four times validation and test
    assert clock.steps_s == (80.0,)
    assert clock.reserve_s == pytest.approx(10 + budget.SAFETY * 80 + budget.FIXED_RESERVE_S)
    clock.reserve_for(validation_s=20.0, tested_ratio=1.0)  # 224 s: over a fifth
    assert not clock.steps_s
    assert clock.reserve_s == pytest.approx(20 + budget.SAFETY * 20 + budget.FIXED_RESERVE_S)


def test_further_views_are_paid_for_step_by_step() -> None:
    # tried with all validation images: 4 s, then 8 s, then 25 s; the last step also tests
    for budget_s, steps_s, after_s in (
        (20.0, (), 1),
        (60.0, (8.0,), 4 + 4),
        (200.0, (8.0, 16.0), 4 + 8 + 8),
        (1000.0, (8.0, 16.0, 50.0), 4 + 8 + 25 + 25),
    ):
        clock = clock_at(0.0, budget_s)
        clock.views = (4.0, 8.0, 25.0)
        clock.reserve_for(validation_s=1.0, tested_ratio=1.0)
        assert clock.steps_s == steps_s
        wanted = 1 + budget.SAFETY * after_s + budget.FIXED_RESERVE_S
        assert clock.reserve_s == pytest.approx(min(wanted, budget_s / 2))
        asked = [clock.has_time_for_views(step) for step in range(3)]
        assert asked == [step < len(steps_s) for step in range(3)]


def test_training_that_ended_late_leaves_no_time_for_mirror_images() -> None:
    # four times validation and test are 80 s, tuning and report 8 s
    for elapsed_s, has_time in ((500.0, True), (520.0, False)):
        clock = clock_at(elapsed_s, 600.0)
        clock.reserve_for(validation_s=10.0, tested_ratio=1.0)
        assert clock.steps_s == (80.0,)
        assert clock.has_time_for_views(0) == has_time
    clock = clock_at(0.0, 600.0)
    clock.reserve_for(validation_s=20.0, tested_ratio=1.0)  # too dear: no time is set aside
    assert not clock.has_time_for_views(0)
    assert clock_at(1e6, None).has_time_for_views(2)


def test_where_others_want_the_processor_more_time_is_kept() -> None:
    clock = clock_at(0.0, 100.0)
    clock.reserve_for(validation_s=1.0, tested_ratio=1.0)
    idle_s = clock.reserve_s
    clock.slowdown = 1.5
    clock.reserve_for(validation_s=1.0, tested_ratio=1.0)
    assert clock.reserve_s == pytest.approx(idle_s + 0.5 * budget.FIXED_RESERVE_S)


def test_folds_are_all_mirrored_and_all_tested_with() -> None:
    clock = clock_at(0.0, 1000.0)
    clock.reserve_for(validation_s=2.0, tested_ratio=5.0, n_folds=5)
    mirrored_s, after_s = budget.SAFETY * 4 * (5 + 5) * 2, 5 * budget.FIXED_RESERVE_S
    assert clock.reserve_s == pytest.approx(2 + mirrored_s + after_s)


def test_reserve_never_takes_more_than_half() -> None:
    clock = clock_at(0.0, 60.0)
    clock.reserve_for(validation_s=500.0, tested_ratio=2.0)
    assert clock.reserve_s == 30.0


def test_progress_goes_from_zero_to_one_over_fit() -> None:
    clock = clock_at(60.0, 100.0)
    clock.reserve_s = 10.0
    assert clock.progress(began_s=60.0) == pytest.approx(0.0, abs=0.01)
    assert clock.progress(began_s=30.0) == pytest.approx(0.5, abs=0.01)  # 30 of 60 s
    assert clock_at(99.0, 100.0).progress(began_s=10.0) == 1.0
    assert clock_at(99.0, 100.0).progress(began_s=99.0) == 1.0  # no time at all


def test_folds_share_the_time_left() -> None:
    clock = clock_at(100.0, 600.0)
    clock.reserve_s = 50.0
    clock.begin_fold(folds_left=5)  # 450 s for five
    assert clock.fit_left_s == pytest.approx(90, abs=0.1)
    clock.started -= 100  # the first took a little longer
    assert clock.fit_left_s == pytest.approx(-10, abs=0.1)
    clock.begin_fold(folds_left=4)  # 350 s for four
    assert clock.fit_left_s == pytest.approx(87.5, abs=0.1)
    assert clock.progress(clock.elapsed_s) == pytest.approx(0.0, abs=0.01)
    clock.begin_fold(folds_left=1)
    assert clock.fit_left_s == pytest.approx(350, abs=0.1)


def test_time_of_an_earlier_part_counts() -> None:
    clock = clock_at(10.0, 100.0)
    clock.earlier_s = 40.0
    assert clock.elapsed_s == pytest.approx(50, abs=0.1)

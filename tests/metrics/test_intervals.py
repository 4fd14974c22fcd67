"""Intervals and tests of means, against what can be counted by hand or simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calco.metrics import intervals
from calco.metrics.intervals import mean_interval, mean_intervals, sign_flip_p

NAMES = [f"group {i:02d}" for i in range(100)]


# --- interval


def test_one_group_says_nothing_about_others() -> None:
    assert all(math.isnan(end) for end in mean_interval([0.5, 0.9], ["a", "a"], 100))
    assert all(math.isnan(end) for end in mean_interval([], [], 100))


def test_copies_of_an_image_add_no_certainty() -> None:
    values = np.random.default_rng(0).random(12).tolist()
    alone = mean_interval(values, NAMES[:12], 500)
    assert mean_interval(values * 5, NAMES[:12] * 5, 500) == pytest.approx(alone)
    low, high = mean_interval(values * 5, [f"{n} {k}" for k in range(5) for n in NAMES[:12]], 500)
    assert high - low < 0.7 * (alone[1] - alone[0])  # negative control: as if they were others


def test_order_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    values, groups = rng.random(50), rng.integers(9, size=50).astype(str)
    order = rng.permutation(50)
    assert mean_interval(values.tolist(), groups.tolist(), 200) == mean_interval(
        values[order].tolist(), groups[order].tolist(), 200
    )


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        # 40 groups of 1 to 5 images that share their group's luck
        sizes = rng.integers(1, 6, 40)
        values = np.repeat(rng.normal(0.0, 1.0, 40), sizes)
        groups = np.repeat(NAMES[:40], sizes)
        low, high = mean_interval(values.tolist(), groups.tolist(), 300, seed=trial)
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_columns_get_the_intervals_they_get_alone() -> None:
    columns = np.random.default_rng(3).random((4, 60)).tolist()
    groups = [NAMES[i % 23] for i in range(60)]
    together = mean_intervals(columns, groups, 700, seed=1)
    assert together == [mean_interval(column, groups, 700, seed=1) for column in columns]
    assert len(set(together)) == 4


def test_a_constant_column_has_no_width() -> None:
    for value in (0.1, 2 / 3, 1234.5678):
        low, high = mean_interval([value] * 30, [NAMES[i % 7] for i in range(30)], 500)
        assert low == high == pytest.approx(value, abs=1e-9)


def test_what_one_image_lacks_has_no_interval() -> None:
    lacking, full = mean_intervals([[0.1, math.nan, 0.3], [0.0, 1.0, 1.0]], ["a", "b", "b"], 200)
    assert lacking == (math.nan, math.nan)  # the NaN that records compare equal with
    assert full == (0.0, 1.0)


def test_groups_weigh_by_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # half of all resamples hold both groups, three images of 1 and one of 0
    monkeypatch.setattr(intervals, "INTERVAL", (0.3, 0.7))
    assert mean_interval([1, 1, 1, 0], ["a", "a", "a", "b"], 1000) == (0.75, 0.75)


# --- p-value


@pytest.mark.parametrize(
    ("differences", "groups", "expected"),
    [
        ([1.0, 1.0, 1.0], "abc", 2 / 8),  # +++ and ---
        ([1.0, 2.0], "ab", 2 / 4),
        ([1.0, -1.0], "ab", 1.0),
        ([0.0, 0.0], "ab", 1.0),
        ([1.0, 1.0], "aa", 1.0),  # one group: its sign is one coin
        ([1.0, 1.0, 1.0], "aab", 2 / 4),  # sums 3, 1, -1, -3
        ([-0.1, -0.1, -0.1, -0.1, -0.1], "abcde", 2 / 32),
    ],
)
def test_few_groups_are_counted_in_full(
    differences: list[float], groups: str, expected: float
) -> None:
    assert sign_flip_p(differences, list(groups), 1000) == pytest.approx(expected)


def test_nothing_to_compare() -> None:
    assert math.isnan(sign_flip_p([], [], 100))


def test_drawn_patterns_come_near_all_of_them() -> None:
    differences = np.random.default_rng(4).normal(0.4, 1.0, 12).tolist()
    exact = sign_flip_p(differences, NAMES[:12], 2**12)
    drawn = sign_flip_p(differences, NAMES[:12], 4000)
    assert exact not in (drawn, 0.0, 1.0)
    assert drawn == pytest.approx(exact, abs=0.03)


def test_equal_methods_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(5)
    p_values = [
        sign_flip_p(rng.normal(0, 1, 25).tolist(), NAMES[:25], 400, seed=i) for i in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09


def test_a_clear_difference_is_found() -> None:
    differences = np.random.default_rng(6).normal(0.5, 0.5, 40).tolist()
    assert sign_flip_p(differences, NAMES[:40], 999) == pytest.approx(0.001)

"""Early stopping by hand: every value is in the test."""

import math

import pytest

from calco.records import Epoch
from calco.training.history import Monitor


def epoch(number: int, dice: float = math.nan, loss: float = math.nan) -> Epoch:
    return Epoch(number, number * 10, 0.5, 0.5, loss, dice, 1e-3, float(number))


def test_best_follows_the_highest_dice() -> None:
    monitor = Monitor("dice")
    better = [monitor.update(epoch(i, dice=d)) for i, d in enumerate([0.5, 0.7, 0.6, 0.71], 1)]
    assert better == [True, True, False, True]
    assert (monitor.best, monitor.best_epoch) == (0.71, 4)


def test_best_follows_the_lowest_loss() -> None:
    monitor = Monitor("loss")
    better = [monitor.update(epoch(i, loss=v)) for i, v in enumerate([0.5, 0.7, 0.4], 1)]
    assert better == [True, False, True]
    assert monitor.best_epoch == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_becomes_best(bad: float) -> None:
    monitor = Monitor("dice")
    assert not monitor.update(epoch(1, dice=bad))
    assert monitor.best_epoch == 0
    assert monitor.update(epoch(2, dice=0.5))
    assert not monitor.update(epoch(3, dice=bad))
    assert monitor.update(epoch(4, dice=0.6))
    assert monitor.best_epoch == 4


def test_patience_counts_validations_without_min_delta() -> None:
    monitor = Monitor("dice", patience=2, min_delta=0.01)
    monitor.update(epoch(1, dice=0.500))
    monitor.update(epoch(2, dice=0.505))  # better, kept as best, yet too little to go on for
    assert monitor.best_epoch == 2
    assert not monitor.exhausted
    monitor.update(epoch(3, dice=0.509))  # 0.009 above the anchor
    assert monitor.exhausted


def test_small_steps_that_add_up_reset_patience() -> None:
    monitor = Monitor("dice", patience=3, min_delta=0.01)
    for number, dice in enumerate([0.500, 0.505, 0.511], 1):
        monitor.update(epoch(number, dice=dice))
    assert monitor.stale == 0


def test_without_patience_nothing_stops() -> None:
    monitor = Monitor("loss", patience=None)
    for number in range(1, 100):
        monitor.update(epoch(number, loss=1.0))
    assert not monitor.exhausted

"""Rules of giving up are told of trials as a sweep would tell them."""

from __future__ import annotations

import pytest
from optuna.pruners import MedianPruner, NopPruner

from replay_pruning import (
    PAGE,
    History,
    Outcome,
    page,
    read_sweeps,
    replay,
    replay_in_orders,
    rules_replayed,
)


def trial(dice: float, late_by: int = 0) -> History:
    """Ten epochs that lead straight to a Dice, or begin to some epochs later."""
    return History(dice, tuple(dice * max(0, n - late_by) / 10 for n in range(1, 11)))


def median() -> MedianPruner:
    return MedianPruner(n_startup_trials=1, n_warmup_steps=2)


def test_what_is_given_up_costs_its_epochs_so_far() -> None:
    found = replay([trial(0.8), trial(0.4), trial(0.9)], median())
    assert found.lost == 0.0
    assert found.share == pytest.approx((10 + 2 + 10) / 30)
    assert not found.met  # nothing lost, in too much time


def test_a_late_best_trial_is_lost() -> None:
    found = replay([trial(0.8), trial(0.9, late_by=5)], median())
    assert found.lost == pytest.approx(0.1)
    assert found.share == pytest.approx(12 / 20)


def test_without_a_rule_all_is_trained() -> None:
    assert replay([trial(0.8), trial(0.4)], NopPruner()) == Outcome(0.0, 1.0)


def test_in_every_order_the_first_stays_the_first() -> None:
    found = replay_in_orders([trial(0.8), trial(0.4), trial(0.6), trial(0.5)], median)
    assert {outcome.share for outcome in found} == {(10 + 3 * 2) / 40}
    assert {outcome.lost for outcome in found} == {0.0}


def test_each_rule_is_replayed_once() -> None:
    names = list(rules_replayed())
    assert names[0] == "**`--pruner halving`** best 1 of 2, at 2, 4, 8 tenths"
    assert sum("best 1 of 2, at 2, 4, 8 tenths" in name for name in names) == 1
    assert "best 1 of 3, at 3, 9 tenths" in names


@pytest.mark.slow
def test_the_page_is_what_the_trials_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_sweeps())

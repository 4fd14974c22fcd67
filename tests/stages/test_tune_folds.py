"""Clean-up of folds, and of further views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.stages.planted import mean_dice, planted

from calco.config import TuneConfig
from calco.records import Postprocess
from calco.stages.tune import looks_to_try, nested_dice, tune_postprocess, tune_viewed

ALL = TuneConfig()


# --- nested


def test_nested_tuning_is_plain_tuning_where_folds_agree() -> None:
    folds = [planted(8, seed=s, object_prob=0.4, n_spots=3) for s in range(3)]
    together = [m for fold in folds for m in fold]
    tuned = mean_dice(together, tune_postprocess(together, ALL))
    assert nested_dice(folds, ALL) == pytest.approx(tuned, abs=0.002)


def test_nested_tuning_shows_what_does_not_carry_over() -> None:
    # one fold needs a threshold below 0.3, which the other two know nothing of
    odd = planted(8, seed=1, object_prob=0.3)
    usual = [planted(8, seed=s, object_prob=0.95, ground_prob=0.6) for s in (2, 3)]
    nested = nested_dice([odd, *usual], ALL)
    on_odd = mean_dice(odd, tune_postprocess([*usual[0], *usual[1]], ALL))
    on_usual = [
        mean_dice(fold, tune_postprocess([*odd, *other], ALL))
        for fold, other in (usual, usual[::-1])
    ]
    assert on_odd < 0.1
    assert nested == pytest.approx(np.mean([on_odd, *on_usual]))


def test_a_single_fold_has_no_others() -> None:
    assert np.isnan(nested_dice([planted(4)], ALL))


# --- views


FLIPPED = Postprocess(flips=True)


def test_views_are_used_when_they_help() -> None:
    plain, viewed = planted(noise=0.3, object_prob=0.7), planted(noise=0.1, object_prob=0.7)
    before = tune_postprocess(plain, ALL)
    look = replace(FLIPPED, mean="logit", scales=(0.5,))
    tuned = tune_viewed((plain, before), viewed, look, ALL)
    assert tuned.look == look.look
    plainly = replace(tuned, flips=False, mean="prob", scales=(), note="")
    assert plainly == replace(tune_postprocess(viewed, ALL), note="")
    dice = mean_dice(viewed, tuned)
    assert tuned.note == f"{before.note}; with scales 0.5, logits averaged {dice:.3f}"


def test_views_are_not_used_when_they_gain_nothing() -> None:
    maps = planted(noise=0.1, object_prob=0.7)
    before = tune_postprocess(maps, ALL)
    tuned = tune_viewed((maps, before), maps, FLIPPED, ALL)
    assert replace(tuned, note="") == replace(before, note="")
    assert tuned.note.startswith(f"{before.note}; mirror images: ")
    assert tuned.note.endswith("not used")


def test_further_views_keep_what_was_won_before() -> None:
    plain, viewed = planted(noise=0.3, object_prob=0.7), planted(noise=0.1, object_prob=0.7)
    flipped = tune_viewed((plain, tune_postprocess(plain, ALL)), viewed, FLIPPED, ALL)
    turned = tune_viewed((viewed, flipped), viewed, replace(FLIPPED, turns=True), ALL)
    assert turned.look == FLIPPED.look
    assert "with mirror images" in turned.note
    assert turned.note.endswith("not used")


def test_what_is_tried_is_what_is_asked_for() -> None:
    every = TuneConfig(turns=True, scales=True)
    tried = [(look.flips, look.turns, look.scales) for look in looks_to_try(every)]
    assert tried == [(True, False, ()), (True, True, ()), (True, True, (0.8, 1.25))]
    assert [look.flips for look in looks_to_try(ALL)] == [True]
    alone = looks_to_try(TuneConfig(flips=False, scales=True))
    assert [(look.flips, look.scales) for look in alone] == [(False, (0.8, 1.25))]
    assert looks_to_try(TuneConfig(enabled=False, turns=True)) == ()

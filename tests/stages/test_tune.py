"""Clean-up is chosen on validation: found where it is known, left alone where it is not."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.stages.planted import discs, mean_dice, planted

from calco.config import TuneConfig
from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean, label_objects
from calco.records import Postprocess
from calco.stages import tune
from calco.stages.tune import tune_postprocess

ALL = TuneConfig()


class TestThreshold:
    def test_is_recovered_from_miscalibrated_maps(self) -> None:
        maps = planted(object_prob=0.2)
        tuned = tune_postprocess(maps, ALL)
        assert 0.05 < tuned.threshold < 0.17  # the middle between 0.02 and 0.2, noise apart
        assert mean_dice(maps, tuned) > 0.999
        assert mean_dice(maps, Postprocess()) == 0

    def test_is_recovered_when_the_ground_is_too_high(self) -> None:
        tuned = tune_postprocess(planted(ground_prob=0.7), ALL)
        assert 0.75 < tuned.threshold < 0.9

    def test_stays_at_a_half_when_the_maps_are_perfect(self) -> None:
        tuned = tune_postprocess(planted(object_prob=1, ground_prob=0, noise=0), ALL)
        assert (tuned.threshold, tuned.min_area_px, tuned.max_hole_px) == (0.5, 0, 0)

    def test_is_the_middle_of_the_plateau(self) -> None:
        # every threshold between 0.1 and 0.4 is perfect
        tuned = tune_postprocess(planted(object_prob=0.4, ground_prob=0.1, noise=0), ALL)
        assert tuned.threshold == pytest.approx(0.25, abs=0.01)

    def test_stays_at_a_half_when_nothing_is_gained(self) -> None:
        tuned = tune_postprocess(planted(object_prob=0.7, ground_prob=0.1, noise=0), ALL)
        assert tuned.threshold == 0.5

    def test_is_not_led_astray_by_one_image(self) -> None:
        few = planted(40, object_prob=0.6) + planted(1, seed=1, object_prob=0.04, noise=0)
        assert 0.1 < tune_postprocess(few, ALL).threshold < 0.55


def test_curve_is_the_score_at_every_threshold() -> None:
    maps = planted(6, object_prob=0.5, noise=0.2, empty_share=0.4, n_spots=2)
    curve = tune._threshold_curve(maps)
    for cut in (0, 1, 50, 127, 200, 253, 254):
        assert curve[cut] == pytest.approx(mean_dice(maps, Postprocess((cut + 0.5) / 255)))


def test_written_thresholds_cut_where_they_were_chosen() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    for cut in range(255):
        assert clean(levels, Postprocess(tune._threshold(cut))).sum() == 255 - cut


def test_gains_are_those_of_the_clean_up_itself() -> None:
    maps = planted(5, object_prob=0.6, noise=0.12, empty_share=0.4, n_spots=3)
    limits = np.array([0, 2, 5, 9, 10, 40])
    for m in maps:
        gains = tune._object_gains(m, np.array([100, 127]), limits)
        for column, cut in enumerate((100, 127)):
            base = mean_dice([m], Postprocess((cut + 0.5) / 255))
            for row, limit in enumerate(limits):
                params = Postprocess((cut + 0.5) / 255, min_area_px=int(limit))
                assert base + gains[row, column] == pytest.approx(mean_dice([m], params))


def test_peak_gains_are_those_of_the_clean_up_itself() -> None:
    maps = planted(5, object_prob=0.6, noise=0.12, empty_share=0.4, n_spots=3)
    for m in maps:
        gains = tune._peak_gains(m, np.array([100, 127]), min_area_px=4)
        for column, cut in enumerate((100, 127)):
            params = Postprocess((cut + 0.5) / 255, min_area_px=4)
            base = mean_dice([m], params)
            for row, peak in enumerate(tune.PEAKS):
                cleaner = replace(params, min_peak=tune._threshold(int(peak)) if peak else 0.0)
                assert base + gains[row, column] == pytest.approx(mean_dice([m], cleaner))


def test_hole_scores_are_those_of_the_clean_up_itself() -> None:
    maps = with_holes(planted(5, object_prob=0.6, noise=0.12, n_spots=3))
    limits = np.array([0, 1, 4, 8, 9, 10, 40])
    params = Postprocess(0.5, min_area_px=4)
    for m in maps:
        expected = [mean_dice([m], replace(params, max_hole_px=int(h))) for h in limits]
        assert tune._hole_scores(m, params, limits) == pytest.approx(expected)


class TestSmallObjects:
    def test_false_spots_on_mostly_empty_images_are_removed(self) -> None:
        maps = planted(60, empty_share=0.7, n_spots=2)
        tuned = tune_postprocess(maps, ALL)
        assert mean_dice(maps, Postprocess()) < 0.35  # one spot costs an empty image everything
        assert tuned.min_area_px > 9
        assert mean_dice(maps, tuned) > 0.99
        assert mean_dice(planted(60, seed=1, empty_share=0.7, n_spots=2), tuned) > 0.99

    def test_threshold_and_area_are_chosen_together(self) -> None:
        # spots outshine the objects: a threshold alone can only give up the objects
        maps = []
        for m in planted(40, object_prob=0.45, empty_share=0.7):
            levels = m.levels.copy()
            levels[40:43, 4:7] = 250
            maps.append(replace(m, levels=levels))
        tuned = tune_postprocess(maps, ALL)
        assert tuned.threshold < 0.45
        assert mean_dice(maps, tuned) > 0.99

    def test_true_small_objects_stay(self) -> None:
        maps = planted(60, empty_share=0.7, n_spots=2)
        areas = [label_objects(m.true)[1][1:] for m in maps]
        limit = tune_postprocess(maps, ALL).min_area_px
        assert np.mean(np.concatenate(areas) >= limit) >= 0.95

    def test_stay_when_truth_has_objects_as_small(self) -> None:
        maps = []
        for m in planted(30, n_spots=0):
            true = m.true.copy()
            true[2:4, 2:8:3] = True
            levels = np.where(true, 240, 5).astype(np.uint8)
            levels[90, 70] = 240  # a false pixel that is smaller than any object
            maps.append(ProbMap(m.id, m.group, levels, true))
        assert tune_postprocess(maps, ALL).min_area_px <= 2

    def test_are_left_alone_without_a_gain_worth_having(self) -> None:
        maps = planted(60)
        maps[0].levels[5:7, 5:7] = 240  # 4 false pixels in one image of 60
        assert tune_postprocess(maps, ALL).min_area_px == 0

    def test_are_left_alone_when_told_so(self) -> None:
        maps = planted(60, empty_share=0.7, n_spots=2)
        assert tune_postprocess(maps, TuneConfig(min_area=False)).min_area_px == 0

    def test_limit_is_unknown_when_nothing_is_true(self) -> None:
        maps = planted(10, empty_share=1.0, n_spots=2)
        assert tune_postprocess(maps, ALL).min_area_px == 0


class TestDoubtfulObjects:
    @staticmethod
    def mostly_empty(n: int = 60, seed: int = 0) -> list[ProbMap]:
        """Objects that peak in their middle; false ones are as large but never as sure."""
        maps = []
        for i, m in enumerate(planted(n, seed=seed, empty_share=0.7)):
            soft = cv2.distanceTransform(m.true.astype(np.uint8), cv2.DIST_L2, 5)  # (H, W)
            prob = np.where(m.true, 0.45 + 0.08 * soft, 0.02).clip(0, 0.98)
            false = np.zeros(m.true.shape, np.uint8)
            cv2.circle(false, (12, 12 + i % 40), 8, 1, -1)
            prob = np.where((false > 0) & ~m.true, np.maximum(prob, 0.7), prob)
            maps.append(replace(m, levels=np.rint(255 * prob).astype(np.uint8)))
        return maps

    def test_are_told_by_their_peak_where_size_cannot(self) -> None:
        maps = self.mostly_empty()
        tuned = tune_postprocess(maps, ALL)
        without = tune_postprocess(maps, TuneConfig(min_peak=False))
        assert 0.7 < tuned.min_peak < 0.97
        assert tuned.threshold < 0.7  # the objects keep their whole outline
        assert mean_dice(maps, tuned) > mean_dice(maps, without) + 0.05
        fresh = self.mostly_empty(seed=1)
        assert mean_dice(fresh, tuned) > mean_dice(fresh, without) + 0.05

    def test_stay_without_any(self) -> None:
        assert tune_postprocess(planted(40, object_prob=0.8), ALL).min_peak == 0

    def test_stay_when_nothing_is_true(self) -> None:
        assert tune_postprocess(planted(10, empty_share=1.0, n_spots=2), ALL).min_peak == 0

    def test_a_lucky_image_is_no_reason(self) -> None:
        maps = planted(60)
        maps[0] = replace(maps[0], levels=maps[0].levels.copy())
        maps[0].levels[2:30, 2:8] = 160  # one doubtful object in one of sixty images
        assert tune_postprocess(maps, TuneConfig(min_area=False)).min_peak == 0


def with_holes(maps: list[ProbMap]) -> list[ProbMap]:
    """Punch a 3 x 3 hole into the prediction of every object, at its centre."""
    punched = []
    for m in maps:
        levels = m.levels.copy()
        _, _, _, centres = cv2.connectedComponentsWithStats(m.true.astype(np.uint8))
        for col, row in np.rint(centres[1:]).astype(int):
            levels[row - 1 : row + 2, col - 1 : col + 2] = 3
        punched.append(replace(m, levels=levels))
    return punched


class TestHoles:
    def test_that_are_false_are_filled(self) -> None:
        maps = with_holes(planted())
        tuned = tune_postprocess(maps, ALL)
        assert tuned.max_hole_px >= 9
        assert mean_dice(maps, tuned) > mean_dice(maps, Postprocess()) + 0.005

    def test_that_are_true_stay_open(self) -> None:
        maps = [replace(m, true=m.levels > 127) for m in with_holes(planted())]
        assert tune_postprocess(maps, ALL).max_hole_px == 0

    def test_stay_open_when_told_so(self) -> None:
        assert (
            tune_postprocess(with_holes(planted()), TuneConfig(fill_holes=False)).max_hole_px == 0
        )


class TestNote:
    def test_says_the_source_and_the_gain(self) -> None:
        maps = planted(24, empty_share=0.5, n_spots=2)
        tuned = tune_postprocess(maps, ALL)
        before, after = mean_dice(maps, Postprocess()), mean_dice(maps, tuned)
        assert tuned.note == f"24 validation images: Dice {before:.3f} at 0.5 -> {after:.3f}"

    def test_says_when_nothing_better_was_found(self) -> None:
        tuned = tune_postprocess(planted(5, object_prob=1, ground_prob=0, noise=0), ALL)
        assert tuned == Postprocess(
            note="5 validation images: Dice 1.000 at 0.5, nothing better found"
        )

    def test_says_why_there_are_defaults(self) -> None:
        off = TuneConfig(enabled=False)
        assert tune_postprocess(planted(3), off) == Postprocess(note="defaults: tuning is off")
        assert tune_postprocess([], ALL) == Postprocess(note="defaults: no validation images")


@pytest.mark.parametrize("seed", range(4))
def test_never_scores_below_the_defaults_on_its_own_maps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = planted(
        12,
        seed=seed,
        object_prob=rng.uniform(0.2, 0.9),
        ground_prob=rng.uniform(0, 0.3),
        empty_share=0.3,
        n_spots=int(rng.integers(0, 3)),
        noise=0.15,
    )
    assert mean_dice(maps, tune_postprocess(maps, ALL)) >= mean_dice(maps, Postprocess())


def test_the_order_of_images_changes_nothing() -> None:
    maps = planted(20, object_prob=0.5, noise=0.1, empty_share=0.4, n_spots=2)
    assert tune_postprocess(maps[::-1], ALL) == tune_postprocess(maps, ALL)


def test_the_labels_of_other_images_change_nothing() -> None:
    # only the maps given are seen: there is no other way for a label to reach the choice
    maps, other = planted(12, object_prob=0.4), planted(12, seed=1)
    before = tune_postprocess(maps, ALL)
    for m in other:
        np.random.default_rng(0).shuffle(m.true)
    assert tune_postprocess(maps, ALL) == before


def test_noise_alone_gains_next_to_nothing_elsewhere() -> None:
    # calibrated noise has its optimum at 0.5: what tuning finds must not cost on fresh images
    maps = planted(12, object_prob=0.75, ground_prob=0.25, noise=0.12)
    tuned = tune_postprocess(maps, ALL)
    fresh = planted(60, seed=9, object_prob=0.75, ground_prob=0.25, noise=0.12)
    assert mean_dice(fresh, tuned) >= mean_dice(fresh, Postprocess()) - 0.001


def test_very_many_pixels_are_searched_at_fewer_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = planted(20, empty_share=0.7, n_spots=2)
    assert len(tune._cuts_to_label(maps, best=100)) == 9
    monkeypatch.setattr(tune, "LABELLED_PX", 1)
    assert len(tune._cuts_to_label(maps, best=100)) == 4
    assert mean_dice(maps, tune_postprocess(maps, ALL)) > 0.99


@pytest.mark.slow
def test_82_images_of_512_px_take_seconds() -> None:
    rng = np.random.default_rng(0)
    maps = []
    for i in range(82):
        true = discs(rng, (512, 512), 15, (6, 26))
        soft = cv2.GaussianBlur(true.astype(np.float32), (0, 0), 3)
        prob = (soft + rng.normal(0, 0.04, true.shape)).clip(0, 1)
        maps.append(ProbMap(str(i), str(i), np.rint(prob * 255).astype(np.uint8), true > 0))
    start = time.process_time()
    tune_postprocess(maps, ALL)
    assert time.process_time() - start < 15  # about 2 s on a free core

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.metrics import intervals, overlap
from calco.metrics.intervals import mean_interval
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import BoundaryScore, Counts, ImageScore, ObjectCounts

EMPTY = np.zeros((20, 20), bool)


def group_interval(
    images: Sequence[ImageScore], bootstrap: int, seed: int = 0
) -> tuple[float, float]:
    """The interval behind the headline."""
    return mean_interval([i.dice for i in images], [i.group for i in images], bootstrap, seed)


def strip(start: int, stop: int) -> NDArray[np.bool_]:
    """A mask whose pixels are numbered along the rows; [start, stop) are foreground."""
    mask = np.zeros(400, bool)
    mask[start:stop] = True
    return mask.reshape(20, 20)


def score(pred: NDArray[np.bool_], true: NDArray[np.bool_], name: str = "a") -> ImageScore:
    return score_image(name, name, "test", pred, true)


def shapes(pred: NDArray[np.bool_], true: NDArray[np.bool_], name: str = "a") -> ImageScore:
    return score_shapes(score(pred, true, name), pred, true, tolerance_px=2)


def random_scores(n: int, n_groups: int, seed: int = 0) -> list[ImageScore]:
    rng = np.random.default_rng(seed)
    scores = []
    for i in range(n):
        pred, true = rng.random((2, 8, 8)) < rng.choice([0.0, 0.2, 0.6], size=(2, 1, 1))
        pixels = score_image(f"i{i}", f"g{i % n_groups}", "test", pred, true)
        scores.append(score_shapes(pixels, pred, true, tolerance_px=1))
    return scores


@pytest.mark.parametrize(
    ("pred", "true", "dice", "iou"),
    [
        (EMPTY, EMPTY, 1.0, 1.0),
        (strip(0, 5), EMPTY, 0.0, 0.0),
        (strip(0, 1), EMPTY, 0.0, 0.0),  # a single false pixel costs the whole image
        (EMPTY, strip(0, 5), 0.0, 0.0),
        (strip(0, 5), strip(0, 5), 1.0, 1.0),
        (strip(0, 5), strip(5, 10), 0.0, 0.0),
        (strip(0, 10), strip(5, 15), 10 / 20, 5 / 15),
        (strip(0, 400), strip(0, 400), 1.0, 1.0),
        (strip(0, 400), strip(0, 100), 200 / 500, 100 / 400),
        (strip(7, 8), strip(7, 8), 1.0, 1.0),
        (strip(0, 3), strip(0, 4), 6 / 7, 3 / 4),
        (strip(0, 4), strip(0, 3), 6 / 7, 3 / 4),
    ],
)
def test_golden_pairs(
    pred: NDArray[np.bool_], true: NDArray[np.bool_], dice: float, iou: float
) -> None:
    image = score(pred, true)
    assert (image.dice, image.iou) == pytest.approx((dice, iou), abs=1e-15)


def test_precision_and_recall_of_an_image_stay_undefined() -> None:
    assert math.isnan(score(EMPTY, strip(0, 5)).precision)
    assert score(EMPTY, strip(0, 5)).recall == 0
    assert math.isnan(score(strip(0, 5), EMPTY).recall)
    assert score(strip(0, 5), EMPTY).precision == 0


def test_a_row_says_whose_it_is() -> None:
    image = score_image("a/01", "a", "validation", strip(0, 3), strip(1, 4))
    assert (image.id, image.group, image.subset) == ("a/01", "a", "validation")
    assert image.counts == Counts(tp=2, fp=1, fn=1, tn=396)


class TestOneSetOfPredictionsFiveDiceValues:
    """Four predictions, five published conventions; a Dice without its convention is no number.

    object:  90 true, 90 predicted, 80 in common -> 2 * 80 / 180 = 8/9
    spot:    4 predicted on an empty image       -> 0
    missed:  4 true, none predicted              -> 0
    nothing: empty on empty                      -> 1, 0 or NaN by convention
    """

    images = (
        score(strip(10, 100), strip(0, 90), "object"),
        score(strip(0, 4), EMPTY, "spot"),
        score(EMPTY, strip(0, 4), "missed"),
        score(EMPTY, EMPTY, "nothing"),
    )

    def test_ours(self) -> None:
        summary = summarise(self.images, bootstrap=100)
        assert summary.dice_mean == pytest.approx((8 / 9 + 0 + 0 + 1) / 4)  # 0.472
        assert summary.dice_global == pytest.approx(160 / (160 + 14 + 14))  # 0.851
        assert summary.dice_nonempty_mean == pytest.approx((8 / 9 + 0) / 2)
        assert summary.false_positive_rate_on_empty == pytest.approx(1 / 2)
        assert (summary.n_images, summary.n_empty, summary.n_groups) == (4, 2, 4)

    def test_pooled_ratios(self) -> None:
        summary = summarise(self.images, bootstrap=100)
        assert summary.iou_global == pytest.approx(80 / (80 + 14 + 14))
        assert summary.precision == pytest.approx(80 / 94)
        assert summary.recall == pytest.approx(80 / 94)
        assert summary.iou_mean == pytest.approx((80 / 100 + 1) / 4)

    def test_the_other_conventions_differ(self) -> None:
        raw = [overlap.dice(image.counts) for image in self.images]
        batches = [self.images[0].counts + self.images[1].counts, self.images[2].counts]
        others = {
            "batches of two": float(np.mean([overlap.dice(b) for b in batches])),
            "NaN skipped": float(np.nanmean(raw)),
            "empty = 0": float(np.mean(np.nan_to_num(raw))),
        }
        assert {k: round(v, 3) for k, v in others.items()} == {
            "batches of two": 0.435,
            "NaN skipped": 0.296,
            "empty = 0": 0.222,
        }
        summary = summarise(self.images, bootstrap=100)
        assert (round(summary.dice_mean, 3), round(summary.dice_global, 3)) == (0.472, 0.851)


class TestOutlinesAndObjects:
    """The same four kinds of image; 20 x 20, so that the diagonal is 28.28.

    bar:     row 0 true, row 1 predicted -> every distance 1, nothing in common
    spot:    4 predicted on an empty image
    missed:  4 true, none predicted
    nothing: empty on empty
    """

    images = (
        shapes(strip(20, 40), strip(0, 20), "bar"),
        shapes(strip(0, 4), EMPTY, "spot"),
        shapes(EMPTY, strip(0, 4), "missed"),
        shapes(EMPTY, EMPTY, "nothing"),
    )

    def test_a_row_keeps_its_pixels_and_gains_the_rest(self) -> None:
        bar = self.images[0]
        assert (bar.id, bar.counts, bar.dice) == ("bar", Counts(0, 20, 20, 360), 0)
        assert bar.boundary == BoundaryScore(1, 1, 1, 0)
        assert bar.objects == ObjectCounts(1, 1, (0,) * 10)
        assert (bar.object_f1_50, bar.object_f1_75, bar.dsb2018, bar.tgs) == (0, 0, 0, 0)

    def test_two_empty_masks_are_perfect(self) -> None:
        nothing = self.images[3]
        assert nothing.boundary == BoundaryScore(0, 0, 1, 1)
        ratios = nothing.object_f1_50, nothing.object_f1_75, nothing.dsb2018, nothing.tgs
        assert ratios == (1, 1, 1, 1)

    def test_means_drop_no_image(self) -> None:
        summary = summarise(self.images, bootstrap=100)
        diagonal = math.sqrt(800)
        assert summary.hd95_px_mean == pytest.approx((1 + 2 * diagonal + 0) / 4)
        assert summary.assd_px_mean == pytest.approx((1 + 2 * diagonal + 0) / 4)
        assert summary.nsd_mean == (1 + 0 + 0 + 1) / 4
        assert summary.boundary_iou_mean == 1 / 4
        assert summary.object_f1_50_mean == summary.object_f1_75_mean == 1 / 4
        assert summary.dsb2018_mean == summary.tgs_mean == 1 / 4
        assert summary.n_one_empty == 2
        assert (summary.n_objects_pred, summary.n_objects_true) == (2, 2)
        assert summary.object_f1_50_global == 0

    def test_objects_are_pooled_before_their_f1(self) -> None:
        three = strip(0, 2) | strip(40, 42) | strip(80, 82)
        images = [shapes(three, three, "all found"), shapes(EMPTY, strip(0, 2), "missed")]
        summary = summarise(images, bootstrap=100)
        assert summary.object_f1_50_global == pytest.approx(2 * 3 / (3 + 4))
        assert summary.object_f1_50_mean == pytest.approx((1 + 0) / 2)

    def test_pixels_alone_leave_the_rest_undefined(self) -> None:
        alone = score(strip(0, 3), strip(0, 3), "alone")
        for images in ([alone], [alone, *self.images]):  # one image without is enough
            summary = summarise(images, bootstrap=100)
            assert math.isnan(summary.hd95_px_mean)
            assert math.isnan(summary.dsb2018_mean)
            assert summary.n_objects_true is None
            assert math.isnan(summary.object_f1_50_global)
            assert math.isfinite(summary.dice_mean)
            assert summary.n_one_empty == (0 if len(images) == 1 else 2)

    def test_no_object_at_all_has_no_pooled_f1(self) -> None:
        summary = summarise([self.images[3]], bootstrap=100)
        assert math.isnan(summary.object_f1_50_global)
        assert summary.object_f1_50_mean == 1

    def test_the_two_limits_of_f1_are_apart(self) -> None:
        image = shapes(strip(0, 15), strip(0, 20), "IoU of 0.75")  # exceeds 0.70, not 0.75
        assert (image.object_f1_50, image.object_f1_75) == (1, 0)

    def test_false_alarms_and_misses_both_count_as_one_empty(self) -> None:
        spot, missed, nothing = self.images[1:]
        for n_one_empty, images in ((2, [spot, spot, nothing]), (3, [missed, missed, missed])):
            assert summarise(images, bootstrap=100).n_one_empty == n_one_empty

    def test_the_tolerance_reaches_the_nsd(self) -> None:
        pred, true = strip(40, 60), strip(0, 20)  # 2 rows apart
        within = score_shapes(score(pred, true), pred, true, tolerance_px=2)
        beyond = score_shapes(score(pred, true), pred, true, tolerance_px=1.9)
        assert (within.boundary.nsd, beyond.boundary.nsd) == (1, 0)


def test_the_order_of_images_changes_nothing() -> None:
    images = random_scores(60, n_groups=9)
    expected = summarise(images, bootstrap=300)
    for seed in range(5):
        shuffled = random.Random(seed).sample(images, len(images))
        assert summarise(shuffled, bootstrap=300) == expected


def test_scoring_in_shards_gives_the_same_rows() -> None:
    images = random_scores(60, n_groups=9)
    merged = images[40:] + images[:13] + images[13:40]
    assert summarise(merged, bootstrap=300) == summarise(images, bootstrap=300)


def test_duplicating_every_image_within_its_group_changes_no_score() -> None:
    images = random_scores(40, n_groups=7)
    once, twice = summarise(images, bootstrap=300), summarise(images * 2, bootstrap=300)
    assert twice.n_images == 2 * once.n_images
    assert twice.dice_mean == pytest.approx(once.dice_mean)
    assert twice.dice_global == pytest.approx(once.dice_global)
    assert twice.dice_ci95 == pytest.approx(once.dice_ci95)


def test_undefined_means_are_nan_not_zero() -> None:
    only_empty = summarise([score(EMPTY, EMPTY)], bootstrap=100)
    assert math.isnan(only_empty.dice_nonempty_mean)
    assert math.isnan(only_empty.dice_global)
    assert only_empty.false_positive_rate_on_empty == 0
    only_full = summarise([score(strip(0, 3), strip(0, 3))], bootstrap=100)
    assert math.isnan(only_full.false_positive_rate_on_empty)


def test_no_image_is_an_error() -> None:
    with pytest.raises(CalcoError, match="no image to summarise"):
        summarise([], bootstrap=100)


class TestInterval:
    def test_is_deterministic_and_seeded(self) -> None:
        images = random_scores(50, n_groups=50)
        assert group_interval(images, 500) == group_interval(images, 500)
        assert group_interval(images, 500, seed=1) != group_interval(images, 500, seed=0)

    def test_contains_the_mean(self) -> None:
        images = random_scores(80, n_groups=80)
        low, high = group_interval(images, 2000)
        assert low < summarise(images, 100).dice_mean < high

    def test_is_undefined_for_one_group(self) -> None:
        low, high = group_interval(random_scores(10, n_groups=1), 200)
        assert math.isnan(low)
        assert math.isnan(high)

    def test_has_no_width_when_all_groups_are_alike(self) -> None:
        images = [score(strip(0, 10), strip(5, 15), f"i{i}") for i in range(6)]
        assert group_interval(images, 200) == (0.5, 0.5)

    def test_two_groups_by_hand(self) -> None:
        # resamples of {0, 1}: mean 0 with chance 1/4, 1/2 with 1/2, 1 with 1/4
        images = [score(EMPTY, strip(0, 1), "missed"), score(EMPTY, EMPTY, "fine")]
        assert group_interval(images, 2000) == (0.0, 1.0)

    def test_agrees_with_the_normal_interval_of_many_images(self) -> None:
        images = self._with_dice(np.random.default_rng(0).beta(8, 2, size=400))
        low, high = group_interval(images, 4000)
        dice = np.array([image.dice for image in images])
        error = dice.std(ddof=1) / math.sqrt(len(dice))
        assert (low, high) == pytest.approx(
            (dice.mean() - 1.96 * error, dice.mean() + 1.96 * error), abs=0.002
        )

    def test_widens_when_images_come_in_alike_groups(self) -> None:
        dice = np.repeat(np.random.default_rng(0).beta(8, 2, size=20), 20)
        alone = self._with_dice(dice)
        grouped = [replace(s, group=f"g{i // 20}") for i, s in enumerate(alone)]
        ends = [group_interval(images, 2000) for images in (alone, grouped)]
        width = [high - low for low, high in ends]
        # 20 groups of 20 equal images hold the information of 20 images: sqrt(20) = 4.5 x wider
        assert width[1] / width[0] == pytest.approx(math.sqrt(20), rel=0.15)

    def test_covers_the_true_mean_about_95_times_in_100(self) -> None:
        rng = np.random.default_rng(3)
        hits = 0
        for _ in range(200):
            low, high = group_interval(self._with_dice(rng.beta(8, 2, size=60)), 300)
            hits += low <= 0.8 <= high
        assert 178 <= hits <= 199

    def test_does_not_depend_on_the_size_of_its_blocks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = random_scores(30, n_groups=30)
        expected = group_interval(images, 500)
        monkeypatch.setattr(intervals, "BLOCK", 100)
        assert group_interval(images, 500) == expected

    def test_every_mean_over_all_images_has_one(self) -> None:
        images = random_scores(40, n_groups=40)
        summary = asdict(summarise(images, 300))
        means = {n.removesuffix("_mean") for n in summary if n.endswith("_mean")}
        sure = {n.removesuffix("_ci95") for n in summary if n.endswith("_ci95")}
        assert means - sure == {"dice_nonempty"}  # over some of the images
        assert sure < means
        for name in sure:
            low, high = summary[f"{name}_ci95"]
            assert low < summary[f"{name}_mean"] < high, name

    def test_is_that_of_the_dice_when_the_score_is_the_dice(self) -> None:
        images = [
            replace(i, boundary=replace(i.boundary, nsd=i.dice), tgs=1.0)
            for i in random_scores(40, n_groups=13)
        ]
        summary = summarise(images, 300)
        assert summary.nsd_ci95 == summary.dice_ci95 == group_interval(images, 300)
        assert summary.tgs_ci95 == (1.0, 1.0)

    def test_no_score_has_one_for_one_group_or_what_was_not_measured(self) -> None:
        alone = asdict(summarise(random_scores(10, n_groups=1), 100))
        pixels = summarise([score(strip(0, 3), strip(0, i), f"i{i}") for i in (3, 4)], 100)
        ends = [v for name, v in alone.items() if name.endswith("_ci95")]
        assert len(ends) == 10
        assert all(math.isnan(end) for pair in [*ends, pixels.nsd_ci95] for end in pair)
        assert pixels.iou_ci95 == (0.75, 1.0)

    @staticmethod
    def _with_dice(values: Sequence[float] | NDArray[np.float64]) -> list[ImageScore]:
        base = score(EMPTY, EMPTY)
        return [
            replace(base, id=f"i{i}", group=f"i{i}", dice=float(value))
            for i, value in enumerate(values)
        ]

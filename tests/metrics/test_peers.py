"""The scores beside those of trusted libraries: where they agree, and where the others are wrong.

A test whose name says what a library does wrong fails on the day that it is mended: then its
warning in docs/explanation/scores.md goes too.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import surface_distance
import torch
from monai.metrics import (
    HausdorffDistanceMetric,
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_calibration_error,
    binary_precision_recall_curve,
)

from calco.metrics.boundary import score_boundary
from calco.metrics.calibration import calibrate, count_levels
from calco.metrics.counts import count

# MONAI calls itself by a name that it gives up
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")

Mask = NDArray[np.bool_]
EMPTY = np.zeros((40, 60), bool)


def as_batch(*masks: Mask) -> torch.Tensor:
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))  # (B, 1, H, W)


def discs(seed: int, size: tuple[int, int] = (40, 60)) -> Mask:
    """Draw one to four discs, which may reach over the border."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(int(rng.integers(1, 5))):
        row, col, radius = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(1, 12)
        mask |= (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    return mask


def disc(radius: float) -> Mask:
    rows, cols = np.mgrid[:120, :120]
    near: Mask = (rows - 60) ** 2 + (cols - 60) ** 2 <= radius**2
    return near


class TestMonai:
    pairs = tuple((discs(2 * i), discs(2 * i + 1)) for i in range(15))
    preds, trues = (as_batch(*masks) for masks in zip(*pairs, strict=True))

    def test_distances_agree_on_discs(self) -> None:
        hd95 = compute_hausdorff_distance(self.preds, self.trues, True, percentile=95)
        assd = compute_average_surface_distance(self.preds, self.trues, True, symmetric=True)
        ours = [score_boundary(pred, true, 2) for pred, true in self.pairs]
        # single precision there
        assert [s.hd95_px for s in ours] == pytest.approx(hd95[:, 0].tolist(), rel=1e-6)
        assert [s.assd_px for s in ours] == pytest.approx(assd[:, 0].tolist(), rel=1e-6)

    @pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
    def test_nsd_agrees_on_discs(self, tolerance: float) -> None:
        nsd = compute_surface_dice(self.preds, self.trues, [tolerance], include_background=True)
        ours = [score_boundary(pred, true, tolerance).nsd for pred, true in self.pairs]
        assert ours == pytest.approx(nsd[:, 0].tolist(), rel=1e-6)

    @pytest.mark.filterwarnings("ignore:the (ground truth|prediction):UserWarning")
    def test_its_hd95_improves_when_an_image_is_missed(self) -> None:
        """https://github.com/Project-MONAI/MONAI/issues/9095"""
        true, poor = discs(0), discs(1)
        metric = HausdorffDistanceMetric(include_background=True, percentile=95)
        metric(as_batch(poor, true), as_batch(true, true))
        found = metric.aggregate().item()
        metric.reset()
        metric(as_batch(EMPTY, true), as_batch(true, true))
        missed = metric.aggregate().item()
        assert found > 1
        assert missed == 0  # NaN for the missed image, then left out
        ours = [score_boundary(pred, true, 2).hd95_px for pred in (poor, EMPTY)]
        assert ours[1] == math.hypot(40, 60) > ours[0]

    @pytest.mark.filterwarnings("ignore:the (ground truth|prediction):UserWarning")
    def test_it_has_no_value_for_two_empty_masks(self) -> None:
        empty = as_batch(EMPTY)
        assert torch.isnan(compute_hausdorff_distance(empty, empty, True, percentile=95)).all()
        assert torch.isnan(compute_surface_dice(empty, empty, [2], include_background=True)).all()
        score = score_boundary(EMPTY, EMPTY, 2)
        assert (score.hd95_px, score.nsd) == (0, 1)


class TestSurfaceDistance:
    """It measures along a contour between the pixels, so that figures are alike, not equal."""

    @staticmethod
    def distances(pred: Mask, true: Mask) -> dict[str, NDArray[np.float64]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of SciPy's old names in there
            found: dict[str, NDArray[np.float64]] = surface_distance.compute_surface_distances(
                true, pred, spacing_mm=(1, 1)
            )
        return found

    @pytest.mark.parametrize(("pred", "true"), [(34, 30), (30, 34), (20, 40), (31, 30)])
    def test_agrees_on_large_round_objects(self, pred: float, true: float) -> None:
        theirs = self.distances(disc(pred), disc(true))
        ours = score_boundary(disc(pred), disc(true), 2)
        hd95 = surface_distance.compute_robust_hausdorff(theirs, 95)
        there, back = surface_distance.compute_average_surface_distance(theirs)
        assert ours.hd95_px == pytest.approx(hd95, abs=0.5)
        assert ours.assd_px == pytest.approx((there + back) / 2, abs=0.3)
        assert abs(pred - true) - 0.5 < ours.hd95_px < abs(pred - true) + 1

    @pytest.mark.parametrize("tolerance", [2, 6])
    def test_the_nsd_of_its_authors_agrees_away_from_the_tolerance(self, tolerance: float) -> None:
        theirs = self.distances(disc(34), disc(30))  # 4 apart: right at 6, wrong at 2
        nsd = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert nsd == pytest.approx(float(tolerance > 4), abs=1e-9)
        assert score_boundary(disc(34), disc(30), tolerance).nsd == nsd

    def test_a_missed_image_is_infinite_there(self) -> None:
        theirs = self.distances(EMPTY, discs(0))
        assert surface_distance.compute_robust_hausdorff(theirs, 95) == math.inf
        assert surface_distance.compute_surface_dice_at_tolerance(theirs, 2) == 0
        assert score_boundary(EMPTY, discs(0), 2).hd95_px == math.hypot(40, 60)


class TestTorchMetrics:
    @staticmethod
    def noisy(seed: int) -> tuple[NDArray[np.uint8], Mask]:
        rng = np.random.default_rng(seed)
        true = discs(seed)
        levels = (127 + 90 * (true - 0.5) + rng.normal(0, 60, true.shape)).clip(0, 254)
        # where a bin begins, single precision decides between two bins
        whole = levels.astype(np.uint8)
        return np.where(whole % 17 == 0, whole + np.uint8(1), whole), true

    @pytest.mark.parametrize("seed", range(5))
    def test_agrees_on_noisy_discs(self, seed: int) -> None:
        levels, true = self.noisy(seed)
        probs, target = torch.from_numpy(levels / np.float32(255)), torch.from_numpy(true).long()
        ours = calibrate(count_levels(levels, true))
        ece = binary_calibration_error(probs.ravel(), target.ravel(), n_bins=15, norm="l1")
        assert ours.ece == pytest.approx(ece.item(), abs=1e-5)
        average = binary_average_precision(probs.ravel(), target.ravel())
        assert ours.average_precision == pytest.approx(average.item(), abs=1e-5)
        precision, recall, _ = binary_precision_recall_curve(probs.ravel(), target.ravel())
        # from the lowest threshold up there, with a last point that no threshold has
        points = [(p.precision, p.recall) for p in reversed(ours.curve)]
        theirs = list(zip(precision[:-1].tolist(), recall[:-1].tolist(), strict=True))
        assert np.array(points) == pytest.approx(np.array(theirs), abs=1e-6)

    def test_probability_1_has_a_bin_of_its_own_there(self) -> None:
        """Its 16th of 15 bins: a wrong pixel at 1 is not set off by a right one at 0.98."""
        levels, true = np.array([[255, 250]], np.uint8), np.array([[False, True]])
        theirs = binary_calibration_error(
            torch.tensor([255 / 255, 250 / 255]), torch.tensor([0, 1]), n_bins=15, norm="l1"
        )
        assert theirs.item() == pytest.approx((1 + 5 / 255) / 2, abs=1e-6)
        mean = (255 + 250) / 510
        assert calibrate(count_levels(levels, true)).ece == pytest.approx(mean - 0.5)


def test_smp_thresholds_the_truth_too() -> None:
    """A perfect prediction in logits, cut at a logit of 2, finds nothing."""
    true = discs(0)
    logits = torch.from_numpy(np.where(true, 5.0, -5.0)[None, None])
    target = torch.from_numpy(true[None, None].astype(np.int64))
    tp, _, _, _ = smp.metrics.get_stats(logits, target, mode="binary", threshold=2.0)
    assert tp.item() == 0
    assert count(logits[0, 0].numpy() > 2, true).tp == np.count_nonzero(true)

"""From images to a headline: one policy for empty masks, means over images, group bootstrap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.metrics import overlap
from calco.metrics.boundary import score_boundary
from calco.metrics.counts import count
from calco.metrics.doubt import rank_correlation
from calco.metrics.intervals import mean_interval
from calco.metrics.objects import dsb2018, match_objects, object_f1, tgs
from calco.records import Counts, ImageScore, ObjectCounts, SubsetSummary


def score_image(
    id: str,
    group: str,
    subset: str,
    pred: NDArray[np.bool_],
    true: NDArray[np.bool_],
) -> ImageScore:
    """Score the pixels of one predicted mask at the truth's resolution.

    Dice and IoU are 1 when both masks are empty and 0 when one is; precision and recall stay NaN
    when nothing was predicted or nothing is true.

    Args:
        id: Of the sample.
        group: Unit that the bootstrap resamples.
        subset: Part it belongs to.
        pred: (H, W) bool.
        true: (H, W) bool.

    Raises:
        CalcoError: When the shapes differ.
    """
    counts = count(pred, true)
    return ImageScore(
        id=id,
        group=group,
        subset=subset,
        counts=counts,
        dice=_one_if_nan(overlap.dice(counts)),
        iou=_one_if_nan(overlap.iou(counts)),
        precision=overlap.precision(counts),
        recall=overlap.recall(counts),
    )


def score_shapes(
    image: ImageScore, pred: NDArray[np.bool_], true: NDArray[np.bool_], tolerance_px: float
) -> ImageScore:
    """Add the scores of outlines and objects to those of the pixels.

    Tuning and validation during training go without: they need the Dice of many masks, fast.
    Object ratios are 1 when both masks are empty and 0 when one is.

    Args:
        image: Of ``score_image``.
        pred: (H, W) bool, the mask it scored.
        true: (H, W) bool.
        tolerance_px: Distance within which the NSD calls an outline right.

    Raises:
        CalcoError: When the shapes differ.
    """
    objects = match_objects(pred, true)
    return replace(
        image,
        boundary=score_boundary(pred, true, tolerance_px),
        objects=objects,
        object_f1_50=_one_if_nan(object_f1(objects, 50)),
        object_f1_75=_one_if_nan(object_f1(objects, 75)),
        dsb2018=dsb2018(objects),
        tgs=tgs(image.counts),
    )


def summarise(images: Sequence[ImageScore], bootstrap: int, seed: int = 0) -> SubsetSummary:
    """Summarise the images of one subset; the order of the images does not matter.

    Args:
        images: At least one.
        bootstrap: Resamples behind the interval of the mean Dice.
        seed: Of the resampling.

    Returns:
        Means over images, ratios of pooled counts, and the interval; see ``SubsetSummary``. Means
        of outlines and objects are NaN unless ``score_shapes`` measured every image.

    Raises:
        CalcoError: When there is no image: a mean over nothing would be a made-up number.
    """
    if not images:
        raise CalcoError(
            Problem("SCORE_NONE", "no image to summarise", do="give a subset with labelled images")
        )
    pooled = sum((image.counts for image in images), Counts(0, 0, 0))
    empty = [image for image in images if not _has_truth(image)]
    summary = SubsetSummary(
        n_images=len(images),
        n_empty=len(empty),
        n_groups=len({image.group for image in images}),
        dice_mean=_mean(image.dice for image in images),
        dice_ci95=mean_interval(
            [image.dice for image in images], [image.group for image in images], bootstrap, seed
        ),
        iou_mean=_mean(image.iou for image in images),
        dice_global=overlap.dice(pooled),
        iou_global=overlap.iou(pooled),
        precision=overlap.precision(pooled),
        recall=overlap.recall(pooled),
        dice_nonempty_mean=_mean(image.dice for image in images if _has_truth(image)),
        false_positive_rate_on_empty=_mean(float(image.counts.fp > 0) for image in empty),
    )
    return _add_shapes(summary, images)


def _add_shapes(summary: SubsetSummary, images: Sequence[ImageScore]) -> SubsetSummary:
    objects = _pool([image.objects for image in images])
    return replace(
        summary,
        n_one_empty=sum(_has_truth(image) != _has_prediction(image) for image in images),
        hd95_px_mean=_mean(image.boundary.hd95_px for image in images),
        assd_px_mean=_mean(image.boundary.assd_px for image in images),
        nsd_mean=_mean(image.boundary.nsd for image in images),
        boundary_iou_mean=_mean(image.boundary.boundary_iou for image in images),
        n_objects_pred=objects.n_pred if objects else None,
        n_objects_true=objects.n_true if objects else None,
        object_f1_50_mean=_mean(image.object_f1_50 for image in images),
        object_f1_75_mean=_mean(image.object_f1_75 for image in images),
        object_f1_50_global=object_f1(objects, 50) if objects else math.nan,
        dsb2018_mean=_mean(image.dsb2018 for image in images),
        tgs_mean=_mean(image.tgs for image in images),
        estimate_correlation=rank_correlation(
            [image.estimated_dice for image in images], [image.dice for image in images]
        ),
    )


def _pool(counts: Sequence[ObjectCounts | None]) -> ObjectCounts | None:
    """Add up the objects of all images; None when those of one were not counted."""
    counted = [c for c in counts if c is not None]
    return reduce(add, counted) if len(counted) == len(counts) else None


def _has_truth(image: ImageScore) -> bool:
    return image.counts.tp + image.counts.fn > 0


def _has_prediction(image: ImageScore) -> bool:
    return image.counts.tp + image.counts.fp > 0


def _mean(values: Iterable[float]) -> float:
    # fsum rounds once, so that the mean is the same in every order
    numbers = list(values)
    mean = math.fsum(numbers) / len(numbers) if numbers else math.nan
    return math.nan if math.isnan(mean) else mean  # the one NaN that records compare equal with


def _one_if_nan(score: float) -> float:
    return 1.0 if math.isnan(score) else score

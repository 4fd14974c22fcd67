"""From images to a headline: one policy for empty masks, means over images, group bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add, attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.metrics import overlap
from calco.metrics.boundary import score_boundary
from calco.metrics.counts import count
from calco.metrics.doubt import rank_correlation
from calco.metrics.intervals import mean_intervals
from calco.metrics.objects import dsb2018, match_objects, object_f1, tgs
from calco.records import Counts, ImageScore, ObjectCounts, SubsetSummary

_MEANS: Mapping[str, Callable[[ImageScore], float]] = {
    "dice": attrgetter("dice"),
    "iou": attrgetter("iou"),
    "hd95_px": attrgetter("boundary.hd95_px"),
    "assd_px": attrgetter("boundary.assd_px"),
    "nsd": attrgetter("boundary.nsd"),
    "boundary_iou": attrgetter("boundary.boundary_iou"),
    "object_f1_50": attrgetter("object_f1_50"),
    "object_f1_75": attrgetter("object_f1_75"),
    "dsb2018": attrgetter("dsb2018"),
    "tgs": attrgetter("tgs"),
}
"""Scores that are averaged over images, as the summary calls them; each mean has its interval."""


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
        bootstrap: Resamples behind the intervals of the means.
        seed: Of the resampling.

    Returns:
        Means over images with their intervals, and ratios of pooled counts; see
        ``SubsetSummary``. Means of outlines and objects are NaN unless ``score_shapes`` measured
        every image.

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
        dice_global=overlap.dice(pooled),
        iou_global=overlap.iou(pooled),
        precision=overlap.precision(pooled),
        recall=overlap.recall(pooled),
        dice_nonempty_mean=_mean(image.dice for image in images if _has_truth(image)),
        false_positive_rate_on_empty=_mean(float(image.counts.fp > 0) for image in empty),
        **_means(images, bootstrap, seed),
    )
    return _add_objects(summary, images)


def _means(images: Sequence[ImageScore], bootstrap: int, seed: int) -> dict[str, Any]:
    """Return each mean over all images and its interval, as fields of the summary."""
    columns = {name: [value_of(image) for image in images] for name, value_of in _MEANS.items()}
    groups = [image.group for image in images]
    intervals = mean_intervals(list(columns.values()), groups, bootstrap, seed)
    fields: dict[str, Any] = {}
    for (name, values), interval in zip(columns.items(), intervals, strict=True):
        fields |= {f"{name}_mean": _mean(values), f"{name}_ci95": interval}
    return fields


def _add_objects(summary: SubsetSummary, images: Sequence[ImageScore]) -> SubsetSummary:
    objects = _pool([image.objects for image in images])
    return replace(
        summary,
        n_one_empty=sum(_has_truth(image) != _has_prediction(image) for image in images),
        n_objects_pred=objects.n_pred if objects else None,
        n_objects_true=objects.n_true if objects else None,
        object_f1_50_global=object_f1(objects, 50) if objects else math.nan,
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

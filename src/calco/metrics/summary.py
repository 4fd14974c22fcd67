"""From images to a headline: one policy for empty masks, means over images, group bootstrap."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.metrics import overlap
from calco.metrics.counts import count
from calco.records import Counts, ImageScore, SubsetSummary

INTERVAL = (0.025, 0.975)
# resampled group numbers held at once; bounds memory for data sets with very many groups
BLOCK = 1_000_000


def score_image(
    id: str,
    group: str,
    subset: str,
    pred: NDArray[np.bool_],
    true: NDArray[np.bool_],
) -> ImageScore:
    """Score one predicted mask at the truth's resolution.

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


def summarise(images: Sequence[ImageScore], bootstrap: int, seed: int = 0) -> SubsetSummary:
    """Summarise the images of one subset; the order of the images does not matter.

    Args:
        images: At least one.
        bootstrap: Resamples behind the interval of the mean Dice.
        seed: Of the resampling.

    Returns:
        Means over images, ratios of pooled counts, and the interval; see ``SubsetSummary``.

    Raises:
        CalcoError: When there is no image: a mean over nothing would be a made-up number.
    """
    if not images:
        raise CalcoError(
            Problem("SCORE_NONE", "no image to summarise", do="give a subset with labelled images")
        )
    pooled = sum((image.counts for image in images), Counts(0, 0, 0))
    empty = [image for image in images if not _has_truth(image)]
    return SubsetSummary(
        n_images=len(images),
        n_empty=len(empty),
        n_groups=len({image.group for image in images}),
        dice_mean=_mean(image.dice for image in images),
        dice_ci95=group_interval(images, bootstrap, seed),
        iou_mean=_mean(image.iou for image in images),
        dice_global=overlap.dice(pooled),
        iou_global=overlap.iou(pooled),
        precision=overlap.precision(pooled),
        recall=overlap.recall(pooled),
        dice_nonempty_mean=_mean(image.dice for image in images if _has_truth(image)),
        false_positive_rate_on_empty=_mean(float(image.counts.fp > 0) for image in empty),
    )


def group_interval(
    images: Sequence[ImageScore], bootstrap: int, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean Dice, whole groups resampled.

    Images of one group (patient, slide, scene) are alike, so resampling images would promise more
    than the data can keep. A resample's mean weighs its images equally, as the headline does.

    Args:
        images: At least one.
        bootstrap: Number of resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end; (NaN, NaN) with a single group, which says nothing about others.

    Reference:
        Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8,
        https://doi.org/10.1017/CBO9780511802843
    """
    by_group: dict[str, list[float]] = defaultdict(list)
    for image in images:
        by_group[image.group].append(image.dice)
    if len(by_group) < 2:
        return math.nan, math.nan
    names = sorted(by_group)
    totals = np.array([math.fsum(by_group[name]) for name in names])  # (groups,)
    sizes = np.array([len(by_group[name]) for name in names])  # (groups,)
    means = _resampled_means(totals, sizes, bootstrap, np.random.default_rng(seed))
    low, high = np.quantile(means, INTERVAL)
    return float(low), float(high)


def _resampled_means(
    totals: NDArray[np.float64],
    sizes: NDArray[np.int64],
    bootstrap: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    n_groups = len(totals)
    rows = max(1, BLOCK // n_groups)
    means = []
    for start in range(0, bootstrap, rows):
        shape = (min(rows, bootstrap - start), n_groups)
        drawn = rng.integers(n_groups, size=shape)  # (resamples, groups)
        means.append(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)  # (bootstrap,)


def _has_truth(image: ImageScore) -> bool:
    return image.counts.tp + image.counts.fn > 0


def _mean(values: Iterable[float]) -> float:
    # fsum rounds once, so that the mean is the same in every order
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _one_if_nan(score: float) -> float:
    return 1.0 if math.isnan(score) else score

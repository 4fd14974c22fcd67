"""Clean-up settings, pixel counts and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from calco.records.tables import html_table

OBJECT_IOU_PERCENT = tuple(range(50, 100, 5))  # whole numbers, so that IoU compare exactly
MAX_SCALES = 8
Mean = Literal["prob", "logit"]
MEANS: tuple[Mean, ...] = ("prob", "logit")
UNKNOWN = (math.nan, math.nan)  # interval of what was not measured, or of one group

SCORE_DEFINITION = (
    "dice_mean: per-image Dice at original resolution, averaged over images; both masks empty = 1,"
    " one empty = 0; *_ci95: 95 % intervals of the means, groups resampled."
    " hd95_px_mean, assd_px_mean: distances between the outlines in pixels (larger of the two"
    " directed 95 % percentiles; mean over both outlines); both empty = 0, one empty = the image"
    " diagonal."
    " nsd_mean: share of both outlines within nsd_tolerance_px of the other; boundary_iou_mean: IoU"
    " of the bands inside both outlines, 2 % of the diagonal wide; both empty = 1, one empty = 0."
    " object_f1_50, object_f1_75: F1 of 8-connected objects matched when their IoU exceeds 0.50 or"
    " 0.75; dsb2018_mean: tp / (tp + fp + fn) of objects, averaged over the IoU limits 0.50, 0.55"
    " to 0.95; tgs_mean: share of these limits that the image's IoU exceeds; both empty = 1, one"
    " empty = 0."
    " ece, average_precision: of the probabilities of all pixels, before clean-up."
    " estimate_correlation: Spearman's, over images, of the Dice estimated without the truth with"
    " the Dice measured"
)


@dataclass(frozen=True)
class Postprocess:
    """From probability to mask.

    Attributes:
        threshold: Probabilities above it are foreground.
        min_area_px: Smaller 8-connected objects are removed.
        max_hole_px: Smaller 4-connected holes are filled; 0 fills none.
        min_peak: Objects whose probability nowhere exceeds it are removed; 0 removes none.
        flips: Probabilities are averaged over the image and its three mirror images.
        note: Where the values come from.
        turns: And over all of them turned by quarters: eight views with flips.
        scales: And over all of these at further scales of the image, each in [0.25, 4].
        mean: What is averaged, over views and over networks: probabilities or their logits.

    Raises:
        ValueError: When scales are such that nobody could have chosen them.
    """

    threshold: float = 0.5
    min_area_px: int = 0
    max_hole_px: int = 0
    min_peak: float = 0.0
    flips: bool = False
    note: str = "defaults"
    turns: bool = False
    scales: tuple[float, ...] = ()
    mean: Mean = "prob"

    def __post_init__(self) -> None:
        if len(self.scales) > MAX_SCALES or not all(0.25 <= scale <= 4 for scale in self.scales):
            raise ValueError(f"scales {self.scales}; expected up to {MAX_SCALES}, in [0.25, 4]")

    @property
    def look(self) -> Postprocess:
        """What probabilities depend on; how they become a mask is left out."""
        return Postprocess(
            flips=self.flips, turns=self.turns, scales=self.scales, mean=self.mean, note=""
        )


@dataclass(frozen=True)
class Counts:
    """Pixel counts of one predicted mask against its truth."""

    tp: int
    fp: int
    fn: int
    tn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )


@dataclass(frozen=True)
class BoundaryScore:
    """How far the outlines of one predicted mask and its truth lie apart.

    Two empty masks count as a perfect pair. When one is empty, both distances are the diagonal of
    the image and both shares 0.

    Attributes:
        hd95_px: Larger of the two directed 95 % percentiles of the distances; 0 is perfect.
        assd_px: Mean distance over the pixels of both outlines; 0 is perfect.
        nsd: Share of both outlines within a tolerance of the other, in [0, 1].
        boundary_iou: IoU of the bands inside both outlines, in [0, 1].
    """

    hd95_px: float = math.nan
    assd_px: float = math.nan
    nsd: float = math.nan
    boundary_iou: float = math.nan


@dataclass(frozen=True)
class ObjectCounts:
    """Objects of one predicted mask matched with those of its truth.

    Attributes:
        n_pred: Objects predicted.
        n_true: True objects.
        tp: Matches whose IoU exceeds each limit of ``OBJECT_IOU_PERCENT``.
    """

    n_pred: int
    n_true: int
    tp: tuple[int, ...]

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        tp = tuple(a + b for a, b in zip(self.tp, other.tp, strict=True))
        return ObjectCounts(self.n_pred + other.n_pred, self.n_true + other.n_true, tp)


@dataclass(frozen=True)
class ImageScore:
    """One row of scores.csv; what was not measured, as in rows of older runs, is NaN or None."""

    id: str
    group: str
    subset: str
    counts: Counts
    dice: float
    iou: float
    precision: float
    recall: float
    boundary: BoundaryScore = BoundaryScore()
    objects: ObjectCounts | None = None
    object_f1_50: float = math.nan
    object_f1_75: float = math.nan
    dsb2018: float = math.nan
    tgs: float = math.nan
    estimated_dice: float = math.nan


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels of similar probability.

    Attributes:
        low: Smallest probability of the bin.
        high: Where the next one begins.
        n_pixels: Pixels in it.
        mean_prob: What was predicted for them on average; NaN without any.
        foreground_fraction: Share of them that is foreground; NaN without any.
    """

    low: float
    high: float
    n_pixels: int
    mean_prob: float
    foreground_fraction: float


@dataclass(frozen=True)
class CurvePoint:
    """Precision and recall of the pixels at or above one of the 256 probability levels."""

    level: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Calibration:
    """What the probabilities of one subset are worth; pixels of all images, before any clean-up.

    Attributes:
        n_pixels: Pixels counted.
        n_foreground: Thereof foreground.
        ece: Expected calibration error, the mean gap between probability and share of foreground.
        average_precision: Area below the precision-recall curve; NaN without foreground.
        bins: Of equal width, from probability 0 to 1.
        curve: From the highest level that occurs down to the lowest.
    """

    n_pixels: int
    n_foreground: int
    ece: float
    average_precision: float
    bins: tuple[ReliabilityBin, ...]
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class SubsetSummary:
    """The headline of one subset.

    Per-image means count a pair of empty masks as perfect and a pair with one empty mask as the
    worst: 0, or the image diagonal for a distance. Precision and recall are pooled over pixels.
    The 95 % intervals of the means resample groups; NaN with one group. What was not measured, as
    in older runs, is NaN or None.

    Attributes:
        n_images: Images scored.
        n_empty: Thereof with an empty truth.
        n_groups: Groups resampled for the intervals.
        dice_mean: Mean per-image Dice.
        dice_ci95: Its interval.
        iou_mean: Mean per-image IoU.
        iou_ci95: Its interval.
        dice_global: Dice of the pooled counts; NaN when nothing was there or predicted.
        iou_global: IoU of the pooled counts.
        precision: Pooled.
        recall: Pooled.
        dice_nonempty_mean: Mean Dice over images with foreground; NaN without any.
        false_positive_rate_on_empty: Share of empty images in which anything was predicted.
        n_one_empty: Images in which the truth or the prediction is empty, but not both.
        hd95_px_mean: Mean per-image HD95.
        hd95_px_ci95: Its interval.
        assd_px_mean: Mean per-image ASSD.
        assd_px_ci95: Its interval.
        nsd_mean: Mean per-image NSD.
        nsd_ci95: Its interval.
        nsd_tolerance_px: Distance within which it calls an outline right.
        boundary_iou_mean: Mean per-image boundary IoU.
        boundary_iou_ci95: Its interval.
        n_objects_pred: Objects predicted, in all images.
        n_objects_true: True objects, in all images.
        object_f1_50_mean: Mean per-image F1 of objects matched above an IoU of 0.50.
        object_f1_50_ci95: Its interval.
        object_f1_75_mean: The same above 0.75.
        object_f1_75_ci95: Its interval.
        object_f1_50_global: F1 of the pooled objects; NaN when there is none.
        dsb2018_mean: Mean per-image score of the 2018 Data Science Bowl.
        dsb2018_ci95: Its interval.
        tgs_mean: Mean per-image score of the TGS salt competition.
        tgs_ci95: Its interval.
        estimate_correlation: Spearman's, of the estimated with the true Dice of the images.
        ece: Expected calibration error of all pixels; NaN when masks alone were scored.
        average_precision: Of all pixels; likewise.
    """

    n_images: int
    n_empty: int
    n_groups: int
    dice_mean: float
    dice_ci95: tuple[float, float]
    iou_mean: float
    dice_global: float
    iou_global: float
    precision: float
    recall: float
    dice_nonempty_mean: float
    false_positive_rate_on_empty: float
    iou_ci95: tuple[float, float] = UNKNOWN
    n_one_empty: int | None = None
    hd95_px_mean: float = math.nan
    hd95_px_ci95: tuple[float, float] = UNKNOWN
    assd_px_mean: float = math.nan
    assd_px_ci95: tuple[float, float] = UNKNOWN
    nsd_mean: float = math.nan
    nsd_ci95: tuple[float, float] = UNKNOWN
    nsd_tolerance_px: float = math.nan
    boundary_iou_mean: float = math.nan
    boundary_iou_ci95: tuple[float, float] = UNKNOWN
    n_objects_pred: int | None = None
    n_objects_true: int | None = None
    object_f1_50_mean: float = math.nan
    object_f1_50_ci95: tuple[float, float] = UNKNOWN
    object_f1_75_mean: float = math.nan
    object_f1_75_ci95: tuple[float, float] = UNKNOWN
    object_f1_50_global: float = math.nan
    dsb2018_mean: float = math.nan
    dsb2018_ci95: tuple[float, float] = UNKNOWN
    tgs_mean: float = math.nan
    tgs_ci95: tuple[float, float] = UNKNOWN
    estimate_correlation: float = math.nan
    ece: float = math.nan
    average_precision: float = math.nan


@dataclass(frozen=True)
class Scores:
    """Every image's score and one summary per subset.

    Attributes:
        images: One per image.
        summaries: Per subset.
        calibrations: Per subset whose probabilities are known.
    """

    images: tuple[ImageScore, ...]
    summaries: Mapping[str, SubsetSummary]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return html_table(
            [
                (
                    name,
                    f"{s.dice_mean:.4f}",
                    f"{s.dice_ci95[0]:.4f} to {s.dice_ci95[1]:.4f}",
                    f"{s.iou_mean:.4f}",
                    s.n_images,
                    s.n_empty,
                )
                for name, s in self.summaries.items()
            ],
            header=("subset", "Dice (mean)", "95 % interval", "IoU", "images", "empty"),
        )


@dataclass(frozen=True)
class Reference:
    """What scores are compared with.

    Attributes:
        otsu_dice: Mean test Dice of an Otsu threshold, the baseline to beat.
        nested_dice: Mean validation Dice when each fold is cleaned up as tuned on the others; what
            it is below the tuned one is the optimism of tuning. NaN without folds.
    """

    otsu_dice: float
    nested_dice: float = math.nan


@dataclass(frozen=True)
class Leak:
    """What a split that ignores groups and look-alikes would have made of the headline.

    Attributes:
        n_together: Images that share a group with another one.
        grouped_dice: Mean test Dice with groups kept together, as the run has it.
        random_dice: The same when they are divided at random, so that the model has seen the like.
    """

    n_together: int
    grouped_dice: float
    random_dice: float

"""Clean-up settings, pixel counts and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calco.records.tables import html_table


@dataclass(frozen=True)
class Postprocess:
    """From probability to mask.

    Attributes:
        threshold: Probabilities above it are foreground.
        min_area_px: Smaller 8-connected objects are removed.
        max_hole_px: Smaller 4-connected holes are filled; 0 fills none.
        note: Where the values come from.
    """

    threshold: float = 0.5
    min_area_px: int = 0
    max_hole_px: int = 0
    note: str = "defaults"


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
class ImageScore:
    """One row of scores.csv."""

    id: str
    group: str
    subset: str
    counts: Counts
    dice: float
    iou: float
    precision: float
    recall: float


@dataclass(frozen=True)
class SubsetSummary:
    """The headline of one subset.

    Per-image means count a pair of empty masks as 1 and a pair with one empty mask as 0; precision
    and recall are pooled over pixels.

    Attributes:
        n_images: Images scored.
        n_empty: Thereof with an empty truth.
        n_groups: Groups resampled for the interval.
        dice_mean: Mean per-image Dice.
        dice_ci95: Its 95 % interval, groups resampled.
        iou_mean: Mean per-image IoU.
        dice_global: Dice of the pooled counts; NaN when nothing was there or predicted.
        iou_global: IoU of the pooled counts.
        precision: Pooled.
        recall: Pooled.
        dice_nonempty_mean: Mean Dice over images with foreground; NaN without any.
        false_positive_rate_on_empty: Share of empty images in which anything was predicted.
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


@dataclass(frozen=True)
class Scores:
    """Every image's score and one summary per subset."""

    images: tuple[ImageScore, ...]
    summaries: Mapping[str, SubsetSummary]

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
class Prediction:
    """One row of a prediction manifest.

    Attributes:
        id: Relative path without its extension; the written mask's name.
        source: Image file.
        status: ``done`` or ``failed``.
        foreground_fraction: NaN when failed.
        seconds: Wall time of the image.
        message: What failed.
    """

    id: str
    source: Path
    status: Literal["done", "failed"]
    foreground_fraction: float
    seconds: float
    message: str = ""

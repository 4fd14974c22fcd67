"""What a model says of single images: masks it doubts, masks it wants, masks it made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple


class Box(NamedTuple):
    """A rectangle of pixels: its first row and column, and its size."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class LabelSuspicion:
    """A mask that is probably wrong.

    Attributes:
        id: Sample.
        kind: ``missed object``, ``extra object``, ``shifted`` or ``swapped``: the strongest sign.
        score: All signs together, in units of what the model's own errors make of them.
        dice: Of the model's mask with it.
        estimated_dice: What the model itself expects.
        detail: What speaks against the mask.
        box: Where; None when it is all of the mask.
    """

    id: str
    kind: str
    score: float
    dice: float
    estimated_dice: float
    detail: str
    box: Box | None = None


@dataclass(frozen=True)
class Suggestion:
    """An unlabelled image that is worth labelling.

    Attributes:
        rank: From 1, the most useful.
        id: Relative path without its extension.
        source: Image file.
        estimated_dice: What its mask would probably get.
        likeness: Correlation with the most alike image of a better rank, in [0, 1].
    """

    rank: int
    id: str
    source: Path
    estimated_dice: float
    likeness: float


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
        estimated_dice: What the mask would probably get, without its truth; NaN when failed.
        ending: Of the mask file: ``.png``, or ``.tif`` or ``.zarr`` of a large image.
    """

    id: str
    source: Path
    status: Literal["done", "failed"]
    foreground_fraction: float
    seconds: float
    message: str = ""
    estimated_dice: float = math.nan
    ending: str = ".png"

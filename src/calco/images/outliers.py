"""Single images and masks that differ from the rest of their set in one figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calco.errors import Problem
from calco.records.data import SampleFacts
from calco.wording import counted, name_some

MIN_FACTS = 20
"""Samples below which it is not known what is usual."""
ODD = 5.0
"""Robust standard deviations from the median, on a logarithmic scale, from which a file is odd."""
COMMON = 0.05
"""Share of files above which they are another kind of image and no oddities."""


@dataclass(frozen=True)
class _Figure:
    """Something to compare.

    Attributes:
        code: Of the problem.
        name: For people.
        value: The figure as people read it; NaN where it has none.
        scaled: The same on a scale on which equal distances are equally odd.
        spread: Smallest standard deviation assumed on that scale, so that nothing of a very even
            set is odd that nobody would see.
    """

    code: str
    name: str
    value: Callable[[SampleFacts], float]
    scaled: Callable[[float], float]
    spread: float


def _object_px(facts: SampleFacts) -> float:
    if facts.n_objects < 1:
        return math.nan
    return facts.foreground_fraction * facts.height * facts.width / facts.n_objects


def _not_trivial(share: float) -> float:
    return share if 0 < share < 1 else math.nan


_OF_IMAGES = (
    _Figure("IMG_BRIGHTNESS_OUTLIER", "brightness", lambda f: f.mean, math.log1p, 0.1),
    _Figure("IMG_CONTRAST_OUTLIER", "contrast", lambda f: f.contrast, math.log1p, 0.1),
)
_OF_MASKS = (
    _Figure(
        "MASK_SHARE_OUTLIER",
        "foreground share",
        lambda f: _not_trivial(f.foreground_fraction),
        lambda share: math.log(share / (1 - share)),
        0.25,
    ),
    _Figure(
        "MASK_COUNT_OUTLIER",
        "number of objects",
        lambda f: f.n_objects if f.n_objects > 0 else math.nan,
        math.log,
        0.25,
    ),
    _Figure("MASK_OBJECT_SIZE_OUTLIER", "mean object size in pixels", _object_px, math.log, 0.25),
)


def odd_images(facts: Sequence[SampleFacts]) -> list[Problem]:
    """Name the images that are far darker, brighter, flatter or harsher than the others."""
    varied = [f for f in facts if f.low < f.high]  # blank ones are named as such
    return [problem for figure in _OF_IMAGES if (problem := _outliers(varied, figure))]


def odd_masks(facts: Sequence[SampleFacts]) -> list[Problem]:
    """Name the masks with far more, fewer, larger or smaller objects than the others."""
    return [problem for figure in _OF_MASKS if (problem := _outliers(facts, figure))]


def _outliers(facts: Sequence[SampleFacts], figure: _Figure) -> Problem | None:
    measured = [(f.id, value) for f in facts if not math.isnan(value := figure.value(f))]
    if len(measured) < MIN_FACTS:
        return None
    scaled = np.array([figure.scaled(value) for _, value in measured])  # (n,)
    away = np.abs(scaled - np.median(scaled))
    # 1.4826 makes the median deviation of a normal distribution its standard deviation
    oddness = away / max(1.4826 * float(np.median(away)), figure.spread)
    odd = [i for i in np.argsort(-oddness, kind="stable") if oddness[i] > ODD]
    if not odd or len(odd) > max(1, COMMON * len(measured)):
        return None
    low, high = np.quantile([value for _, value in measured], (0.05, 0.95))
    return Problem(
        figure.code,
        f"{counted(len(odd), 'file')} with an unusual {figure.name}",
        got=name_some(f"{measured[i][0]} ({measured[i][1]:.3g})" for i in odd),
        expected=f"{low:.3g} to {high:.3g}, as nine of ten have",
        do="look at them",
        severity="note",
        ids=tuple(measured[i][0] for i in odd),
    )

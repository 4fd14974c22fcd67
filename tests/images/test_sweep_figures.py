"""Figures of sweeps are drawn whatever trials hold."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from calco.images.sweep_figures import draw_importance, draw_parallel, draw_trials
from calco.records import Epoch, Sweep, SweepSpec, SweepTrial


def history(dice: float) -> tuple[Epoch, ...]:
    not_validated = Epoch(1, 9, 0.5, dice / 2, math.nan, math.nan, 0.1, 4.0)
    later = (Epoch(n, 9 * n, 0.5 / n, dice, 0.4 / n, dice, 0.1, 4.0 * n) for n in (2, 3))
    return (not_validated, *later)


def sweep(*params: dict[str, object], each_s: float | None = 20.0) -> Sweep:
    spec = SweepSpec("", "", {}, len(params), each_s, "median", 0, "")
    trials = [
        SweepTrial(i, "complete", p, 0.5 + i / 10, history(0.5 + i / 10))  # type: ignore[arg-type]
        for i, p in enumerate(params)
    ]
    return Sweep("s", spec, (*trials, SweepTrial(len(trials), "waiting")))


def ink(png: bytes) -> float:
    """Return the share of pixels that are not paper."""
    return float((np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 250).mean())


@pytest.mark.parametrize(
    "values",
    [
        [1e-4, 1e-2, 1e-3],
        [8, 16, 8],
        ["dice", "bce", "dice"],
        [None, 16, 32],
        [True, False, True],
        [7],
    ],
    ids=str,
)
def test_any_kind_of_value_is_drawn(values: list[object]) -> None:
    found = sweep(*({"fit.x": value} for value in values))
    assert ink(draw_trials(found, "fit.x")) > 0.005
    assert ink(draw_parallel(found, ["fit.x"])) > 0.005


def test_colours_follow_the_setting_and_bytes_the_trials() -> None:
    found = sweep({"a.x": 1, "a.y": 3}, {"a.x": 2, "a.y": 3}, each_s=None)
    assert draw_trials(found, "a.x") == draw_trials(found, "a.x")
    assert draw_trials(found, "a.x") != draw_trials(found, "a.y")


def test_a_longer_bar_means_more() -> None:
    few, many = ({"fit.x": s, "fit.y": 1 - s} for s in (0.5, 0.9))
    assert draw_importance(few) != draw_importance(many)

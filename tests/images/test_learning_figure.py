from __future__ import annotations

import math

import pytest

from calco.images.learning_figure import draw_learning
from calco.records import LearningCurve, LearningPoint

NAN = math.nan
POINTS = (LearningPoint(12, (0.80, 0.82), 0.81), LearningPoint(24, (0.84,), 0.835))


def curve(ci95: tuple[float, float], gain: float = 0.01) -> LearningCurve:
    return LearningCurve(POINTS, gain, ci95, 12, 20.0)


@pytest.mark.parametrize("ci95", [(-0.01, 0.03), (NAN, NAN), (-1.0, 1.0)])
def test_any_curve_can_be_drawn(ci95: tuple[float, float]) -> None:
    data = draw_learning(curve(ci95))
    assert data.startswith(b"\x89PNG")
    assert len(data) < 100_000


def test_without_a_band_none_is_drawn() -> None:
    assert draw_learning(curve((NAN, NAN))) != draw_learning(curve((-0.835, -0.835)))


def test_a_band_ends_where_dice_ends() -> None:
    assert draw_learning(curve((-0.01, 0.9))) == draw_learning(curve((-0.01, 0.165)))
    assert draw_learning(curve((-0.01, 0.9))) != draw_learning(curve((-0.01, 0.1)))


def test_the_forecast_is_drawn() -> None:
    assert draw_learning(curve((-0.01, 0.03))) != draw_learning(curve((-0.01, 0.03), gain=0.02))

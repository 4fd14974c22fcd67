"""The figure of what more labels would give."""

from __future__ import annotations

import math

from calco.images.figures import (
    FAINT,
    FONT_PT,
    INK,
    VALIDATION,
    add_note,
    blank_axes,
    blank_figure,
    style_axes,
    to_png,
)
from calco.records import LearningCurve

TICK_RATIO = 0.85  # sizes closer than that would have their numbers run into each other


def draw_learning(curve: LearningCurve, paper: str = "white") -> bytes:
    """Draw validation Dice over the number of training images, and where twice as many lead.

    Args:
        curve: Its trainings are dots, its fit a line; the forecast is dotted, its band upright.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(5.2, 2.5, paper)
    axes = blank_axes(figure, right=0.16)
    style_axes(axes, "Validation Dice")
    sizes = [point.n_images for point in curve.points]
    fitted = [point.fitted_dice for point in curve.points]
    axes.plot(sizes, fitted, color=VALIDATION, lw=1.8)
    for point in curve.points:
        axes.plot([point.n_images] * len(point.dices), point.dices, "o", ms=4, color=VALIDATION)
    ahead = [sizes[-1], 2 * sizes[-1]]
    axes.plot(ahead, [fitted[-1], curve.forecast_dice], color=VALIDATION, lw=1.8, ls=":")
    axes.plot(ahead[1], curve.forecast_dice, "o", ms=8, mfc="none", mec=INK, zorder=5)
    if all(map(math.isfinite, curve.ci95)):
        band = [min(1.0, max(0.0, fitted[-1] + end)) for end in curve.ci95]
        axes.plot([ahead[1], ahead[1]], band, color=FAINT, lw=1.2)
    axes.set_xscale("log", base=2)
    ticks = [ahead[1]]
    for size in sizes[::-1]:
        if size <= TICK_RATIO * ticks[-1]:
            ticks.append(size)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training images", fontsize=FONT_PT)
    add_note(axes, "● training    ◯ forecast    │ 95 % band")
    return to_png(figure)

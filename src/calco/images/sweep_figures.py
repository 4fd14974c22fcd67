"""Figures of a sweep: curves of all trials by a setting, parallel coordinates, importance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

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
from calco.records import Sweep, SweepTrial
from calco.records.sweep import short_name

Color = tuple[float, float, float, float]

PANELS = (
    ("train_loss", "Training loss"),
    ("validation_loss", "Validation loss"),
    ("train_dice", "Training Dice"),
    ("validation_dice", "Validation Dice"),
)
MAX_NAMED = 8  # values in a legend; of a range the ends and what lies between
MAP = colormaps["viridis"]
MAP_ENDS = (0.05, 0.88)  # its brightest colours vanish on paper
LOG_RATIO = 20.0  # of positive values, from which a scale is logarithmic
LOSS_QUANTILE = 0.98  # what lies above is cut off: first steps would hide all others


def draw_trials(sweep: Sweep, key: str, paper: str = "white") -> bytes:
    """Draw loss and Dice, of training and of validation, of all trials over their time.

    Args:
        sweep: Trials that were given up end early and are dotted.
        key: Setting whose value gives a line its colour.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    trials = [t for t in sweep.trials if t.history and key in t.params]
    scale = _Scale([t.params[key] for t in trials])
    by_time = sweep.spec.each_s is not None
    figure = blank_figure(8.6, 5.4, paper)
    for number, (name, title) in enumerate(PANELS):
        row, column = divmod(number, 2)
        axes = figure.add_axes((0.06 + 0.43 * column, 0.58 - 0.5 * row, 0.36, 0.34))
        style_axes(axes, title)
        _plot_trials(axes, trials, name, by_time, [scale.color(t.params[key]) for t in trials])
    legend = figure.add_axes((0.87, 0.08, 0.12, 0.84))
    legend.set_axis_off()
    legend.text(0, 1.0, short_name(key), fontsize=FONT_PT + 1, color=INK, va="top")
    for number, value in enumerate(scale.named()):
        height = 0.93 - 0.07 * number
        legend.plot([0, 0.18], [height] * 2, color=scale.color(value), lw=2.5)
        legend.text(0.26, height, _word(value), fontsize=FONT_PT, color=FAINT, va="center")
    legend.set_xlim(0, 1)
    legend.set_ylim(0, 1)
    return to_png(figure)


def draw_parallel(sweep: Sweep, keys: Sequence[str], paper: str = "white") -> bytes:
    """Draw each trial as a line through the values of its settings to its validation Dice.

    Args:
        sweep: Trials that were given up are dotted.
        keys: Settings, from left to right.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    trials = [t for t in sweep.trials if math.isfinite(t.dice) and t.params]
    figure = blank_figure(max(5.2, 1.25 * (len(keys) + 1)), 3.6, paper)
    axes = blank_axes(figure, right=0.5)
    axes.set_axis_off()
    scales = {key: _Scale([t.params[key] for t in trials if key in t.params]) for key in keys}
    dice = _Scale([t.dice for t in trials])
    for place, key in enumerate([*keys, "validation Dice"]):
        scale = scales.get(key, dice)
        axes.plot([place, place], [0, 1], color=FAINT, lw=1)
        for value in scale.ticks():
            height = scale.share(value)
            axes.plot([place - 0.03, place], [height] * 2, color=FAINT, lw=1)
            axes.text(
                place - 0.06,
                height,
                _word(value),
                fontsize=6.5,
                color=FAINT,
                ha="right",
                va="center",
            )
        name = short_name(key) if key in scales else key
        axes.text(place, 1.07, name, fontsize=FONT_PT, color=INK, ha="center")
    best = sweep.best
    for trial in sorted(trials, key=lambda t: t.dice):
        heights = [scales[key].share(trial.params[key]) for key in keys]
        is_best = trial is best
        axes.plot(
            range(len(keys) + 1),
            [*heights, dice.share(trial.dice)],
            color=INK if is_best else dice.color(trial.dice),
            lw=2.4 if is_best else 1.2,
            ls=":" if trial.state == "pruned" else "-",
            alpha=1.0 if is_best else 0.85,
        )
    axes.set_xlim(-0.35, len(keys) + 0.2)
    axes.set_ylim(-0.05, 1.12)
    if best is not None:
        axes.text(
            len(keys), -0.1, "━ best    ┈ given up", fontsize=FONT_PT, color=FAINT, ha="right"
        )
    return to_png(figure)


def draw_importance(importance: Mapping[str, float], paper: str = "white") -> bytes:
    """Draw the share of each setting in what makes trials good, the largest on top.

    Args:
        importance: Shares by setting, summing to 1.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    names = sorted(importance, key=lambda key: importance[key])
    figure = blank_figure(5.2, 0.9 + 0.28 * len(names), paper)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((1.7 / width, 0.46 / height, (width - 2.0) / width, 1 - 0.85 / height))
    style_axes(axes, "Importance")
    axes.grid(visible=False)
    shares = [importance[name] for name in names]
    axes.barh(names, shares, color=VALIDATION, height=0.6)
    axes.set_xlim(0, max(1e-9, *shares) * 1.15)
    axes.set_xlabel("share", fontsize=FONT_PT)
    for place, share in enumerate(shares):
        axes.text(share, place, f" {share:.2f}", fontsize=FONT_PT, color=INK, va="center")
    return to_png(figure)


class _Scale:
    """Places values between 0 and 1: numbers by size, if need be by logarithm; words in order."""

    def __init__(self, values: Sequence[object]) -> None:
        numbers = [float(v) for v in values if _is_number(v)]  # type: ignore[arg-type]
        self.is_number = bool(values) and len(numbers) == len(values)
        kept = {v for v in values if v is not None or not self.is_number}
        self.values: list[object] = sorted(kept, key=_order)
        positive = self.is_number and min(numbers) > 0
        self.is_log = positive and max(numbers) / min(numbers) >= LOG_RATIO

    def share(self, value: object) -> float:
        """Return where a value lies, in [0, 1]."""
        if not self.is_number:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high, own = (
            math.log(v) if self.is_log else float(v)  # type: ignore[arg-type]
            for v in (self.values[0], self.values[-1], value)
        )
        return (own - low) / (high - low) if high > low else 0.5

    def color(self, value: object) -> Color:
        """Return the colour of a value."""
        first, last = MAP_ENDS
        red, green, blue, alpha = MAP(first + (last - first) * self.share(value))
        return (float(red), float(green), float(blue), float(alpha))

    def named(self) -> list[object]:
        """Return the values that are written out: all of a few, of many the ends and between."""
        few = len(self.values) <= MAX_NAMED
        return list(self.values) if few or not self.is_number else self.ticks()

    def ticks(self) -> list[object]:
        """Return the values to be written at an axis: evenly spaced where any may be drawn."""
        if not any(isinstance(v, float) and v != int(v) for v in self.values):
            return list(self.values)
        low, high = float(self.values[0]), float(self.values[-1])  # type: ignore[arg-type]
        between = np.geomspace(low, high, 5) if self.is_log else np.linspace(low, high, 5)
        return [float(v) for v in between]


def _plot_trials(
    axes: Axes, trials: Sequence[SweepTrial], name: str, by_time: bool, colors: Sequence[Color]
) -> None:
    when, value_of = attrgetter("seconds" if by_time else "epoch"), attrgetter(name)
    seen: list[float] = []
    for trial, color in zip(trials, colors, strict=True):
        points = [(when(e), value_of(e)) for e in trial.history if math.isfinite(value_of(e))]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        seen += y
        style = ":" if trial.state == "pruned" else "-"
        axes.plot(x, y, color=color, lw=1.3, ls=style, marker="o" if len(x) == 1 else "", ms=3)
    axes.set_xlabel("seconds" if by_time else "epoch", fontsize=FONT_PT, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if name.endswith("dice"):
        axes.set_ylim(0, 1)
    elif seen:
        low, high = min(seen), float(np.quantile(seen, LOSS_QUANTILE))
        axes.set_ylim(min(0.0, low), high + 0.06 * (high - low) if high > low else high + 0.1)
    if name == PANELS[0][0]:
        add_note(axes, "┈ given up")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: object) -> tuple[float, str]:
    return (float(value), "") if _is_number(value) else (math.inf, str(value))  # type: ignore[arg-type]


def _word(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""Figures for people: learning curves, scores, what probabilities are worth, sheets of pictures.

Every figure is built with Matplotlib's object interface, so that drawing one neither needs a
display nor touches the caller's own figures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from calco.images.overlays import encode
from calco.records import Calibration, CurvePoint, Epoch

UInt8Array = npt.NDArray[np.uint8]
Curve = Literal["loss", "dice"]

DPI = 160
SHEET_DPI = 120  # three pictures in a row fill a notebook, and a sheet stays below 100 kB
FONT_PT = 8.5  # readable when a panel fills a phone
PANEL_INCHES = (4.3, 2.7)  # (width, height)
LEFT, RIGHT, BOTTOM, TOP = 0.48, 0.76, 0.46, 0.32  # margins in inches; names of lines on the right

# hues and lightness survive a colour-inverting filter, so that dark pages can use the same figure
INK, FAINT = "#1d2327", "#656f76"
TRAIN, VALIDATION = "#9aa3aa", "#0b6e75"


def draw_curves(history: Sequence[Epoch], best_epoch: int = 0) -> bytes:
    """Draw loss and Dice over the epochs, side by side.

    Args:
        history: Any number of epochs, also none; those that were not validated hold NaN.
        best_epoch: Epoch to mark; 0 marks none.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(2 * PANEL_INCHES[0], PANEL_INCHES[1])
    _plot_curve(blank_axes(figure, 0, 2), history, "loss", best_epoch)
    _plot_curve(blank_axes(figure, 1, 2), history, "dice", best_epoch)
    return to_png(figure)


def draw_curve(
    history: Sequence[Epoch], curve: Curve, best_epoch: int = 0, paper: str = "white"
) -> bytes:
    """Draw one panel of ``draw_curves`` alone, for narrow pages.

    Args:
        history: As there.
        curve: Which panel.
        best_epoch: As there.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(*PANEL_INCHES, paper)
    _plot_curve(blank_axes(figure), history, curve, best_epoch)
    return to_png(figure)


def draw_histogram(dices: Sequence[float], paper: str = "white") -> bytes:
    """Draw how many images reached which Dice, with mean and median marked.

    Args:
        dices: Per-image Dice in [0, 1]; values that are not finite are left out.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(5.2, 2.5, paper)
    axes = blank_axes(figure, right=0.16)
    finite = np.array([d for d in dices if math.isfinite(d)])
    counts, edges = np.histogram(finite, bins=20, range=(0, 1))
    axes.bar(edges[:-1], counts, np.diff(edges) * 0.9, align="edge", color=VALIDATION)
    style_axes(axes, "Images per Dice")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice of an image", fontsize=FONT_PT)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    if finite.size:
        mean, median = float(finite.mean()), float(np.median(finite))
        axes.axvline(mean, color=INK, lw=1.2)
        axes.axvline(median, color=INK, lw=1.2, ls=":")
        add_note(axes, f"— mean {mean:.3f}    ┈ median {median:.3f}")
    return to_png(figure)


def draw_reliability(calibration: Calibration, paper: str = "white") -> bytes:
    """Draw the share of foreground against the predicted probability, one dot per bin.

    Args:
        calibration: Of one subset; bins without pixels have no dot, the area of the others grows
            with their pixels.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(*PANEL_INCHES, paper)
    axes = blank_axes(figure, right=0.16)
    style_axes(axes, "Share of foreground")
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls=":")
    used = [b for b in calibration.bins if b.n_pixels]
    predicted, found = [b.mean_prob for b in used], [b.foreground_fraction for b in used]
    sizes = [10 + 70 * b.n_pixels / calibration.n_pixels for b in used]
    axes.plot(predicted, found, color=VALIDATION, lw=1.8)
    axes.scatter(predicted, found, sizes, color=VALIDATION, clip_on=False, zorder=3)
    _unit_square(axes, "predicted probability")
    if math.isfinite(calibration.ece):
        add_note(axes, f"┈ ideal    mean gap {calibration.ece:.3f}")
    return to_png(figure)


def draw_precision_recall(
    calibration: Calibration, threshold: float = math.nan, paper: str = "white"
) -> bytes:
    """Draw precision against recall of the pixels over all thresholds.

    Args:
        calibration: Of one subset; without foreground there is no curve.
        threshold: Probability above which pixels are traced, to be marked; NaN marks none.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(*PANEL_INCHES, paper)
    axes = blank_axes(figure, right=0.16)
    style_axes(axes, "Precision")
    _unit_square(axes, "recall")
    if not calibration.n_foreground:
        place = axes.transAxes
        axes.text(0.5, 0.5, "no foreground", transform=place, ha="center", color=FAINT)
        return to_png(figure)
    recall = [0.0, *(point.recall for point in calibration.curve)]
    precision = [point.precision for point in calibration.curve]
    # steps, whose area is the average precision: in between no threshold leads
    axes.plot(recall, [precision[0], *precision], color=VALIDATION, lw=1.8, drawstyle="steps-pre")
    note = f"average precision {calibration.average_precision:.3f}"
    if chosen := _chosen(calibration.curve, threshold):
        axes.plot(
            chosen.recall, chosen.precision, "o", ms=8, mfc="none", mec=INK, clip_on=False, zorder=5
        )
        note = f"◯ threshold {threshold:g}    {note}"
    add_note(axes, note)
    return to_png(figure)


def draw_coverage(
    kept: npt.NDArray[np.float64], ideal: npt.NDArray[np.float64], paper: str = "white"
) -> bytes:
    """Draw the mean Dice of the images kept while the least sure go to a person.

    Args:
        kept: (images,) mean Dice of the 1, 2 ... all images of the highest estimates.
        ideal: (images,) the same had the true Dice been known.
        paper: Background colour; ``none`` is transparent.

    Returns:
        The figure as PNG.
    """
    figure = blank_figure(5.2, 2.5, paper)
    axes = blank_axes(figure, right=0.16)
    style_axes(axes, "Mean Dice of the images kept")
    share = 100 * np.arange(1, len(kept) + 1) / len(kept)
    axes.plot(share, ideal, color=FAINT, lw=1.2, ls=":")
    axes.axhline(kept[-1], color=FAINT, lw=1.2)
    axes.plot(share, kept, color=VALIDATION, lw=1.8)
    axes.set_xlim(0, 100)
    axes.set_ylim(max(0.0, math.floor(20 * float(kept.min())) / 20 - 0.05), 1.0)
    axes.set_xlabel("share of images kept, surest first (%)", fontsize=FONT_PT)
    add_note(axes, "— all images    ┈ ideal")
    return to_png(figure)


def draw_sheet(tiles: Sequence[tuple[str, UInt8Array]], columns: int = 3) -> bytes:
    """Lay pictures out on a grid, each below its caption.

    Args:
        tiles: Caption and (H, W, 3) uint8 picture; captions are shown as they are, in full.
        columns: Pictures per row.

    Returns:
        The sheet as JPEG.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    figure = blank_figure(2.6 * columns, 2.8 * rows, dpi=SHEET_DPI)
    margins = {"left": 0.005, "right": 0.995, "bottom": 0.005, "wspace": 0.03, "hspace": 0.12}
    grid = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={**margins, "top": 1 - 0.24 / (2.8 * rows)}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (caption, picture) in zip(grid.flat, tiles, strict=False):
        axes.imshow(picture, interpolation="antialiased")
        # parse_math off: a file may be called $a$.png
        axes.set_title(_short(caption), fontsize=FONT_PT, color=INK, parse_math=False)
    sheet = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    return encode(np.asarray(sheet), max_bytes=40_000 * rows)


def _plot_curve(axes: Axes, history: Sequence[Epoch], curve: Curve, best_epoch: int) -> None:
    if curve == "loss":
        train = _finite([(e.epoch, e.train_loss) for e in history])
        validation = _finite([(e.epoch, e.validation_loss) for e in history])
    else:
        train = _finite([(e.epoch, e.train_dice) for e in history])
        validation = _finite([(e.epoch, e.validation_dice) for e in history])
    style_axes(axes, curve.capitalize())
    _plot_line(axes, train, TRAIN, width=1.2)
    _plot_line(axes, validation, VALIDATION, width=1.8)
    _set_limits(axes, curve, [epoch for epoch, _ in train + validation] or [0, 1])
    _label_ends(axes, {"train": train, "validation": validation})
    _mark_best(axes, dict(validation), best_epoch)
    if not train + validation:
        place = axes.transAxes
        axes.text(0.5, 0.5, "no epoch finished", transform=place, ha="center", color=FAINT)


def _finite(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    # epochs that were not validated hold NaN: the line connects those that were
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]


def _plot_line(axes: Axes, points: list[tuple[int, float]], color: str, width: float) -> None:
    if points:
        marker = "o" if len(points) <= 12 else "none"  # a lone point makes no line
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, marker=marker, lw=width, ms=3, color=color)


def _set_limits(axes: Axes, curve: Curve, epochs: list[int]) -> None:
    first, last = min(epochs), max(epochs)
    margin = max(0.5, 0.02 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    axes.set_xlabel("epoch", fontsize=FONT_PT)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    low, high = axes.get_ylim()
    if curve == "loss":
        axes.set_ylim(min(0.0, low), 1.04 * high)
    else:  # ends at 1, and without empty space below
        axes.set_ylim(min(0.9, max(0.0, math.floor(10 * low) / 10)), 1.0)


def _label_ends(axes: Axes, lines: dict[str, list[tuple[int, float]]]) -> None:
    """Name the lines at their right ends, kept apart when they end at one height."""
    heights = {name: points[-1][1] for name, points in lines.items() if points}
    low, high = axes.get_ylim()
    if len(heights) == 2:
        lower, upper = sorted(heights, key=lambda name: heights[name])
        push = max(0.0, 0.08 * (high - low) - (heights[upper] - heights[lower])) / 2
        heights[lower] -= push
        heights[upper] += push
    for name, height in heights.items():
        color = VALIDATION if name == "validation" else FAINT
        place = axes.get_yaxis_transform()  # x in shares of the axes, y in data units
        axes.text(1.02, height, name, transform=place, color=color, fontsize=FONT_PT, va="center")


def _unit_square(axes: Axes, name: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(name, fontsize=FONT_PT)


def _chosen(curve: Sequence[CurvePoint], threshold: float) -> CurvePoint | None:
    """Return the point of the lowest level above a threshold; None above all levels, or for NaN."""
    above = [point for point in curve if point.level > threshold * 255]
    return above[-1] if above else None


def _mark_best(axes: Axes, values: dict[int, float], epoch: int) -> None:
    if epoch in values:
        axes.plot(epoch, values[epoch], "o", ms=8, mfc="none", mec=INK, clip_on=False, zorder=5)
        add_note(axes, f"◯ kept: epoch {epoch}, {values[epoch]:.3f}")


def add_note(axes: Axes, text: str) -> None:
    """Say in small letters what the marks mean."""
    # above the axes: inside them it would sooner or later lie on a line
    axes.set_title(text, loc="right", fontsize=FONT_PT, color=INK)


def style_axes(axes: Axes, title: str) -> None:
    """Give axes a title and as few lines as can be."""
    axes.set_facecolor("none")
    axes.set_title(title, loc="left", fontsize=FONT_PT + 1, color=INK, pad=10)
    axes.grid(axis="y", color=INK, alpha=0.14, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=FONT_PT, length=0)
    axes.xaxis.label.set_color(FAINT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def blank_figure(width: float, height: float, paper: str = "white", dpi: int = DPI) -> Figure:
    """Return a figure of a size in inches, drawn without a display."""
    figure = Figure((width, height), dpi=dpi, facecolor=paper)
    FigureCanvasAgg(figure)  # attaches itself: no display, no pyplot
    return figure


def blank_axes(figure: Figure, number: int = 0, count: int = 1, right: float = RIGHT) -> Axes:
    """Add one of ``count`` axes side by side; fixed margins, for layout engines draw twice."""
    width, height = figure.get_size_inches()
    each = width / count
    place = (
        (number * each + LEFT) / width,
        BOTTOM / height,
        (each - LEFT - right) / width,
        (height - BOTTOM - TOP) / height,
    )
    return figure.add_axes(place)


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _short(caption: str, length: int = 36) -> str:
    return caption if len(caption) <= length else caption[: length - 1] + "…"

"""Finding out how a table of runs was written: pixel order, first pixel, relative starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.rle import Runs, paint, zero_based_spans
from calco.images.io import choose_spec, read_image, spread
from calco.records import RleDialect
from calco.wording import counted

N_PAINTED = 32
"""Masks painted to compare their outlines, spread over the table."""
N_DECODED = 16
"""Images decoded, only when outlines cannot tell because the images are square."""
N_COMPARED = 1000
"""Rows whose starts are compared to find relative ones."""
MAX_PIXELS = 16_000_000
"""Larger images are not painted or decoded here."""
MIN_RATIO = 1.1
"""How much better one reading must be; by edges, nuclei reach 6.8 and neuron membranes 1.3."""
MIN_TORN = 5
"""Runs torn at the border, at least and as a ratio, that tell the number of the first pixel."""

Order = Literal["column", "row"]
Base = Literal[0, 1]
_BASES: tuple[Base, Base] = (0, 1)
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class ImageRuns:
    """The runs of one image, one array per row of the table."""

    image: Path
    size: tuple[int, int]
    rows: tuple[Runs, ...]


@dataclass(frozen=True)
class Guess:
    """A dialect, how it was found, and what stayed open."""

    dialect: RleDialect
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Answer(Generic[_Value]):
    """One property of a dialect, why it is that, and what stayed open."""

    value: _Value
    reason: str
    problems: tuple[Problem, ...] = ()


def guess_dialect(
    items: Sequence[ImageRuns], start: RleDialect, config: DataConfig, where: str
) -> Guess:
    """Detect what the settings leave open.

    Relative starts: in most rows the starts do not ascend. Order: the wrong one scatters the
    pixels of an image that is not square, so the reading with shorter outlines is right; on square
    images it transposes the mask, so the reading whose outlines lie on the edges of the image is
    right. Base: a start of 0 or a run that reaches the last pixel proves it, and so do objects at
    the border, which the wrong base tears; else it is taken for 1, with a note.

    Args:
        items: Images with at least one run.
        start: Empty token, columns and whether rows are objects.
        config: Order and base where the user gave them.
        where: The table, for messages.

    Returns:
        The dialect; with ``RLE_ORDER`` or ``RLE_BASE`` when the evidence is missing or conflicts.
    """
    relative = _is_relative(items)
    drawn = [_drawn(item, relative) for item in items]
    proofs = _base_proofs(drawn)
    # the order shows through a base that is off by one, but the base not through a wrong order
    order = _order(drawn, 0 if proofs.at_zero and not proofs.past_end else 1, config, where)
    base = _base(_torn_runs(drawn, order.value), proofs, config, where)
    dialect = replace(start, order=order.value, base=base.value, relative=relative)
    return Guess(dialect, (order.reason, base.reason), (*order.problems, *base.problems))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """All spans of one image as if the first pixel were number 0; from 1 they are one less."""

    image: Path
    size: tuple[int, int]
    spans: Runs

    def line_px(self, order: Order) -> int:
        """Return the pixels of one column or row."""
        return self.size[0] if order == "column" else self.size[1]

    def paint_both(self, base: Base) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Paint the mask by columns and by rows; what leaves the image is cut off."""
        spans = np.clip(self.spans - base, 0, self.size[0] * self.size[1])
        return paint(spans, self.size, "column"), paint(spans, self.size, "row")


def _drawn(item: ImageRuns, relative: bool) -> _Drawn:
    dialect = RleDialect(base=0, relative=relative)
    rows = item.rows if relative else (np.concatenate(item.rows),)
    spans = np.concatenate([zero_based_spans(runs, dialect) for runs in rows])
    return _Drawn(item.image, item.size, spans)


def _is_relative(items: Sequence[ImageRuns]) -> bool:
    long = [runs[:, 0] for item in items for runs in item.rows if len(runs) >= 3]
    starts = spread(long, N_COMPARED)
    falling = sum(bool((np.diff(s) <= 0).any()) for s in starts)
    return 2 * falling > len(starts)


@dataclass(frozen=True)
class _Proofs:
    """Runs that only one base allows.

    Attributes:
        at_zero: Start at 0: the first pixel is 0.
        past_end: End at the number of pixels: the first pixel is 1.
    """

    at_zero: int
    past_end: int


def _base_proofs(items: Sequence[_Drawn]) -> _Proofs:
    return _Proofs(
        at_zero=sum(int((item.spans[:, 0] == 0).sum()) for item in items),
        past_end=sum(
            int((item.spans[:, 1] == item.size[0] * item.size[1] + 1).sum()) for item in items
        ),
    )


def _torn_runs(items: Sequence[_Drawn], order: Order) -> tuple[int, int]:
    """Count runs with one pixel on the line after or before, numbered from 0 and from 1.

    Numbered wrongly, every object at the end (or start) of a line sends one pixel over the border.
    """
    torn = [0, 0]
    for item in items:
        line_px = item.line_px(order)
        spans = item.spans[item.spans[:, 1] - item.spans[:, 0] >= 2]
        for base in _BASES if line_px > 2 else ():
            starts, stops = (spans - base).T % line_px
            torn[base] += int((stops == 1).sum() + (starts == line_px - 1).sum())
    return torn[0], torn[1]


def _base(torn: tuple[int, int], proofs: _Proofs, config: DataConfig, where: str) -> _Answer[Base]:
    if config.rle_base is not None:
        return _Answer(config.rle_base, f"first pixel {config.rle_base} as set")
    clues: list[tuple[Base, str]] = []
    if proofs.at_zero:
        clues.append((0, f"{counted(proofs.at_zero, 'run')} from pixel 0"))
    if proofs.past_end:
        clues.append((1, f"{counted(proofs.past_end, 'run')} up to the last pixel counted from 1"))
    if max(torn) >= MIN_TORN and max(torn) >= MIN_TORN * min(torn):
        base: Base = 0 if torn[0] < torn[1] else 1
        clues.append((base, f"{max(torn)} runs torn at the border when counted from {1 - base}"))
    if len({base for base, _ in clues}) > 1:
        got = "; ".join(f"{base}: {clue}" for base, clue in clues)
        do = "set data.rle_base: 0 or 1"
        problem = Problem("RLE_BASE", "the number of the first pixel is unclear", where, got, do=do)
        return _Answer(1, "first pixel unclear", (problem,))
    for base, clue in clues:
        return _Answer(base, f"first pixel {base}: {clue}")
    what, do = "the first pixel is taken for number 1", "set data.rle_base: 0 if it is 0"
    note = Problem("RLE_BASE", what, where, do=do, severity="note")
    return _Answer(1, "first pixel 1 assumed", (note,))


def _order(items: Sequence[_Drawn], base: Base, config: DataConfig, where: str) -> _Answer[Order]:
    if config.rle_order is not None:
        return _Answer(config.rle_order, f"{config.rle_order} order as set")
    if not items:
        return _Answer("column", "column order assumed")
    small = [item for item in items if item.size[0] * item.size[1] <= MAX_PIXELS]
    oblong = [item for item in small if item.size[0] != item.size[1]]
    ratio = _outline_ratio(spread(oblong, N_PAINTED), base)
    clue = "outlines are {:.1f} times as long the other way"
    if max(ratio, 1 / ratio) < MIN_RATIO:
        ratio = _edge_ratio(spread(small, N_DECODED), base, config)
        clue = "outlines lie on edges {:.1f} times as steep as the other way"
    strength = clue.format(max(ratio, 1 / ratio))
    if max(ratio, 1 / ratio) >= MIN_RATIO:
        order: Order = "column" if ratio > 1 else "row"
        return _Answer(order, f"{order} order: {strength}")
    do = "set data.rle_order: column or row"
    problem = Problem("RLE_ORDER", "the order of the pixels is unclear", where, strength, do=do)
    return _Answer("column", "order unclear", (problem,))


def _outline_ratio(items: Sequence[_Drawn], base: Base) -> float:
    """Return the length of all outlines read by rows over that read by columns."""
    by_column = by_row = 1
    for item in items:
        column_mask, row_mask = item.paint_both(base)
        by_column += int(_outline(column_mask).sum())
        by_row += int(_outline(row_mask).sum())
    return by_row / by_column


def _edge_ratio(items: Sequence[_Drawn], base: Base, config: DataConfig) -> float:
    """Return the median steepness of the image under outlines by columns over that by rows."""
    spec = replace(choose_spec([item.image for item in items], config), channels=1)
    ratios = []
    for item in items:
        try:
            grey = read_image(item.image, spec)[..., 0].astype(np.float32)  # (H, W)
        except CalcoError:
            continue  # the audit reads every image and names the bad ones
        steepness = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        by_column, by_row = (steepness[_outline(mask)] for mask in item.paint_both(base))
        if by_column.size and by_row.size:
            # one grey level is noise: flat images must not decide
            ratios.append((by_column.mean() + 1) / (by_row.mean() + 1))
    return float(np.median(ratios)) if ratios else 1.0


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pixels with a neighbour of the other kind."""
    outline = np.zeros_like(mask)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    outline[1:] |= down
    outline[:-1] |= down
    outline[:, 1:] |= right
    outline[:, :-1] |= right
    return outline

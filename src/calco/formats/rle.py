"""Run-length encoding: a mask as text, ``start length start length ...``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeVar, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.records import RleDialect

Runs = NDArray[np.int64]  # (N, 2) start and length, or start and stop
Pixels = NDArray[np.int64]  # (N,) pixel numbers
Order = Literal["column", "row"]
ALWAYS_EMPTY = ("", "nan")  # what spreadsheets and pandas leave where nothing was written
_Label = TypeVar("_Label", np.uint8, np.int32)
_BLANKS_AND_DIGITS = b" \t\n\r\x0b\x0c0123456789"
# no image has 10^15 pixels, and sums of shorter numbers fit in int64
_TOO_LARGE = 10**15
_NUMBER = re.compile(r"[0-9]{1,15}")
_NUMBERS = re.compile(r"[0-9]{1,15}(\s+[0-9]{1,15})*")


def encode(mask: NDArray[np.bool_], dialect: RleDialect) -> str:
    """Write a mask as runs.

    Args:
        mask: (H, W) bool.
        dialect: Pixel order, number of the first pixel, absolute or relative starts, empty token.

    Returns:
        Runs in ascending order that neither touch nor overlap; ``dialect.empty`` without any
        foreground.

    Example:
        >>> encode(np.ones((2, 2), bool), RleDialect())
        '1 4'
    """
    return _write(spans_in(mask, dialect.order), dialect)


def encode_objects(labels: NDArray[np.int32], dialect: RleDialect) -> list[str]:
    """Write each object of an image as its own runs.

    Args:
        labels: (H, W) int32, the number of each pixel's object from 1, 0 outside; no number is
            left out.
        dialect: As for ``encode``.

    Returns:
        One text per object, in the order of the numbers.
    """
    return [_write(spans, dialect) for spans in object_spans(labels, dialect.order)]


def spans_in(mask: NDArray[np.bool_], order: Order) -> Runs:
    """Return the runs of a mask as zero-based [start, stop) spans, ascending.

    Returns:
        (N, 2) int64.
    """
    flat = _in_order(mask.view(np.uint8), order)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:  # runs at the first and the last pixel have an edge there, too
        edges = np.insert(edges, 0, 0)
    if flat.size and flat[-1]:
        edges = np.append(edges, flat.size)
    return edges.reshape(-1, 2)


def object_spans(labels: NDArray[np.int32], order: Order) -> list[Runs]:
    """Return the spans of each object as ``spans_in`` does, in the order of their numbers."""
    flat = np.pad(_in_order(labels, order), 1)  # between background, every run has two edges
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    owners = flat[edges + 1]  # label of the run that begins at each edge; 0 between objects
    runs = np.flatnonzero(owners)
    runs = runs[np.argsort(owners[runs], kind="stable")]
    first = np.searchsorted(owners[runs], np.arange(1, int(labels.max(initial=0)) + 2))
    spans = np.stack([edges[runs], edges[runs + 1]], axis=1)
    return [spans[a:b] for a, b in pairwise(first)]


def decode(
    text: str, size: tuple[int, int], dialect: RleDialect, where: str = ""
) -> NDArray[np.bool_]:
    """Read a mask from its runs.

    Args:
        text: Runs, or the dialect's empty token, or nothing, or ``nan``.
        size: (height, width) of the image.
        dialect: How the runs were written.
        where: File and line, for messages.

    Returns:
        (H, W) bool; overlapping runs are joined.

    Raises:
        CalcoError: ``RLE_SYNTAX`` with the token at fault; ``RLE_RANGE`` when runs leave the
            image, before any memory is taken for it.

    Example:
        >>> decode("2 3", (2, 2), RleDialect()).astype(int).tolist()
        [[0, 1], [1, 1]]
    """
    return decode_rows((text,), size, dialect, where)


def decode_rows(
    rows: Sequence[str], size: tuple[int, int], dialect: RleDialect, where: str = ""
) -> NDArray[np.bool_]:
    """Read the union of several rows, as when each object has its own; see ``decode``."""
    parsed = [parse_runs(row, dialect, where) for row in rows]
    spans = np.concatenate(
        [np.zeros((0, 2), np.int64), *(spans_of(runs, size, dialect, where) for runs in parsed)]
    )
    return paint(spans, size, dialect.order)


def paint(spans: Runs, size: tuple[int, int], order: Order) -> NDArray[np.bool_]:
    """Draw zero-based [start, stop) spans, none outside the image, in any order.

    Returns:
        (H, W) bool.
    """
    height, width = size
    starts, stops = _joined(spans)
    # gap, run, gap, run, ..., gap: flags repeated by their lengths are the pixels in order
    bounds = np.concatenate(([0], np.stack([starts, stops], axis=1).ravel(), [height * width]))
    flat = np.repeat(np.arange(len(bounds) - 1) % 2 == 1, np.diff(bounds))  # (H W,)
    match order:
        case "column":
            return _transposed(flat.reshape(width, height).view(np.uint8)).view(np.bool_)
        case "row":
            return flat.reshape(height, width)
        case _:
            assert_never(order)


def is_empty(text: str, dialect: RleDialect) -> bool:
    """Tell whether a cell stands for an empty mask."""
    cell = text.strip()
    return cell.casefold() in ALWAYS_EMPTY or cell == dialect.empty


def looks_like_runs(text: str) -> bool:
    """Tell whether a cell could be runs: pairs of whole numbers.

    Example:
        >>> looks_like_runs("3 2 9 1"), looks_like_runs("12.5")
        (True, False)
    """
    cell = text.strip()
    return _NUMBERS.fullmatch(cell) is not None and len(cell.split()) % 2 == 0


def parse_runs(text: str, dialect: RleDialect, where: str = "") -> Runs:
    """Read runs as written, without knowing the image.

    Returns:
        (N, 2) int64: start and length of each run, starts untouched.

    Raises:
        CalcoError: ``RLE_SYNTAX``: letters, fractions, signs, an odd count or a zero length.
    """
    if is_empty(text, dialect):
        return np.zeros((0, 2), np.int64)
    numbers = _parse_numbers(text, where)
    if len(numbers) % 2:
        what = "the last run has a start but no length"
        raise _syntax(what, where, f"{len(numbers)} numbers")
    runs = numbers.reshape(-1, 2)  # (N, 2)
    without = runs[:, 1] == 0
    if without.any():
        raise _syntax("a run has no length", where, f"token {2 * int(without.argmax()) + 2}: '0'")
    return runs


def spans_of(runs: Runs, size: tuple[int, int], dialect: RleDialect, where: str = "") -> Runs:
    """Return the runs as zero-based [start, stop) spans, none outside the image.

    Raises:
        CalcoError: ``RLE_RANGE``, saying what would explain it.
    """
    height, width = size
    spans = zero_based_spans(runs, dialect)
    outside = (spans[:, 0] < 0) | (spans[:, 1] > height * width)
    if outside.any():
        first = int(outside.argmax())
        start, length = (int(v) for v in runs[first])
        raise CalcoError(
            Problem(
                "RLE_RANGE",
                "a run leaves the image",
                where,
                got=f"token {2 * first + 1}: '{start} {length}'",
                expected=f"pixels {dialect.base} to {height * width - 1 + dialect.base}"
                f" ({height} x {width})",
                do=_range_hint(int(spans[first, 0]), int(spans[first, 1]), height * width, dialect),
            )
        )
    return spans


def zero_based_spans(runs: Runs, dialect: RleDialect) -> Runs:
    """Return the runs as zero-based [start, stop) spans, unchecked."""
    spans = np.empty_like(runs)  # (N, 2)
    if dialect.relative:  # each gap follows the run before; only the first counts from the base
        spans[:, 1] = np.cumsum(runs.sum(axis=1)) - dialect.base
        spans[:, 0] = spans[:, 1] - runs[:, 1]
    else:
        spans[:, 0] = runs[:, 0] - dialect.base
        spans[:, 1] = spans[:, 0] + runs[:, 1]
    return spans


def _joined(spans: Runs) -> tuple[Pixels, Pixels]:
    """Return starts and stops of the union of spans, ascending and disjoint."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])  # how far the spans so far go
    first = np.ones(len(spans), bool)
    first[1:] = spans[1:, 0] > reach[:-1]
    last = np.append(first[1:], True)[: len(spans)]
    return spans[first, 0], reach[last]


def _transposed(image: NDArray[_Label]) -> NDArray[_Label]:
    # six times as fast as copying image.T; OpenCV refuses images without pixels
    turned = image.T if image.flags.f_contiguous or not image.size else cv2.transpose(image)
    return np.asarray(turned, image.dtype)


def _in_order(labels: NDArray[_Label], order: Order) -> NDArray[_Label]:
    """Return the pixels in order; a view where that is enough."""
    match order:
        case "column":
            return _transposed(labels).ravel()
        case "row":
            return labels.ravel()
        case _:
            assert_never(order)


def _write(spans: Runs, dialect: RleDialect) -> str:
    if len(spans) == 0:
        return dialect.empty
    numbers = np.empty_like(spans)  # (N, 2)
    numbers[:, 0] = spans[:, 0] + dialect.base
    if dialect.relative:
        numbers[1:, 0] = spans[1:, 0] - spans[:-1, 1]
    numbers[:, 1] = spans[:, 1] - spans[:, 0]
    return _write_numbers(numbers.ravel())


def _write_numbers(numbers: Pixels) -> str:
    """Write whole numbers from 0 with a blank between: in half the time of a join."""
    width = len(str(int(numbers.max())))
    # half the bytes are twice as fast
    left: NDArray[np.uint32 | np.uint64] = numbers.astype(np.uint32 if width < 10 else np.uint64)
    digits = np.full((len(left), width + 1), ord(" "), np.uint8)  # a number and its blank a line
    keep = np.ones(digits.shape, bool)
    for place in range(width - 1, -1, -1):
        left, above = left // 10, left
        digits[:, place] = above - left * 10 + ord("0")
        if place:
            keep[:, place - 1] = left > 0
    return digits[keep][:-1].tobytes().decode()


def _parse_numbers(text: str, where: str) -> Pixels:
    """Read whole numbers between blanks.

    Raises:
        CalcoError: ``RLE_SYNTAX`` with the first token that is none.
    """
    if not text.encode(errors="replace").translate(None, _BLANKS_AND_DIGITS):
        numbers = np.fromstring(text, np.int64, sep=" ")  # a number too long saturates
        if numbers.max(initial=0) < _TOO_LARGE:
            return numbers
    tokens = text.split()
    for number, token in enumerate(tokens, 1):
        if not _NUMBER.fullmatch(token):
            got = f"token {number}: {token[:30]!r}"
            raise _syntax("not a whole number of pixels", where, got)
    return np.array([int(token) for token in tokens], np.int64)  # blanks beyond ASCII between


def _range_hint(start: int, stop: int, n_pixels: int, dialect: RleDialect) -> str:
    if start < 0:
        return "the first pixel is 0 here: set data.rle_base: 0"
    if stop == n_pixels + 1 and dialect.base == 0:
        return "the first pixel is 1 here: set data.rle_base: 1"
    return (
        "check data.rle_base, data.rle_order and that the image has the size the mask was drawn on"
    )


def _syntax(what: str, where: str, got: str) -> CalcoError:
    expected = "pairs of positive whole numbers, 'start length start length ...'"
    return CalcoError(Problem("RLE_SYNTAX", what, where, got, expected, "correct the cell"))

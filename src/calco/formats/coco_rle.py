"""COCO's compressed run-length text: what pycocotools calls ``counts``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.formats.rle import Runs, paint, spans_in

_FIRST = 48  # "0": each character carries six bits above it
_MORE, _SIGN, _BITS = 0x20, 0x10, 0x1F
_MOST_CHARS = 7  # of one number: 35 bits, more pixels than any image has


def compress(mask: NDArray[np.bool_]) -> str:
    """Write a mask as pycocotools does, byte for byte.

    Args:
        mask: (H, W) bool.

    Returns:
        Lengths of runs down the columns, background first; from the fourth on as the difference
        to the length two before, in characters of five bits and one that says whether more follow.

    Reference:
        ``rleToString`` in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c

    Example:
        >>> compress(np.array([[0, 1], [0, 1]], bool))
        '22'
    """
    return compress_spans(spans_in(mask, "column"), mask.size)


def compress_spans(spans: Runs, n_pixels: int) -> str:
    """Write zero-based [start, stop) spans down the columns, ascending and apart.

    Args:
        spans: (N, 2) int64.
        n_pixels: Of the image.
    """
    counts = np.diff(spans.ravel(), prepend=0)
    last = n_pixels - (int(spans[-1, 1]) if len(spans) else 0)
    if last or not len(spans):  # pycocotools writes no run of no pixels at the end
        counts = np.append(counts, last)
    left = counts.copy()
    left[3:] -= counts[1:-2]
    chars, keep = [], []
    going = np.ones(len(left), bool)
    while going.any():
        char = left & _BITS
        left = left >> 5  # arithmetic: the sign stays
        more = np.where(char & _SIGN, left != -1, left != 0)
        chars.append(((char | np.where(more, _MORE, 0)) + _FIRST).astype(np.uint8))
        keep.append(going)
        going = going & more
    text: bytes = np.stack(chars, axis=1)[np.stack(keep, axis=1)].tobytes()
    return text.decode()


def decompress(counts: str, size: tuple[int, int], where: str = "") -> NDArray[np.bool_]:
    """Read a mask as pycocotools or ``compress`` wrote it.

    Args:
        counts: Compressed text.
        size: (height, width) of the image.
        where: File and object, for messages.

    Returns:
        (H, W) bool.

    Raises:
        CalcoError: ``RLE_SYNTAX`` for a text that is none; ``RLE_RANGE`` when its runs are not as
            many pixels as the image has, before any memory is taken for it.

    Example:
        >>> decompress("22", (2, 2)).astype(int).tolist()
        [[0, 1], [0, 1]]
    """
    lengths = _lengths(_numbers(counts, where))
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        got = "a negative length" if (lengths < 0).any() else f"{lengths.sum()} pixels"
        expected = f"{size[0] * size[1]} pixels ({size[0]} x {size[1]})"
        do = "check the size beside it"
        problem = Problem("RLE_RANGE", "the runs do not fill the image", where, got, expected, do)
        raise CalcoError(problem)
    bounds = np.cumsum(lengths)
    spans = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)  # (N, 2)
    return paint(spans, size, "column")


def _numbers(counts: str, where: str) -> NDArray[np.int64]:
    """Read the signed numbers behind the characters."""
    chars = np.frombuffer(counts.encode(errors="replace"), np.uint8).astype(np.int64) - _FIRST
    ends = np.flatnonzero((chars & _MORE) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    whole = len(chars) > 0 and ends.size > 0 and ends[-1] == len(chars) - 1
    if not whole or chars.min() < 0 or chars.max() > 63 or (ends - starts).max() >= _MOST_CHARS:
        what, do = "not the compressed runs of COCO", "export it again with pycocotools"
        expected = "characters '0' to 'o', the last of each number below 'P'"
        raise CalcoError(Problem("RLE_SYNTAX", what, where, repr(counts[:30]), expected, do))
    at = np.arange(len(chars)) - np.repeat(starts, ends - starts + 1)  # place within its number
    values = np.add.reduceat((chars & _BITS) << (5 * at), starts)
    negative = (chars[ends] & _SIGN) != 0
    numbers: NDArray[np.int64] = values - (negative.astype(np.int64) << (5 * (ends - starts + 1)))
    return numbers


def _lengths(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo the differences to the length two before, which begin with the fourth."""
    lengths = numbers.copy()
    lengths[1::2] = np.cumsum(numbers[1::2])
    lengths[2::2] = np.cumsum(numbers[2::2])
    return lengths

"""What is in a set of mask files: pixel counts per value and colour, before any code is chosen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.images.io import spread
from calco.images.mask_files import MaskPixels, pack_color, read_mask_pixels
from calco.records.data import FileMask, MaskCode, ObjectMasks

SAMPLED_MASKS = 400
"""Samples whose masks are looked at, spread over the data set; every file is checked when read."""
SAMPLED_FILES = 1200
"""Mask files looked at when samples have one per object."""
SAMPLED_MEGAPIXELS = 200.0
"""Pixels looked at, once the fewest masks are seen."""
FEWEST_MASKS = 8
"""Samples looked at however large they are."""

END_WIDTH = 32
"""Levels beside 0 and 255 that count as smeared black and white."""
END_SHARE = 0.95
"""Share of pixels at those ends above which a smeared mask is still two-valued."""
PHOTO_VALUES = 32
"""Values per file from which a mask may be a photo; real photos had 30 to 256, 90 % above 50."""
PHOTO_FLATNESS = 0.8
"""Share of equal neighbours below which it is one: real photos had up to 0.7; masks, label masks
and JPEG-smeared masks are flatter."""


@dataclass(frozen=True)
class Tally:
    """Pixel counts of one mask file.

    Attributes:
        path: The file.
        sample: Number of the sample it belongs to.
        size_px: Its pixels.
        values: Count per grey value or palette index; None when coloured.
        colors: Count per 0xRRGGBB of coloured and palette masks; None when grey.
        opaque: Share of opaque pixels; None without transparency.
        alpha_agrees: Whether the opaque pixels are just those that are not black.
        flatness: Share of neighbours in reading order that are equal.
    """

    path: Path
    sample: int
    size_px: int
    values: Mapping[float, int] | None
    colors: Mapping[int, int] | None = None
    opaque: float | None = None
    alpha_agrees: bool = True
    flatness: float = 1.0

    @property
    def as_colors(self) -> Mapping[int, int]:
        """Counts per colour; a grey value v is the colour (v, v, v)."""
        if self.colors is not None:
            return self.colors
        return {int(v) * 0x010101: n for v, n in (self.values or {}).items() if 0 <= v <= 255}

    def foreground_fraction(self, code: MaskCode) -> float:
        """Share of pixels that a code makes foreground, before it inverts."""
        match code.kind:
            case "values":
                pixels = sum((self.values or {}).get(v, 0) for v in code.values)
            case "threshold":
                pixels = sum(n for v, n in (self.values or {}).items() if v > code.threshold)
            case "color":
                pixels = self.as_colors.get(pack_color(code.color), 0)
            case "alpha":
                return 1.0 if self.opaque is None else self.opaque
            case "rle":
                raise ValueError("run-length encoded masks are not files")
            case _:
                assert_never(code.kind)
        return pixels / self.size_px


def tally_masks(files: Sequence[FileMask | ObjectMasks], max_megapixels: float) -> list[Tally]:
    """Count the values of masks spread over a data set; unreadable files are passed over."""
    tallies: list[Tally] = []
    budget_px, budget_files = SAMPLED_MEGAPIXELS * 1e6, SAMPLED_FILES
    for sample, source in enumerate(spread(files, SAMPLED_MASKS)):
        if sample >= FEWEST_MASKS and (budget_px < 0 or budget_files < 0):
            break
        if sample == FEWEST_MASKS and are_photos(tallies):
            break  # slow to count, and soon told
        for path in source.paths if isinstance(source, ObjectMasks) else (source.path,):
            budget_files -= 1
            try:
                tally = _tally(path, sample, read_mask_pixels(path, max_megapixels))
            except CalcoError:
                continue  # named by the audit, which reads every file
            budget_px -= tally.size_px
            tallies.append(tally)
    return tallies


def count_values(plane: NDArray[Any]) -> tuple[dict[float, int], float]:
    """Count each value of a plane, fast for flat ones such as masks.

    Returns:
        Pixel count per value, and the share of neighbours in reading order that are equal.

    Example:
        >>> count_values(np.array([[0, 0, 0], [0, 7, 7]]))
        ({0: 4, 7: 2}, 0.8)
    """
    flat = plane.ravel()
    # counting runs instead of pixels sorts a hundred times less
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    values, owner = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(owner.ravel(), weights=lengths).astype(np.int64)
    flatness = 1 - (len(starts) - 1) / max(flat.size - 1, 1)
    return dict(zip(values.tolist(), counts.tolist(), strict=True)), flatness


def total_values(tallies: Sequence[Tally]) -> Counter[float]:
    """Add the counts per grey value or index up."""
    total: Counter[float] = Counter()
    for tally in tallies:
        total.update(tally.values or {})
    return total


def total_colors(tallies: Sequence[Tally]) -> Counter[int]:
    """Add the counts per colour up."""
    total: Counter[int] = Counter()
    for tally in tallies:
        total.update(tally.as_colors)
    return total


def mean_foreground(tallies: Sequence[Tally], code: MaskCode) -> float:
    """Mean foreground share over samples; objects of one sample are taken as disjoint."""
    shares: defaultdict[int, float] = defaultdict(float)
    for tally in tallies:
        shares[tally.sample] += tally.foreground_fraction(code)
    mean = sum(min(share, 1.0) for share in shares.values()) / len(shares)
    return 1 - mean if code.invert else mean


def pixels_between_ends(counts: Mapping[float, int]) -> int | None:
    """Return the pixels between smeared black and white; None when the masks are not that.

    Class indices crowd at 0 too, so levels in between must exist and hold fewer pixels than white.

    Example:
        >>> pixels_between_ends({0: 900, 9: 5, 60: 1, 90: 1, 130: 1, 200: 1, 248: 9, 255: 82})
        4
    """
    total = sum(counts.values())
    black = sum(n for v, n in counts.items() if v <= END_WIDTH)
    white = sum(n for v, n in counts.items() if v >= 255 - END_WIDTH)
    between = total - black - white
    levels = sum(END_WIDTH < v < 255 for v in counts)
    two_valued = max(counts) <= 255 and levels >= 4 and between <= white
    return between if two_valued and black + white >= END_SHARE * total else None


def are_photos(tallies: Sequence[Tally]) -> bool:
    """Whether most files have many values that change from pixel to pixel, as soft masks do not."""
    if not tallies:
        return False
    kinds = [len(t.as_colors if t.values is None else t.values) for t in tallies]
    flatness = float(np.median([t.flatness for t in tallies]))
    varied = bool(np.median(kinds) >= PHOTO_VALUES) and flatness < PHOTO_FLATNESS
    return varied and not _two_ended(total_values(tallies))


def _two_ended(counts: Mapping[float, int]) -> bool:
    """Whether values crowd at both ends of their range: a mask, however soft its edges."""
    if not counts:
        return False
    total, low, high = sum(counts.values()), min(counts), max(counts)
    margin = (high - low) / 8
    black = sum(n for v, n in counts.items() if v <= low + margin)
    white = sum(n for v, n in counts.items() if v >= high - margin)
    return min(black, white) >= 0.05 * total and black + white >= 0.6 * total


def _tally(path: Path, sample: int, pixels: MaskPixels) -> Tally:
    values, colors, opaque, agrees, flatness = None, None, None, True, 1.0
    if pixels.values is not None:
        values, flatness = count_values(pixels.values)
    if pixels.colors is not None:
        counts, flatness = count_values(pixels.colors)
        colors = {int(color): n for color, n in counts.items()}
    if pixels.opaque is not None:
        visible = pixels.values if pixels.colors is None else pixels.colors
        opaque = float(pixels.opaque.mean())
        agrees = visible is not None and np.array_equal(pixels.opaque, visible > 0)
    size_px = sum((values if values is not None else colors or {}).values())
    return Tally(path, sample, size_px, values, colors, opaque, agrees, flatness)

"""Measures of one image and its mask that tell how to train: sizes, thickness, contrast, grain.

A 256 x 256 picture takes two to three milliseconds on one thread. Of images beyond 1024 px a side,
all but the foreground fraction and the blank tiles is measured in a part of that size: of the parts
that cover the image, the one with the most foreground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.images.otsu import luma

PART_PX = 1024
"""Side up to which an image is measured whole."""
TEXTURE_PX = 256
"""Side of the middle part whose texture is measured."""
TILE_PX = 128
"""Largest side of the tiles that are blank or not."""
MOST_VALUES = 4096
"""Diameters or thicknesses kept of one image, so that masks of noise fill no memory."""
FORGOTTEN = math.exp(-1)
"""Autocorrelation at which texture ends."""

Plane = NDArray[np.uint8]
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Measures:
    """What one sample shows.

    Attributes:
        foreground_fraction: Of the whole mask.
        blank_tile_fraction: Share of its tiles without foreground.
        n_objects: 8-connected parts; of a large mask estimated from the part measured.
        diameters_px: (objects,) float32, ascending; at most ``MOST_VALUES``, evenly chosen.
        thickness_px: (points,) float32, ascending, of the centre lines; as many at most.
        half_scale_dice: What half the size leaves of the mask; NaN of an empty one.
        quarter_scale_dice: What a quarter of the size leaves of the mask.
        levels: (256,) float64, share of each of the 256 values, over all channels.
        contrast: In [-1, 1]; NaN without foreground or without background.
        texture_px: NaN of a constant image.
    """

    foreground_fraction: float
    blank_tile_fraction: float
    n_objects: int
    diameters_px: Values
    thickness_px: Values
    half_scale_dice: float
    quarter_scale_dice: float
    levels: NDArray[np.float64]
    contrast: float
    texture_px: float


def measure(image: NDArray[np.uint8], mask: Plane) -> Measures:
    """Measure one decoded sample.

    Args:
        image: (H, W, C) uint8.
        mask: (H, W) uint8 in {0, 1}.
    """
    part = _part(mask)
    shown, drawn = np.ascontiguousarray(image[part]), np.ascontiguousarray(mask[part])
    grey = luma(shown)
    diameters = diameters_px(drawn)
    n_foreground, n_drawn = cv2.countNonZero(mask), cv2.countNonZero(drawn)
    return Measures(
        foreground_fraction=n_foreground / mask.size,
        blank_tile_fraction=blank_tile_fraction(mask),
        n_objects=round(len(diameters) * n_foreground / max(n_drawn, 1)),
        diameters_px=_thinned(diameters),
        thickness_px=_thinned(thickness_px(drawn)),
        half_scale_dice=scaled_dice(drawn, 2),
        quarter_scale_dice=scaled_dice(drawn, 4),
        levels=_counts(shown.reshape(-1, 1)) / shown.size,
        contrast=contrast(grey, drawn),
        texture_px=texture_px(grey),
    )


# --- of the mask


def diameters_px(mask: Plane) -> Values:
    """Measure objects by the discs of their areas, 2 sqrt(A / pi).

    Args:
        mask: (H, W) uint8 in {0, 1}; parts that touch, also at a corner, are one object.

    Returns:
        (objects,) float32, ascending; empty for an empty mask.

    Example:
        >>> [round(float(d), 3) for d in diameters_px(np.array([[1, 0, 1, 1]], np.uint8))]
        [1.128, 1.596]
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])  # (objects,); the first is the background
    return np.asarray(2 * np.sqrt(areas / math.pi), np.float32)


def thickness_px(mask: Plane) -> Values:
    """Measure structures across, at the pixels of their centre lines.

    These are the pixels that no neighbour exceeds in distance to the background. A line of w px
    has one per pixel of its length (two where w is even) and each measures w, along rows and
    columns exactly, else to a pixel; a disc has its centre, and measures its diameter or up to
    1.4 px less. What lies outside the image is background.

    Args:
        mask: (H, W) uint8 in {0, 1}.

    Returns:
        (points,) float32, ascending; empty for an empty mask.

    Example:
        >>> thickness_px(np.ones((3, 5), np.uint8)).tolist()
        [3.0, 3.0, 3.0]
    """
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    away = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # (H + 2, W + 2)
    crests = (framed > 0) & (away >= cv2.dilate(away, np.ones((3, 3), np.uint8)))
    at, flat, row = np.flatnonzero(crests), away.ravel(), framed.shape[1]
    height = flat[at]
    # distances run between pixel centres: of an odd width to one line of pixels, which alone is
    # highest, of an even width to two
    single = np.zeros(len(at), np.bool_)
    for step in (1, row):
        single |= (flat[at - step] < height) & (flat[at + step] < height)
    return np.sort(2 * height - single.astype(np.float32))


def scaled_dice(mask: Plane, factor: int) -> float:
    """Dice of a mask with itself after an image ``factor`` times smaller.

    It is shrunk by averaging, enlarged bilinearly and cut at one half: about the best that a
    network can do which sees small images. Of lines that are thinner than a small pixel another
    threshold would save some.

    Args:
        mask: (H, W) uint8 in {0, 1}.
        factor: How many pixels become one, along each side.

    Returns:
        Score in [0, 1]: 1 when nothing is lost; NaN of an empty mask.
    """
    n_true = cv2.countNonZero(mask)
    if not n_true:
        return math.nan
    height, width = mask.shape
    small = cv2.resize(
        mask * np.uint8(255),
        (max(1, round(width / factor)), max(1, round(height / factor))),
        interpolation=cv2.INTER_AREA,
    )
    left = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) > 127
    n_left = cv2.countNonZero(left.view(np.uint8))
    return float(2 * cv2.countNonZero(mask * left.view(np.uint8)) / (n_true + n_left))


def blank_tile_fraction(mask: Plane) -> float:
    """Share of the tiles of a mask without foreground; tiles are equal and of 128 px at most.

    Args:
        mask: (H, W) uint8 in {0, 1}.

    Example:
        >>> mask = np.zeros((256, 200), np.uint8)
        >>> mask[5, 150] = 1
        >>> blank_tile_fraction(mask)
        0.75
    """
    starts = [np.arange(n) * side // n for side in mask.shape for n in [-(-side // TILE_PX)]]
    tiles = np.maximum.reduceat(np.maximum.reduceat(mask, starts[0], axis=0), starts[1], axis=1)
    return float(np.mean(tiles == 0))


# --- of the image


def contrast(grey: Plane, mask: Plane) -> float:
    """Tell how well grey levels alone separate foreground from background.

    Args:
        grey: (H, W) uint8.
        mask: (H, W) uint8 in {0, 1}.

    Returns:
        Chance that a pixel of the foreground is brighter than one of the background, minus the
        chance that it is darker; NaN when there is none of either.

    Reference:
        Cliff (1993), Psychological Bulletin 114(3), https://doi.org/10.1037/0033-2909.114.3.494

    Example:
        >>> contrast(np.array([[5, 5, 9, 2]], np.uint8), np.array([[1, 0, 0, 0]], np.uint8))
        0.0
    """
    inside = _counts(grey, mask)
    outside = _counts(grey) - inside
    if not inside.any() or not outside.any():
        return math.nan
    darker = np.cumsum(outside) - outside  # (256,) background pixels below each level
    brighter = outside.sum() - outside - darker
    return float(inside @ (darker - brighter) / (inside.sum() * outside.sum()))


def texture_px(grey: Plane) -> float:
    """Measure how far apart pixels resemble each other, in the middle of an image.

    Args:
        grey: (H, W) uint8.

    Returns:
        Lag at which the autocorrelation falls below 1/e, along rows or columns, whichever is
        shorter; linear between whole pixels, so that white noise has 0.63. At most half the side
        looked at; NaN when the image is constant. What has most contrast decides: a shadow across
        the image, then objects, then grain.
    """
    rows, cols = (slice(max(0, (n - TEXTURE_PX) // 2), (n + TEXTURE_PX) // 2) for n in grey.shape)
    middle = grey[rows, cols].astype(np.float32)  # (h, w)
    middle -= middle.mean(dtype=np.float64).astype(np.float32)
    variance = _mean_product(middle, middle)
    if variance < 1e-6:  # whole grey levels vary by more; this is what rounding leaves
        return math.nan
    lags = (_lag_px(plane / np.float32(variance**0.5)) for plane in (middle, middle.T))
    # rounded, so that no order of summation shows
    return round(min((lag for lag in lags if lag > 0), default=math.nan), 2)


def _lag_px(plane: NDArray[np.float32]) -> float:
    """Find the lag along the first axis by doubling, then by halving; 0 when there is no second."""
    limit = len(plane) // 2
    near, far = (0, 1.0), (0, 1.0)  # (lag, autocorrelation) above the level, and the next tried
    while far[1] > FORGOTTEN:
        near, lag = far, min(max(1, 2 * far[0]), limit)
        if lag == near[0]:
            return float(limit)
        far = (lag, _mean_product(plane[lag:], plane[:-lag]))
    while far[0] - near[0] > 1:
        lag = (near[0] + far[0]) // 2
        tried = (lag, _mean_product(plane[lag:], plane[:-lag]))
        near, far = (tried, far) if tried[1] > FORGOTTEN else (near, tried)
    return near[0] + (near[1] - FORGOTTEN) / (near[1] - far[1])


def _mean_product(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij", first, second)) / first.size


# --- parts and counts


def _part(mask: Plane) -> tuple[slice, slice]:
    """Choose the part that is measured: the first of those with the most foreground."""
    starts = [
        np.linspace(0, max(0, side - PART_PX), -(-side // PART_PX)).astype(int).tolist()
        for side in mask.shape
    ]
    parts = [
        (slice(top, top + PART_PX), slice(left, left + PART_PX))
        for top in starts[0]
        for left in starts[1]
    ]
    return max(parts, key=lambda part: cv2.countNonZero(mask[part])) if parts[1:] else parts[0]


def _counts(values: Plane, mask: Plane | None = None) -> NDArray[np.float64]:
    """Count the pixels of each of the 256 levels, (256,), where a mask says so."""
    counted = cv2.calcHist([values], [0], mask, [256], [0, 256])  # exact up to 2 ** 24 a level
    return np.asarray(counted.ravel(), np.float64)


def _thinned(values: Values) -> Values:
    """Choose evenly among sorted values, so that their quantiles stay what they are."""
    if len(values) <= MOST_VALUES:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_VALUES).round().astype(np.int64)]

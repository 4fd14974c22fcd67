"""Random crops with one resample and one intensity table per sample.

Everything is a pure function of ``(seed, epoch, index)``: the number of workers, the batch size
and a resumed run cannot change a single pixel.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_OVERHANG = 1 / 8  # of the crop's side: lets border pixels come to the middle more often
_WARPED_SHARE = 0.75  # the others stay free of interpolation, as the images predicted later are
_MAX_SHEAR = 0.15
_MAX_LOG2_ZOOM = 0.5  # 0.71x to 1.41x: little enough for linear interpolation not to alias


def generator_for(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Make the generator of one sample in one epoch; costs about 30 microseconds.

    Args:
        seed: Of the run, at least 0.
        epoch: At least 0.
        index: Of the sample in the training part, at least 0.

    Example:
        >>> a, b = generator_for(1, 2, 3), generator_for(1, 2, 3)
        >>> a.random() == b.random()
        True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))


def augment(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    crop_px: int,
    strength: float,
    rng: np.random.Generator,
    focus: tuple[int, int] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut one random square crop out of a sample, varied in pose and intensity.

    Strength 0 only chooses the position and copies pixels bit for bit. Above it come flips, quarter
    turns, then angles (any at 1), zoom, shear, gamma, contrast, brightness, tint, blur and grain;
    above 0.7 seldom also a negative. What lies beyond the border is mirrored, so images may be
    smaller than the crop.

    Args:
        image: (H, W, C) uint8, at least 1x1.
        mask: (H, W) uint8 in {0, 1}.
        crop_px: Side of the crop.
        strength: In [0, 1].
        rng: From :func:`generator_for`.
        focus: (row, col) that the crop must contain; None draws uniformly over the image.

    Returns:
        Crop (crop_px, crop_px, C) uint8 and its mask (crop_px, crop_px) uint8 in {0, 1}.
    """
    linear = _draw_linear(strength, rng)
    centre = _draw_centre(mask.shape, crop_px, strength, rng, focus)
    matrix = _place(linear, centre, crop_px, focus)
    rows, cols = _reach(matrix, crop_px, mask.shape)
    matrix[:, 2] -= cols.start, rows.start
    truth = _warp(mask[rows, cols], matrix, crop_px, cv2.INTER_NEAREST)
    crop = _warp_color(image[rows, cols], matrix, crop_px)
    if strength > 0:
        crop = _texture(_tone(crop, strength, rng), strength, rng)
    return crop, truth


def resized(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], size_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stretch a sample to a square; areas are averaged when it shrinks.

    Args:
        image: (H, W, C) uint8.
        mask: (H, W) uint8 in {0, 1}.
        size_px: Side of the square.

    Returns:
        Image (size_px, size_px, C) uint8 and mask (size_px, size_px) uint8 in {0, 1}.
    """
    size = (size_px, size_px)
    # Plain INTER_NEAREST rounds down and shifts the mask by up to half a source pixel.
    small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return rescaled(image, size), small  # (size_px, size_px, C)


def rescaled(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an image; areas are averaged when it shrinks.

    Args:
        image: (H, W, C) uint8.
        size: (height, width) wanted.

    Returns:
        (height, width, C) uint8.
    """
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # OpenCV averages areas of four channels at most
    parts = np.split(image, range(4, image.shape[2], 4), axis=2)
    rescaled_parts = [
        cv2.resize(np.ascontiguousarray(part), size[::-1], interpolation=method).reshape(*size, -1)
        for part in parts
    ]
    return np.concatenate(rescaled_parts, axis=2)  # (height, width, C)


def _draw_linear(strength: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the 2x2 map from offsets (x, y) in the crop to offsets in the image."""
    if strength == 0:
        return np.eye(2)
    flip_x, flip_y, warps, turn, zoom, shear_x, shear_y = rng.random(7)
    bend = strength if warps < _WARPED_SHARE else 0.0
    quarter, within = divmod(4 * turn, 1)
    angle = math.pi / 2 * (quarter + bend * (within - 0.5))
    scale = 2 ** (bend * _MAX_LOG2_ZOOM * (2 * zoom - 1))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    shears = bend * _MAX_SHEAR * (2 * np.array([shear_x, shear_y]) - 1)
    flips = np.where(np.array([flip_x, flip_y]) < 0.5, -1.0, 1.0)
    shear = np.array([[1, shears[0]], [shears[1], 1]])
    linear: NDArray[np.float64] = np.array([[cos, -sin], [sin, cos]]) @ shear * flips
    return linear


def _draw_centre(
    size: tuple[int, ...],
    crop_px: int,
    strength: float,
    rng: np.random.Generator,
    focus: tuple[int, int] | None,
) -> NDArray[np.float64]:
    """Draw the crop's centre (x, y) in the image; the unrotated crop then starts on a pixel."""
    slack = np.array(size[::-1]) - crop_px  # negative where the image is smaller
    overhang = round(strength * _OVERHANG * crop_px)
    lowest, highest = np.minimum(slack, 0) - overhang, np.maximum(slack, 0) + overhang
    if focus is None:
        start = rng.integers(lowest, highest, endpoint=True)
    else:
        jitter = rng.integers(-(crop_px // 4), crop_px // 4, size=2, endpoint=True)
        start = np.clip(np.array(focus[::-1]) - crop_px // 2 + jitter, lowest, highest)
    return np.asarray(start + (crop_px - 1) / 2)


def _place(
    linear: NDArray[np.float64],
    centre: NDArray[np.float64],
    crop_px: int,
    focus: tuple[int, int] | None,
) -> NDArray[np.float64]:
    """Complete the 2x3 matrix from crop to image, shifted where it would lose the focus."""
    half = (crop_px - 1) / 2
    if focus is not None:
        target = np.array(focus[::-1], dtype=np.float64)
        offset = np.linalg.solve(linear, target - centre)
        centre = target - linear @ np.clip(offset, -half, half)
    return np.column_stack([linear, centre - linear @ np.array([half, half])])


def _reach(matrix: NDArray[np.float64], crop_px: int, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Find the rows and columns of the image that the crop sees, mirrored ones included."""
    last = crop_px - 1
    corners = matrix @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])  # (2, 4)
    windows = []
    for seen, n_px in zip(corners[::-1], size, strict=True):
        first, end = math.floor(seen.min()) - 1, math.ceil(seen.max()) + 2
        first, end = min(first, 2 * (n_px - 1) - end), max(end, -first + 1)  # through the mirror
        windows.append(slice(max(first, 0), min(end, n_px)))
    return windows[0], windows[1]


def _warp(
    pixels: NDArray[np.uint8], matrix: NDArray[np.float64], crop_px: int, method: int
) -> NDArray[np.uint8]:
    """Resample through the matrix from crop to pixels; the border is mirrored."""
    warped: NDArray[np.uint8] = cv2.warpAffine(
        pixels,
        matrix,
        (crop_px, crop_px),
        flags=method | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return warped


def _warp_color(
    pixels: NDArray[np.uint8], matrix: NDArray[np.float64], crop_px: int
) -> NDArray[np.uint8]:
    """Resample (H, W, C) linearly to (crop_px, crop_px, C)."""
    if pixels.shape[2] == 3:  # with a fourth channel OpenCV's warp takes two thirds of the time
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
        warped = _warp(pixels, matrix, crop_px, cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB))
    return _warp(pixels, matrix, crop_px, cv2.INTER_LINEAR).reshape(crop_px, crop_px, -1)


def _tone(crop: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change gamma, contrast, brightness and tint through one table of 256 entries."""
    channels = crop.shape[2]
    gamma, contrast, brightness = strength * rng.uniform(-1, 1, size=3)
    tint = 0.08 * strength * rng.uniform(-1, 1, size=channels) * (channels > 1)
    power = 2 ** (0.7 * gamma)
    levels = np.linspace(0, 1, 256)[:, None] ** power  # (256, 1)
    pivot = (float(crop[::8, ::8].mean()) / 255) ** power  # dark pictures must not drown in black
    levels = (levels - pivot) * 2 ** (0.7 * contrast) + pivot + 0.12 * brightness + tint
    if rng.random() < 0.3 * (strength - 0.7):
        levels = 1 - levels
    table = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)  # (256, C)
    return np.asarray(cv2.LUT(crop, table[:, None])).reshape(crop.shape)


def _texture(
    crop: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur some crops and grain others; most stay as they are."""
    choice, amount = rng.random(2)
    if choice < 0.15 * strength:
        sigma_px = 0.4 + 0.8 * strength * amount
        return np.asarray(cv2.GaussianBlur(crop, (5, 5), sigma_px)).reshape(crop.shape)
    if choice < 0.3 * strength:
        peak = 2 + round(10 * strength * amount)
        grain = rng.integers(0, 2 * peak, crop.shape[:2], dtype=np.uint8, endpoint=True)
        grains = cv2.merge([grain] * crop.shape[2])
        grained = cv2.subtract(
            cv2.add(crop.reshape(grains.shape), grains), np.full_like(grains, peak)
        )
        return np.asarray(grained).reshape(crop.shape)
    return crop

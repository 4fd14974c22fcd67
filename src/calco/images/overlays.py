"""Outlines of masks on pictures, for people: report pages and notebooks."""

from __future__ import annotations

import base64
import io
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

# Blue and orange differ for every common colour-blindness. Lightened from Okabe & Ito (2008),
# https://jfly.uni-koeln.de/color/, so that both also stand out on dark slides.
TRUE_COLOR = (64, 180, 255)
PRED_COLOR = (255, 159, 28)
HALO_COLOR = (16, 18, 22)

SIDE_PX = 512  # longer side of an overlay: sharp at a third of a desktop page, small in a file
FINER = 2  # lines are drawn at this multiple of the size
DIM_LEVEL = 110.0  # pictures whose brightest pixels are below are brightened to it, for display
MAX_GAIN = 8.0  # more would show nothing but sensor noise


def overlay(
    image: UInt8Array,
    true: BoolArray | None,
    pred: BoolArray | None,
    side_px: int = SIDE_PX,
) -> UInt8Array:
    """Trace the truth in blue and the prediction in orange on a picture.

    The picture is brought to a fixed size first, so that lines are crisp on a 32 px tile and
    visible on a 50 megapixel scan. Where both lines run together the blue one shows on both sides
    of the orange one; objects of a single pixel keep a dot.

    Args:
        image: (H, W, C) uint8; the first three channels are shown, or the first when C < 3.
        true: (H, W) bool; None draws no truth.
        pred: (H, W) bool; None draws no prediction.
        side_px: Longer side of the result, in pixels.

    Returns:
        (H', W', 3) uint8, RGB, with max(H', W') = ``side_px``.
    """
    scale = side_px / max(image.shape[:2])
    fine = scale * FINER  # OpenCV's lines come in whole pixels: drawn large, they can be thinner
    canvas = for_display(_resized(image, fine))  # (2 H', 2 W', 3)
    thin_px = max(1, round(FINER * side_px / 320))
    given = [(m, color) for m, color in ((true, TRUE_COLOR), (pred, PRED_COLOR)) if m is not None]
    widths_px = (thin_px,) if len(given) == 1 else (2 * thin_px + 1, thin_px)
    tracings = [
        (_contours(mask, fine), color, width_px)
        for (mask, color), width_px in zip(given, widths_px, strict=False)
    ]
    for contours, _, width_px in tracings:  # a halo parts a line from a picture of its own colour
        _draw(canvas, contours, HALO_COLOR, width_px + 2)
    for contours, color, width_px in tracings:
        _draw(canvas, contours, color, width_px)
    return _resized(canvas, 1 / FINER)


def for_display(image: UInt8Array) -> UInt8Array:
    """Return a picture as RGB, brightened when it is too dark to look at.

    Args:
        image: (H, W, C) uint8.

    Returns:
        (H, W, 3) uint8. Never darker than the input; one gain for all pixels and channels.
    """
    rgb = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    bright = float(np.percentile(rgb, 99.5))
    gain = min(MAX_GAIN, DIM_LEVEL / bright) if bright else 1.0
    if gain <= 1:
        return np.array(rgb)
    return np.asarray(np.minimum(rgb * np.float32(gain), 255), np.uint8)


def encode(picture: UInt8Array, max_bytes: int = 80_000) -> bytes:
    """Return a picture as JPEG, at the best quality that fits.

    Args:
        picture: (H, W, 3) uint8, RGB.
        max_bytes: Quality is lowered down to 30 until the file is no larger.
    """
    for quality in (88, 75, 60, 45, 30):
        buffer = io.BytesIO()
        # full chroma resolution: thin coloured lines are what the picture is for
        subsampling = 0 if quality > 60 else 2
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        if buffer.tell() <= max_bytes:
            break
    return buffer.getvalue()


def data_uri(data: bytes, kind: Literal["png", "jpeg"]) -> str:
    """Return an encoded picture as an address that holds it.

    Example:
        >>> data_uri(b"abc", "png")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _resized(image: UInt8Array, scale: float) -> UInt8Array:
    height, width, channels = image.shape
    shown = np.ascontiguousarray(image[..., : 3 if channels >= 3 else 1])
    size = (max(1, round(width * scale)), max(1, round(height * scale)))  # OpenCV: (width, height)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = np.asarray(cv2.resize(shown, size, interpolation=method), np.uint8)
    return resized.reshape(size[1], size[0], -1)  # OpenCV drops a single channel


def _contours(mask: BoolArray, scale: float) -> list[npt.NDArray[np.float64]]:
    """Find outlines in the coordinates of the scaled picture.

    Large masks are traced at full size and the points scaled, small masks enlarged before: either
    way no object can vanish in a resampling.
    """
    factor = max(1, int(scale))
    large = np.kron(mask, np.ones((factor, factor), np.uint8)).astype(np.uint8)
    found, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # pixel centres sit at half-integers: scale about them, not about the corner
    return [(points + 0.5) * (scale / factor) - 0.5 for points in found]


def _draw(
    canvas: UInt8Array,
    contours: list[npt.NDArray[np.float64]],
    color: tuple[int, int, int],
    width_px: int,
) -> None:
    shift = 4  # OpenCV draws at sixteenths of a pixel
    points = [np.rint(c * 2**shift).astype(np.int32) for c in contours]
    cv2.polylines(canvas, points, True, color, width_px, cv2.LINE_AA, shift)

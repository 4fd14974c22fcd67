"""Images as a program has them in hand: a path, a picture of Pillow, or an array."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calco.errors import CalcoError, Problem
from calco.images.decode import stored_picture
from calco.images.io import Pixels, read_image, to_input, to_pixels
from calco.records.data import ImageSpec

Given: TypeAlias = str | PathLike[str] | Image.Image | NDArray[Any]
"""One image: a file, a picture of Pillow, or an array (H, W) or (H, W, C)."""

_ALPHA = 4


def read_given(source: Given, spec: ImageSpec) -> NDArray[np.uint8]:
    """Bring an image to the network's input, whatever holds it.

    Args:
        source: File as for ``read_image``; picture, converted as its file would be (orientation,
            palette, transparency, colour profile); array (H, W) grey or (H, W, C) in RGB order,
            uint8, or deeper when the training images were.
        spec: How images are read.

    Returns:
        (H, W, C) uint8, contiguous, RGB order; upright, at the size of the source.

    Raises:
        CalcoError: IMG_KIND, IMG_SHAPE, IMG_CHANNELS, IMG_DEPTH or IMG_NONFINITE for arrays and
            pictures; as ``read_image`` for files.
    """
    match source:
        case np.ndarray():
            return _array_input(source, spec)
        case Image.Image():
            pixels = to_pixels(stored_picture(source))
            return _array_input(pixels.pixels, spec)
        case str() | PathLike():
            return read_image(Path(source), spec)
    raise CalcoError(
        Problem(
            "IMG_KIND",
            "this is no image",
            got=type(source).__name__,
            expected="a path, a PIL image, or a NumPy array (H, W) or (H, W, C)",
            do=_instead_of(source),
        )
    )


def _instead_of(source: object) -> str:
    if hasattr(source, "detach"):
        return "give tensor.numpy(), channels last"
    if isinstance(source, bytes | bytearray):
        return "give PIL.Image.open(io.BytesIO(data))"
    return "for several images give a list, or iter(...) of them"


def _array_input(image: NDArray[Any], spec: ImageSpec) -> NDArray[np.uint8]:
    _check_shape(image.shape, spec.channels)
    _check_depth(image, spec)
    flat = image[..., 0] if image.shape[2:] == (1,) else image
    return to_input(Pixels(flat, "array"), spec)


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
    expected = f"(H, W, {channels}) or (H, W)" if channels in (1, 3) else f"(H, W, {channels})"
    if len(shape) not in (2, 3) or 0 in shape:
        do = "give a list of images" if len(shape) == 4 else "give one image, channels last"
        what = "the array is not an image"
        raise CalcoError(Problem("IMG_SHAPE", what, "", f"shape {shape}", expected, do))
    fitting = {channels, *((1, 3) if channels in (1, 3) else ())}
    have = shape[2] if len(shape) == 3 else 1
    if have not in fitting:
        do = f"give as many channels as the training images have: {channels}"
        if len(shape) == 3 and shape[0] in fitting:
            do = "put the channels last: image.transpose(1, 2, 0)"
        elif have == _ALPHA and 3 in fitting:
            do = "leave opacity out: image[..., :3]"
        what = "the array has other channels than the training images"
        raise CalcoError(Problem("IMG_CHANNELS", what, "", f"shape {shape}", expected, do))


def _check_depth(image: NDArray[Any], spec: ImageSpec) -> None:
    kind, is_8_bit = image.dtype.kind, (spec.low, spec.high) == (0.0, 255.0)
    if image.dtype == np.uint8:
        return
    if kind not in "uif" or is_8_bit:
        do = {
            "b": "give image.astype(np.uint8) * 255",
            "f": "give np.rint(255 * image).astype(np.uint8) if its values are 0 to 1",
        }.get(kind, "give image.astype(np.uint8) if its values are 0 to 255")
        raise CalcoError(
            Problem(
                "IMG_DEPTH",
                "the array has other values than the training images",
                got=str(image.dtype),
                expected="uint8" if is_8_bit else f"uint8, or values {spec.low:g} to {spec.high:g}",
                do=do,
            )
        )
    if kind == "f" and not np.isfinite(image).all():
        what, do = "the array holds NaN or infinity", "replace them: np.nan_to_num(image)"
        raise CalcoError(Problem("IMG_NONFINITE", what, expected="finite values", do=do))

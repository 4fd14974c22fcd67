"""TIFF of any depth and number of channels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from calco.archives import for_decoder
from calco.images.files import check_megapixels, refuse_frames
from calco.images.stored import FIRST_SIDEWAYS, TURNS, Stored, Values, native, upright

# tifffile reports oddities of a file through logging; without a handler Python prints them
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PHOTOMETRIC_CONVERTED = (3, 5, 6, 8)  # palette, CMYK, YCbCr, CIELab
_YCBCR, _JPEG = 6, 7
_ALPHA_SAMPLES = (1, 2)  # associated and unassociated alpha
_SHORT_AXIS = 16  # a last axis this short is channels, not a picture's width


def read_tiff(path: Path, max_megapixels: float, frame: int | None) -> Stored | None:
    """Read a TIFF; None when it is of a kind that Pillow converts better.

    Raises:
        CalcoError: IMG_SIZE, IMG_FRAMES or IMG_FORMAT.
    """
    with open_tiff(path) as tiff:
        if is_for_pillow(tiff.pages[0]):
            return None
        return _read_array(path, tiff, max_megapixels, frame)


def tiff_size(path: Path) -> tuple[int, int, str] | None:
    """Return (height, width, mode) of the upright image; None for the kinds left to Pillow."""
    with open_tiff(path) as tiff:
        page = tiff.pages[0]
        if is_for_pillow(page):
            return None
        _, axes, shape = plane_of(path, tiff, frame=0)
        size = (shape[axes.index("Y")], shape[axes.index("X")])
        turned = orientation_of(page) >= FIRST_SIDEWAYS
        return *(size[::-1] if turned else size), _mode(page)


def open_tiff(path: Path) -> Any:  # noqa: ANN401 - tifffile is untyped
    """Open a TIFF, and no other file that it names."""
    # the metadata of a file must not make us read other files
    return tifffile.TiffFile(for_decoder(path), _multifile=False)


def is_for_pillow(page: Any) -> bool:  # noqa: ANN401
    """Whether a page is palette, CMYK, YCbCr or Lab, or packs pixels into bits."""
    if page.photometric == _YCBCR and page.compression == _JPEG:
        return False  # comes out as RGB; Pillow's reader prints faults to the terminal
    return page.photometric in _PHOTOMETRIC_CONVERTED or page.bitspersample < 8


def _read_array(path: Path, tiff: Any, max_megapixels: float, frame: int | None) -> Stored:  # noqa: ANN401
    page, axes, shape = plane_of(path, tiff, frame)
    # values as (rows, columns, channels), whatever their order on disk
    order = [axes.index(a) for a in ("Y", "X")] + [i for i, a in enumerate(axes) if a not in "YX"]
    height, width, *rest = (shape[i] for i in order)
    channels = rest[0] if rest else 1
    check_megapixels(path, (height, width), channels, max_megapixels)
    values = page.asarray().reshape(shape).transpose(order)
    return upright(to_stored(values, tiff.pages[0], path), orientation_of(tiff.pages[0]))


def to_stored(values: Values, page: Any, path: Path) -> Stored:  # noqa: ANN401
    """Describe pixels of a page, or of pages like it.

    Args:
        values: (H, W) or (H, W, C) as the file holds them, all or a part.
        page: Tells what they mean.
        path: For messages.

    Returns:
        Not yet turned upright.

    Raises:
        CalcoError: IMG_FORMAT.
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3 and channels == 1:
        values = values[..., 0]
    values, notes = native(values, path)
    if page.photometric == 0 and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values  # stored with 0 as white
    has_alpha = channels in (2, 4) and any(s in _ALPHA_SAMPLES for s in page.extrasamples)
    return Stored(values, _mode(page), has_alpha=has_alpha, notes=notes, profile=_profile(page))


def plane_of(
    path: Path,
    tiff: Any,  # noqa: ANN401
    frame: int | None,
) -> tuple[Any, str, tuple[int, ...]]:
    """Choose the page or series that is the image; return it with its axes and shape."""
    kinds = (
        (page, page.keyframe) for page in tiff.pages
    )  # further pages may know no more of theirs
    pages = [p for p, kind in kinds if not (kind.is_reduced or kind.is_mask)] or [tiff.pages[0]]
    series = tiff.series[0]
    if len(pages) > 1 or series.size != pages[0].size:
        axes, shape = series.axes, tuple(series.shape)
        if axes in ("CYX", "YXC"):  # channels kept as pages, and the file says so
            return series, axes, shape
        if axes == "QYX" and 4 * shape[2] <= min(shape[:2]) and shape[2] <= _SHORT_AXIS:
            # imwrite((H, W, C)) without hints writes H pages of W x C
            return series, "YXC", shape
        refuse_frames(path, max(len(pages), series.size // pages[0].size), frame)
    page = pages[frame or 0]
    return page, page.axes, tuple(page.shape)


def orientation_of(page: Any) -> int:  # noqa: ANN401
    """Return the EXIF orientation of a page; 1 for any value that EXIF does not define."""
    tag = page.tags.get(274)
    return tag.value if tag is not None and tag.value in TURNS else 1


def _profile(page: Any) -> bytes | None:  # noqa: ANN401
    tag = page.tags.get(34675)
    return tag.value if tag is not None and isinstance(tag.value, bytes) else None


def _mode(page: Any) -> str:  # noqa: ANN401
    samples, extra = page.samplesperpixel, page.extrasamples
    alpha = "A" if extra and extra[0] in _ALPHA_SAMPLES else ""
    name = {1: "L", 2: "LA" if alpha else "", 3: "RGB", 4: "RGBA" if alpha else ""}.get(samples)
    name = name or f"{samples} channels"
    return name if page.dtype == np.uint8 else f"{name};{page.dtype}"

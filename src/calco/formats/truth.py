"""The truth of a sample as bool pixels, wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.formats.rle import decode_rows
from calco.images.io import read_image
from calco.images.mask_files import read_mask_file
from calco.records.data import (
    FileMask,
    ImageSpec,
    MaskCode,
    MaskSource,
    ObjectMasks,
    RleMask,
    Sample,
    SampleIndex,
)
from calco.wording import place

Size = tuple[int, int]


def read_sample(
    sample: Sample, index: SampleIndex, spec: ImageSpec | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read a labelled image and its truth as its data set says.

    Args:
        sample: One of the index.
        index: How images and masks are read.
        spec: How the image is read instead, e.g. for the model of another data set.

    Returns:
        Image (H, W, C) uint8 and truth (H, W) bool.

    Raises:
        CalcoError: MASK_MISSING, and what reading the files raises, named from the data root down.
    """
    if sample.mask is None:
        what, do = "no truth to compare with", "add its mask, or leave the image out"
        raise CalcoError(Problem("MASK_MISSING", what, sample.id, do=do))
    try:
        image = read_image(sample.image, spec or index.spec)  # (H, W, C)
        size, limit = (image.shape[0], image.shape[1]), index.spec.max_megapixels
        return image, read_truth(sample.mask, index.code, size, limit)
    except CalcoError as error:
        raise CalcoError(
            *(replace(p, where=place(Path(p.where), index.root)) for p in error.problems)
        ) from None


def read_truth(
    source: MaskSource, code: MaskCode, size: Size | None = None, max_megapixels: float = 100
) -> NDArray[np.bool_]:
    """Read a truth; several objects or rows are joined.

    Args:
        source: A mask file, one file per object, or run-length encoded rows.
        code: How mask files are read; only ``invert`` concerns encoded rows.
        size: (height, width) of the image; None takes the mask's own, which encoded rows and
            an empty list of objects do not have.
        max_megapixels: Largest mask decoded.

    Returns:
        (H, W) bool, True is foreground.

    Raises:
        CalcoError: MASK_SIZE when the sizes differ, MASK_SIZE_UNKNOWN when none is known, and what
            reading the files or rows raises.
    """
    match source:
        case FileMask():
            mask = read_mask_file(source.path, code, max_megapixels)
            _require_size(mask, size, str(source.path))
            return mask
        case ObjectMasks():
            return _union(_object_masks(source, code, size, max_megapixels), size, code.invert)
        case RleMask():
            if size is None:
                raise _unknown_size(source.where)
            mask = decode_rows(source.rows, size, source.dialect, source.where)
            return ~mask if code.invert else mask
        case _:
            assert_never(source)


def _object_masks(
    source: ObjectMasks, code: MaskCode, size: Size | None, max_megapixels: float
) -> Iterator[NDArray[np.bool_]]:
    for path in source.paths:
        mask = read_mask_file(path, replace(code, invert=False), max_megapixels)
        _require_size(mask, size, str(path))
        size = (mask.shape[0], mask.shape[1])  # the first object decides when the image did not
        yield mask


def _union(
    masks: Iterator[NDArray[np.bool_]], size: Size | None, invert: bool
) -> NDArray[np.bool_]:
    """Join masks; only the union is inverted, so that objects are not lost in each other."""
    whole = next(masks, None)
    if whole is None:
        if size is None:
            raise _unknown_size("")
        whole = np.zeros(size, bool)
    for mask in masks:
        whole = whole | mask
    return ~whole if invert else whole


def _require_size(mask: NDArray[np.bool_], size: Size | None, where: str) -> None:
    if size is None or mask.shape == size:
        return
    transposed = mask.shape == size[::-1]
    raise CalcoError(
        Problem(
            "MASK_SIZE",
            "mask and image differ in size" + ("; it equals the transpose" if transposed else ""),
            where,
            got=f"mask {mask.shape[0]} x {mask.shape[1]}",
            expected=f"{size[0]} x {size[1]} (H x W) like its image",
            do="transpose the mask, or if it was drawn before its image was turned upright, remove "
            "the image's tag: exiftool -Orientation= FILE"
            if transposed
            else "export it again at the image's size",
        )
    )


def _unknown_size(where: str) -> CalcoError:
    return CalcoError(
        Problem(
            "MASK_SIZE_UNKNOWN",
            "the mask's size is unknown",
            where,
            expected="an image that gives it",
            do="add the image",
        )
    )

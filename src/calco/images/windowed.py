"""Images too large for memory, read by window, as the network's input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.images.files import check_megapixels, decoder_faults, is_zarr, refuse_level, sniff
from calco.images.io import to_input, to_pixels
from calco.images.stored import Stored, require_finite
from calco.images.strip_writers import Form
from calco.images.tiff_windows import tiff_windows
from calco.images.tiles import Window
from calco.images.zarr_windows import open_zarr
from calco.records.data import ImageSpec

WINDOWED_PX = 4096 * 4096
"""TIFF with more pixels are read by window; smaller ones cost less memory than the network."""
MAX_MEGAPIXELS = 100_000.0
"""No slide is larger; a forged header must not ask for weeks of work and a full disk."""


class Raster(Protocol):
    """What is read by window."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""

    def stored(self, window: Window) -> Stored:
        """Return the values of a window, upright."""


@dataclass(frozen=True, eq=False)
class WindowedImage:
    """An image that is read by window; threads may read at a time.

    Attributes:
        path: File, or folder of a zarr array.
        raster: Gives the stored values.
        spec: How they become network input.
    """

    path: Path
    raster: Raster
    spec: ImageSpec

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.raster.size

    @property
    def form(self) -> Form:
        """How masks of it are written: as PNG as long as others will open that."""
        if is_zarr(self.path):
            return "zarr"
        n_px = self.size[0] * self.size[1]
        return "png" if n_px <= self.spec.max_megapixels * 1e6 else "tif"

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read a part as the network's input; the same pixels as in the whole image.

        Args:
            window: Inside the image.

        Returns:
            (height, width, C) uint8, contiguous, RGB order.

        Raises:
            CalcoError: What is wrong with these pixels, naming the file and the window.
        """
        where = f"{self.path}, window at row {window.top}, column {window.left}"
        try:
            with decoder_faults(self.path):
                stored = self.raster.stored(window)
            require_finite(stored.values, self.path)
            return to_input(to_pixels(stored), self.spec)
        except CalcoError as error:
            raise CalcoError(*(replace(p, where=where) for p in error.problems)) from None

    def shrunken(self, step_px: int) -> NDArray[np.uint8]:
        """Read the image at a fraction of its size, each pixel the mean of ``step_px`` squared.

        Returns:
            (ceil(H / step_px), ceil(W / step_px), C) uint8; the first three channels at most.
        """
        height, width = self.size
        side = max(1, 1024 // step_px) * step_px
        rows = []
        for top in range(0, height, side):
            row = []
            for left in range(0, width, side):
                window = Window(top, left, min(side, height - top), min(side, width - left))
                part = np.ascontiguousarray(self.read(window)[..., :3])
                size = (-(-window.width // step_px), -(-window.height // step_px))
                small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
                row.append(small.reshape(size[1], size[0], -1))  # OpenCV drops a single channel
            rows.append(np.concatenate(row, axis=1))
        return np.concatenate(rows)


@contextmanager
def opened(path: Path, spec: ImageSpec, level: int = 0) -> Iterator[WindowedImage | None]:
    """Open an image that is better read by window than whole.

    Those are zarr arrays, pyramids, and TIFF of more than ``WINDOWED_PX`` pixels; all others are
    None and subject to ``spec.max_megapixels``. So are TIFF up to this limit whose tiles or strips
    cannot be read one by one.

    Args:
        path: Image.
        spec: How it becomes network input.
        level: Of a pyramid; 0 is the finest.

    Raises:
        CalcoError: When it cannot be read, or has no such level.
    """
    if is_zarr(path):
        with decoder_faults(path):
            array, _ = open_zarr(path, level)
        check_megapixels(path, array.size, 1, MAX_MEGAPIXELS)
        yield WindowedImage(path, array, spec)
    elif sniff(path) != "TIFF":
        refuse_level(path, level, [(0, 0)])
        yield None
    else:
        with _opened_tiff(path, spec, level) as image:
            yield image


@contextmanager
def _opened_tiff(path: Path, spec: ImageSpec, level: int) -> Iterator[WindowedImage | None]:
    with ExitStack() as stack:
        with decoder_faults(path):
            found = stack.enter_context(tiff_windows(path, level, spec.frame))
        if found is None:
            refuse_level(path, level, [(0, 0)])
            yield None
            return
        tiff, n_levels = found
        n_px = tiff.size[0] * tiff.size[1]
        is_small = n_px <= spec.max_megapixels * 1e6
        if n_levels == 1 and (n_px <= WINDOWED_PX or (is_small and tiff.obstacle)):
            yield None
            return
        check_megapixels(path, tiff.size, 1, MAX_MEGAPIXELS)
        if tiff.obstacle:
            raise CalcoError(_unreadable(path, tiff.obstacle))
        yield WindowedImage(path, tiff, spec)


def _unreadable(path: Path, obstacle: str) -> Problem:
    return Problem(
        "IMG_SIZE",
        "image is too large to be read whole, and cannot be read by window",
        str(path),
        got=obstacle,
        expected="tiles or strips of up to 64 MB",
        do="save it as a tiled TIFF, e.g. tifffile.imwrite(..., tile=(512, 512))",
    )

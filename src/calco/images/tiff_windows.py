"""Parts of a TIFF, decoded tile by tile or strip by strip."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from calco.errors import CalcoError, Problem
from calco.images.files import refuse_frames, refuse_level
from calco.images.stored import FIRST_SIDEWAYS, Stored, Values, upright
from calco.images.tiff import is_for_pillow, open_tiff, orientation_of, plane_of, to_stored
from calco.images.tiles import Window

MAX_SEGMENT_BYTES = 1 << 26
"""Tiles and strips that decode to more are not read by window."""
CACHE_BYTES = 96 << 20
"""Decoded tiles and strips that are kept: a row of windows of a slide 20,000 px wide."""

_NONE, _JPEG = 1, 7
# LZW, JPEG, Deflate (both numbers), PackBits, LZMA, Zstandard
_COMPRESSIONS = (_NONE, 5, _JPEG, 8, 32946, 32773, 34925, 50000)
_SPARE_BYTES = (
    1 << 16
)  # tables and headers; codecs never make a segment longer than itself and that
# orientations by what they do to stored rows and columns
_ROWS_REVERSED, _COLUMNS_REVERSED = (3, 4, 6, 7), (2, 3, 7, 8)


class TiffWindows:
    """One image of a TIFF file; threads may read at a time.

    Args:
        path: For messages.
        pages: The page of the image, or one page per channel.
        shape: (height, width) as stored.
        orientation: EXIF orientation.
    """

    def __init__(
        self, path: Path, pages: Sequence[Any], shape: tuple[int, int], orientation: int
    ) -> None:
        self.path = path
        self.pages = pages
        self.kind = pages[0].keyframe  # what all of them are like; further pages know it not
        self.orientation = orientation
        self._shape = shape
        self._reading = Lock()
        self._cache: OrderedDict[tuple[int, int], Values] = OrderedDict()
        self._cached_bytes = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        height, width = self._shape
        return (width, height) if self.orientation >= FIRST_SIDEWAYS else (height, width)

    @property
    def obstacle(self) -> str:
        """Why it cannot be read by window; empty when it can."""
        page = self.kind
        if page.compression not in _COMPRESSIONS:
            return f"compression {page.compression}"
        if page.bitspersample not in (8, 16, 32, 64):
            return f"{page.bitspersample} bits"
        if len(self.pages) > 1 and page.samplesperpixel > 1:
            return "several pages of several channels"
        height, width, samples = _segment_shape(page)
        n_bytes = height * width * samples * page.dtype.itemsize
        if n_bytes > MAX_SEGMENT_BYTES and not _is_plain(page):
            return f"tiles or strips of {height} x {width} px"
        return ""

    def stored(self, window: Window) -> Stored:
        """Return the values of a window, upright.

        Raises:
            CalcoError: IMG_TRUNCATED or IMG_FORMAT.
        """
        values = self._values(self._as_stored(window))
        return upright(to_stored(values, self.kind, self.path), self.orientation)

    def _as_stored(self, window: Window) -> Window:
        """Find where the pixels of an upright window are stored."""
        top, left, height, width = window.top, window.left, window.height, window.width
        if self.orientation >= FIRST_SIDEWAYS:
            top, left, height, width = left, top, width, height
        if self.orientation in _ROWS_REVERSED:
            top = self._shape[0] - top - height
        if self.orientation in _COLUMNS_REVERSED:
            left = self._shape[1] - left - width
        return Window(top, left, height, width)

    def _values(self, window: Window) -> Values:
        planes = [
            self._plane(number, plane, window)
            for number in range(len(self.pages))
            for plane in range(self.kind.samplesperpixel if self.kind.planarconfig == 2 else 1)
        ]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)  # (h, w, C)

    def _plane(self, number: int, plane: int, window: Window) -> Values:
        """Put a window together from the tiles or strips of one page and plane."""
        height, width, samples = _segment_shape(self.kind)
        n_down, n_across = -(-self._shape[0] // height), -(-self._shape[1] // width)
        out = np.empty((window.height, window.width, samples), self.kind.dtype)
        bottom, right = window.top + window.height, window.left + window.width
        for i in range(window.top // height, -(-bottom // height)):
            for j in range(window.left // width, -(-right // width)):
                part = Window(
                    max(window.top, i * height),
                    max(window.left, j * width),
                    min(bottom, (i + 1) * height) - max(window.top, i * height),
                    min(right, (j + 1) * width) - max(window.left, j * width),
                )
                inner = Window(
                    part.top - i * height, part.left - j * width, part.height, part.width
                )
                outer = Window(
                    part.top - window.top, part.left - window.left, part.height, part.width
                )
                index = (plane * n_down + i) * n_across + j
                if _is_plain(self.kind):
                    out[outer.slices] = self._bare(self.pages[number], index, inner)
                else:
                    out[outer.slices] = self._decoded(number, index)[inner.slices]
        return out

    def _bare(self, page: Any, index: int, inner: Window) -> Values:  # noqa: ANN401
        """Read a part of a segment that is not compressed, however large the segment is."""
        _, width, samples = _segment_shape(self.kind)
        pixel = samples * self.kind.dtype.itemsize
        dtype = self.kind.dtype.newbyteorder(page.parent.byteorder)
        if page.databytecounts[index] == 0:
            return np.zeros((inner.height, inner.width, samples), self.kind.dtype)
        rows = []
        with self._reading:
            for row in range(inner.top, inner.top + inner.height):
                start = (row * width + inner.left) * pixel
                if start + inner.width * pixel > page.databytecounts[index]:
                    raise CalcoError(_cut_off(self.path, index))
                page.parent.filehandle.seek(page.dataoffsets[index] + start)
                rows.append(self._read(page, inner.width * pixel, index))
        values: Values = np.frombuffer(b"".join(rows), dtype)
        return values.reshape(inner.height, inner.width, samples)

    def _decoded(self, number: int, index: int) -> Values:
        """Return a tile or strip, (h, w, C); those used last are kept."""
        page, key = self.pages[number], (number, index)
        with self._reading:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            values = self._decode(page, index)
            self._cache[key] = values
            self._cached_bytes += values.nbytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
            return values

    def _decode(self, page: Any, index: int) -> Values:  # noqa: ANN401
        height, width, samples = _segment_shape(self.kind)
        n_bytes = page.databytecounts[index]
        if n_bytes == 0:  # left out by the writer: nothing there
            return np.zeros((height, width, samples), self.kind.dtype)
        if n_bytes > height * width * samples * self.kind.dtype.itemsize + _SPARE_BYTES:
            raise CalcoError(_cut_off(self.path, index))
        page.parent.filehandle.seek(page.dataoffsets[index])
        data = self._read(page, n_bytes, index)
        if self.kind.compression == _JPEG:
            _check_jpeg(self.path, data, index, (height, width))
        decoded, _, _ = self.kind.decode(
            data, index, jpegtables=self.kind.jpegtables, jpegheader=self.kind.jpegheader
        )
        values: Values = decoded[0]  # a depth of 1 comes first
        return values

    def _read(self, page: Any, n_bytes: int, index: int) -> bytes:  # noqa: ANN401
        data: bytes = page.parent.filehandle.read(n_bytes)
        if len(data) < n_bytes:
            raise CalcoError(_cut_off(self.path, index))
        return data


@contextmanager
def tiff_windows(
    path: Path, level: int, frame: int | None
) -> Iterator[tuple[TiffWindows, int] | None]:
    """Open a TIFF for reading by window.

    Args:
        path: A TIFF file.
        level: Of a pyramid, 0 is the finest.
        frame: Page of a file of several; None refuses those.

    Yields:
        The image and the number of levels; None for kinds of TIFF that are read whole alone.

    Raises:
        CalcoError: IMG_LEVEL or IMG_FRAMES.
    """
    with open_tiff(path) as tiff:
        first = tiff.pages[0]
        levels = tiff.series[0].levels
        if is_for_pillow(first):
            yield None
            return
        refuse_level(path, level, [_size(found.axes, found.shape) for found in levels])
        if len(levels) > 1:
            source, axes, shape = levels[level], levels[level].axes, levels[level].shape
        else:
            source, axes, shape = plane_of(path, tiff, frame)
        pages = [source] if source is first or not hasattr(source, "pages") else list(source.pages)
        if axes not in ("YX", "YXS", "SYX", "CYX") or (axes != "CYX" and len(pages) > 1):
            if len(levels) > 1:
                refuse_frames(path, max(2, len(pages)), None)
            yield None
            return
        yield TiffWindows(path, pages, _size(axes, shape), orientation_of(first)), len(levels)


def _size(axes: str, shape: Sequence[int]) -> tuple[int, int]:
    return shape[axes.index("Y")], shape[axes.index("X")]


def _segment_shape(page: Any) -> tuple[int, int, int]:  # noqa: ANN401
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    if page.is_tiled:
        return page.tilelength, page.tilewidth, samples
    return min(page.rowsperstrip, page.imagelength), page.imagewidth, samples


def _is_plain(page: Any) -> bool:  # noqa: ANN401
    """Whether a page is made of strips whose bytes are the pixels."""
    plain = page.compression == _NONE and page.predictor == 1 and page.fillorder == 1
    return plain and not page.is_tiled


def _check_jpeg(path: Path, data: bytes, index: int, size: tuple[int, int]) -> None:
    """Refuse a JPEG that is larger than the tile it stands for, before it is decoded."""
    with JpegImageFile(io.BytesIO(data)) as header:
        if header.height > size[0] or header.width > size[1]:
            raise CalcoError(_cut_off(path, index))


def _cut_off(path: Path, index: int) -> Problem:
    return Problem(
        "IMG_TRUNCATED",
        "image is cut off or damaged",
        str(path),
        got=f"tile or strip {index} is not as large as it should be",
        do="copy it again from its source, or remove it",
    )

"""The common PNG in half of Pillow's time.

Nearly all PNG of data sets are 8-bit grey or colour without anything that changes what the pixels
mean. libpng with zlib-ng decodes those nearly twice as fast as Pillow, to the same pixels.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np

from calco.archives import open_binary
from calco.images.files import check_megapixels, refuse_frames
from calco.images.stored import Stored

MAX_FILE_BYTES = 1 << 26
"""Larger files are left to Pillow, which does not hold the whole file."""
MAX_TEXT_BYTES = 1 << 16

_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}  # by colour type
_HARMLESS = frozenset(
    {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"tIME"}
)


def read_plain_png(path: Path, max_megapixels: float, frame: int | None = None) -> Stored | None:
    """Read an 8-bit grey, grey with alpha, RGB or RGBA file; None for any other PNG.

    Palettes, transparent key colours, EXIF, colour profiles, animations, interlacing, long texts
    and files without an end are left to Pillow, and with them all that has to be said of them.

    Raises:
        CalcoError: IMG_SIZE or IMG_FRAMES.
    """
    with open_binary(path) as file:
        if file.seek(0, io.SEEK_END) > MAX_FILE_BYTES:
            return None
        file.seek(0)
        data = file.read()
    if len(data) < 29 or not _is_plain(data):
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if depth != 8 or colour not in _MODES or interlaced:
        return None
    check_megapixels(path, (height, width), 1, max_megapixels)
    refuse_frames(path, 1, frame)
    values = np.asarray(imagecodecs.png_decode(data))
    return Stored(values, _MODES[colour], has_alpha=colour in (4, 6))


def _is_plain(data: bytes) -> bool:
    """Whether the chunks, from the first to IEND, are such that pixels mean what they say."""
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(data):
            return False
        length, name = struct.unpack_from(">I4s", data, position)
        if name not in _HARMLESS and not (name == b"tEXt" and length <= MAX_TEXT_BYTES):
            return False
        position += length + 12
    return True

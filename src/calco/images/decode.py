"""From a file of unknown honesty to the values it stores.

The content decides the format, never the suffix, and only six readers exist. Everything that can
be refused from the header is refused before a pixel is decoded; what is decoded is decoded to the
last byte, so half a file fails here and not as a grey rectangle in training.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from calco.archives import for_decoder, open_binary
from calco.images.files import (
    Format,
    check_megapixels,
    decoder_faults,
    first_bytes,
    name_notes,
    refuse_frames,
    sniff,
)
from calco.images.png import read_plain_png
from calco.images.profiles import to_rgb
from calco.images.stored import FIRST_SIDEWAYS, TURNS, Stored, Values, require_finite, upright
from calco.images.tiff import read_tiff, tiff_size


def read_stored(path: Path, max_megapixels: float, frame: int | None = None) -> Stored:
    """Decode a whole image file.

    Args:
        path: PNG, JPEG, TIFF, BMP, WEBP or GIF under any name.
        max_megapixels: Largest image decoded, checked from the header; more than four channels
            count in proportion.
        frame: Which frame of an animated or multi-page file; None refuses those.

    Raises:
        CalcoError: NOT_A_FILE, IO_MISSING, IO_PERMISSION, IMG_EMPTY, IMG_FORMAT, IMG_METADATA,
            IMG_SIZE, IMG_FRAMES, IMG_TRUNCATED or IMG_NONFINITE.
    """
    kind = sniff(path)
    with decoder_faults(path):
        stored = None
        if kind == "TIFF":
            stored = read_tiff(path, max_megapixels, frame)
        elif kind == "PNG":
            stored = read_plain_png(path, max_megapixels, frame)
        if stored is None:
            stored = _read_pillow(path, kind, max_megapixels, frame)
    require_finite(stored.values, path)
    return replace(stored, notes=name_notes(path, kind) + stored.notes)


def stored_size(path: Path) -> tuple[int, int, str]:
    """Return (height, width, mode) of the upright image from its header alone.

    Raises:
        CalcoError: As ``read_stored``, for what the header shows.
    """
    kind = sniff(path)
    with decoder_faults(path):
        found = tiff_size(path) if kind == "TIFF" else None
        if found is not None:
            return found
        with _open(path, kind) as image:
            mode = _png_mode(path, image.mode) if kind == "PNG" else image.mode
            turned = _header_orientation(image, path, kind) >= FIRST_SIDEWAYS
            return *(image.size if turned else image.size[::-1]), mode


def _open(path: Path, kind: Format) -> ImageFile.ImageFile:
    """Read a header; by the reader's class, past Pillow's own size limit and format guessing."""
    source = for_decoder(path)
    match kind:
        case "PNG":
            return PngImageFile(source)
        case "JPEG":
            return JpegImageFile(source)  # further pictures of a phone's MPO are previews
        case "TIFF":
            return TiffImageFile(source)
        case "BMP":
            return BmpImageFile(source)
        case "WEBP":
            return WebPImageFile(source)
        case "GIF":
            return GifImageFile(source)
        case _:
            assert_never(kind)


def _read_pillow(path: Path, kind: Format, max_megapixels: float, frame: int | None) -> Stored:
    with _open(path, kind) as image:
        check_megapixels(path, (image.height, image.width), 1, max_megapixels)
        refuse_frames(path, getattr(image, "n_frames", 1), frame)
        if frame:
            image.seek(frame)
        mode = _png_mode(path, image.mode) if kind == "PNG" else image.mode
        if mode.endswith(";16") and mode != "I;16":
            # Pillow cuts these to 8 bits
            with open_binary(path) as file:
                values = imagecodecs.png_decode(file.read())
            has_alpha = values.ndim == 3 and values.shape[2] in (2, 4)
            stored = Stored(values, mode, None, has_alpha, profile=image.info.get("icc_profile"))
            return upright(stored, _orientation(image))
        return replace(stored_picture(image), mode=mode)


def stored_picture(image: Image.Image) -> Stored:
    """Take a picture over from Pillow, upright; it may come from a file or from a program."""
    image.load()  # a TIFF is turned here, and says from now on that it is upright
    picture, notes = to_rgb(image)
    values, palette = _loaded_values(picture)
    stored = Stored(
        values,
        image.mode,
        palette,
        has_alpha=values.ndim == 3 and values.shape[2] in (2, 4),
        notes=notes,
        profile=picture.info.get("icc_profile"),
    )
    return upright(stored, _orientation(image))


def _loaded_values(image: Image.Image) -> tuple[Values, NDArray[np.uint8] | None]:
    """Return values and palette; a transparent key colour becomes a channel of opacity."""
    keyed = "transparency" in image.info  # one colour stands for transparent
    match image.mode:
        case "P":
            image = image.copy()  # a program's own picture stays as it is
            image.apply_transparency()
            palette = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)  # (N, 4)
            spare = np.tile(np.array([[0, 0, 0, 255]], np.uint8), (256 - len(palette), 1))
            return np.asarray(image), np.vstack([palette, spare])  # (H, W), (256, 4)
        case "1" | "L" if keyed:
            return np.asarray(image.convert("LA")), None
        case "RGB" if keyed:
            return np.asarray(image.convert("RGBA")), None
        case "I;16" if keyed:
            grey = np.asarray(image)
            alpha = np.where(grey == image.info["transparency"], 0, 65535).astype(np.uint16)
            return np.dstack([grey, alpha]), None
        case "1" | "L" | "LA" | "RGB" | "RGBA" | "I;16":
            return np.asarray(image), None
        case "I" | "F":
            return np.asarray(image, np.float32), None
        case "PA" | "RGBa" | "La":
            return np.asarray(image.convert("RGBA")), None
        case _:
            return np.asarray(image.convert("RGB")), None


def _png_mode(path: Path, pillow_mode: str) -> str:
    """Name what the PNG stores; Pillow shows 16-bit colour as 8-bit."""
    depth, colour = first_bytes(path)[24:26]
    deep = {2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}
    return deep.get(colour, pillow_mode) if depth == 16 else pillow_mode


def _png_has_late_exif(path: Path) -> bool:
    """Walk the chunk headers of a PNG; EXIF may stand behind the pixels."""
    with open_binary(path) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"eXIf":
                return True
            file.seek(length + 4, 1)
    return False


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 for any value that EXIF does not define."""
    value = image.getexif().get(0x0112, 1)
    return value if value in TURNS else 1


def _header_orientation(image: Image.Image, path: Path, kind: Format) -> int:
    if kind == "TIFF":
        return 1  # Pillow's size of it is upright
    if kind == "PNG" and "exif" not in image.info and not _png_has_late_exif(path):
        return 1  # Pillow would decode the pixels in search of it
    return _orientation(image)

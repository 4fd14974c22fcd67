"""From a file of unknown honesty to the values it stores.

The content decides the format, never the suffix, and only five readers exist. Everything that can
be refused from the header is refused before a pixel is decoded; what is decoded is decoded to the
last byte, so half a file fails here and not as a grey rectangle in training.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, assert_never

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from calco.errors import CalcoError, Problem

# tifffile reports oddities of a file through logging; without a handler Python prints them
logging.getLogger("tifffile").addHandler(logging.NullHandler())

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP"]
Values = NDArray[Any]

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_STRANGERS = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "gzip data"),
    (b"<svg", "an SVG drawing"),
    (b"{", "JSON text"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)
_PHOTOMETRIC_CONVERTED = (3, 5, 6, 8)  # palette, CMYK, YCbCr, CIELab
_ALPHA_SAMPLES = (1, 2)  # associated and unassociated alpha
_FIRST_SIDEWAYS = 5  # EXIF orientations from here on swap height and width
_SHORT_AXIS = 16  # a last axis this short is channels, not a picture's width


@dataclass(frozen=True, eq=False)
class Stored:
    """What an image file holds, upright but not converted.

    Attributes:
        values: (H, W) or (H, W, C), bool, uint8, uint16 or float32; palette indices stay indices.
        mode: What is stored, in Pillow's words (``L``, ``RGBA``, ``P``), 16-bit as ``RGB;16``.
        palette: (N, 4) uint8 RGBA of a palette image.
        has_alpha: Whether the last channel is opacity.
        orientation: EXIF orientation that was applied, 1 to 8; 1 is upright as stored.
        notes: What was done on the way, for people.
    """

    values: Values
    mode: str
    palette: NDArray[np.uint8] | None = None
    has_alpha: bool = False
    orientation: int = 1
    notes: tuple[str, ...] = ()


def read_stored(path: Path, max_megapixels: float, frame: int | None = None) -> Stored:
    """Decode a whole image file.

    Args:
        path: PNG, JPEG, TIFF, BMP or WEBP under any name.
        max_megapixels: Largest image decoded, checked from the header; more than four channels
            count in proportion.
        frame: Which frame of an animated or multi-page file; None refuses those.

    Raises:
        CalcoError: NOT_A_FILE, IO_MISSING, IO_PERMISSION, IMG_EMPTY, IMG_FORMAT, IMG_METADATA,
            IMG_SIZE, IMG_FRAMES, IMG_TRUNCATED or IMG_NONFINITE.
    """
    kind = sniff(path)
    with _decoder_faults(path):
        if kind == "TIFF":
            stored = _read_tiff(path, max_megapixels, frame)
        else:
            stored = _read_pillow(path, kind, max_megapixels, frame)
    _require_finite(stored.values, path)
    return stored


def stored_size(path: Path) -> tuple[int, int, str]:
    """Return (height, width, mode) of the upright image from its header alone.

    Raises:
        CalcoError: As ``read_stored``, for what the header shows.
    """
    kind = sniff(path)
    with _decoder_faults(path):
        if kind == "TIFF":
            return _tiff_size(path)
        with _open(path, kind) as image:
            mode = _png_mode(path, image.mode) if kind == "PNG" else image.mode
            # a PNG without EXIF before its pixels would be decoded in search of it
            no_exif = kind == "PNG" and "exif" not in image.info and not _png_has_late_exif(path)
            turned = not no_exif and _orientation(image) >= _FIRST_SIDEWAYS
            return *(image.size if turned else image.size[::-1]), mode


def sniff(path: Path) -> Format:
    """Return the format by the first bytes of a file.

    Raises:
        CalcoError: NOT_A_FILE, IO_MISSING, IO_PERMISSION, IMG_EMPTY or IMG_FORMAT.
    """
    head = first_bytes(path)
    if not head:
        raise CalcoError(
            Problem("IMG_EMPTY", "file has zero bytes", str(path), do="copy it again or remove it")
        )
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    raise CalcoError(
        Problem(
            "IMG_FORMAT",
            f"not an image calco reads; it looks like {_guess(head)}",
            str(path),
            got=f"first bytes {head[:16]!r}",
            expected="PNG, JPEG, TIFF, BMP or WEBP",
            do="convert it to PNG, or download it again if it should be an image",
        )
    )


def first_bytes(path: Path, count: int = 64) -> bytes:
    """Read the first bytes of a regular file.

    Raises:
        CalcoError: NOT_A_FILE, IO_MISSING or IO_PERMISSION.
    """
    try:
        # a pipe or device would block or never end, so only regular files are opened
        if not path.exists():
            what = "link points to nothing" if path.is_symlink() else "file does not exist"
            raise CalcoError(Problem("IO_MISSING", what, str(path), do="restore or remove it"))
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a regular file"
            raise CalcoError(Problem("NOT_A_FILE", what, str(path), do="rename or remove it"))
        with path.open("rb") as file:
            return file.read(count)
    except PermissionError:
        raise CalcoError(
            Problem("IO_PERMISSION", "no permission to read", str(path), do="chmod u+r it")
        ) from None
    except OSError as error:
        raise CalcoError(
            Problem("IO_ERROR", f"cannot be read: {error.strerror}", str(path))
        ) from error


def check_megapixels(path: Path, size: tuple[int, int], channels: int, limit: float) -> None:
    """Refuse an image before it is decoded.

    Raises:
        CalcoError: IMG_SIZE.
    """
    height, width = size
    megapixels = height * width * max(channels, 4) / 4 / 1e6
    if megapixels > limit or height < 1 or width < 1:
        shape = f"{height} x {width}" + (f" x {channels}" if channels > 4 else "")
        raise CalcoError(
            Problem(
                "IMG_SIZE",
                "image has no pixels" if height * width < 1 else "image is too large",
                str(path),
                got=f"{shape} (H x W), {megapixels:.0f} megapixels",
                expected=f"at most {limit:g}",
                do="cut it into tiles, or raise data.max_megapixels if you trust the file",
            )
        )


def _guess(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "a web page (a failed download?)"
    for magic, name in _STRANGERS:
        if head.startswith(magic):
            return name
    return "text" if head.isascii() and b"\x00" not in head else "unknown data"


@contextmanager
def _decoder_faults(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one problem, and keep its warnings off the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CalcoError, MemoryError):
        raise
    except Exception as error:
        text = str(error)
        if "text chunk" in text or "MAX_TEXT" in text:
            raise CalcoError(
                Problem(
                    "IMG_METADATA",
                    "a text block inside the image is too large",
                    str(path),
                    got=text,
                    do="strip the metadata: exiftool -all= FILE",
                )
            ) from error
        raise CalcoError(
            Problem(
                "IMG_TRUNCATED",
                "image is cut off or damaged",
                str(path),
                got=text or type(error).__name__,
                do="copy it again from its source, or remove it",
            )
        ) from error


def _require_finite(values: Values, path: Path) -> None:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    first = ", ".join(str(i) for i in bad[0][:2])
    raise CalcoError(
        Problem(
            "IMG_NONFINITE",
            "image has pixels that are not numbers",
            str(path),
            got=f"{len(bad)} NaN or infinite values, first at (row, col) = ({first})",
            do="replace them in the file, e.g. by the background value",
        )
    )


def _refuse_frames(path: Path, count: int, frame: int | None) -> None:
    if frame is None and count > 1:
        raise CalcoError(
            Problem(
                "IMG_FRAMES",
                f"file has {count} frames",
                str(path),
                expected="one image per file",
                do="extract them, or set data.frame: 0 to read the first; channels stored as "
                "pages need to be saved as one page of several samples",
            )
        )
    if frame is not None and frame >= count:
        raise CalcoError(
            Problem(
                "IMG_FRAMES",
                f"file has {count} frames",
                str(path),
                got=f"data.frame {frame}",
                expected=f"0 to {count - 1}",
                do="lower data.frame",
            )
        )


# --- PNG, JPEG, BMP, WEBP and the rarer kinds of TIFF: Pillow


def _open(path: Path, kind: Format) -> ImageFile.ImageFile:
    """Read a header; by the reader's class, past Pillow's own size limit and format guessing."""
    match kind:
        case "PNG":
            return PngImageFile(path)
        case "JPEG":
            return JpegImageFile(path)  # further pictures of a phone's MPO are previews
        case "TIFF":
            return TiffImageFile(path)
        case "BMP":
            return BmpImageFile(path)
        case "WEBP":
            return WebPImageFile(path)
        case _:
            assert_never(kind)


def _read_pillow(path: Path, kind: Format, max_megapixels: float, frame: int | None) -> Stored:
    with _open(path, kind) as image:
        check_megapixels(path, (image.height, image.width), 1, max_megapixels)
        _refuse_frames(path, getattr(image, "n_frames", 1), frame)
        if frame:
            image.seek(frame)
        mode = _png_mode(path, image.mode) if kind == "PNG" else image.mode
        if mode.endswith(";16") and mode != "I;16":
            # Pillow cuts these to 8 bits
            values, palette = imagecodecs.png_decode(path.read_bytes()), None
        else:
            image.load()
            values, palette = _loaded_values(image)
        stored = Stored(
            values,
            mode,
            palette,
            has_alpha=values.ndim == 3 and values.shape[2] in (2, 4),
            notes=_profile_notes(image),
        )
        # Pillow turns TIFF by itself
        return stored if kind == "TIFF" else _upright(stored, _orientation(image))


def _loaded_values(image: Image.Image) -> tuple[Values, NDArray[np.uint8] | None]:
    """Return values and palette, converting only what is neither grey nor RGB nor palette."""
    keyed = "transparency" in image.info  # one colour stands for transparent
    match image.mode:
        case "P":
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
        case "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
            return np.asarray(rgb), None
        case "PA" | "RGBa" | "La":
            return np.asarray(image.convert("RGBA")), None
        case _:  # CMYK (Pillow undoes Adobe's inversion), YCbCr
            return np.asarray(image.convert("RGB")), None


def _profile_notes(image: Image.Image) -> tuple[str, ...]:
    notes = []
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        notes.append(f"converted from {image.mode} to RGB")
    profile = image.info.get("icc_profile")
    if profile and b"sRGB" not in profile and b"s\x00R\x00G\x00B" not in profile:
        notes.append("has a colour profile that is not applied")
    return tuple(notes)


def _png_mode(path: Path, pillow_mode: str) -> str:
    """Name what the PNG stores; Pillow shows 16-bit colour as 8-bit."""
    depth, colour = first_bytes(path)[24:26]
    deep = {2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}
    return deep.get(colour, pillow_mode) if depth == 16 else pillow_mode


def _png_has_late_exif(path: Path) -> bool:
    """Walk the chunk headers of a PNG; EXIF may stand behind the pixels."""
    with path.open("rb") as file:
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
    return value if value in _TURNS else 1


# what each EXIF orientation asks for, on (H, W) or (H, W, C)
_TURNS: dict[int, Callable[[Values], Values]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


def _upright(stored: Stored, orientation: int) -> Stored:
    if orientation == 1:
        return stored
    return replace(
        stored,
        values=np.ascontiguousarray(_TURNS[orientation](stored.values)),
        orientation=orientation,
        notes=(*stored.notes, f"turned upright by its EXIF orientation {orientation}"),
    )


# --- TIFF: tifffile, for any depth and number of channels


def _for_pillow(page: Any) -> bool:  # noqa: ANN401 - tifffile is untyped
    """Whether a page is palette, CMYK, YCbCr or Lab, or packs pixels into bits."""
    return page.photometric in _PHOTOMETRIC_CONVERTED or page.bitspersample < 8


def _read_tiff(path: Path, max_megapixels: float, frame: int | None) -> Stored:
    with tifffile.TiffFile(path) as tiff:
        if not _for_pillow(tiff.pages[0]):
            return _read_tiff_array(path, tiff, max_megapixels, frame)
    return _read_pillow(path, "TIFF", max_megapixels, frame)


def _read_tiff_array(path: Path, tiff: Any, max_megapixels: float, frame: int | None) -> Stored:  # noqa: ANN401
    page, axes, shape = _tiff_plane(path, tiff, frame)
    # values as (rows, columns, channels), whatever their order on disk
    order = [axes.index(a) for a in ("Y", "X")] + [i for i, a in enumerate(axes) if a not in "YX"]
    height, width, *rest = (shape[i] for i in order)
    channels = rest[0] if rest else 1
    check_megapixels(path, (height, width), channels, max_megapixels)
    values = page.asarray().reshape(shape).transpose(order)
    if values.ndim == 3 and channels == 1:
        values = values[..., 0]
    first = tiff.pages[0]
    values, notes = _native(values, path)
    if first.photometric == 0 and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values  # stored with 0 as white
    has_alpha = channels in (2, 4) and any(s in _ALPHA_SAMPLES for s in first.extrasamples)
    stored = Stored(values, _tiff_mode(first), has_alpha=has_alpha, notes=notes)
    return _upright(stored, _tiff_orientation(first))


def _tiff_plane(
    path: Path,
    tiff: Any,  # noqa: ANN401
    frame: int | None,
) -> tuple[Any, str, tuple[int, ...]]:
    """Choose the page or series that is the image; return it with its axes and shape."""
    pages = [p for p in tiff.pages if not (p.is_reduced or p.is_mask)] or [tiff.pages[0]]
    series = tiff.series[0]
    if len(pages) > 1 or series.size != pages[0].size:
        axes, shape = series.axes, tuple(series.shape)
        if axes in ("CYX", "YXC"):  # channels kept as pages, and the file says so
            return series, axes, shape
        if axes == "QYX" and 4 * shape[2] <= min(shape[:2]) and shape[2] <= _SHORT_AXIS:
            # imwrite((H, W, C)) without hints writes H pages of W x C
            return series, "YXC", shape
        _refuse_frames(path, max(len(pages), series.size // pages[0].size), frame)
    page = pages[frame or 0]
    return page, page.axes, tuple(page.shape)


def _tiff_size(path: Path) -> tuple[int, int, str]:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        if _for_pillow(page):
            with TiffImageFile(path) as image:  # its size is upright already
                return image.height, image.width, image.mode
        _, axes, shape = _tiff_plane(path, tiff, frame=0)
        size = (shape[axes.index("Y")], shape[axes.index("X")])
        turned = _tiff_orientation(page) >= _FIRST_SIDEWAYS
        return *(size[::-1] if turned else size), _tiff_mode(page)


def _tiff_orientation(page: Any) -> int:  # noqa: ANN401
    tag = page.tags.get(274)
    return tag.value if tag is not None and tag.value in _TURNS else 1


def _tiff_mode(page: Any) -> str:  # noqa: ANN401
    samples, extra = page.samplesperpixel, page.extrasamples
    alpha = "A" if extra and extra[0] in _ALPHA_SAMPLES else ""
    name = {1: "L", 2: "LA" if alpha else "", 3: "RGB", 4: "RGBA" if alpha else ""}.get(samples)
    name = name or f"{samples} channels"
    return name if page.dtype == np.uint8 else f"{name};{page.dtype}"


def _native(values: Values, path: Path) -> tuple[Values, tuple[str, ...]]:
    """Bring an array to bool, uint8, uint16 or float32 in native byte order."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b" or (kind == "u" and size <= 2):
        return values.astype(values.dtype.newbyteorder("="), copy=False), ()
    if kind == "f":
        return values.astype(np.float32), ()
    if kind in "iu":
        return values.astype(np.float32), (f"read from {values.dtype.name} as float32",)
    raise CalcoError(
        Problem(
            "IMG_FORMAT",
            "pixel type is not supported",
            str(path),
            got=values.dtype.name,
            expected="integers or real numbers",
            do="save it as 8- or 16-bit",
        )
    )

"""What can be refused before an image is decoded, and how a decoder's own faults are told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from calco.archives import archive_of, open_binary
from calco.errors import CalcoError, Problem

Format = Literal["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"]

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_SUFFIXES: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".gif": "GIF",
}
IMAGE_SUFFIXES = frozenset(_SUFFIXES)
"""Names worth opening as images; what they hold is decided by their content."""

_STRANGERS = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"SIMPLE  =", "FITS"),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "gzip data"),
    (b"<svg", "an SVG drawing"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"{", "JSON text"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)


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
            expected="PNG, JPEG, TIFF, BMP, WEBP or GIF",
            do="convert it to PNG, or download it again if it should be an image",
        )
    )


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or a group of them."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def name_notes(path: Path, kind: Format) -> tuple[str, ...]:
    """Say when a file's name claims another format than its content has."""
    claimed = _SUFFIXES.get(path.suffix.lower(), kind)
    return (f"is {kind} though named {path.suffix}",) if claimed != kind else ()


def first_bytes(path: Path, count: int = 64) -> bytes:
    """Read the first bytes of a regular file.

    Raises:
        CalcoError: NOT_A_FILE, IO_MISSING or IO_PERMISSION.
    """
    try:
        if archive_of(path):
            with open_binary(path) as file:
                return file.read(count)
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
            Problem("IO_ERROR", f"cannot be read: {error.strerror}", str(path), do="check the disk")
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
                do="cut it into tiles, or raise data.max_megapixels if you trust the file;"
                " calco predict takes tiled TIFF of any size",
            )
        )


def refuse_frames(path: Path, count: int, frame: int | None) -> None:
    """Refuse a file of several frames, or a frame it does not have.

    Raises:
        CalcoError: IMG_FRAMES.
    """
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


def refuse_level(path: Path, level: int, sizes: Sequence[tuple[int, int]]) -> None:
    """Refuse a level that an image does not have.

    Args:
        path: Image.
        level: 0 is the finest.
        sizes: (height, width) of every level.

    Raises:
        CalcoError: IMG_LEVEL.
    """
    if level < len(sizes):
        return
    known = ", ".join(f"{i} ({h} x {w})" for i, (h, w) in enumerate(sizes))
    raise CalcoError(
        Problem(
            "IMG_LEVEL",
            "image has no such level",
            str(path),
            got=f"level {level}",
            expected=known if len(sizes) > 1 else "0: it is no pyramid",
            do="choose another --level",
        )
    )


@contextmanager
def decoder_faults(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one problem, and keep its warnings off the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CalcoError:
        raise
    except MemoryError:
        raise CalcoError(
            Problem("IMG_MEMORY", "not enough memory", str(path), do="cut the image into tiles")
        ) from None
    except Exception as error:
        raise CalcoError(_decoder_problem(error, path)) from error


def _decoder_problem(error: Exception, path: Path) -> Problem:
    text = str(error) or type(error).__name__
    if "text chunk" in text or "MAX_TEXT" in text:
        return Problem(
            "IMG_METADATA",
            "a text block inside the image is too large",
            str(path),
            got=text,
            do="strip the metadata: exiftool -all= FILE",
        )
    if "decompression bomb" in text:  # the WEBP reader keeps a limit of its own
        return Problem("IMG_SIZE", "image is too large", str(path), text, do="cut it into tiles")
    if isinstance(error, OSError) and error.errno is not None:
        return Problem("IO_ERROR", "cannot be read", str(path), got=text, do="check the disk")
    return Problem(
        "IMG_TRUNCATED",
        "image is cut off or damaged",
        str(path),
        got=text,
        do="copy it again from its source, or remove it",
    )


def _guess(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "a web page (a failed download?)"
    for magic, name in _STRANGERS:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF photo, or a film"
    return "text" if head.isascii() and b"\x00" not in head else "unknown data"

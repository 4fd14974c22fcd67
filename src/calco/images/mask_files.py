"""From a mask file to bool pixels, by a code that every file must obey."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from calco.archives import for_decoder
from calco.errors import CalcoError, Problem
from calco.images.decode import read_stored
from calco.images.files import IMAGE_SUFFIXES, check_megapixels, decoder_faults, first_bytes
from calco.images.io import read_pixels
from calco.images.stored import require_finite
from calco.images.tiles import Window
from calco.images.windowed import opened
from calco.records.data import ImageSpec, MaskCode

MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
"""Names worth opening as masks."""

WINDOWED_MEGAPIXELS = 10_000.0
"""Largest mask of a slide that is read, a byte per pixel."""

_BAND_PX = 512  # rows read at a time: those of a tile as calco writes them
_PICKLE_OPCODE = b"\x80"
_LISTED = 8  # values or colours shown in a message


@dataclass(frozen=True, eq=False)
class MaskPixels:
    """A decoded mask file to which no code was applied yet.

    Attributes:
        values: (H, W) grey values or palette indices; None when it is coloured.
        colors: (H, W) int32, 0xRRGGBB of coloured and palette masks; None when it is grey.
        opaque: (H, W) bool; None without transparency channel.
    """

    values: NDArray[Any] | None
    colors: NDArray[np.int32] | None = None
    opaque: NDArray[np.bool_] | None = None


def read_mask_pixels(path: Path, max_megapixels: float = 100) -> MaskPixels:
    """Decode a mask file: an image, or an array in ``.npy`` without pickled objects.

    Raises:
        CalcoError: As ``read_stored``; UNSAFE_FILE for pickles, MASK_EXIF for a file that is turned
            by a tag, MASK_CHANNELS for what is neither grey nor RGB.
    """
    head = first_bytes(path)
    if head.startswith(b"\x93NUMPY"):
        return MaskPixels(_read_npy(path, max_megapixels))
    if head.startswith((_PICKLE_OPCODE, b"PK\x03\x04")):
        raise _unsafe(path, "is a pickle or an archive of pickles (.npz, .pt)")
    try:
        stored = read_stored(path, max_megapixels)
    except CalcoError as error:
        # data.frame chooses among the frames of an image; which one its mask is of, nothing says
        do = "save one mask per file"
        raise CalcoError(
            *(replace(p, do=do) if p.code == "IMG_FRAMES" else p for p in error.problems)
        ) from None
    if stored.orientation != 1:
        raise CalcoError(
            Problem(
                "MASK_EXIF",
                "mask is turned by an EXIF tag, and programs differ in obeying it",
                str(path),
                got=f"orientation {stored.orientation}",
                expected="an upright mask",
                do="if a viewer shows it as its image, turn its pixels: mogrify -auto-orient FILE; "
                "else remove the tag: exiftool -Orientation= FILE",
            )
        )
    if stored.palette is not None:
        colors = _packed(stored.palette[:, :3])[stored.values]  # (H, W)
        see_through = (stored.palette[:, 3] < 255).any()
        opaque = (stored.palette[:, 3] > 127)[stored.values] if see_through else None
        return MaskPixels(stored.values, colors, opaque)
    return _split_channels(stored.values, stored.has_alpha, path)


def read_mask_file(path: Path, code: MaskCode, max_megapixels: float = 100) -> NDArray[np.bool_]:
    """Read a mask file by its code.

    Returns:
        (H, W) bool, True is foreground.

    Raises:
        CalcoError: As ``read_mask_pixels``; MASK_VALUES or MASK_ALPHA for a file that breaks the
            code.
    """
    mask = _by_code(read_mask_pixels(path, max_megapixels), code, path)
    return ~mask if code.invert else mask


def read_predicted(path: Path, max_megapixels: float = 100) -> NDArray[np.bool_]:
    """Read a mask that calco predicted, uint8 {0, 255}; of a slide, TIFF or zarr, by window.

    Args:
        path: Mask file, or folder of a zarr array.
        max_megapixels: Largest mask decoded whole; by window, ``WINDOWED_MEGAPIXELS`` are.

    Returns:
        (H, W) bool.

    Raises:
        CalcoError: ``MASK_VALUES`` for any other values, and what reading the file raises.
    """
    with opened(path, ImageSpec(channels=1, max_megapixels=max_megapixels)) as windowed:
        if windowed is None:
            return _predicted(read_pixels(path, max_megapixels=max_megapixels).pixels, path)
        height, width = windowed.size
        check_megapixels(path, windowed.size, 1, WINDOWED_MEGAPIXELS)
        with decoder_faults(path):
            mask = np.empty((height, width), bool)
        for top in range(0, height, _BAND_PX):
            band = Window(top, 0, min(_BAND_PX, height - top), width)
            mask[band.slices] = _predicted(windowed.read(band)[..., 0], path)
    return mask


def _predicted(pixels: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    mask = np.asarray(pixels == 255)
    if pixels.ndim != 2 or not (mask | (pixels == 0)).all():
        raise CalcoError(
            Problem(
                "MASK_VALUES",
                "not a predicted mask",
                str(path),
                got=f"shape {pixels.shape}, values {np.unique(pixels)[:5].tolist()}",
                expected="one channel of 0 and 255",
                do="write masks with calco predict",
            )
        )
    return mask


def show_color(packed: int) -> str:
    """Write a 0xRRGGBB colour as people set it.

    Example:
        >>> show_color(0xFF8000)
        '(255, 128, 0)'
    """
    return f"({packed >> 16}, {packed >> 8 & 255}, {packed & 255})"


def pack_color(color: tuple[int, int, int]) -> int:
    """Return a colour as 0xRRGGBB."""
    return color[0] << 16 | color[1] << 8 | color[2]


def _by_code(pixels: MaskPixels, code: MaskCode, path: Path) -> NDArray[np.bool_]:
    match code.kind:
        case "values":
            return _pick(_grey(pixels, path), code.values, code.background, path)
        case "threshold":
            above: NDArray[np.bool_] = _grey(pixels, path) > code.threshold
            return above
        case "color":
            colors = _as_colors(pixels)
            return _pick(colors, (pack_color(code.color),), code.background, path, named=True)
        case "alpha":
            if pixels.opaque is None:
                raise CalcoError(
                    Problem(
                        "MASK_ALPHA",
                        "mask has no transparency, but the others keep their shape there",
                        str(path),
                        do="save it like the others, or remove it",
                    )
                )
            return pixels.opaque
        case "rle":
            raise ValueError("run-length encoded masks are not files")
        case _:
            assert_never(code.kind)


def _pick(
    plane: NDArray[Any],
    foreground: tuple[int, ...],
    background: tuple[int, ...],
    path: Path,
    named: bool = False,
) -> NDArray[np.bool_]:
    """Compare with the foreground; refuse what is neither that nor declared background."""
    mask = _equals_any(plane, foreground)
    if background and not (mask | _equals_any(plane, background)).all():
        raise _outside(plane, foreground + background, path, named)
    return mask


def _equals_any(plane: NDArray[Any], values: tuple[int, ...]) -> NDArray[np.bool_]:
    if not values:
        return np.zeros(plane.shape, bool)
    equal: NDArray[np.bool_] = plane == values[0]
    for value in values[1:]:  # few, and far faster than np.isin
        equal |= plane == value
    return equal


def _outside(plane: NDArray[Any], allowed: tuple[int, ...], path: Path, named: bool) -> CalcoError:
    values, counts = np.unique(plane[~np.isin(plane, allowed)], return_counts=True)
    show = show_color if named else "{:g}".format
    common = np.argsort(-counts, kind="stable")[:_LISTED]
    listed = ", ".join(f"{show(values[i])} ({counts[i]} px)" for i in common)
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    noun = "colours" if named else "values"
    return CalcoError(
        Problem(
            "MASK_VALUES",
            f"mask has other {noun} than the other masks",
            str(path),
            got=listed + more,
            expected=f"only {', '.join(show(v) for v in sorted(allowed))}",
            do="rewrite it, or say what is foreground: "
            + ("data.foreground_color" if named else "data.foreground or data.threshold"),
        )
    )


def _grey(pixels: MaskPixels, path: Path) -> NDArray[Any]:
    if pixels.values is None:
        raise CalcoError(
            Problem(
                "MASK_VALUES",
                "mask is coloured",
                str(path),
                expected="grey, as the other masks or your settings say",
                do="rewrite it, or set data.foreground_color",
            )
        )
    return pixels.values


def _as_colors(pixels: MaskPixels) -> NDArray[np.int32]:
    """Return 0xRRGGBB of any mask; a grey value v is (v, v, v), and above 255 is no colour."""
    if pixels.colors is not None:
        return pixels.colors
    grey = np.asarray(pixels.values)
    valid = (grey >= 0) & (grey <= 255)
    return np.where(valid, grey, -1).astype(np.int32) * np.int32(0x010101)


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Turn (..., 3) uint8 into (...) 0xRRGGBB."""
    wide = rgb.astype(np.int32)
    packed: NDArray[np.int32] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _split_channels(values: NDArray[Any], has_alpha: bool, path: Path) -> MaskPixels:
    opaque = None
    if has_alpha:
        alpha, values = values[..., -1], values[..., :-1]
        opaque = alpha > (np.iinfo(alpha.dtype).max / 2 if alpha.dtype.kind == "u" else 0.5)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        return MaskPixels(values.astype(np.uint8) if values.dtype == bool else values, None, opaque)
    if values.shape[2] != 3:
        raise CalcoError(
            Problem(
                "MASK_CHANNELS",
                "mask is neither grey nor RGB",
                str(path),
                got=f"{values.shape[2]} channels",
                do="save one mask per file with one channel",
            )
        )
    red, green, blue = (values[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return MaskPixels(np.ascontiguousarray(red), None, opaque)
    match values.dtype.name:
        case "uint8":
            return MaskPixels(None, _packed(values), opaque)
        case "uint16":
            return MaskPixels(None, _packed((values >> 8).astype(np.uint8)), opaque)
        case other:  # reals have no agreed range that would make them colours
            raise CalcoError(
                Problem(
                    "MASK_CHANNELS",
                    "mask has colours of a type that is no colour",
                    str(path),
                    got=f"3 channels of {other}",
                    expected="8- or 16-bit colours, or one channel",
                    do="save it as 8-bit PNG",
                )
            )


def _unsafe(path: Path, what: str) -> CalcoError:
    return CalcoError(
        Problem(
            "UNSAFE_FILE",
            f"{what}, which can run code when opened",
            str(path),
            expected="PNG, TIFF or a plain .npy array",
            do="save the mask as PNG or with numpy.save(..., allow_pickle=False)",
        )
    )


def _read_npy(path: Path, max_megapixels: float) -> NDArray[Any]:
    """Read a plain array; mapped, so that its size is known before it is loaded."""
    try:
        source = for_decoder(path)
        array = np.load(source, mmap_mode="r" if source is path else None, allow_pickle=False)
    except Exception as error:  # the header is parsed as Python literals: any fault may come up
        if "object" in str(error).lower():
            raise _unsafe(path, "holds pickled Python objects") from error
        raise CalcoError(
            Problem(
                "IMG_TRUNCATED",
                "array is cut off or damaged",
                str(path),
                got=str(error),
                do="save it again",
            )
        ) from error
    plane = array.squeeze() if array.ndim == 3 and 1 in array.shape else array
    if plane.ndim != 2 or plane.dtype.kind not in "buif":
        raise CalcoError(
            Problem(
                "MASK_CHANNELS",
                "array is not a mask",
                str(path),
                got=f"shape {array.shape}, {array.dtype}",
                expected="(height, width) of bool, integers or floats",
                do="save one mask per file",
            )
        )
    check_megapixels(path, plane.shape, 1, max_megapixels)
    require_finite(plane, path)
    native = np.uint8 if plane.dtype.kind == "b" else plane.dtype.newbyteorder("=")
    loaded: NDArray[Any] = np.array(plane, native)
    return loaded

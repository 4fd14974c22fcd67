"""From an image file to the network's uint8 input, the same way for every image of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.images.decode import read_stored, stored_size
from calco.images.files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from calco.images.profiles import to_srgb
from calco.images.stored import Stored
from calco.records.data import ImageSpec

BACKGROUND = 0
"""Level put behind transparent pixels: black, because that is what most writers leave below them,
so that a reader that drops the transparency sees the same picture."""

SAMPLED_IMAGES = 64
"""Images looked at by ``choose_spec``, spread over the data set."""
SAMPLED_MEGAPIXELS = 64.0
"""Pixels decoded by ``choose_spec`` at most, once the first eight images are seen."""

# of 0-1 floats and of cameras; [0, 255] is missing because it marks sets of 8-bit files
_NATURAL_RANGES = ((0, 1), (-1, 1), (0, 1023), (0, 4095), (0, 16383), (0, 65535))
_Item = TypeVar("_Item")
_JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})


@dataclass(frozen=True, eq=False)
class Pixels:
    """One decoded image, upright, in its own depth.

    Attributes:
        pixels: (H, W) grey or (H, W, C) with RGB order, uint8, uint16 or float32.
        mode: What the file stores, e.g. ``L``, ``RGBA``, ``P``, ``RGB;16``.
        notes: What was converted, composited or turned, for people.
        orientation: EXIF orientation that was applied, 1 to 8.
    """

    pixels: NDArray[Any]
    mode: str
    notes: tuple[str, ...] = ()
    orientation: int = 1

    @property
    def channels(self) -> int:
        """Channels; 1 for grey."""
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]


def is_junk(path: Path) -> bool:
    """Whether a file is litter of an operating system, to be ignored.

    Example:
        >>> is_junk(Path("images/._a.png")), is_junk(Path("images/a.png"))
        (True, False)
    """
    name = path.name.lower()
    return name in _JUNK_NAMES or name.startswith("._") or "__MACOSX" in path.parts


def header_size(path: Path) -> tuple[int, int]:
    """Return (height, width) after EXIF orientation, from the header alone.

    Raises:
        CalcoError: For what the header shows; half a file passes.
    """
    height, width, _ = stored_size(path)
    return height, width


def read_pixels(path: Path, *, max_megapixels: float = 100, frame: int | None = None) -> Pixels:
    """Decode an image to grey, RGB or its own number of channels, keeping its depth.

    Palette, 1-bit, CMYK and Lab become grey or RGB; transparency is composited on black, or dropped
    when nothing is transparent; EXIF orientation is applied, and so is the colour profile of 8-bit
    images.

    Args:
        path: PNG, JPEG, TIFF, BMP, WEBP or GIF under any name.
        max_megapixels: Largest image decoded, checked from the header.
        frame: Which frame of a multi-frame file; None refuses those.

    Raises:
        CalcoError: As ``calco.images.decode.read_stored``.
    """
    return to_pixels(read_stored(path, max_megapixels, frame))


def to_pixels(stored: Stored) -> Pixels:
    """Give the values of a file, or of a part of it, their meaning; see ``read_pixels``."""
    values, notes = _without_palette(stored), stored.notes
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if stored.has_alpha or (stored.palette is not None and values.shape[2:] == (4,)):
        values, composited = _composite(values)
        notes += ("transparency composited on black",) if composited else ()
    if stored.profile:
        values, converted = to_srgb(values, stored.profile)
        notes += converted
    return Pixels(np.ascontiguousarray(values), stored.mode, notes, stored.orientation)


def to_input(pixels: Pixels, spec: ImageSpec) -> NDArray[np.uint8]:
    """Bring an image to the network's input by the data set's rule, never by its own content.

    8-bit images are taken as they are; deeper ones go linearly from ``[spec.low, spec.high]`` to
    [0, 255], clipped.

    Returns:
        (H, W, C) uint8, contiguous, RGB order.

    Raises:
        CalcoError: IMG_CHANNELS when the channels do not fit, IMG_DEPTH when a deep image meets a
            specification made for 8-bit ones.
    """
    levels = pixels.pixels
    if levels.dtype != np.uint8:
        levels = _scaled(levels, spec)
    if levels.ndim == 2:
        levels = levels[..., None]  # (H, W, 1)
    have, want = levels.shape[2], spec.channels
    if have == want:
        return np.require(levels, requirements=["C", "W"])  # decoders hand out read-only memory
    if have == 1 and want == 3:
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB))  # (H, W, 3)
    if have == 3 and want == 1:
        # (H, W, 1), Rec. 601 luma
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY))[..., None]
    raise CalcoError(
        Problem(
            "IMG_CHANNELS",
            "number of channels differs from the rest",
            got=f"{have} channels ({pixels.mode})",
            expected=str(want),
            do="bring all images to the same channels, or remove this one",
        )
    )


def read_image(path: Path, spec: ImageSpec) -> NDArray[np.uint8]:
    """Read an image as the network's input.

    Returns:
        (H, W, C) uint8, contiguous, RGB order, EXIF applied.

    Raises:
        CalcoError: As ``read_pixels`` and ``to_input``, naming the file.
    """
    pixels = read_pixels(path, max_megapixels=spec.max_megapixels, frame=spec.frame)
    try:
        return to_input(pixels, spec)
    except CalcoError as error:
        raise CalcoError(*(replace(p, where=str(path)) for p in error.problems)) from None


def choose_spec(paths: Sequence[Path], config: DataConfig) -> ImageSpec:
    """Decide once for a data set how its images become uint8 input.

    Channels: the setting, else 3 when any sampled image is really coloured (RGB files with three
    equal channels count as grey), else 1; when most have 2, 4 or more channels, that number.
    Range: [0, 255] for 8-bit. Deeper data take a natural range (12 bit: [0, 4095]) when the sampled
    0.1 to 99.9 percentiles fill half of it, else those percentiles widened to two digits: what a
    camera leaves unused would cost grey levels, and 12-bit data would look black in 16 bits. A mix
    of 8- and 16-bit files takes [0, 65535], which is how such files are converted to each other.

    Args:
        paths: All images; unreadable ones are passed over, the audit names them.
        config: Gives channels, frame and size limit when set.
    """
    looks = list(_looks(paths, config))
    spec = ImageSpec(max_megapixels=config.max_megapixels, frame=config.frame)
    if not looks:
        return replace(spec, channels=config.channels or 3)
    channels = Counter(look.channels for look in looks).most_common(1)[0][0]
    if channels in (1, 3):
        channels = config.channels or (3 if any(look.coloured for look in looks) else 1)
    low, high = _input_range(looks)
    return replace(spec, channels=channels, low=low, high=high)


# --- conversions


def _without_palette(stored: Stored) -> NDArray[Any]:
    """Look palette colours up; grey and opaque palettes lose their empty channels."""
    if stored.palette is None:
        return stored.values
    used = stored.palette[np.unique(stored.values)]  # (N, 4)
    grey = (used[:, 0] == used[:, 1]).all() and (used[:, 1] == used[:, 2]).all()
    if (used[:, 3] < 255).any():
        return stored.palette[stored.values]  # (H, W, 4)
    if grey:
        return stored.palette[:, 0][stored.values]  # (H, W)
    return stored.palette[:, :3][stored.values]  # (H, W, 3)


def _composite(values: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Put colours over black by their opacity; return whether anything was transparent."""
    colour, alpha = values[..., :-1], values[..., -1:]
    if colour.shape[2] == 1:
        colour, alpha = colour[..., 0], alpha[..., 0]
    opaque = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1.0
    if (alpha == opaque).all():
        return colour, False
    weight = alpha / np.float32(opaque)
    blend = colour * weight + BACKGROUND * (1 - weight)
    return (np.rint(blend) if values.dtype.kind == "u" else blend).astype(values.dtype), True


def _scaled(levels: NDArray[Any], spec: ImageSpec) -> NDArray[np.uint8]:
    if (spec.low, spec.high) == (0.0, 255.0):
        raise CalcoError(
            Problem(
                "IMG_DEPTH",
                "image is deeper than the 8-bit images it is read with",
                got=str(levels.dtype),
                expected="uint8",
                do="convert it to 8 bits as the other images were",
            )
        )
    step = np.float32(255 / (spec.high - spec.low))
    wide = (levels.astype(np.float32) - np.float32(spec.low)) * step
    scaled: NDArray[np.uint8] = np.rint(np.clip(wide, 0, 255)).astype(np.uint8)
    return scaled


# --- what choose_spec looks at


@dataclass(frozen=True, eq=False)
class _Look:
    """One sampled image; ``values`` only of deep ones."""

    channels: int
    coloured: bool
    dtype: np.dtype[Any]
    values: NDArray[Any] | None


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Take up to ``count`` items evenly spread over a sequence, the first among them.

    Example:
        >>> spread("abcdefgh", 4)
        ['a', 'c', 'e', 'g']
    """
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _looks(paths: Sequence[Path], config: DataConfig) -> Iterator[_Look]:
    budget_px = SAMPLED_MEGAPIXELS * 1e6
    colour_seen = False
    for seen, path in enumerate(spread(paths, SAMPLED_IMAGES)):
        try:
            height, width, mode = stored_size(path)
            if mode == "L" or (colour_seen and mode == "RGB"):  # the header says it all
                yield _Look(1 if mode == "L" else 3, mode == "RGB", np.dtype(np.uint8), None)
                continue
            budget_px -= height * width
            if budget_px < 0 and seen >= 8:
                continue
            look = _look(
                read_pixels(path, max_megapixels=config.max_megapixels, frame=config.frame)
            )
        except CalcoError:
            continue  # the audit reads every file and names the bad ones
        colour_seen |= look.coloured
        yield look


def _look(image: Pixels) -> _Look:
    pixels = image.pixels
    coloured = image.channels == 3 and bool((pixels != pixels[..., :1]).any())
    step = max(1, pixels.size // 200_000)  # enough values for a 0.1 percentile
    deep = pixels.dtype != np.uint8
    return _Look(image.channels, coloured, pixels.dtype, pixels.ravel()[::step] if deep else None)


def _input_range(looks: Sequence[_Look]) -> tuple[float, float]:
    deep = [look.values for look in looks if look.values is not None]
    if not deep:
        return 0.0, 255.0
    if len(deep) < len(looks) and all(values.dtype == np.uint16 for values in deep):
        return 0.0, 65535.0
    values = np.concatenate(deep).astype(np.float64)
    low, high = np.percentile(values, [0.1, 99.9])
    for bottom, top in _NATURAL_RANGES:
        inside = bottom <= values.min() and values.max() <= top
        if inside and high - low >= (top - bottom) / 2:
            return float(bottom), float(top)
    return _widened(low, high)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Round a range outwards to two digits of its width, so that small changes do not show.

    Example:
        >>> _widened(103.2, 611.9)
        (100.0, 620.0)
    """
    if not high > low:
        return float(low), float(low) + 1.0
    digit = 10.0 ** (np.floor(np.log10(high - low)) - 1)
    return float(np.floor(low / digit) * digit), float(np.ceil(high / digit) * digit)

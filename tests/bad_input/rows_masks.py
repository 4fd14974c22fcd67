"""Rows 31 to 45: masks that do not fit, and every way of saying what is foreground."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .drawing import (
    MASK,
    NAMES,
    Mask,
    box,
    deep_png,
    encoded,
    grey,
    mask,
    masks,
    npy,
    picture,
    tiff,
    with_palette,
    write,
)
from .matrix import Accepted, Refused, Row

TRUTH, FIRST = "masks/x.png", "masks/a.png"
BLACK, RED, BLUE = (0, 0, 0), (255, 0, 0), (0, 0, 255)
EMPTY = np.zeros_like(MASK)


class Trap:
    """Writes a file beside the data when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path("sprung").touch, ()


# --- the mask as it is stored


def zero_and_one(mask: Mask) -> NDArray[np.uint8]:
    return grey(mask, 1)


def jpeg(mask: Mask) -> bytes:
    return encoded(grey(mask), "JPEG", quality=90)


def soft(mask: Mask) -> NDArray[np.uint8]:
    """54 levels from 100 to 255."""
    levels = grey(mask)
    levels[mask] = np.linspace(100, 255, mask.sum())
    return levels


def soft_float(mask: Mask) -> bytes:
    return tiff(soft(mask) / np.float32(255))


def classes(mask: Mask) -> NDArray[np.uint8]:
    """Class 2, with class 1 on the two lowest lines."""
    levels = grey(mask, 2)
    levels[-2:] = 1
    return levels


def palette_of_2(mask: Mask) -> bytes:
    return encoded(with_palette(grey(mask, 1), BLACK, RED))


def palette_of_3(mask: Mask) -> bytes:
    return encoded(with_palette(classes(mask), BLACK, BLUE, RED))


def red(mask: Mask) -> NDArray[np.uint8]:
    return np.array([BLACK, RED], np.uint8)[grey(mask, 1)]


def red_and_blue(mask: Mask) -> NDArray[np.uint8]:
    return np.array([BLACK, BLUE, RED], np.uint8)[classes(mask)]


def opaque(mask: Mask) -> NDArray[np.uint8]:
    """Black all over."""
    return np.dstack([grey(EMPTY)] * 3 + [grey(mask)])


def opaque_elsewhere(mask: Mask) -> NDArray[np.uint8]:
    """White where the mirror image is."""
    return np.dstack([grey(mask[::-1])] * 3 + [grey(mask)])


def inverted(mask: Mask) -> NDArray[np.uint8]:
    return grey(~mask)


def deep(mask: Mask) -> bytes:
    return deep_png(mask.astype(np.uint16) * np.uint16(65535))


def zero_and_one_float(mask: Mask) -> bytes:
    return tiff(mask.astype(np.float32))


def black(mask: Mask) -> NDArray[np.uint8]:
    return grey(mask, 0)


def white(mask: Mask) -> NDArray[np.uint8]:
    return grey(mask | True)


def npz() -> bytes:
    """An archive of arrays, each of which may be a pickle."""
    file = io.BytesIO()
    np.savez(file, mask=MASK)
    return file.getvalue()


def swapped(root: Path) -> None:
    """Put the images where the masks should be."""
    for number, name in enumerate(NAMES):
        write(root, {f"images/{name}.png": encoded(grey(box(number)))})
        write(root, {f"masks/{name}.png": encoded(picture(number))})


# --- what must come of it


def undecided(code: str, where: str, do: str, shows: str) -> Refused:
    return Refused(code, where, f"data.{do}", shows)


CHOSEN: dict[str, object] = {"foreground": [2]}
CHOSEN_RED: dict[str, object] = {"foreground_color": RED}
OTHER_SIZE = Refused("MASK_SIZE", TRUTH, "export it again", "mask 24 x 31 24 x 32 (H x W)")
TRANSPOSED = Refused("MASK_SIZE", TRUTH, "transpose the mask", "it equals the transpose")
SMEARED = Accepted(code="MASK_VALUES", told="values above 127 are taken as foreground")
SOFT = undecided("MASK_VALUES", FIRST, "threshold", "55 values: from 0 93 %")
SOFT_FLOAT = undecided("MASK_VALUES", "masks/a.tif", "threshold", "55 values")
CLASSES = undecided("MASK_CLASSES", FIRST, "foreground", "0 (84.6 %), 1 (8.33 %), 2 (7.03 %)")
INDICES = undecided("MASK_COLORS", FIRST, "foreground to the indices", "palette indices 0, 1, 2")
COLORS = undecided("MASK_COLORS", FIRST, "foreground_color", "(255, 0, 0) 7.03 %")
STRAY_RED = undecided("MASK_COLORS", TRUTH, "foreground_color", "(255, 0, 0) is in 1 of 4 files")
DISAGREE = undecided("MASK_ALPHA", FIRST, "foreground_channel: alpha", "do not agree")
INVERTED = Accepted(mask=~MASK, code="MASK_INVERTED", told="93.0% foreground")
ALL_EMPTY = undecided("MASK_ALL_EMPTY", FIRST, "foreground", "none of 4 masks")
ALL_FULL = undecided("MASK_ALL_FULL", FIRST, "invert", "all 4 masks")
SOME_EMPTY = Accepted(mask=EMPTY, code="MASK_EMPTY", told="got x")
HALF_NPY = Refused("IMG_TRUNCATED", "masks/x.npy", "save it again", "cut off")
UNSAFE = Refused("UNSAFE_FILE", "masks/x.npy", "allow_pickle=False", "can run code when opened")
UNREAD = Refused("ORPHAN_IMAGE", "images", "convert those to PNG", "x.png; beside files of other")
PHOTOS = Refused("MASK_PHOTO", FIRST, "data.images and data.masks", "folders swapped?")

MASKS = (
    Row(31, "other-size", mask(encoded(grey(MASK[:, :-1]))), OTHER_SIZE),
    Row(32, "transposed", mask(encoded(grey(MASK.T))), TRANSPOSED),
    Row(33, "0-and-1", masks(zero_and_one), Accepted()),
    Row(34, "0-and-255", masks(grey), Accepted()),
    Row(35, "jpeg", masks(jpeg), SMEARED),
    Row(35, "soft", masks(soft), SOFT),
    Row(35, "soft-with-threshold", masks(soft), Accepted(), {"threshold": 99}),
    Row(36, "three-classes", masks(classes), CLASSES),
    Row(36, "three-classes-chosen", masks(classes), Accepted(), CHOSEN),
    Row(37, "palette-of-2", masks(palette_of_2), Accepted()),
    Row(37, "palette-of-3", masks(palette_of_3), INDICES),
    Row(37, "palette-of-3-chosen", masks(palette_of_3), Accepted(), CHOSEN),
    Row(38, "one-colour", masks(red), Accepted()),
    Row(38, "two-colours", masks(red_and_blue), COLORS),
    Row(38, "two-colours-chosen", masks(red_and_blue), Accepted(), CHOSEN_RED),
    Row(38, "stray-colour", mask(encoded(red(MASK))), STRAY_RED),
    Row(39, "shape-in-alpha", masks(opaque), Accepted()),
    Row(39, "alpha-against-colour", masks(opaque_elsewhere), DISAGREE),
    Row(39, "alpha-chosen", masks(opaque_elsewhere), Accepted(), {"foreground_channel": "alpha"}),
    Row(40, "inverted", masks(inverted), INVERTED),
    Row(40, "inverted-as-said", masks(inverted), Accepted(), {"invert": True}),
    Row(41, "all-empty", masks(black), ALL_EMPTY),
    Row(41, "all-full", masks(white), ALL_FULL),
    Row(42, "one-empty", mask(encoded(black(MASK))), SOME_EMPTY),
    Row(43, "16-bit", masks(deep), Accepted()),
    Row(43, "float", masks(zero_and_one_float), Accepted()),
    Row(43, "float-between-0-and-1", masks(soft_float), SOFT_FLOAT),
    Row(43, "float-with-threshold", masks(soft_float), Accepted(), {"threshold": 0.3}),
    Row(43, "boolean-npy", masks(npy), Accepted()),
    Row(43, "half-an-npy", mask(npy(MASK)[:-9]), HALF_NPY),
    Row(44, "pickled-npy", mask(npy(np.array([Trap()]), allow_pickle=True)), UNSAFE),
    Row(44, "pickle-named-npy", mask(pickle.dumps(Trap()), "x.npy"), UNSAFE),
    Row(44, "npz-named-npy", mask(npz(), "x.npy"), UNSAFE),
    Row(44, "npz", mask(npz(), "x.npz"), UNREAD),
    Row(44, "pt", mask(pickle.dumps(Trap()), "x.pt"), UNREAD),
    Row(45, "folders-swapped", swapped, PHOTOS),
)

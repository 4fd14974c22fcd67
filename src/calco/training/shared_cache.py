"""Decoded samples that several processes of one machine share: decoded once, mapped by each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from calco.errors import CalcoError, Problem
from calco.files import atomic_file, from_json, to_json, write_atomic
from calco.records import SampleIndex
from calco.training.cache import Decoded, Held, decode


@dataclass(frozen=True)
class _Place:
    """Where a sample's pixels are: the image's, then the mask's.

    Attributes:
        id: Of the sample.
        size: (H, W, C) of the image.
        start: Byte in the file.
    """

    id: str
    size: tuple[int, int, int]
    start: int


def decode_shared(index: SampleIndex, folder: Path, key: str) -> tuple[Decoded, ...]:
    """Map the pixels of every labelled sample; the first process to ask decodes them.

    Args:
        index: What is read, in its order.
        folder: Of the cache, made when needed; no other data belong there.
        key: Digest of the files; what was cached under another is not used.

    Raises:
        CalcoError: Lists every file that changed or vanished since the audit; SCRATCH_WRITE when
            the folder cannot be written or its disk is full.
    """
    pixels_file, places_file = folder / f"{key}.bin", folder / f"{key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # the others wait while one decodes
            if not places_file.exists():
                _write(decode(index, folder / "scratch"), pixels_file, places_file)
        places = from_json(list[_Place], places_file.read_text("utf-8"), str(places_file))
        # shared and writable, as arrays in memory are: a private mapping counts as memory
        pixels = np.asarray(np.memmap(pixels_file, np.uint8, "r+"))  # (N,) bytes of the file
    except OSError as error:
        raise CalcoError(
            Problem(
                "SCRATCH_WRITE",
                "the decoded images cannot be set aside on disk",
                str(folder),
                got=error.strerror or type(error).__name__,
                do="free disk space, or write to a larger disk with -o",
            )
        ) from None
    return tuple(_mapped(place, pixels) for place in places)


def remove_shared(folder: Path) -> None:
    """Remove a cache; processes that have mapped it keep their pixels."""
    with suppress(OSError):  # Windows does not remove what is mapped
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _write(samples: tuple[Decoded, ...], pixels_file: Path, places_file: Path) -> None:
    places, start = [], 0
    with atomic_file(pixels_file) as file:
        for sample in samples:
            image, mask = sample.pixels()
            height, width, channels = image.shape
            places.append(_Place(sample.id, (height, width, channels), start))
            for array in (image, mask):
                file.write(np.ascontiguousarray(array).data)
                start += array.nbytes
    write_atomic(places_file, to_json(places))  # last: with it, the cache is whole


def _mapped(place: _Place, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Held:
    height, width, channels = place.size
    middle = place.start + height * width * channels
    image = pixels[place.start : middle].reshape(place.size)  # (H, W, C)
    mask = pixels[middle : middle + height * width].reshape(height, width)  # (H, W)
    return Held(place.id, image, mask)

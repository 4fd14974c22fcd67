"""What a problem is about: the samples and files it names, and a small picture of each."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.archives import archive_of
from calco.errors import CalcoError, Problem, printable
from calco.formats.truth import read_sample
from calco.images.files import IMAGE_SUFFIXES
from calco.images.io import read_pixels
from calco.images.overlays import data_uri, encode, overlay
from calco.records import Audit, Sample
from calco.wording import counted, place

SIDE_PX = 320
"""Longer side of a picture: sharp at a quarter of a desktop page."""
MAX_PICTURE_BYTES = 24_000
"""A page of a hundred pictures stays below 4 MB."""

_REST = re.compile(r" and (\d+) more$")  # what name_some leaves uncounted
_SUBSET = re.compile(r" \((?:train|validation|test|None)\)$")

Item = Sample | Path


@dataclass(frozen=True)
class Picture:
    """A small picture, or why there is none.

    Attributes:
        name: File name; the path from the data root down where the name alone is not the id.
        alt: What is to be seen, in words.
        uri: The picture as an address that holds it; empty when there is none.
        trouble: Why there is none.
        note: What to know of the mask.
    """

    name: str
    alt: str
    uri: str = ""
    trouble: str = ""
    note: str = ""


class Evidence:
    """Finds and shows what problems are about; every file is read once.

    Args:
        audit: Holds the samples and how they are read.
    """

    def __init__(self, audit: Audit) -> None:
        self.index = audit.index
        self._root = audit.index.root.resolve()
        self._facts = {facts.id: facts for facts in audit.facts}
        # problems hold printable texts, so that is what they are looked up by
        self._by_id = {printable(sample.id): sample for sample in self.index}
        self._by_place = {
            printable(place(path, self.index.root)): sample
            for sample in self.index
            for path in sample.files
        }
        self._pictures: dict[Item, Picture] = {}

    def about(self, problem: Problem) -> tuple[Item, ...]:
        """List what a problem is about, as far as its texts tell for certain.

        Returns:
            Usable samples, or else files below the data root; nothing when neither is named.
        """
        if known := self._samples(problem.ids):
            return known
        if problem.where in self._by_place:
            return (self._by_place[problem.where],)
        # numbers can be ids too: a list of pixel values must not be taken for one of samples
        about_samples = not problem.where or problem.where in self._by_id
        if about_samples and (known := self._samples(named(problem.got))):
            return known
        if problem.where in self._by_id:
            return (self._by_id[problem.where],)
        names = named(problem.got)
        if problem.where:
            names += tuple(f"{problem.where}/{name}" for name in names)
        listed = [path for name in names if (path := self._file(name))]
        own = self._file(problem.where, missing_too=True)  # to say why there is no picture
        return tuple(dict.fromkeys([own, *listed] if own else listed))

    def picture(self, item: Item) -> Picture:
        """Draw a sample with its mask outlined, or a file as it is stored; never raises."""
        if item not in self._pictures:
            self._pictures[item] = self._draw(item)
        return self._pictures[item]

    def _samples(self, ids: tuple[str, ...]) -> tuple[Sample, ...]:
        return tuple(self._by_id[name] for i in ids if (name := printable(i)) in self._by_id)

    def _file(self, name: str, missing_too: bool = False) -> Path | None:
        """Return an image file below the data root; None when a text names none."""
        path = self.index.root / name
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        try:
            inside = path.resolve().is_relative_to(self._root)
            there = missing_too or path.is_file() or archive_of(path)
            return path if inside and there else None
        except (OSError, ValueError, RuntimeError):  # too long for a name, or links in a circle
            return None

    def _draw(self, item: Item) -> Picture:
        described = self._of_file(item) if isinstance(item, Path) else self._of_sample(item)
        try:
            uri = data_uri(encode(self._pixels(item), MAX_PICTURE_BYTES), "jpeg")
        except CalcoError as error:
            trouble = error.problems[0].what
        except (cv2.error, MemoryError, OSError, ValueError):
            trouble = "it cannot be drawn"
        else:
            return replace(described, uri=uri)
        return replace(described, trouble=trouble, note="")

    def _pixels(self, item: Item) -> NDArray[np.uint8]:
        if isinstance(item, Sample):
            image, true = read_sample(item, self.index)  # (H, W, C), (H, W)
            return overlay(image, true, None, SIDE_PX)
        spec = self.index.spec
        stored = read_pixels(item, max_megapixels=spec.max_megapixels, frame=spec.frame)
        return overlay(_visible(stored.pixels), None, None, SIDE_PX)

    def _of_file(self, path: Path) -> Picture:
        name = printable(place(path, self.index.root))
        return Picture(name, f"{name} as it is stored", note="as it is stored")

    def _of_sample(self, sample: Sample) -> Picture:
        whole = sample.image.stem == sample.id
        name = printable(sample.image.name if whole else place(sample.image, self.index.root))
        facts = self._facts.get(sample.id)
        if facts is None:
            return Picture(name, f"{name} with its mask outlined")
        if facts.foreground_fraction == 0:
            return Picture(name, f"{name}, whose mask is empty", note="empty mask")
        note = f"{100 * facts.foreground_fraction:.3g} % in {counted(facts.n_objects, 'piece')}"
        return Picture(name, f"{name} with its mask outlined: {note}", note=note)


def named(text: str) -> tuple[str, ...]:
    """Return the names that ``calco.wording.name_some`` put into a text.

    Example:
        >>> named("a, b (test) and 7 more")
        ('a', 'b')
    """
    listed = _REST.sub("", text.partition("; ")[0])  # messages go on after a semicolon
    return tuple(_SUBSET.sub("", name) for name in listed.split(", ") if name)


def count_named(problem: Problem) -> int:
    """Count what a problem is about, the uncounted rest of its list included.

    Example:
        >>> count_named(Problem("TWINS_NEAR", "images look alike", "a", "a, b and 7 more"))
        9
    """
    rest = _REST.search(problem.got.partition("; ")[0])
    return len(problem.ids) or len(named(problem.got)) + (int(rest[1]) if rest else 0)


def _visible(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch any depth to that of a screen; a mask of 0 and 1 becomes black and white.

    Args:
        levels: (H, W) or (H, W, C) uint8, uint16 or float32.

    Returns:
        (H, W, C) uint8.
    """
    low, high = min(0.0, float(levels.min())), float(levels.max())
    gain = 255 / (high - low) if high > low else 0.0
    stretched = cv2.convertScaleAbs(levels, alpha=gain, beta=-low * gain)
    return np.asarray(stretched, np.uint8).reshape(*levels.shape[:2], -1)

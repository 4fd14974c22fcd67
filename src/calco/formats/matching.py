"""Which mask file belongs to which image file, by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calco.formats.roles import bare_stem, stem_of


@dataclass(frozen=True)
class Matches:
    """Which mask belongs to which image.

    Attributes:
        pairs: Image and its masks; more than one is a fault.
        images: Without a mask.
        masks: Without an image.
    """

    pairs: list[tuple[Path, list[Path]]]
    images: list[Path]
    masks: list[Path]


def match_files(images: Sequence[Path], masks: Sequence[Path]) -> Matches:
    """Match masks to images.

    A mask has the stem of its image, or that stem and a word such as ``_mask``; the image's stem
    may have a word of its own (``a_sat.jpg``, ``a_mask.png``). Names are compared exactly, in
    Unicode's composed form.
    """
    by_stem = _grouped((stem_of(mask), mask) for mask in masks)
    by_bare = _grouped((bare_stem(stem_of(mask), "mask"), mask) for mask in masks)
    pairs: list[tuple[Path, list[Path]]] = []
    alone: list[Path] = []
    used: set[Path] = set()
    for image in images:
        stem = stem_of(image)
        bare = bare_stem(stem, "image")
        own = by_stem[stem] or by_bare[stem] or by_stem[bare] or by_bare[bare]
        used.update(own)
        if own:
            pairs.append((image, own))
        else:
            alone.append(image)
    return Matches(pairs, alone, [mask for mask in masks if mask not in used])


def split_by_name(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide the files of one folder into images and masks by the word in their names."""
    images: list[Path] = []
    masks: list[Path] = []
    for path in files:
        (images if bare_stem(stem_of(path), "mask") is None else masks).append(path)
    return images, masks


def _grouped(named: Iterable[tuple[str | None, Path]]) -> defaultdict[str | None, list[Path]]:
    groups: defaultdict[str | None, list[Path]] = defaultdict(list)
    for name, path in named:
        if name is not None:
            groups[name].append(path)
    return groups

"""One folder per sample: an image, and one mask file per object."""

from __future__ import annotations

from dataclasses import dataclass

from calco.config import DataConfig
from calco.errors import Problem
from calco.formats.folders import FolderPair, FolderPairs, PlacedFolder
from calco.formats.listing import Listing
from calco.formats.matching import match_files
from calco.formats.reading import Reading, images_without_mask
from calco.formats.roles import nfc
from calco.records import ObjectMasks, Sample
from calco.wording import counted, name_some


@dataclass(frozen=True)
class ObjectFolders:
    """A data set of one folder per sample.

    Attributes:
        pairs: Image folder and object folder of each sample.
        alone: Folders of images without masks.
    """

    pairs: tuple[FolderPair, ...]
    alone: tuple[PlacedFolder, ...] = ()

    def __str__(self) -> str:
        first = self.pairs[0]
        return f"one folder per sample, one mask file per object, as in {first}"


def as_object_folders(found: FolderPairs) -> ObjectFolders | None:
    """Tell folder pairs that hold one sample each from pairs that hold many.

    A sample has a folder of its own, one image, and masks that do not have the image's name.
    """
    if not found.pairs:
        return None
    single = [pair for pair in found.pairs if _is_sample(pair)]
    return ObjectFolders(found.pairs, found.alone) if 2 * len(single) > len(found.pairs) else None


def read_objects(layout: ObjectFolders, listing: Listing, config: DataConfig) -> Reading:
    """Gather the object masks of each sample; the sample's folder gives its id.

    An empty object folder is an empty mask; one with files that are no images is a fault.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    n_empty = 0
    for pair in layout.pairs:
        if fault := _fault(pair):
            problems.append(fault)
            continue
        image, masks = pair.images.folder.files[0], pair.masks.folder.masks
        n_empty += not masks
        samples.append(
            Sample(_id(pair.images), image, ObjectMasks(masks), subset=pair.place.subset)
        )
    # without a declared test part, an image folder without objects is one that was forgotten
    forgotten = [p for p in layout.alone if p.place.subset != "test" and p.place.role != "mask"]
    if config.allow_unlabelled:
        samples += [
            Sample(_id(p), image, subset=p.place.subset)
            for p in forgotten
            for image in p.folder.files
        ]
    problems += images_without_mask([p.where for p in forgotten], "", config)
    if n_empty:
        what = f"{counted(n_empty, 'sample')} with an empty object folder: the mask is empty"
        problems.append(Problem("EMPTY_OBJECTS", what, severity="note"))
    n_objects = sum(len(s.mask.paths) for s in samples if isinstance(s.mask, ObjectMasks))
    return Reading(f"{layout}; {counted(n_objects, 'object')}", tuple(samples), tuple(problems))


def _is_sample(pair: FolderPair) -> bool:
    images, masks = pair.images.folder.files, pair.masks.folder.masks
    own = pair.images.place.above or pair.images.place.below
    return (
        bool(own) and not pair.is_flat and len(images) == 1 and not match_files(images, masks).pairs
    )


def _fault(pair: FolderPair) -> Problem | None:
    images, masks = pair.images.folder, pair.masks.folder
    if len(images.files) != 1:
        names = name_some([path.name for path in images.files])
        what = "a sample's folder must hold one image"
        return Problem("OBJECT_IMAGE", what, images.where, names, "1 image", "move the others away")
    if not masks.masks and masks.others:
        seen = name_some([f"{n} {suffix}" for suffix, n in masks.others.items()])
        return Problem("NO_MASKS", "no mask can be read", masks.where, seen, do="convert to PNG")
    return None


def _id(images: PlacedFolder) -> str:
    place = images.place
    return nfc("/".join((*place.above, *place.below))) or images.where

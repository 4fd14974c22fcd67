"""Masks as files: in a folder beside the images, or in the same folder with a word in the name."""

from __future__ import annotations

import difflib
import os.path
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.listing import Folder, Listing
from calco.formats.matching import Matches, match_files, split_by_name
from calco.formats.reading import Reading, images_without_mask, masks_without_image
from calco.formats.roles import Place, Role, path_id, place_of
from calco.images.io import IMAGE_SUFFIXES
from calco.images.mask_files import MASK_SUFFIXES
from calco.records import FileMask, Sample
from calco.wording import counted, name_some


@dataclass(frozen=True)
class PlacedFolder:
    """A folder and what its path says about it."""

    folder: Folder
    place: Place

    @property
    def where(self) -> str:
        """Path below the root."""
        return self.folder.where

    @property
    def files(self) -> tuple[Path, ...]:
        """What counts in a folder of its role: images, or whatever can be masks."""
        return self.folder.masks if self.place.role == "mask" else self.folder.files

    @property
    def unread(self) -> str:
        """Kinds of file that are passed over, the commonest first; empty without any."""
        readable = MASK_SUFFIXES if self.place.role == "mask" else IMAGE_SUFFIXES
        kinds = sorted(self.folder.others.items(), key=lambda item: -item[1])
        return name_some([f"{n} {suffix}" for suffix, n in kinds if suffix not in readable], most=3)


@dataclass(frozen=True)
class FolderPair:
    """Images and the masks that belong to them.

    Attributes:
        images: Folder of the images.
        masks: Folder of the masks; the same for a flat folder.
    """

    images: PlacedFolder
    masks: PlacedFolder

    @property
    def place(self) -> Place:
        """Part of the data; what the masks' path says when the images' path is silent."""
        place = self.images.place
        return replace(place, subset=place.subset or self.masks.place.subset)

    @property
    def is_flat(self) -> bool:
        """Whether images and masks share one folder."""
        return self.images.where == self.masks.where

    def __str__(self) -> str:
        if self.is_flat:
            return f"{self.images.where} (masks by file name)"
        return f"{self.images.where} + {self.masks.where}"


@dataclass(frozen=True)
class FolderPairs:
    """A data set of folder pairs.

    Attributes:
        pairs: In the order of their image folders; none when nothing was found.
        alone: Folders of images without masks, or of masks without images.
    """

    pairs: tuple[FolderPair, ...]
    alone: tuple[PlacedFolder, ...] = ()

    def __str__(self) -> str:
        return "images and masks in " + name_some([str(pair) for pair in self.pairs], most=4)


def find_pairs(listing: Listing, config: DataConfig) -> FolderPairs:
    """Find the folders of masks that stand beside folders of images.

    Folders belong together when their paths say the same but for the words that tell masks from
    images; then when only the part (train, test) is said on one side; then, if that found nothing,
    when they are the only ones of their part. A folder still alone is searched for masks by file
    name.

    Raises:
        CalcoError: ``DATA_AMBIGUOUS`` when an image folder has several mask folders or the other
            way round; ``DATA_SETTING`` when a folder named in the settings is not there.
    """
    placed = place_folders(listing, config)
    images = [p for p in placed if p.place.role != "mask"]
    masks = [p for p in placed if p.place.role == "mask"]
    pairs: list[FolderPair] = []
    rules: tuple[Callable[[Place], Hashable], ...] = (
        lambda place: (place.above, place.below, place.subset),
        lambda place: (place.above, place.below),
        lambda place: place.subset,
    )
    for number, rule in enumerate(rules):
        if number < 2 or not pairs:
            pairs += _pairs_by(rule, images, masks, strict=number == 0)
            images, masks = _left(images, pairs), _left(masks, pairs)
    pairs += [FolderPair(p, p) for p in images + masks if _has_flat_pairs(p.folder)]
    alone = [p for p in _left(images + masks, pairs) if p.files]
    return FolderPairs(tuple(sorted(pairs, key=lambda pair: pair.images.where)), tuple(alone))


def place_folders(listing: Listing, config: DataConfig) -> list[PlacedFolder]:
    """Return every folder that holds images, or should hold masks, with its place.

    Folders named by ``data.images`` and ``data.masks`` have the role given there, and no other
    folder has it.

    Raises:
        CalcoError: ``DATA_SETTING`` when such a folder is not there.
    """
    given: dict[Role, tuple[str, ...]] = {}
    if config.images is not None:
        given["image"] = setting_parts(listing, config.images, "data.images")
    if config.masks is not None and not config.masks.lower().endswith(".csv"):
        given["mask"] = setting_parts(listing, config.masks, "data.masks")
    placed = [PlacedFolder(f, place) for f in listing.folders if (place := _place(f, given))]
    return [p for p in placed if p.files or (p.place.role and not p.folder.n_folders)]


def setting_parts(listing: Listing, value: str, setting: str) -> tuple[str, ...]:
    """Return the names from the root down to a folder that the user named.

    Raises:
        CalcoError: ``DATA_SETTING`` when it is not below the root.
    """
    path = PurePosixPath(Path(value).as_posix())
    if path.is_absolute() and path.is_relative_to(listing.root.absolute().as_posix()):
        path = path.relative_to(listing.root.absolute().as_posix())
    if any(folder.parts == path.parts for folder in listing.folders):
        return path.parts
    known = [folder.where for folder in listing.folders if folder.masks]
    near = difflib.get_close_matches(value, known, n=1)
    raise CalcoError(
        Problem(
            "DATA_SETTING",
            "no such folder below the data folder",
            setting,
            got=repr(value),
            expected=f"one of {name_some(known)}" if known else "a folder with images",
            do=f"did you mean {near[0]}?" if near else f"correct {setting}",
        )
    )


def _place(folder: Folder, given: dict[Role, tuple[str, ...]]) -> Place | None:
    """Place a folder; None when the settings leave it out."""
    holders = [r for r, parts in given.items() if folder.parts[: len(parts)] == parts]
    if holders:
        role = max(holders, key=lambda r: len(given[r]))  # the innermost
        if len(set(given.values())) < len(given):
            role = "image"  # one folder for both: masks are told by their file names
        below = folder.parts[len(given[role]) :]
        outer = () if len(given) == 2 else given[role][:-1]
        return replace(place_of((*outer, *below)), role=role)
    place = place_of(folder.parts)
    return None if (place.role or "image") in given else place


def _pairs_by(
    rule: Callable[[Place], Hashable],
    images: Sequence[PlacedFolder],
    masks: Sequence[PlacedFolder],
    strict: bool,
) -> list[FolderPair]:
    """Pair what has the same key; several candidates are an error when strict, else left alone."""
    images_by, masks_by = _by_key(rule, images), _by_key(rule, masks)
    pairs = []
    for key in masks_by:
        here = _narrowed(images_by.get(key, []), _is_image_folder, _is_not_test)
        theirs = _narrowed(masks_by[key], _has_files)
        if len(here) == 1 and len(theirs) == 1:
            pairs.append(FolderPair(here[0], theirs[0]))
        elif here and strict:
            raise _ambiguous(here, theirs)
    return pairs


def _by_key(
    rule: Callable[[Place], Hashable], folders: Sequence[PlacedFolder]
) -> dict[Hashable, list[PlacedFolder]]:
    groups: dict[Hashable, list[PlacedFolder]] = {}
    for placed in folders:
        groups.setdefault(rule(placed.place), []).append(placed)
    return groups


def _left(folders: Sequence[PlacedFolder], pairs: Sequence[FolderPair]) -> list[PlacedFolder]:
    """Return the folders that are in no pair."""
    taken = {p.where for pair in pairs for p in (pair.images, pair.masks)}
    return [p for p in folders if p.where not in taken]


def _narrowed(
    folders: list[PlacedFolder], *tests: Callable[[PlacedFolder], bool]
) -> list[PlacedFolder]:
    for test in tests:
        folders = [f for f in folders if test(f)] or folders
    return folders


def _is_image_folder(placed: PlacedFolder) -> bool:
    return placed.place.role == "image"


def _is_not_test(placed: PlacedFolder) -> bool:
    return placed.place.subset != "test"


def _has_files(placed: PlacedFolder) -> bool:
    return bool(placed.files)


def _ambiguous(images: Sequence[PlacedFolder], masks: Sequence[PlacedFolder]) -> CalcoError:
    several, setting = (masks, "data.masks") if len(masks) > 1 else (images, "data.images")
    names = [p.where for p in several]
    one = (images if several is masks else masks)[0].where
    return CalcoError(
        Problem(
            "DATA_AMBIGUOUS",
            f"several folders could go with {one}",
            got=name_some(names),
            expected="one",
            do="choose with " + " or ".join(f"--set {setting}={name}" for name in names[:3]),
        )
    )


def _has_flat_pairs(folder: Folder) -> bool:
    return bool(_match_flat(folder).pairs)


def _match_flat(folder: Folder) -> Matches:
    """Match within one folder, where only a word in its name makes a file a mask."""
    images, masks = split_by_name(folder.files)
    return match_files(images, masks + split_by_name(folder.arrays)[1])


# --- reading


def read_pairs(layout: FolderPairs, listing: Listing, config: DataConfig) -> Reading:
    """Match the files of folder pairs by name.

    Raises:
        CalcoError: ``NO_PAIRS``, ``NO_IMAGES`` or ``NO_MASKS`` when not one mask fits an image.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    files = [image for pair in layout.pairs for image in pair.images.folder.files]
    if not files:
        raise CalcoError(_no_pairs(layout.pairs[0]))
    top = common_folder(files)
    for pair in layout.pairs:
        found = _match_pair(pair)
        for image, masks in found.pairs:
            if len(masks) > 1:
                names = name_some([listing.where(m) for m in masks])
                do = "keep one, or choose the folder with data.masks"
                what = "several masks for one image"
                problems.append(Problem("DUP_MASK", what, listing.where(image), names, do=do))
            else:
                samples.append(_sample(image, top, FileMask(masks[0]), pair))
        if config.allow_unlabelled:
            samples += [_sample(image, top, None, pair) for image in found.images]
        names_alone = [p.name for p in found.images], [p.name for p in found.masks]
        where = pair.images.where, pair.masks.where
        problems += images_without_mask(names_alone[0], where[0], config, pair.masks.unread)
        problems += masks_without_image(names_alone[1], where[1], pair.images.unread)
    if not any(sample.mask for sample in samples):
        doubled = [problem for problem in problems if problem.code == "DUP_MASK"]
        raise CalcoError(*(doubled or [_no_pairs(layout.pairs[0])]))
    return Reading(str(layout), tuple(samples), tuple(problems))


def report_empty_parts(listing: Listing) -> list[Problem]:
    """Warn of parts that folders announce and no folder holds, as after half a download."""
    named: dict[str, list[Folder]] = {}
    for folder in listing.folders:
        if subset := place_of(folder.parts).subset:
            named.setdefault(subset, []).append(folder)
    what = "folder of a part of the data is empty, so the part is taken from the others"
    do = "put its files there, or remove the folder"
    return [
        Problem("FOLDER_EMPTY", what, folders[0].where, do=do, severity="warning")
        for folders in named.values()
        if not any(folder.files or folder.others for folder in folders)
    ]


def report_alone(alone: Sequence[PlacedFolder]) -> list[Problem]:
    """Say which folders of images or masks are not used; a test part without masks is usual."""
    tests = [p.where for p in alone if p.place.subset == "test" and p.place.role != "mask"]
    rest = [f"{p.where} ({counted(len(p.files), 'image')})" for p in alone]
    rest = [name for name, p in zip(rest, alone, strict=True) if p.where not in tests]
    problems = []
    if tests:
        what = "images without masks are no part of training"
        problems.append(Problem("FOLDER_UNUSED", what, name_some(tests), severity="note"))
    if rest:
        what = "folders without their counterpart are not used"
        do = "name them as their counterpart, or move them away"
        problems.append(
            Problem("FOLDER_UNUSED", what, got=name_some(rest), do=do, severity="warning")
        )
    return problems


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the innermost folder that holds all files."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def _sample(image: Path, top: Path, mask: FileMask | None, pair: FolderPair) -> Sample:
    return Sample(path_id(image, top), image, mask, subset=pair.place.subset)


def _match_pair(pair: FolderPair) -> Matches:
    if pair.is_flat:
        return _match_flat(pair.images.folder)
    return match_files(pair.images.folder.files, pair.masks.folder.masks)


def _no_pairs(pair: FolderPair) -> Problem:
    for placed, noun in ((pair.images, "images"), (pair.masks, "masks")):
        if not placed.files:
            what = f"the folder has no {noun} that can be read"
            do = f"convert the {noun} to PNG" if placed.unread else f"put the {noun} there"
            seen = placed.unread or "no files"
            return Problem(f"NO_{noun.upper()}", what, placed.where, seen, do=do)
    found = pair.images.files, pair.masks.files
    names = [name_some([repr(path.name) for path in paths], most=2) for paths in found]
    return Problem(
        "NO_PAIRS",
        "no mask has the name of an image",
        str(pair),
        got=f"images {names[0]}; masks {names[1]}",
        expected="equal names but for extension and words such as _mask",
        do="rename the masks as their images",
    )

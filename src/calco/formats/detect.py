"""Which layout a data folder has; none and several are errors that say what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.folders import FolderPair, FolderPairs, find_pairs
from calco.formats.listing import Listing
from calco.formats.per_object import ObjectFolders, as_object_folders
from calco.formats.rle_csv import RleTable, explain_tables, find_tables
from calco.formats.roles import place_of
from calco.images.io import IMAGE_SUFFIXES
from calco.wording import name_some

Layout: TypeAlias = FolderPairs | ObjectFolders | RleTable


def detect(listing: Listing, config: DataConfig) -> Layout:
    """Find out how a data folder is laid out.

    Args:
        listing: What lies in it.
        config: ``data.images`` and ``data.masks`` override what the names say.

    Raises:
        CalcoError: ``DATA_EMPTY`` without any, ``NO_MASKS`` and ``NO_IMAGES`` without the other
            half, ``DATA_LEVEL`` when the folder holds several data sets or is only a part of one,
            ``DATA_AMBIGUOUS`` when more than one layout fits; each names the folder or setting to
            use.
    """
    if not any(folder.files for folder in listing.folders):
        raise _nothing(listing)
    if config.masks is not None and config.masks.lower().endswith(".csv"):
        return find_tables(listing, config)[0]
    found = find_pairs(listing, config)
    layouts: list[Layout] = [as_object_folders(found) or found] if found.pairs else []
    if found.pairs and not isinstance(layouts[0], ObjectFolders):
        _require_one_data_set(found.pairs, listing)
    if config.masks is None:
        layouts += find_tables(listing, config)
    match layouts:
        case [layout]:
            return layout
        case []:
            raise _no_masks(listing, config, found)
        case _:
            raise _ambiguous(listing.root, layouts)


def _require_one_data_set(pairs: Sequence[FolderPair], listing: Listing) -> None:
    """Accept folders side by side only when they are alike and undivided, as one per patient."""
    sets = {pair.place.above for pair in pairs}
    alike = len({(len(pair.place.above), pair.is_flat) for pair in pairs}) == 1
    undivided = all(pair.place.subset is None for pair in pairs)
    if len(sets) == 1 or (alike and undivided):
        return
    names = sorted("/".join(above) or "." for above in sets)
    raise CalcoError(
        Problem(
            "DATA_LEVEL",
            "this folder holds several data sets",
            str(listing.root),
            got=name_some(names),
            expected="one",
            do=f"give one of them, such as {listing.root / names[-1]}",
        )
    )


def _ambiguous(root: Path, layouts: Sequence[Layout]) -> CalcoError:
    return CalcoError(
        Problem(
            "DATA_AMBIGUOUS",
            f"{len(layouts)} layouts fit this folder",
            str(root),
            got="; ".join(f"({n}) {layout}" for n, layout in enumerate(layouts, 1)),
            expected="one",
            do="choose with " + " or ".join(_choice(layout) for layout in layouts),
        )
    )


def _choice(layout: Layout) -> str:
    match layout:
        case RleTable():
            return f"--set data.masks={layout.where}"
        case FolderPairs() | ObjectFolders():
            wheres = [pair.masks.where for pair in layout.pairs]
            if len(wheres) == 1:
                return f"--set data.masks={wheres[0]}"
            return "by moving the table out of the folder"


def _nothing(listing: Listing) -> CalcoError:
    archives = sum(f.others.get(s, 0) for f in listing.folders for s in (".zip", ".gz", ".tgz"))
    return CalcoError(
        *listing.problems,
        Problem(
            "DATA_EMPTY",
            "there are no images in this folder",
            str(listing.root),
            got=listing.describe(),
            expected="files ending in " + " ".join(sorted(IMAGE_SUFFIXES)),
            do="unpack the archive first" if archives else "give the folder that holds the data",
        ),
    )


def _no_masks(listing: Listing, config: DataConfig, found: FolderPairs) -> CalcoError:
    only_masks = bool(found.alone) and all(p.place.role == "mask" for p in found.alone)
    here, missing = ("masks", "images") if only_masks else ("images", "masks")
    return CalcoError(
        *explain_tables(listing, config),
        Problem(
            f"NO_{missing.upper()}",
            f"there are {here} but no {missing} for them",
            str(listing.root),
            got=listing.describe(),
            expected="masks/ beside images/, a_mask.png beside a.png, or a CSV of run lengths",
            do=_way_up(listing.root) or "name the places with data.images and data.masks",
        ),
    )


def _way_up(root: Path) -> str:
    """Propose the parent when the folder is one half of a pair."""
    full = root.resolve()
    if place_of((full.name,)).role is None:
        return ""
    try:
        siblings = [child.name for child in full.parent.iterdir() if child.is_dir()]
    except OSError:
        return ""
    roles = {place_of((name,)).role for name in siblings}
    return f"give its parent, {full.parent}" if roles >= {"image", "mask"} else ""

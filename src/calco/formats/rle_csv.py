"""Masks as a CSV of runs beside an image folder: one row per image or per object."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.folders import PlacedFolder, common_folder, place_folders
from calco.formats.listing import Listing
from calco.formats.reading import Reading, images_without_mask, some_of
from calco.formats.rle import looks_like_runs
from calco.formats.rle_guess import Guess, guess_dialect
from calco.formats.rle_rows import ImageNames, assign_rows, is_safe_id
from calco.formats.roles import nfc, path_id
from calco.formats.tables import ID_COLUMNS, RLE_COLUMNS, Table, column_of, read_table
from calco.records import Sample
from calco.wording import counted, name_some

N_PEEKED = 200
"""Rows read to see whether a table is about the images."""


@dataclass(frozen=True)
class RleTable:
    """A data set of images and a table of runs.

    Attributes:
        path: The CSV.
        where: The CSV below the root.
        folders: Folders of the images.
        alone: Folders of images that the table says nothing about.
    """

    path: Path
    where: str
    folders: tuple[PlacedFolder, ...]
    alone: tuple[PlacedFolder, ...] = ()

    def __str__(self) -> str:
        images = name_some([p.where for p in self.folders], most=4)
        return f"run-length rows in {self.where}, images in {images}"


def find_tables(listing: Listing, config: DataConfig) -> tuple[RleTable, ...]:
    """Find the CSV files whose rows are runs for images that are here.

    A table named in ``data.masks`` is the only candidate; otherwise a submission template is none.

    Raises:
        CalcoError: When the named table is missing, unreadable or has no images.
    """
    placed = [p for p in place_folders(listing, config) if p.place.role != "mask"]
    if config.masks is not None:
        path = _named_table(listing, config.masks)
        return (_required_table(path, listing, placed),)
    candidates = [path for path in listing.tables if "submission" not in path.stem.lower()]
    found = []
    for path in candidates:
        try:
            table = read_table(path, listing.where(path), N_PEEKED)
            columns = column_of(table, ID_COLUMNS, "ids"), column_of(table, RLE_COLUMNS, "runs")
        except CalcoError:
            continue  # some other table; named in data.masks its faults are told
        if layout := _with_images(table, path, _ids(table, columns[0]), placed):
            found.append(layout)
    return tuple(found)


def explain_tables(listing: Listing, config: DataConfig) -> list[Problem]:
    """Say of each table why its rows were not taken for masks, or that naming it will do."""
    placed = [p for p in place_folders(listing, config) if p.place.role != "mask"]
    problems: list[Problem] = []
    for path in listing.tables:
        try:
            table = _required_table(path, listing, placed)
        except CalcoError as error:
            problems += error.problems
        else:
            what, do = "its rows may be masks", f"if so, --set data.masks={table.where}"
            problems.append(Problem("CSV_UNNAMED", what, table.where, do=do))
    return [replace(problem, severity="note") for problem in problems]


def read_rle(layout: RleTable, config: DataConfig) -> Reading:
    """Read the table, find out its dialect and check every row against its image.

    Raises:
        CalcoError: When the table cannot be read at all or an image folder is ambiguous.
    """
    table = read_table(layout.path, layout.where)
    columns = column_of(table, ID_COLUMNS, "ids"), _rle_column(table)
    images = [image for placed in layout.folders for image in placed.folder.files]
    top = common_folder(images)
    book = assign_rows(table, columns, _image_names(images, top))
    guess = guess_dialect(book.image_runs(), book.dialect, config, layout.where)
    book.check(guess.dialect)
    masks = book.masks(guess.dialect)
    samples = [
        Sample(path_id(image, top), image, masks.get(image), subset=placed.place.subset)
        for placed in layout.folders
        for image in placed.folder.files
        if image in masks or (config.allow_unlabelled and image not in book.by_image)
    ]
    alone = [image.name for image in images if image not in book.by_image]
    problems = some_of([*table.problems, *book.problems])
    problems += images_without_mask(alone, layout.where, config)
    note = _describe(guess, table)
    sentence = f"{layout}; {counted(len(table.rows), 'row')}; {note}"
    return Reading(sentence, tuple(samples), tuple(problems), guess.problems, note)


# --- finding the table and its images


def _named_table(listing: Listing, value: str) -> Path:
    for path in listing.tables:
        if listing.where(path) == Path(value).as_posix() or path == Path(value):
            return path
    known = [listing.where(path) for path in listing.tables]
    near = difflib.get_close_matches(value, known, n=1)
    do = f"did you mean {near[0]}?" if near else "correct data.masks"
    what = "no such table below the data folder"
    expected = name_some(known) or "a CSV file"
    raise CalcoError(Problem("DATA_SETTING", what, "data.masks", repr(value), expected, do))


def _required_table(path: Path, listing: Listing, placed: Sequence[PlacedFolder]) -> RleTable:
    table = read_table(path, listing.where(path), N_PEEKED)
    ids = _ids(table, column_of(table, ID_COLUMNS, "ids"))
    _rle_column(table)
    if layout := _with_images(table, path, ids, placed):
        return layout
    raise CalcoError(
        Problem(
            "NO_PAIRS",
            "no row is about an image that is here",
            table.where,
            got=f"ids {name_some([repr(i) for i in ids], most=3)}",
            expected=f"images in {name_some([p.where for p in placed]) or 'a folder'}",
            do="put the images beside the table, or name their folder in data.images",
        )
    )


def _ids(table: Table, column: int) -> list[str]:
    return list(dict.fromkeys(row.cells[column] for row in table.rows))


def _with_images(
    table: Table, path: Path, ids: Sequence[str], placed: Sequence[PlacedFolder]
) -> RleTable | None:
    """Join a table with the folders that hold images of these ids; None without any."""
    names = {nfc(i) for i in ids} | {nfc(Path(i).name) for i in ids if is_safe_id(i)}
    folders = [
        p
        for p in placed
        if any(nfc(path.stem) in names or nfc(path.name) in names for path in p.folder.files)
    ]
    alone = [p for p in placed if p not in folders and p.folder.files]
    return RleTable(path, table.where, tuple(folders), tuple(alone)) if folders else None


def _rle_column(table: Table) -> int:
    """Find the column of runs by its name, else by what is in it."""
    try:
        return column_of(table, RLE_COLUMNS, "runs")
    except CalcoError:
        ids = column_of(table, ID_COLUMNS, "ids")
        head = table.rows[:N_PEEKED]
        full = [
            c
            for c in range(len(table.header))
            if c != ids and any(looks_like_runs(row.cells[c]) for row in head)
        ]
        if len(full) == 1:
            return full[0]
        raise


def _image_names(images: Sequence[Path], top: Path) -> ImageNames:
    """Return every name an id may have: file or path, with or without extension."""
    names: defaultdict[str, list[Path]] = defaultdict(list)
    for image in images:
        path = nfc(image.relative_to(top).as_posix())
        for name in {path, path_id(image, top), nfc(image.name), nfc(image.stem)}:
            names[name].append(image)
    return names


def _describe(guess: Guess, table: Table) -> str:
    dialect = guess.dialect
    notes = list(guess.reasons)
    if dialect.relative:
        notes.append("starts relative to the run before")
    if dialect.empty:
        notes.append(f"{dialect.empty!r} is an empty mask")
    notes.append("one row per object" if dialect.per_object else "one row per image")
    if table.delimiter != ",":
        notes.append(f"cells separated by {table.delimiter!r}")
    others = [name for name in table.header if name not in dialect.columns]
    if others:
        notes.append(f"columns {name_some(others)} are not used")
    return "; ".join(notes)

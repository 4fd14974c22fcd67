"""The rows of a table of runs: each given to its image, read and checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import TypeAlias

from calco.errors import CalcoError, Problem
from calco.formats.rle import Runs, parse_runs, spans_of
from calco.formats.rle_guess import ImageRuns
from calco.formats.roles import nfc
from calco.formats.tables import Table
from calco.images.io import header_size
from calco.records import RleDialect, RleMask
from calco.wording import counted, name_some

EMPTY_TOKENS = ("-1", "-", "1 0", "0 0", "none", "null", "empty")
"""Cells that competitions and exports use for an empty mask, beside an empty cell."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


ImageNames: TypeAlias = Mapping[str, Sequence[Path]]


@dataclass(frozen=True, eq=False)
class RleRow:
    """One row: its text, its runs as written, and where it stands."""

    text: str
    runs: Runs
    line: int
    where: str


@dataclass
class RowBook:
    """Rows by image; what is wrong with them is added to ``problems`` as it is found.

    Attributes:
        dialect: What is known before order and base are.
        by_image: Every image that has a row, readable or not.
        sizes: (height, width) of those images.
        faulty: Images with a row that cannot be used; they have no mask.
        problems: One per faulty row, one per kind of oddity.
        size_of: Tells the (height, width) of an image.
    """

    where: str
    dialect: RleDialect
    by_image: dict[Path, list[RleRow]] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faulty: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    size_of: Callable[[Path], tuple[int, int]] = header_size

    def image_runs(self) -> list[ImageRuns]:
        """Return the sound images with any foreground, in the order of the table."""
        return [
            ImageRuns(image, self.sizes[image], runs)
            for image, rows in self.by_image.items()
            if image not in self.faulty and (runs := tuple(r.runs for r in rows if len(r.runs)))
        ]

    def check(self, dialect: RleDialect) -> None:
        """Check that runs stay in their images and do not overlap."""
        untidy: list[int] = []
        for image, rows in self.by_image.items():
            for row in rows if image in self.sizes else ():
                try:
                    spans = spans_of(row.runs, self.sizes[image], dialect, row.where)
                except CalcoError as error:
                    self.fault(image, error)
                else:
                    if (spans[1:, 0] < spans[:-1, 1]).any():
                        untidy.append(row.line)
        if untidy:
            what = f"{counted(len(untidy), 'row')} with runs that overlap or fall back; joined"
            got = f"lines {name_some([str(line) for line in untidy])}"
            self.warn("RLE_OVERLAP", what, got, "check how the table was written")

    def masks(self, dialect: RleDialect) -> dict[Path, RleMask]:
        """Return the mask of every sound image; only empty rows are an empty mask."""
        return {
            image: RleMask(
                tuple(dict.fromkeys(row.text for row in rows if len(row.runs))),
                dialect,
                rows[0].where,
            )
            for image, rows in self.by_image.items()
            if image not in self.faulty
        }

    def fault(self, image: Path, error: CalcoError) -> None:
        """Take an image out."""
        self.faulty.add(image)
        self.problems += error.problems

    def warn(self, code: str, what: str, got: str, do: str) -> None:
        """Note what does not take an image out."""
        self.problems.append(Problem(code, what, self.where, got, do=do, severity="warning"))


def assign_rows(
    table: Table,
    columns: tuple[int, int],
    names: ImageNames,
    size_of: Callable[[Path], tuple[int, int]] = header_size,
) -> RowBook:
    """Give each row to its image and read its runs.

    Args:
        table: All of it.
        columns: Positions of the ids and of the runs.
        names: The images that an id may mean.
        size_of: Tells the (height, width) of an image.
    """
    id_column, rle_column = columns
    texts = [row.cells[rle_column].strip() for row in table.rows]
    header = table.header[id_column], table.header[rle_column]
    book = RowBook(
        table.where, RleDialect(empty=empty_token(texts), columns=header), size_of=size_of
    )
    strangers: list[str] = []
    unclear: list[str] = []
    for row, text in zip(table.rows, texts, strict=True):
        name, where = nfc(row.cells[id_column]), f"{table.where}:{row.line}"
        if len(images := names.get(name, ())) == 1:
            _add(book, images[0], text, row.line)
        elif images:
            unclear.append(f"{name!r} (line {row.line})")
        elif is_safe_id(name):
            strangers.append(f"{name!r} (line {row.line})")
        else:
            what, do = "id is no safe file name", "use plain names below the image folder"
            book.problems.append(Problem("ID_UNSAFE", what, where, repr(name), do=do))
    per_object = any(len(rows) > 1 for rows in book.by_image.values())
    book.dialect = replace(book.dialect, per_object=per_object)
    _report(book, strangers, unclear)
    return book


def empty_token(texts: Sequence[str]) -> str:
    """Return the cell that stands for an empty mask; most often simply an empty cell."""
    counts = Counter(text for text in texts if text.casefold() in EMPTY_TOKENS)
    return max(counts, key=lambda text: counts[text], default="")


def is_safe_id(name: str) -> bool:
    """Tell whether an id is a plain relative name on every system.

    Example:
        >>> is_safe_id("a/b.png"), is_safe_id("../a"), is_safe_id("c:a"), is_safe_id("con.png")
        (True, False, False, False)
    """
    path = PureWindowsPath(name)
    return (
        bool(path.parts)
        and "\0" not in name
        and not path.anchor
        and ".." not in path.parts
        and not any(_RESERVED.fullmatch(part) for part in path.parts)
    )


def _add(book: RowBook, image: Path, text: str, line: int) -> None:
    where = f"{book.where}:{line}"
    if image not in book.by_image:
        book.by_image[image] = []
        try:
            book.sizes[image] = book.size_of(image)
        except CalcoError as error:
            book.fault(image, error)
    try:
        runs = parse_runs(text, book.dialect, where)
    except CalcoError as error:
        book.fault(image, error)
    else:
        book.by_image[image].append(RleRow(text, runs, line, where))


def _report(book: RowBook, strangers: Sequence[str], unclear: Sequence[str]) -> None:
    repeated = [
        f"{image.name} ({n} times)"
        for image, rows in book.by_image.items()
        for n in Counter(row.text for row in rows).values()
        if n > 1
    ]
    if repeated:
        what = f"{counted(len(repeated), 'row')} repeated exactly; each counts once"
        book.warn("CSV_REPEATED", what, name_some(repeated), "check how the table was written")
    if unclear:
        what = f"{counted(len(unclear), 'row')} about an id that several images have"
        do = "write ids as paths, or name the image folder in data.images"
        got = name_some(unclear)
        book.problems.append(Problem("DUP_ID", what, book.where, got, do=do))
    if strangers:
        what = f"{counted(len(strangers), 'row')} about images that are not here"
        do = "add the images or remove the rows"
        got = name_some(strangers)
        book.problems.append(Problem("ORPHAN_MASK", what, book.where, got, do=do))

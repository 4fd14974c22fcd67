"""CSV files written by other programs: every cell is text and knows its line."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from calco.errors import CalcoError, Problem
from calco.formats.roles import nfc
from calco.wording import name_some

MAX_CELL_CHARS = 32_000_000
"""Longest cell and line read: the runs of a gigapixel mask fit, an unclosed quote or a file without
line ends does not fill the memory."""
ID_COLUMNS = frozenset(
    (
        "id",
        "ids",
        "imageid",
        "image",
        "imagename",
        "img",
        "imgid",
        "filename",
        "file",
        "name",
        "path",
    )
)
RLE_COLUMNS = frozenset(
    (
        "rle",
        "rlemask",
        "maskrle",
        "mask",
        "encodedpixels",
        "encodedpixel",
        "encodedmask",
        "encoding",
        "segmentation",
        "annotation",
        "predicted",
        "prediction",
        "pixels",
    )
)
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One row and the line of the file on which it begins, from 1."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        where: The file, as messages show it.
        header: Names of the columns, without surrounding blanks.
        rows: As many cells as the header has names; empty lines left out.
        delimiter: What separates cells.
        problems: Rows with another number of cells, left out.
    """

    where: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str
    problems: tuple[Problem, ...] = ()


def read_table(path: Path, where: str, most_rows: int | None = None) -> Table:
    """Read a CSV file.

    Args:
        path: UTF-8 with or without byte-order mark, any line ends; comma, semicolon or tab.
        where: The file, as messages show it.
        most_rows: Stop after so many rows; None reads all.

    Raises:
        CalcoError: ``CSV_ENCODING``, ``CSV_SYNTAX``, ``CSV_EMPTY`` or ``IO_...``, with the line.
    """
    _require_utf8(path, where)
    rows: list[Row] = []
    problems: list[Problem] = []
    with _faults_named(path, where), path.open(encoding="utf-8-sig", newline="") as file:
        lines = _lines(file, where)
        first = next(lines, "")
        delimiter = max(_DELIMITERS, key=first.count)
        header = tuple(
            nfc(name.strip()) for name in next(csv.reader([first], delimiter=delimiter), ())
        )
        for row in _rows(lines, delimiter, where):
            if len(row.cells) == len(header):
                rows.append(row)
            else:
                problems.append(_ragged(row, len(header), where))
            if most_rows is not None and len(rows) >= most_rows:
                break
    if not any(header):
        raise CalcoError(Problem("CSV_EMPTY", "the table has no header", where, do="add one"))
    return Table(where, header, tuple(rows), delimiter, tuple(problems))


@contextmanager
def long_cells(most_chars: int) -> Iterator[None]:
    """Let ``csv`` read cells longer than its 131,072 characters: large masks are."""
    before = csv.field_size_limit(most_chars)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def plain_name(column: str) -> str:
    """Return a column's name as it is compared: letters and digits, lower case.

    Example:
        >>> plain_name("Encoded_Pixels")
        'encodedpixels'
    """
    return re.sub(r"[^a-z0-9]", "", column.casefold())


def column_of(table: Table, names: frozenset[str], meant: str) -> int:
    """Find a column by its usual names.

    Raises:
        CalcoError: ``CSV_COLUMN`` with the columns found and the nearest name.
    """
    plain = [plain_name(name) for name in table.header]
    for position, name in enumerate(plain):
        if name in names:
            return position
    near = [h for h, p in zip(table.header, plain, strict=True) if _near(p, names)]
    do = f"did you mean {near[0]!r}? rename it" if near else "name the columns in the first row"
    got = name_some([repr(name) for name in table.header])
    expected = "one of " + name_some(sorted(names), most=5)
    raise CalcoError(
        Problem("CSV_COLUMN", f"no column for {meant}", f"{table.where}:1", got, expected, do)
    )


def _near(name: str, names: frozenset[str]) -> bool:
    return bool(difflib.get_close_matches(name, names, n=1, cutoff=0.75))


def _lines(file: TextIO, where: str) -> Iterator[str]:
    """Yield the lines of a table.

    Raises:
        CalcoError: ``CSV_SYNTAX`` at a line that is longer than a cell may be.
    """
    number = 0
    while line := file.readline(MAX_CELL_CHARS + 1):
        number += 1
        if len(line) > MAX_CELL_CHARS:
            raise CalcoError(
                Problem(
                    "CSV_SYNTAX",
                    "line is too long to be a row",
                    f"{where}:{number}",
                    got=f"more than {MAX_CELL_CHARS:,} characters",
                    do="check that it is a CSV, with one row per line",
                )
            )
        yield line


def _rows(lines: Iterable[str], delimiter: str, where: str) -> Iterator[Row]:
    """Yield the rows below the header.

    Raises:
        CalcoError: ``CSV_SYNTAX`` with the line on which the faulty row begins.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begins = 2
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            do = "check the quotes from this line on"
            raise CalcoError(
                Problem("CSV_SYNTAX", str(error), f"{where}:{begins}", do=do)
            ) from None
        if any(cell.strip() for cell in cells):
            yield Row(begins, tuple(cells))
        begins = reader.line_num + 2  # the header was taken off before


def _ragged(row: Row, expected: int, where: str) -> Problem:
    what = "row has another number of cells than the header"
    do = "quote cells that hold the delimiter"
    got = f"{len(row.cells)} cells"
    return Problem("CSV_ROW", what, f"{where}:{row.line}", got, str(expected), do)


def _require_utf8(path: Path, where: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        do = "put it into the data folder"
        raise CalcoError(Problem("IO_MISSING", "there is no such table", where, do=do)) from None
    except OSError as error:
        code = "IO_PERMISSION" if isinstance(error, PermissionError) else "IO_ERROR"
        what = f"cannot be read: {error.strerror}"
        raise CalcoError(Problem(code, what, where, do="check the file")) from None
    # without its mark, UTF-16 shows by the zero in every second byte of Latin letters
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) / 4:
        do = "save it as CSV UTF-8"
        raise CalcoError(
            Problem("CSV_ENCODING", "the table is not UTF-8", where, "UTF-16", "UTF-8", do)
        )


@contextmanager
def _faults_named(path: Path, where: str) -> Iterator[None]:
    """Turn faults of the reader into problems; cells may be as long as masks are."""
    try:
        with long_cells(MAX_CELL_CHARS):
            yield
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        do = "save it as CSV UTF-8"
        got = f"byte {error.object[error.start]:#04x}"
        raise CalcoError(
            Problem("CSV_ENCODING", "the table is not UTF-8", f"{where}:{line}", got, "UTF-8", do)
        ) from None

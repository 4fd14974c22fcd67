"""Rows 49 to 59: tables of run lengths, from their encoding to their last pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .drawing import (
    MASK,
    NAMES,
    Builder,
    Content,
    box,
    encoded,
    only,
    picture,
    runs,
)
from .matrix import Accepted, Refused, Row

AS_SAID: dict[str, object] = {"rle_order": "column", "rle_base": 1}
FROM_ZERO: dict[str, object] = {"rle_order": "column", "rle_base": 0}
NAMED = {**AS_SAID, "masks": "train.csv"}
"""A table that is named tells its own faults; of others it is said that they were passed over."""

X = f"x,{runs(MASK)}"
LINE = "train.csv:5"
EMPTY = np.zeros_like(MASK)


def table(*lines: str, header: str = "id,rle", end: str = "\n", encoding: str = "utf-8") -> Builder:
    """Write images and a table of which lines 2 to 4 are sound, and the given ones follow.

    Args:
        lines: About the image x, from line 5 on.
        header: Line 1; its first sign that is no letter separates the cells of lines 2 to 4.
        end: Of each line.
        encoding: Of the file.
    """
    comma = next(c for c in header if not c.isalnum())
    rows = [f"{name}{comma}{runs(box(n))}" for n, name in enumerate(NAMES) if name != "x"]
    text = "".join(line + end for line in (header, *rows, *lines))
    return only({**PICTURES, "train.csv": text.encode(encoding)})


PICTURES: dict[str, Content] = {
    f"images/{name}.png": encoded(picture(n)) for n, name in enumerate(NAMES)
}


def ids(*names: str) -> Builder:
    """Write images whose names another reader would take for numbers or for nothing."""
    text = "id,rle\n" + "".join(f"{name},{runs(box(n))}\n" for n, name in enumerate(names))
    pictures = {f"images/{name}.png": encoded(picture(n)) for n, name in enumerate(names)}
    return only({**pictures, "train.csv": text.encode()})


def broken_image(root: Path) -> None:
    """Leave the size of an image unknown."""
    table(X)(root)
    (root / "images/x.png").write_bytes(b"")


def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow cells of 100 kB, so that 20 MB stand for the 500 MB of a file gone wrong."""
    monkeypatch.setattr("calco.formats.tables.MAX_CELL_CHARS", 100_000)


def long_cell(root: Path) -> None:
    """Write a cell of 20 MB."""
    table("x," + 5_000_000 * "1 1 ")(root)


def at_line(code: str, do: str, shows: str = "") -> Refused:
    return Refused(code, LINE, do, shows)


def bad_runs(name: str, cell: str, shows: str) -> Row:
    """A cell that holds no runs."""
    return Row(
        53, name, table(f"x,{cell}"), at_line("RLE_SYNTAX", "correct the cell", shows), AS_SAID
    )


def unsafe(name: str, written: str) -> Row:
    """An id that would leave the folder, or that some system does not take for a name."""
    refused = Refused("ID_UNSAFE", LINE, "plain names", repr(written), also=("ORPHAN_IMAGE",))
    return Row(52, name, table(f"{written},1 1"), refused, AS_SAID)


TEXT = Accepted(mask=box(1), sample="0001")
UTF16 = Refused("CSV_ENCODING", "train.csv", "save it as CSV UTF-8", "UTF-16")
LATIN = at_line("CSV_ENCODING", "save it as CSV UTF-8", "byte 0xe9")
QUOTE = at_line("CSV_SYNTAX", "check the quotes from this line on")
CELLS = Refused("CSV_ROW", LINE, "quote cells", "3 cells 2", also=("ORPHAN_IMAGE",))
ENDLESS = Refused("CSV_SYNTAX", LINE, "one row per line", "more than 100,000", peak_mb=16)
NO_IDS = Refused("CSV_COLUMN", "train.csv:1", "did you mean 'imagge'? rename it", "'imagge', 'rle'")
FROM_0 = at_line("RLE_RANGE", "data.rle_base: 0", "'0 3' pixels 1 to 768 (24 x 32)")
FROM_1 = at_line("RLE_RANGE", "data.rle_base: 1", "'766 3' pixels 0 to 767 (24 x 32)")
PAST_END = at_line("RLE_RANGE", "data.rle_order", "'770 3'")
HUGE = Refused("RLE_RANGE", LINE, "has the size", "'1 1000000000000'", peak_mb=16)
JOINED = Accepted(code="RLE_OVERLAP", told="got lines 5")
REPEATED = Accepted(code="CSV_REPEATED", told="x.png (2 times)")
NO_ROW = Refused("ORPHAN_IMAGE", "train.csv", "add the masks", "1 image without a mask x.png")
STRANGER = Refused("ORPHAN_MASK", "train.csv", "add the images", "'ghost' (line 6)")
NO_SIZE = Refused("IMG_EMPTY", "images/x.png", "copy it again")
UNKNOWN_TOKEN = at_line("RLE_SYNTAX", "correct the cell", "token 1: 'nothing'")

TOP = "x," + " ".join(f"{24 * column + 4} 6" for column in range(5, 14))
OVERLAPPING = "x," + " ".join(f"{24 * c + 4} 4 {24 * c + 6} 4" for c in range(5, 14))
DESCENDING = "x,196 6 " + " ".join(f"{24 * c + 4} 6" for c in (*range(5, 8), *range(9, 14)))

TABLES = (
    Row(49, "byte-order-mark", table(X, encoding="utf-8-sig"), Accepted(), AS_SAID),
    Row(49, "semicolons", table(X.replace(",", ";"), header="id;rle"), Accepted(), AS_SAID),
    Row(49, "windows-line-ends", table(X, end="\r\n"), Accepted(), AS_SAID),
    Row(49, "blank-rows", table(X, "", "", ""), Accepted(), AS_SAID),
    Row(49, "utf-16", table(X, encoding="utf-16"), UTF16, NAMED),
    Row(49, "utf-16-unmarked", table(X, encoding="utf-16-le"), UTF16, NAMED),
    Row(49, "latin-1", table("é,1 1", encoding="latin-1"), LATIN, NAMED),
    Row(49, "quote-left-open", table('"x,1 1'), QUOTE, NAMED),
    Row(49, "one-cell-too-many", table("x,1 1,2"), CELLS, AS_SAID),
    Row(50, "header-in-other-case", table(X, header="IMAGEID,Encoded_Pixels"), Accepted(), AS_SAID),
    Row(50, "no-column-of-ids", table(X, header="imagge,rle"), NO_IDS, NAMED),
    Row(51, "ids-stay-text", ids("NA", "0001", "1", "null", "1e5", "true", "1.0"), TEXT, AS_SAID),
    unsafe("parent-folder", "../x"),
    unsafe("absolute", "/etc/x"),
    unsafe("drive", "C:x"),
    unsafe("device", "CON"),
    unsafe("zero-byte", "x\0y"),
    bad_runs("odd-count", "1 2 3", "3 numbers"),
    bad_runs("letters", "1 two", "token 2: 'two'"),
    bad_runs("fraction", "1.5 2", "token 1: '1.5'"),
    bad_runs("sign", "-4 2", "token 1: '-4'"),
    bad_runs("no-length", "7 0", "token 2: '0'"),
    Row(54, "0-counted-from-1", table("x,0 3"), FROM_0, AS_SAID),
    Row(54, "end-counted-from-0", table("x,766 3"), FROM_1, FROM_ZERO),
    Row(54, "past-the-end", table("x,770 3"), PAST_END, AS_SAID),
    Row(55, "overlap", table(OVERLAPPING), JOINED, AS_SAID),
    Row(55, "unsorted", table(DESCENDING), JOINED, AS_SAID),
    Row(56, "empty-cell", table("x,"), Accepted(mask=EMPTY), AS_SAID),
    Row(56, "nan", table("x,nan"), Accepted(mask=EMPTY), AS_SAID),
    Row(56, "minus-one", table("x,-1"), Accepted(mask=EMPTY), AS_SAID),
    Row(56, "unknown-token", table("x,nothing"), UNKNOWN_TOKEN, AS_SAID),
    Row(56, "no-row", table(), NO_ROW, AS_SAID),
    Row(57, "run-of-10-to-the-12", table("x,1 1000000000000"), HUGE, AS_SAID),
    Row(57, "cell-of-20-mb", long_cell, ENDLESS, NAMED, patch=short_lines),
    Row(58, "row-repeated", table(TOP, TOP), REPEATED, AS_SAID),
    Row(58, "two-rows-joined", table(TOP[:-6], "x,316 6"), Accepted(), AS_SAID),
    Row(59, "row-without-image", table(X, "ghost,1 1"), STRANGER, AS_SAID),
    Row(59, "image-without-size", broken_image, NO_SIZE, AS_SAID),
)

"""Write a competition's submission, and prove it before it gets its name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.files import FORMULA_STARTS, atomic_file
from calco.formats.rle import decode, encode, encode_objects
from calco.formats.roles import nfc
from calco.formats.tables import long_cells
from calco.formats.template import MAX_CELL_CHARS, Template, read_template, template_dialect
from calco.images.io import IMAGE_SUFFIXES
from calco.images.mask_files import read_predicted
from calco.images.objects import Method, split_objects
from calco.records import RleDialect
from calco.wording import name_some


@dataclass(frozen=True)
class SubmissionReport:
    """What was written.

    Attributes:
        path: The file.
        n_images: Masks in it.
        n_empty: Thereof without foreground.
        n_rows: Lines below the header.
        dialect: How the masks were encoded.
        note: Where the dialect comes from, one sentence for people.
    """

    path: Path
    n_images: int
    n_empty: int
    n_rows: int
    dialect: RleDialect
    note: str


@dataclass(frozen=True)
class _Row:
    """One mask of the submission: the cells around its run-length cell, and where it is."""

    cells: tuple[str, ...]
    mask: Path


@dataclass(frozen=True)
class _Table:
    """Everything of the file but the run lengths."""

    header: tuple[str, ...]
    rows: tuple[_Row, ...]
    rle_column: int
    dialect: RleDialect
    max_megapixels: float
    method: Method = "components"


def write_submission(
    masks: Mapping[str, Path],
    out: Path,
    dialect: RleDialect | None = None,
    like: Path | None = None,
    max_megapixels: float = 100.0,
    method: Method = "components",
) -> SubmissionReport:
    """Write masks as run-length rows, read the file back and compare before naming it.

    Args:
        masks: Mask file of each id, uint8 {0, 255}; read one at a time.
        out: CSV to write.
        dialect: Order, base, starts, empty token; None takes it from ``like``, or else Kaggle's
            usual rule.
        like: Sample submission that gives columns, ids and row order.
        max_megapixels: Largest mask decoded whole; those of slides are read by window.
        method: How objects are told apart, where each has a row of its own.

    Raises:
        CalcoError: When ids and template do not match exactly, a mask is not {0, 255}, or the
            file read back is not pixel for pixel the masks; nothing is left behind then.
    """
    if not masks:
        raise CalcoError(Problem("SUBMISSION_EMPTY", "there are no masks to submit", do="predict"))
    table, note = _plan_table(masks, dialect, like)
    table = replace(table, max_megapixels=max_megapixels, method=method)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file:
            lines_per_mask, n_empty = _write_table(file, table)
            file.seek(0)
            _verify_table(file, table, lines_per_mask, out)
    except OSError as error:
        got, do = error.strerror or str(error), "make room or choose another file"
        raise CalcoError(
            Problem("SUBMISSION_WRITE", "cannot write the submission", str(out), got=got, do=do)
        ) from None
    n_rows = sum(lines_per_mask)
    return SubmissionReport(out, len(table.rows), n_empty, n_rows, table.dialect, note)


def _plan_table(
    masks: Mapping[str, Path], dialect: RleDialect | None, like: Path | None
) -> tuple[_Table, str]:
    if like is None:
        dialect, note = (dialect, "as given") if dialect else (RleDialect(), "Kaggle's usual rule")
        _refuse_formulas(masks)
        rows = tuple(_Row((name, ""), masks[name]) for name in sorted(masks))
        return _Table(dialect.columns, rows, 1, dialect, 0.0), note
    template = read_template(like)
    if dialect is None:
        dialect, note = template_dialect(template)
    else:
        dialect, note = replace(dialect, columns=template.columns), "as given"
    found = _match(template, masks)
    # one template row per object or not: the first row of a mask stands for all its lines
    first = dict(zip(reversed(template.keys()), reversed(template.rows), strict=True))
    if len(first) < len(template.rows) and not dialect.per_object:
        raise CalcoError(
            Problem(
                "TEMPLATE_REPEATED",
                "ids are repeated, yet the dialect has one row per image",
                str(like),
                do="use a dialect with one row per object",
            )
        )
    rows = tuple(_Row(first[key], found[key]) for key in dict.fromkeys(template.keys()))
    return _Table(template.header, rows, template.rle_column, dialect, 0.0), note


def _match(template: Template, masks: Mapping[str, Path]) -> dict[str, Path]:
    """Find the mask of every template key; every id on both sides must be used."""
    by_name: dict[str, list[str]] = {}
    for name in masks:
        for alias in {_plain(name), _plain(PurePosixPath(name).name)}:
            by_name.setdefault(alias, []).append(name)
    found: dict[str, Path] = {}
    missing: list[str] = []
    ambiguous: list[str] = []
    used: set[str] = set()
    for key in dict.fromkeys(template.keys()):
        names = [key] if key in masks else by_name.get(_plain(key), [])
        used.update(names)
        if len(names) == 1:
            found[key] = masks[names[0]]
        else:
            (ambiguous if names else missing).append(key)
    extra = [name for name in masks if name not in used]
    problems = [
        _listing("SUBMISSION_MISSING", "ids of the template without a mask", missing, template),
        _listing("SUBMISSION_AMBIGUOUS", "ids that fit several masks", ambiguous, template),
        _listing("SUBMISSION_EXTRA", "masks that are not in the template", extra, template),
    ]
    if any(problems):
        raise CalcoError(*(p for p in problems if p))
    return found


def _listing(code: str, what: str, ids: Sequence[str], template: Template) -> Problem | None:
    if not ids:
        return None
    do = "predict exactly the images of the template; masks are found by id or file name"
    return Problem(code, f"{what}: {len(ids)}", str(template.path), name_some(ids), do=do)


def _plain(name: str) -> str:
    """Return an id without an image extension, in the normal form files may not have."""
    path = PurePosixPath(name)
    bare = str(path.with_suffix("")) if path.suffix.casefold() in IMAGE_SUFFIXES else name
    return nfc(bare)


def _refuse_formulas(masks: Mapping[str, Path]) -> None:
    # an apostrophe would change the id and lose the row at the judge's, so the id is refused;
    # ids out of a template are the judge's own and stay
    bad = [name for name in masks if name.startswith(FORMULA_STARTS)]
    if bad:
        raise CalcoError(
            Problem(
                "SUBMISSION_FORMULA",
                "a spreadsheet would run this id as a formula",
                got=repr(bad[0]),
                do="rename the image, or give the sample submission that has this id",
            )
        )


def _write_table(file: BinaryIO, table: _Table) -> tuple[list[int], int]:
    """Write all lines; return how many each mask took, and the number of empty masks."""
    lines_per_mask, n_empty = [], 0
    with _as_text(file) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.header)
        for row in table.rows:
            mask = read_predicted(row.mask, table.max_megapixels)
            n_empty += not mask.any()
            cells = _encoded(mask, table.dialect, table.method)
            lines_per_mask.append(len(cells))
            writer.writerows(_with_cell(row.cells, table.rle_column, cell) for cell in cells)
    return lines_per_mask, n_empty


def _encoded(mask: NDArray[np.bool_], dialect: RleDialect, method: Method) -> list[str]:
    if dialect.per_object and mask.any():
        return encode_objects(split_objects(mask, method), dialect)
    return [encode(mask, dialect)]


def _with_cell(cells: tuple[str, ...], column: int, value: str) -> tuple[str, ...]:
    return (*cells[:column], value, *cells[column + 1 :])


def _verify_table(file: BinaryIO, table: _Table, lines_per_mask: Sequence[int], out: Path) -> None:
    """Decode every line again and compare with the masks as they are on disk.

    Raises:
        CalcoError: ``SUBMISSION_MISMATCH`` at the first difference.
    """
    with _as_text(file) as text, long_cells(MAX_CELL_CHARS):
        reader = csv.reader(text)
        same = tuple(next(reader, ())) == table.header
        for row, n_lines in zip(table.rows, lines_per_mask, strict=True):
            true = read_predicted(row.mask, table.max_megapixels)
            found = np.zeros(true.shape, bool)  # (H, W)
            for _ in range(n_lines):
                cells = tuple(next(reader, ()))
                same = same and _with_cell(cells, table.rle_column, "") == _with_cell(
                    row.cells, table.rle_column, ""
                )
                if same:
                    where = f"{out}:{reader.line_num}"
                    part = decode(cells[table.rle_column], true.shape, table.dialect, where)
                    # objects may not overlap: judges refuse pixels that are given twice
                    same = not (found & part).any()
                    found |= part
            if not same or not np.array_equal(found, true):
                raise _mismatch(out, row.mask)
        if next(reader, None) is not None:
            raise _mismatch(out, out)


def _mismatch(out: Path, mask: Path) -> CalcoError:
    return CalcoError(
        Problem(
            "SUBMISSION_MISMATCH",
            "the file read back differs from the masks; it was not kept",
            str(out),
            got=f"first difference at {mask.name}",
            do="leave the masks alone while the submission is written, then try again",
        )
    )


@contextmanager
def _as_text(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield text
    finally:
        text.detach()  # flushes; the binary file stays open

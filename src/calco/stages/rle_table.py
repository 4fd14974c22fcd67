"""Draw the masks of a table of run lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
from calco.files import write_atomic
from calco.formats.dialects import PRESETS
from calco.formats.inputs import find_images
from calco.formats.reading import some_of
from calco.formats.rle import decode_rows
from calco.formats.rle_guess import guess_dialect
from calco.formats.rle_rows import ImageNames, RowBook, assign_rows, is_safe_id
from calco.formats.roles import nfc
from calco.formats.tables import ID_COLUMNS, RLE_COLUMNS, Table, column_of, read_table
from calco.images.io import IMAGE_SUFFIXES, header_size
from calco.records import RleDialect

Size = tuple[int, int]


@dataclass(frozen=True)
class DecodeReport:
    """What was drawn.

    Attributes:
        n_masks: Files written.
        n_empty: Thereof without foreground.
        dialect: How the table was read.
        note: Where the dialect comes from.
        problems: Warnings and notes.
    """

    n_masks: int
    n_empty: int
    dialect: RleDialect
    note: str
    problems: tuple[Problem, ...]


def decode_table(
    table: Path, out: Path, frame: Path | Size, dialect: RleDialect | None, config: DataConfig
) -> DecodeReport:
    """Write ``<id>.png``, uint8 {0, 255}, for every id of a table; several rows are joined.

    Args:
        table: CSV with a column of ids and one of runs.
        out: Folder to write; new or empty.
        frame: Folder of the images, or the (height, width) of all of them.
        dialect: Order, base, starts, empty token; None finds them out.
        config: Order and base where they are known.

    Raises:
        CalcoError: Lists every faulty row, before anything is written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        do = "choose a new or an empty folder"
        raise CalcoError(Problem("OUT_NOT_EMPTY", "masks are written apart", str(out), do=do))
    rows = read_table(table, str(table))
    columns = _columns(rows, dialect)
    names, targets, size_of = _frames(rows, columns[0], frame)
    book = assign_rows(rows, columns, names, size_of)
    found, note, doubts = _dialect(book, dialect, frame, config)
    book.check(found)
    problems = [_as_options(p) for p in some_of([*rows.problems, *doubts, *book.problems])]
    if errors := [p for p in problems if p.severity == "error"]:
        raise CalcoError(*errors)
    n_empty = 0
    for image, mask in book.masks(found).items():
        pixels = decode_rows(mask.rows, book.sizes[image], found, mask.where)  # (H, W) bool
        n_empty += not pixels.any()
        target = out / f"{targets[image]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        png = cv2.imencode(".png", pixels.astype(np.uint8) * np.uint8(255))[1]
        write_atomic(target, png.tobytes())
    return DecodeReport(len(book.by_image), n_empty, found, note, tuple(problems))


def _columns(table: Table, dialect: RleDialect | None) -> tuple[int, int]:
    """Find the columns of ids and runs, by a competition's names or the usual ones."""
    for rule in [dialect] if dialect else PRESETS.values():
        if set(rule.columns) <= set(table.header):
            return table.header.index(rule.columns[0]), table.header.index(rule.columns[1])
    return column_of(table, ID_COLUMNS, "ids"), column_of(table, RLE_COLUMNS, "runs")


def _frames(
    table: Table, id_column: int, frame: Path | Size
) -> tuple[ImageNames, dict[Path, str], Callable[[Path], Size]]:
    """Return which images an id may mean, the name of each one's mask, and how large it is."""
    names: defaultdict[str, list[Path]] = defaultdict(list)
    targets: dict[Path, str] = {}
    if isinstance(frame, Path):
        for image in find_images([frame]):
            targets[image.source] = image.id
            source = nfc(image.source.name)
            for name in {image.id, image.id + image.source.suffix, source, Path(source).stem}:
                names[name].append(image.source)
        return names, targets, header_size
    size = frame
    for name in {nfc(row.cells[id_column]) for row in table.rows}:
        if is_safe_id(name):  # others are told of by assign_rows
            path = Path(name)
            bare = path.with_suffix("") if path.suffix.casefold() in IMAGE_SUFFIXES else path
            names[name] = [bare]
            targets[bare] = bare.as_posix()
    return names, targets, lambda _: size


def _dialect(
    book: RowBook, dialect: RleDialect | None, frame: Path | Size, config: DataConfig
) -> tuple[RleDialect, str, tuple[Problem, ...]]:
    if dialect is not None:
        return dialect, "read by the preset", ()
    if not isinstance(frame, Path) and frame[0] == frame[1] and config.rle_order is None:
        what = "square masks show their order only beside their images"
        do = "give --images, --order or --dialect"
        raise CalcoError(Problem("RLE_ORDER", what, book.where, do=do))
    guess = guess_dialect(book.image_runs(), book.dialect, config, book.where)
    return guess.dialect, "; ".join(guess.reasons), guess.problems


def _as_options(problem: Problem) -> Problem:
    """Name the options of the command instead of the settings of a training."""
    do = problem.do
    for setting, option in (("data.rle_order: ", "--order "), ("data.rle_base: ", "--base ")):
        do = do.replace(f"set {setting}", option)
    do = do.replace("data.rle_order", "--order").replace("data.rle_base", "--base")
    return replace(problem, do=do)

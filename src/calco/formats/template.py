"""The sample submission of a competition: which columns, which rows, which order."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.formats.dialects import PRESETS
from calco.formats.rle_rows import EMPTY_TOKENS
from calco.formats.tables import RLE_COLUMNS, long_cells, plain_name
from calco.records import RleDialect

MAX_CELL_CHARS = 2**31 - 1  # as much as csv takes: a noisy mask of 100 megapixels needs half of it


@dataclass(frozen=True)
class Template:
    """A sample submission, every cell as the text it was.

    Attributes:
        path: The file.
        header: Column names.
        rows: Cells, one tuple per line below the header.
        rle_column: Position of the run-length column.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rle_column: int

    @property
    def id_column(self) -> int:
        """Position of the id: the first column that is not the run-length column."""
        return 1 if self.rle_column == 0 else 0

    @property
    def columns(self) -> tuple[str, str]:
        """Names of the id and the run-length column."""
        return self.header[self.id_column], self.header[self.rle_column]

    def keys(self) -> tuple[str, ...]:
        """Name the mask of each row: its id, or ``<id>_<class>`` where a class tells rows apart."""
        ids = [row[self.id_column] for row in self.rows]
        if len(self.header) == 2 or len(set(ids)) == len(ids):
            return tuple(ids)
        rest = [i for i in range(len(self.header)) if i not in (self.id_column, self.rle_column)]
        return tuple("_".join([row[self.id_column], *(row[i] for i in rest)]) for row in self.rows)


def read_template(path: Path) -> Template:
    """Read a sample submission as text, so that ids like ``0001`` or ``NA`` stay what they are.

    Raises:
        CalcoError: ``TEMPLATE_*`` with the line, when the file is not such a table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, long_cells(MAX_CELL_CHARS):
            lines = [(n, tuple(row)) for n, row in enumerate(csv.reader(file), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        got = error.strerror if isinstance(error, OSError) else str(error)
        do = "give the sample submission as UTF-8 CSV"
        raise CalcoError(
            Problem("TEMPLATE_READ", "cannot read the template", str(path), got or "", do=do)
        ) from None
    if len(lines) < 2:
        raise CalcoError(
            Problem("TEMPLATE_EMPTY", "the template has no rows", str(path), do="check the file")
        )
    header = tuple(name.strip() for name in lines[0][1])
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise CalcoError(
                Problem(
                    "TEMPLATE_ROW",
                    "wrong number of cells",
                    f"{path}:{number}",
                    str(len(row)),
                    f"{len(header)}, as in the header",
                    "correct the line, or download the template again",
                )
            )
    return Template(path, header, tuple(row for _, row in lines[1:]), _rle_column(header, path))


def template_dialect(template: Template) -> tuple[RleDialect, str]:
    """Work out the dialect a template stands for, and say how.

    A template shows names and placeholders but not the pixel order, so a competition is
    recognised by its columns; unknown columns get Kaggle's usual rule.

    Raises:
        CalcoError: ``RLE_DIALECT`` when the columns fit competitions with different rules.
    """
    empty = _empty_token(template)
    fits = {
        name: preset
        for name, preset in PRESETS.items()
        if preset.columns == template.columns and empty in (None, preset.empty)
    }
    keys = template.keys()
    repeated = len(set(keys)) < len(keys)
    if not fits:
        found = RleDialect(empty=empty or "", per_object=repeated, columns=template.columns)
        return found, "columns of no known competition: numbered from 1 down the columns"
    if empty is None and len(fits) > 1:  # who wants a token shows it in the sample
        fits = {name: preset for name, preset in fits.items() if preset.empty == ""}
    rules = {replace(preset, per_object=False) for preset in fits.values()}
    if len(rules) > 1:
        raise CalcoError(
            Problem(
                "RLE_DIALECT",
                "the columns fit competitions with different rules",
                str(template.path),
                got=",".join(template.columns),
                do=f"name the dialect: {' or '.join(fits)}",
            )
        )
    objects = repeated or (len(template.header) == 2 and any(p.per_object for p in fits.values()))
    return replace(rules.pop(), per_object=objects), f"recognised by its columns: {', '.join(fits)}"


def _rle_column(header: tuple[str, ...], path: Path) -> int:
    named = [i for i, name in enumerate(header) if plain_name(name) in RLE_COLUMNS]
    if len(header) >= 2 and len(named) == 1:
        return named[0]
    if len(header) == 2:
        return 1
    raise CalcoError(
        Problem(
            "TEMPLATE_COLUMNS",
            "cannot tell the run-length column",
            str(path),
            got=", ".join(header),
            expected="an id and one column such as rle_mask or EncodedPixels, comma separated",
            do="rename the column or give another template",
        )
    )


def _empty_token(template: Template) -> str | None:
    """Return the token of an empty mask when just one kind of them is shown, else None."""
    cells = Counter(row[template.rle_column].strip() for row in template.rows)
    shown = [token for token in EMPTY_TOKENS if token in cells]
    return shown[0] if len(shown) == 1 else None

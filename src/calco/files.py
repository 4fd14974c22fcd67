"""Files that matter: written whole or not at all, inert in spreadsheets, checked when read."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from calco.archives import open_binary
from calco.errors import CalcoError, Problem

# texts that spreadsheets run as formulas, also by the wide signs of East Asian keyboards
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")

T = TypeVar("T")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing and reading that gets its name only when the block succeeds.

    The temporary file lies in the same folder, is fsynced and renamed; on failure the old file is
    untouched and nothing is left over.
    """
    # a shortened name: the temporary must fit where the final name just does
    temporary = path.with_name(f".{path.name[:32]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # O_EXCL and O_NOFOLLOW: a planted link must not redirect the write; 0o666 keeps the umask
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a folder that gets its name only when the block succeeds, in the place of an old one."""
    temporary = path.with_name(f".{path.name[:32]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        remove(path)
        temporary.rename(path)
    finally:
        remove(temporary)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that its name never holds half of it; see ``atomic_file``."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; its renames are journalled
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    # on the files of data sets, this is twice as fast as hashlib.file_digest
    with open_binary(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV whole; cells a spreadsheet would run as a formula get a leading apostrophe."""
    write_atomic(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the content of such a CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_inert(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read what ``write_csv`` wrote; every cell is text.

    Raises:
        CalcoError: When the file is missing or not UTF-8.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        got = error.strerror if isinstance(error, OSError) else str(error)
        do = "give a folder that calco train has finished, or restore the file"
        raise CalcoError(
            Problem("FILE_READ", "cannot read the file", str(path), got or "", do=do)
        ) from None
    return [
        {key: (value or "").removeprefix("'") for key, value in row.items() if key is not None}
        for row in rows
    ]


def _inert(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith((*FORMULA_STARTS, "'")):
        return "'" + cell
    return f"{cell:.6g}" if isinstance(cell, float) else cell


def to_json(record: object) -> str:
    """Return a record as JSON; NaN becomes the text "NaN", so that it reads back."""
    plain = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="strings")).dump_json(
        record, indent=2
    )
    return plain.decode() + "\n"


def without_nan(value: object) -> object:
    """Return a tree with None for NaN, which JSON has no word for."""
    match value:
        case float() if math.isnan(value):
            return None
        case dict():
            return {key: without_nan(v) for key, v in value.items()}
        case list() | tuple():
            return [without_nan(v) for v in value]
        case _:
            return value


def from_json(kind: type[T], text: str, where: str) -> T:
    """Rebuild a record from its JSON.

    Raises:
        CalcoError: When the text does not describe such a record.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise _damaged(error, where) from None


def from_rows(kind: type[T], rows: object, path: Path) -> tuple[T, ...]:
    """Rebuild records from the rows of a CSV, whose cells are text.

    Raises:
        CalcoError: When a row does not describe such a record.
    """
    try:
        return TypeAdapter(tuple[kind, ...]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError as error:
        raise _damaged(error, str(path)) from None


def _damaged(error: ValidationError, where: str) -> CalcoError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return CalcoError(
        Problem("RUN_FILE", f"{key}: {first['msg']}", where, do="restore it or train again")
    )

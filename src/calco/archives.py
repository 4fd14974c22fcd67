"""Tar archives read as if they were folders: ``a.tar/x.png`` is the member ``x.png`` of ``a.tar``.

Nothing is unpacked. Of an archive only the names and places of its members are kept, so that data
sets that lie in shards are read where they are, in any order.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import BinaryIO

from calco.errors import CalcoError, Problem

ARCHIVE_SUFFIX = ".tar"
_INSIDE = ARCHIVE_SUFFIX + os.sep


@dataclass(frozen=True)
class Member:
    """Where the bytes of a file are in its archive.

    Attributes:
        start: Byte of the archive.
        size: Bytes.
    """

    start: int
    size: int


def is_archive(path: Path) -> bool:
    """Whether a path is that of an archive that is read as a folder."""
    return path.suffix == ARCHIVE_SUFFIX and path.is_file()


def members(archive: Path) -> Mapping[str, Member]:
    """List the plain files of an archive by their names; of several with one name, the last.

    Raises:
        CalcoError: ARCHIVE_READ when it is none or cut off, ARCHIVE_NAME when a name leads out.
    """
    try:
        status = archive.stat()
        return _members(archive, status.st_size, status.st_mtime_ns)
    except (OSError, tarfile.TarError) as error:
        raise CalcoError(
            Problem(
                "ARCHIVE_READ",
                "archive cannot be read",
                str(archive),
                got=getattr(error, "strerror", None) or str(error),
                expected="an uncompressed tar",
                do="copy it again, or unpack it",
            )
        ) from None


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into; None for a path of the file system."""
    if _INSIDE not in str(path):  # asked of every file that is opened
        return None
    return next((parent for parent in path.parents if is_archive(parent)), None)


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; that of an archive is read into memory.

    Raises:
        OSError: As opening any file does.
        CalcoError: As ``members``.
    """
    archive = archive_of(path)
    if archive is None:
        return path.open("rb")
    member = members(archive).get(path.relative_to(archive).as_posix())
    if member is None:
        raise FileNotFoundError(errno.ENOENT, "no such file in the archive", str(path))
    with archive.open("rb", buffering=0) as file:
        file.seek(member.start)
        return io.BytesIO(file.read(member.size))


def for_decoder(path: Path) -> Path | BinaryIO:
    """Return what libraries open: the path itself, or the bytes of a file in an archive."""
    return open_binary(path) if archive_of(path) else path


@cache
def _members(archive: Path, n_bytes: int, mtime_ns: int) -> Mapping[str, Member]:
    """List members; size and time only tell an archive from what it was before."""
    found: dict[str, Member] = {}
    with tarfile.open(archive, "r:") as tar:
        for entry in tar:
            if not entry.isreg() or entry.issparse():
                continue
            name = PurePosixPath(os.path.normpath(entry.name))
            if name.is_absolute() or ".." in name.parts:
                what, do = "a name in the archive leads out of it", "pack it again"
                raise CalcoError(
                    Problem("ARCHIVE_NAME", what, str(archive), repr(entry.name), do=do)
                )
            if entry.offset_data + entry.size > n_bytes:
                raise tarfile.ReadError("unexpected end of data")
            found[name.as_posix()] = Member(entry.offset_data, entry.size)
    return MappingProxyType(found)

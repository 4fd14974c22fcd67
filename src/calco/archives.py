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
from typing import TYPE_CHECKING, BinaryIO

from calco.errors import CalcoError, Problem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ARCHIVE_SUFFIX = ".tar"
MAX_MEMBER_BYTES = 1 << 30
"""Larger files are refused: one is read into memory whole."""
MAX_END_BYTES = 1 << 20
"""More zeros behind the last file are a hole; tar fills up to 10 KiB, for tapes more."""

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
        CalcoError: ARCHIVE_READ when it is none, damaged or cut off, ARCHIVE_NAME when a name leads
            out of it.
    """
    try:
        status = archive.stat()
        return _members(archive, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError, OverflowError, tarfile.TarError) as error:
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


def is_there(path: Path) -> bool:
    """Whether a path is a file or a folder, or a file of an archive."""
    archive = archive_of(path)
    return path.relative_to(archive).as_posix() in members(archive) if archive else path.exists()


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading, be it in an archive.

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
    return io.BufferedReader(_Part(archive, member))


def for_decoder(path: Path) -> Path | BinaryIO:
    """Return what libraries open: the path itself, or all bytes of a file in an archive."""
    if archive_of(path) is None:
        return path
    with open_binary(path) as file:
        return io.BytesIO(file.read())


class _Part(io.RawIOBase):
    """The bytes of one member."""

    def __init__(self, archive: Path, member: Member) -> None:
        self._file = archive.open("rb", buffering=0)
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._member.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._member.size - self._at)]
        if not view:
            return 0
        self._file.seek(self._member.start + self._at)
        count = self._file.readinto(view) or 0
        if not count:
            raise OSError(errno.EIO, "the archive became shorter")
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@cache
def _members(archive: Path, n_bytes: int, mtime_ns: int) -> Mapping[str, Member]:
    """List members; size and time only tell an archive from what it was before."""
    found: dict[str, Member] = {}
    last = -1
    with tarfile.open(archive, "r:") as tar:
        while entry := tar.next():
            if entry.issparse():
                raise tarfile.ReadError(f"{entry.name} is stored without its zeros (sparse)")
            # a size below zero would lead back, for ever; tarfile itself does not look
            if entry.size < 0 or entry.offset <= last or entry.offset_data + entry.size > n_bytes:
                raise tarfile.ReadError("a size in it cannot be")
            last = entry.offset
            if not (entry.isreg() or entry.islnk()):
                continue
            name = _inside(entry.name)
            if name.split("/")[0] in ("", ".."):  # only there, once it is normal
                what, do = "a name in the archive leads out of it", "pack it again"
                raise CalcoError(
                    Problem("ARCHIVE_NAME", what, str(archive), repr(entry.name), do=do)
                )
            found[name] = _linked(entry, found) if entry.islnk() else _stored(entry)
        end = tar.offset
    _require_end(archive, end)
    return MappingProxyType(found)


def _inside(name: str) -> str:
    """Return a name as a path below the archive."""
    return PurePosixPath(os.path.normpath(name)).as_posix()


def _stored(entry: tarfile.TarInfo) -> Member:
    if entry.size > MAX_MEMBER_BYTES:
        raise tarfile.ReadError(f"{entry.name} has {entry.size} bytes")
    return Member(entry.offset_data, entry.size)


def _linked(entry: tarfile.TarInfo, found: Mapping[str, Member]) -> Member:
    """Return the file that a hard link is another name of; tar writes it first."""
    member = found.get(_inside(entry.linkname))
    if member is None:
        names = f"{entry.name} is a link to {entry.linkname}"
        raise tarfile.ReadError(f"{names}, which is no file before it")
    return member


def _require_end(archive: Path, end: int) -> None:
    """Refuse an archive of which more may be meant to be read than was found.

    tarfile takes a damaged or missing header for the end, and does not look behind one.

    Args:
        archive: Of which all members are known.
        end: Byte behind the last one.
    """
    with archive.open("rb") as file:
        file.seek(end)
        rest = file.read(MAX_END_BYTES + 1)
    if len(rest) < tarfile.BLOCKSIZE or rest[: tarfile.BLOCKSIZE].strip(b"\0"):
        raise tarfile.ReadError("it has no proper end")
    if rest.strip(b"\0"):
        raise tarfile.ReadError("more follows behind its end, as where two were joined")
    if len(rest) > MAX_END_BYTES:
        raise tarfile.ReadError("zeros follow its last file, as where a copy was not finished")

"""Images and tables that a URL names: listed and read through pyarrow, or fsspec where it knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calco.errors import CalcoError, Problem
from calco.formats.roles import path_id
from calco.images.io import IMAGE_SUFFIXES, is_junk

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Place:
    """A file or folder on some file system.

    Attributes:
        system: File system of pyarrow; other processes can be given it.
        path: As that system names it.
        named: As it is told: what the user wrote, without keys.
    """

    system: Any
    path: str
    named: str

    def __truediv__(self, name: str) -> Place:
        """Return a file in this folder."""
        named = f"{self.named.rstrip('/')}/{name}"
        return Place(self.system, f"{self.path.rstrip('/')}/{name}", named)


def is_url(text: str) -> bool:
    """Tell whether a text is a URL, not a path.

    Example:
        >>> is_url("s3://bucket/images"), is_url("images/a.png"), is_url("C:/a.png")
        (True, False, False)
    """
    return _URL.match(text) is not None


def place_of(text: str) -> Place:
    """Find the file system of a path or URL; nothing is read yet.

    Raises:
        CalcoError: When no installed package knows such URLs, or the name or its rights are wrong.
    """
    fs = _pyarrow_fs()
    if not is_url(text):
        return Place(fs.LocalFileSystem(), str(Path(text).absolute()), text)
    try:
        system, path = fs.FileSystem.from_uri(text)
        return Place(system, path, _told(text))
    except (ValueError, TypeError):  # ArrowInvalid: not one of pyarrow's own
        return _by_fsspec(text, fs)
    except OSError as error:
        raise CalcoError(unreachable(_told(text), error)) from None


def images_at(place: Place) -> tuple[tuple[str, Place], ...]:
    """List the images of a folder with its sub-folders, or the one image.

    Returns:
        Id and place of each, sorted by id. The id is the path below the folder without its ending.

    Raises:
        CalcoError: When there is nothing, no image, or no permission.
    """
    fs = _pyarrow_fs()
    try:
        info = place.system.get_file_info(place.path)
        if info.type == fs.FileType.NotFound:
            what = "there is no such file or folder"
            raise CalcoError(Problem("INPUT_MISSING", what, place.named, do="check the URL"))
        if info.type == fs.FileType.File:
            return ((path_id(Path(place.path), Path(place.path).parent), place),)
        listed = place.system.get_file_info(fs.FileSelector(place.path, recursive=True))
    except OSError as error:
        raise CalcoError(unreachable(place.named, error)) from None
    found = [_relative(place, info.path) for info in listed if info.type == fs.FileType.File]
    images = [(path_id(Path(path), Path()), place / path) for path in found if _is_image(path)]
    if not images:
        raise CalcoError(
            Problem(
                "INPUT_EMPTY",
                "no image in this folder or below",
                place.named,
                got=f"{len(found)} other files",
                expected="files ending in " + " ".join(sorted(IMAGE_SUFFIXES)),
                do="name the folder that holds the images",
            )
        )
    return tuple(sorted(images, key=lambda image: image[0]))


def names_in(folder: Place) -> Iterator[str]:
    """Yield the paths in a folder; none when there is no such folder.

    Raises:
        CalcoError: When the system refuses.
    """
    fs = _pyarrow_fs()
    try:
        listed = folder.system.get_file_info(fs.FileSelector(folder.path, allow_not_found=True))
    except OSError as error:
        raise CalcoError(unreachable(folder.named, error)) from None
    yield from (info.base_name for info in listed)


def unreachable(where: str, error: OSError) -> Problem:
    """Return the problem of a system that answers with an error."""
    text = " ".join((error.strerror or str(error)).split())[:200]
    return Problem(
        "IO_ERROR", "cannot be read or written", where, text, do="check the place and your rights"
    )


def _relative(folder: Place, path: str) -> str:
    # some systems list with a leading slash where they were asked without one
    return path.lstrip("/").removeprefix(folder.path.strip("/")).lstrip("/")


def _told(url: str) -> str:
    """Return a URL as it may be shown and stored: keys before ``@`` and options left out.

    Example:
        >>> _told("s3://key:secret@bucket/images?region=eu-west-1")
        's3://bucket/images'
    """
    return re.sub(r"://[^/@]*@", "://", url).partition("?")[0]


def _is_image(relative: str) -> bool:
    path = Path(relative)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.casefold() in IMAGE_SUFFIXES and not hidden and not is_junk(path)


def _by_fsspec(text: str, fs: Any) -> Place:  # noqa: ANN401 - a module
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(text)
    except (ValueError, ImportError) as error:
        got, do = " ".join(str(error).split())[:200], "install what it names, or check the URL"
        what = "nothing that is installed reads such URLs"
        raise CalcoError(Problem("URL", what, _told(text), got=got, do=do)) from None
    return Place(fs.PyFileSystem(fs.FSSpecHandler(system)), path, _told(text))


def _pyarrow_fs() -> Any:  # noqa: ANN401 - a module
    try:
        import pyarrow.fs
    except ModuleNotFoundError:
        do, what = "pip install 'calco[cluster]'", "URLs and Parquet need pyarrow"
        raise CalcoError(Problem("CLUSTER_MISSING", what, got="not installed", do=do)) from None
    return pyarrow.fs

"""Images named on a command line: files, folders and patterns, each with an id."""

from __future__ import annotations

import difflib
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.formats.roles import is_text, path_id
from calco.images.files import is_zarr
from calco.images.io import IMAGE_SUFFIXES, is_junk
from calco.wording import N_NAMED, counted, name_some


@dataclass(frozen=True)
class InputImage:
    """An image to work on.

    Attributes:
        id: Path below the given folder without its extension, with forward slashes, NFC.
        source: The file, as the user named it.
    """

    id: str
    source: Path


def find_images(inputs: Sequence[str | Path], skip: Path | None = None) -> tuple[InputImage, ...]:
    """List the images that files, folders (with sub-folders) and patterns stand for.

    Args:
        inputs: A name that exists is taken literally, brackets and stars included; any other
            with ``*``, ``?`` or ``[`` is a pattern, ``**`` for any depth.
        skip: Folder whose content is never an input: the output of an earlier run.

    Returns:
        Sorted by id; a file that is reached twice is listed once.

    Raises:
        CalcoError: Lists every input that is missing or holds no image, ids that two images
            share, and names in an unknown encoding, which no table of results could hold.
    """
    images: dict[Path, InputImage] = {}
    problems: list[Problem] = []
    for given in inputs:
        try:
            for image in _expand(given, skip):
                images.setdefault(image.source.absolute(), image)
        except CalcoError as error:
            problems += error.problems
    problems += _shared_ids(images.values())
    strange = [str(image.source) for image in images.values() if not is_text(image.source)]
    if strange:
        what = f"{counted(len(strange), 'file name')} in an unknown encoding"
        problems.append(Problem("ID_ENCODING", what, got=name_some(strange), do="rename in UTF-8"))
    if not inputs:
        problems.append(Problem("INPUT_EMPTY", "no input was given", do="name files or a folder"))
    if problems:
        raise CalcoError(*problems)
    return tuple(sorted(images.values(), key=lambda image: image.id))


def _expand(given: str | Path, skip: Path | None) -> Iterator[InputImage]:
    path = Path(given)
    if is_zarr(path):
        yield InputImage(path_id(path, path.parent), path)
    elif path.is_dir():
        yield from _in_folder(path, skip)
    elif os.path.lexists(path):
        yield InputImage(path_id(path, path.parent), path)
    elif glob.has_magic(str(given)):
        yield from _matching(str(given), skip)
    else:
        raise CalcoError(_missing(path))


def _in_folder(folder: Path, skip: Path | None) -> Iterator[InputImage]:
    seen: Counter[str] = Counter()
    found = False
    for place, folders, files in os.walk(folder):  # linked folders are not entered: no cycles
        here = Path(place)
        for name in [f for f in folders if is_zarr(here / f)]:
            found = True
            folders.remove(name)  # what is inside are its chunks
            if not name.startswith("."):
                yield InputImage(path_id(here / name, folder), here / name)
        # hidden folders hold copies: .ipynb_checkpoints, .Trash
        folders[:] = [
            f for f in folders if not f.startswith(".") and not (skip and _same(here / f, skip))
        ]
        for name in files:
            path = here / name
            seen[path.suffix.casefold() or "no extension"] += 1
            if path.suffix.casefold() in IMAGE_SUFFIXES and not is_junk(path):
                found = True
                yield InputImage(path_id(path, folder), path)
    if not found:
        saw = ", ".join(f"{n} {suffix}" for suffix, n in seen.most_common(5)) or "nothing"
        raise CalcoError(
            Problem(
                "INPUT_EMPTY",
                "no image in this folder or below",
                str(folder),
                got=saw,
                expected="files ending in " + " ".join(sorted(IMAGE_SUFFIXES)),
                do="name the folder that holds the images",
            )
        )


def _matching(pattern: str, skip: Path | None) -> Iterator[InputImage]:
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    hits = sorted(fixed.glob(str(Path(pattern).relative_to(fixed))))
    files = [
        hit
        for hit in hits
        if not hit.is_dir()
        and not is_junk(hit)
        and not any(part.startswith(".") for part in hit.relative_to(fixed).parts)
        and not (skip and hit.absolute().is_relative_to(skip.absolute()))
    ]
    if not files:
        raise CalcoError(
            Problem("INPUT_EMPTY", "the pattern fits no file", pattern, do="quote it and check it")
        )
    yield from (InputImage(path_id(hit, fixed), hit) for hit in files)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _missing(path: Path) -> Problem:
    parent = path.parent
    names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return Problem(
        "INPUT_MISSING",
        "there is no such file or folder",
        str(path),
        do=f"did you mean {parent / near[0]}?" if near else "check the path",
    )


def _shared_ids(images: Iterable[InputImage]) -> list[Problem]:
    # upper and lower case count as one: results are copied to systems that do not tell them apart
    by_id: dict[str, list[str]] = {}
    for image in images:
        by_id.setdefault(image.id.casefold(), []).append(str(image.source))
    shared = [sources for sources in by_id.values() if len(sources) > 1]
    return [
        Problem(
            "DUP_ID",
            "images would share one output name",
            got=" and ".join(sources),
            do="rename one, or give them in separate runs",
        )
        for sources in shared[:N_NAMED]
    ]

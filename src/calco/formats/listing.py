"""What lies in a data folder: one walk, links checked, litter counted, archives looked into."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from calco.archives import is_archive, members
from calco.errors import CalcoError, Problem
from calco.formats.roles import is_split_list, place_of
from calco.images.io import IMAGE_SUFFIXES, is_junk
from calco.images.mask_files import MASK_SUFFIXES
from calco.wording import place

MAX_DEPTH = 12
"""Levels below the root; deeper trees are somebody's disk, not a data set."""
_JUNK_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")


@dataclass(frozen=True)
class Folder:
    """One folder and the files directly in it.

    Attributes:
        parts: Names of the folders from the root down; empty for the root. Those in an archive
            count as if they lay beside it, so that all shards together are one data set.
        files: Files named as images, sorted.
        others: How many other files, by suffix.
        n_folders: Folders directly in it.
        arrays: Those of the others that can be masks: plain ``.npy`` arrays, sorted.
    """

    parts: tuple[str, ...]
    files: tuple[Path, ...]
    others: Mapping[str, int] = field(default_factory=dict)
    n_folders: int = 0
    arrays: tuple[Path, ...] = ()

    @property
    def where(self) -> str:
        """Path below the root, with forward slashes."""
        return "/".join(self.parts) or "."

    @property
    def masks(self) -> tuple[Path, ...]:
        """What can be masks: images and arrays, sorted."""
        return tuple(sorted(self.files + self.arrays))


@dataclass(frozen=True)
class Listing:
    """All folders of a data set.

    Attributes:
        root: As the user gave it.
        folders: Every folder, parents first.
        tables: CSV files, sorted.
        problems: Links, special files and folders that cannot be read; litter.
        lists: Files that seem to list which image is in which part, sorted.
    """

    root: Path
    folders: tuple[Folder, ...]
    tables: tuple[Path, ...]
    problems: tuple[Problem, ...]
    lists: tuple[Path, ...] = ()

    def where(self, path: Path) -> str:
        """Return a path as messages show it: below the root where it is."""
        return place(path, self.root)

    def describe(self) -> str:
        """Say what was seen, for messages: the fullest folders and kinds of file."""
        lines: list[str] = []
        for folder in sorted(self.folders, key=lambda f: -len(f.files) - sum(f.others.values())):
            kinds = [("image files", len(folder.files))] if folder.files else []
            kinds += sorted(folder.others.items(), key=lambda item: -item[1])[:3]
            if kinds and len(lines) < 5:
                lines.append(f"{folder.where} ({', '.join(f'{n} {kind}' for kind, n in kinds)})")
        return "; ".join(lines) or "no files"


def list_data(root: Path, follow_links: bool = False) -> Listing:
    """Walk a data folder, or an archive.

    Raises:
        CalcoError: When the root is missing or neither.
    """
    _require_folder(root)
    walk = _Walk(root, root.resolve(), follow_links)
    if is_archive(root):
        folders = _merged([Folder((), ()), *walk.in_archive(root, ())])
    else:
        folders = _merged(list(walk.folder(root, (), (root.resolve(),))))
    problems = list(walk.problems)
    if walk.n_junk:
        what = f"hidden or system files and folders ignored: {walk.n_junk}"
        problems.append(Problem("JUNK", what, severity="note"))
    tables, lists = tuple(sorted(walk.tables)), tuple(sorted(walk.lists))
    return Listing(root, folders, tables, tuple(problems), lists)


def _merged(found: Sequence[Folder]) -> tuple[Folder, ...]:
    """Put together what archives hold of one folder; parents come first."""
    by_parts: dict[tuple[str, ...], Folder] = {}
    for folder in found:
        for depth in range(len(folder.parts)):  # archives need not name their folders
            by_parts.setdefault(folder.parts[:depth], Folder(folder.parts[:depth], ()))
        known = by_parts.get(folder.parts)
        by_parts[folder.parts] = _joined(known, folder) if known else folder
    n_below = Counter(parts[:-1] for parts in by_parts if parts)
    return tuple(
        replace(folder, n_folders=max(folder.n_folders, n_below[parts]))
        for parts, folder in by_parts.items()
    )


def _joined(one: Folder, other: Folder) -> Folder:
    return Folder(
        one.parts,
        tuple(sorted(one.files + other.files)),
        Counter(one.others) + Counter(other.others),
        max(one.n_folders, other.n_folders),
        tuple(sorted(one.arrays + other.arrays)),
    )


def _part_of(archive: Path) -> tuple[str, ...]:
    """Return the folder that an archive's name stands for: ``train`` of ``train-000.tar``."""
    name = archive.stem.rstrip("0123456789-_.")
    return (name,) if place_of((name,)).subset else ()


@dataclass
class _Walk:
    root: Path
    real_root: Path
    follow_links: bool
    n_junk: int = 0
    tables: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def folder(
        self, path: Path, parts: tuple[str, ...], trail: tuple[Path, ...]
    ) -> Iterator[Folder]:
        """Yield a folder and those below; ``trail`` holds the real paths above, against loops."""
        files: list[Path] = []
        arrays: list[Path] = []
        others: Counter[str] = Counter()
        below: list[tuple[Path, Path]] = []
        for name in self._names(path):
            child = path / name
            if self._is_junk(child):
                self.n_junk += 1
            elif (real := self._real(child)) is None or self._is_special(child, real):
                continue
            elif real.is_dir():
                below.append((child, real))
            elif is_archive(child):
                yield from self.in_archive(child, parts)
            elif (suffix := child.suffix.lower()) in IMAGE_SUFFIXES:
                files.append(child)
            else:
                others[suffix or "without extension"] += 1
                if suffix in MASK_SUFFIXES:
                    arrays.append(child)
                elif suffix == ".csv":
                    self.tables.append(child)
                if is_split_list(child):
                    self.lists.append(child)
        yield Folder(parts, tuple(files), others, len(below), tuple(arrays))
        for child, real in below:
            if self._may_enter(child, real, trail):
                yield from self.folder(child, (*parts, child.name), (*trail, real))

    def in_archive(self, archive: Path, beside: tuple[str, ...]) -> Iterator[Folder]:
        """Yield the folders that the files of an archive would make beside it."""
        files: defaultdict[tuple[str, ...], list[Path]] = defaultdict(list)
        arrays: defaultdict[tuple[str, ...], list[Path]] = defaultdict(list)
        others: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for name in self._members(archive):
            suffix, parts = name.suffix.lower(), (*beside, *_part_of(archive), *name.parts[:-1])
            if any(self._is_junk(Path(part)) for part in name.parts):
                self.n_junk += 1
            elif suffix in IMAGE_SUFFIXES:
                files[parts].append(archive / name)
            else:
                others[parts][suffix or "without extension"] += 1
                if suffix in MASK_SUFFIXES:
                    arrays[parts].append(archive / name)
        for parts in {*files, *others}:
            yield Folder(parts, tuple(files[parts]), others[parts], 0, tuple(arrays[parts]))

    def _members(self, archive: Path) -> list[PurePosixPath]:
        try:
            return [PurePosixPath(name) for name in members(archive)]
        except CalcoError as error:
            self.problems += (replace(p, where=place(archive, self.root)) for p in error.problems)
            return []

    def _names(self, path: Path) -> list[str]:
        try:
            return sorted(child.name for child in path.iterdir())
        except OSError as error:
            code = "IO_PERMISSION" if isinstance(error, PermissionError) else "IO_ERROR"
            self._fault(code, f"folder cannot be read: {error.strerror}", path, "chmod u+rx it")
            return []

    def _real(self, path: Path) -> Path | None:
        """Resolve a link; None when it is refused."""
        if not path.is_symlink():
            return path
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a link to itself, before Python 3.13
            target = str(path.readlink())
            self._fault("LINK_DANGLING", "link points to nothing", path, "restore it", target)
            return None
        if not (self.follow_links or real.is_relative_to(self.real_root)):
            do = "copy the files in, or set data.follow_links: true"
            self._fault("LINK_OUTSIDE", "link leaves the data folder", path, do, str(real))
            return None
        return real

    def _is_special(self, path: Path, real: Path) -> bool:
        if real.is_file() or real.is_dir():
            return False
        self._fault("NOT_A_FILE", "is neither a file nor a folder", path, "remove it")
        return True

    def _may_enter(self, path: Path, real: Path, trail: tuple[Path, ...]) -> bool:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            self._fault("NOT_A_FILE", "a folder has the name of an image", path, "rename it")
            return False
        if len(trail) > MAX_DEPTH:
            self._fault("FOLDER_DEPTH", "folder is too deep", path, "give a folder further down")
            return False
        return real.resolve() not in trail

    def _is_junk(self, path: Path) -> bool:
        return path.name.startswith(".") or path.name in _JUNK_FOLDERS or is_junk(path)

    def _fault(self, code: str, what: str, path: Path, do: str, got: str = "") -> None:
        self.problems.append(Problem(code, what, place(path, self.root), got, do=do))


def _require_folder(root: Path) -> None:
    if root.is_dir() or is_archive(root):
        return
    if root.exists():
        what, do = "data must be a folder or a .tar", "unpack it, or give the folder that holds it"
        raise CalcoError(Problem("DATA_MISSING", what, str(root), got="a file", do=do))
    raise CalcoError(
        Problem("DATA_MISSING", "there is no such folder", str(root), do="check the path")
    )

"""What lies in a data folder: one walk, links checked, litter counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.formats.roles import is_split_list
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
        parts: Names of the folders from the root down; empty for the root.
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
    """Walk a data folder.

    Raises:
        CalcoError: When the root is missing or no folder.
    """
    _require_folder(root)
    walk = _Walk(root, root.resolve(), follow_links)
    folders = tuple(walk.folder(root, (), (root.resolve(),)))
    problems = list(walk.problems)
    if walk.n_junk:
        what = f"hidden or system files and folders ignored: {walk.n_junk}"
        problems.append(Problem("JUNK", what, severity="note"))
    tables, lists = tuple(sorted(walk.tables)), tuple(sorted(walk.lists))
    return Listing(root, folders, tables, tuple(problems), lists)


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
            elif (real := self._real(child)) is None:
                continue
            elif real.is_dir():
                below.append((child, real))
            elif self._is_special(child, real):
                continue
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
        if real.is_file():
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
    if root.is_dir():
        return
    if root.exists():
        what, do = "data must be a folder", "unpack it, or give the folder that holds it"
        raise CalcoError(Problem("DATA_MISSING", what, str(root), got="a file", do=do))
    raise CalcoError(
        Problem("DATA_MISSING", "there is no such folder", str(root), do="check the path")
    )

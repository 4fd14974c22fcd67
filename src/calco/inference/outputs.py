"""The folder predictions go to: claimed, continued after a kill, never half a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Literal, TextIO

from pydantic import TypeAdapter, ValidationError

from calco.errors import CalcoError, Problem
from calco.files import remove, write_atomic, write_csv
from calco.formats.inputs import InputImage
from calco.images.strip_writers import Form
from calco.records import Prediction
from calco.runs import RunDir
from calco.wording import name_some

JOURNAL = ".predict.jsonl"
LOCK = ".lock"
MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = (
    "id",
    "source",
    "status",
    "foreground_fraction",
    "seconds",
    "message",
    "estimated_dice",
)
Output = Literal["mask", "prob", "overlay"]
_FOLDERS: Mapping[Output, str] = {"mask": "", "prob": "prob", "overlay": "overlay"}
PARTIAL = ".partial"  # what is begun of large images
TEMPORARY = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.tmp")
N_LISTED = 5


@dataclass(frozen=True)
class DoneImage:
    """One line of the journal: an image whose outputs are whole, and from what they came.

    Attributes:
        id: Image.
        size: Bytes of the source.
        mtime_ns: Modification time of the source.
        outputs: What was written.
        foreground_fraction: Share of mask pixels.
        estimated_dice: What the mask would probably get.
        seconds: Wall time of the image.
        form: Ending of mask and probabilities.
    """

    id: str
    size: int
    mtime_ns: int
    outputs: tuple[Output, ...]
    foreground_fraction: float
    estimated_dice: float
    seconds: float
    form: Form = "png"


class OutputError(CalcoError):
    """The folder cannot be written: the fault of no image."""


_DONE = TypeAdapter(DoneImage)


@dataclass
class OutputFolder:
    """A folder of predictions of one model.

    Attributes:
        path: The folder.
        model: Identity of the model and its settings; what another one left is not continued.
            Empty when unknown: then nothing is.
        outputs: What is written of each image.
        done: What the journal holds, by id.
    """

    path: Path
    model: str
    outputs: tuple[Output, ...]
    done: dict[str, DoneImage] = field(default_factory=dict)
    _journal: TextIO | None = None
    _noting: Lock = field(default_factory=Lock)
    _sources: frozenset[Path] = frozenset()

    @contextmanager
    def claimed(self, images: Sequence[InputImage], overwrite: bool) -> Iterator[None]:
        """Hold the folder while predictions of these images are written.

        Raises:
            CalcoError: When it is in use, holds other files or the predictions of another model
                or of other images (unless ``overwrite``), or when an output would leave it or
                replace an input.
        """
        self._check_names(images)
        if not overwrite:
            self._check_foreign()
        self._create()
        with RunDir(self.path).locked():
            self._remove_temporaries()
            self._read_journal(images, overwrite)
            # while there is no manifest, nobody takes the folder for complete
            (self.path / MANIFEST).unlink(missing_ok=True)
            with (self.path / JOURNAL).open("a", encoding="utf-8") as self._journal:
                yield

    def is_done(self, image: InputImage) -> DoneImage | None:
        """Return what is known of an image whose outputs need not be made again."""
        done = self.done.get(image.id)
        try:
            same = done is not None and (done.size, done.mtime_ns) == stamp(image.source)
        except OSError:  # the source is gone: reading it says so
            return None
        if done is None or not same:
            return None
        return done if all(p.exists() for p in self.targets(image.id, done.form)) else None

    def targets(
        self, name: str, form: Form = "png", outputs: Iterable[Output] | None = None
    ) -> tuple[Path, ...]:
        """Return the files of an image, in the order of ``outputs``."""
        wanted = self.outputs if outputs is None else outputs
        return tuple(
            self.path / _FOLDERS[output] / f"{name}.{'jpg' if output == 'overlay' else form}"
            for output in wanted
        )

    def write(self, done: DoneImage, files: Sequence[bytes]) -> None:
        """Write the outputs of one image, each whole, and then note it in the journal.

        Threads may write different images at a time.

        Raises:
            CalcoError: ``OUT_WRITE`` when the system refuses, e.g. because the disk is full.
        """
        try:
            for target, data in zip(self.prepare(done.id, done.form), files, strict=True):
                write_atomic(target, data)
            self.note(done)
        except OSError as error:
            raise cannot_write(done.id, error) from None

    def prepare(self, name: str, form: Form) -> tuple[Path, ...]:
        """Make room for the files of an image: an old overlay must not stay beside a new mask.

        Returns:
            The files to write, in the order of ``outputs``.
        """
        targets = self.targets(name, form)
        for target in targets:
            if target.resolve() in self._sources:
                raise CalcoError(_out_is_input(self.path, target))
        self.discard(name, form)
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        return targets

    def note(self, done: DoneImage) -> None:
        """Note in the journal that the files of an image are whole."""
        if self._journal:
            with self._noting:
                self._journal.write(json.dumps(asdict(done)) + "\n")
                self._journal.flush()

    def discard(self, name: str, form: Form = "png") -> None:
        """Remove what an earlier run left of an image, and what is there under its new names."""
        known = self.done.pop(name, None)
        old = self.targets(name, known.form, known.outputs) if known else ()
        for target in {*self.targets(name, form), *old}:
            self._check_inside(target)
            if target.resolve() not in self._sources:
                remove(target)

    def write_manifest(self, predictions: Iterable[Prediction]) -> None:
        """Write manifest.csv: what became of every input."""
        rows = [
            [str(getattr(p, c)) if c == "source" else getattr(p, c) for c in MANIFEST_COLUMNS]
            for p in predictions
        ]
        write_csv(self.path / MANIFEST, MANIFEST_COLUMNS, rows)
        remove(self.path / PARTIAL)

    def _create(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.path):  # a folder that takes no file is told before work
                pass
        except OSError as error:
            raise cannot_write(str(self.path), error) from None

    def _check_names(self, images: Sequence[InputImage]) -> None:
        self._sources = frozenset(image.source.resolve() for image in images)
        seen: dict[str, str] = {}
        for image in images:
            if not _is_safe(image.id):
                what, do = "the id leaves the output folder", "rename the image"
                raise CalcoError(Problem("ID_UNSAFE", what, image.id, do=do))
            for target in self.targets(image.id):
                other = seen.setdefault(str(target).casefold(), image.id)
                if other != image.id:
                    what = f"outputs of {other!r} and {image.id!r} would share one name"
                    raise CalcoError(Problem("DUP_ID", what, str(target), do="rename one"))
                if target.resolve() in self._sources:
                    raise CalcoError(_out_is_input(self.path, target))

    def _check_inside(self, target: Path) -> None:
        # a linked sub-folder must not lead the write elsewhere
        if not target.parent.resolve().is_relative_to(self.path.resolve()):
            raise CalcoError(
                Problem(
                    "OUT_ESCAPES",
                    "a link leads out of the output folder",
                    str(target.parent),
                    do="remove the link or choose another folder",
                )
            )

    def _check_foreign(self) -> None:
        if not self.path.exists() or (self.path / JOURNAL).is_file():
            return
        if not self.path.is_dir():
            raise CalcoError(
                Problem(
                    "OUT_IS_FILE", "the output folder is a file", str(self.path), do="rename it"
                )
            )
        names = sorted(p.name for p in self.path.iterdir())
        others = [n for n in names if n != LOCK and not TEMPORARY.fullmatch(n)]
        if others:
            raise CalcoError(
                Problem(
                    "OUT_NOT_EMPTY",
                    "the output folder holds other files",
                    str(self.path),
                    got=name_some(others, N_LISTED),
                    do="choose an empty folder or allow overwriting",
                )
            )

    def _remove_temporaries(self) -> None:
        # the lock is ours, so a temporary file can only be a killed run's
        for path in self.path.rglob(".*.tmp"):
            if TEMPORARY.fullmatch(path.name):
                remove(path)

    def _read_journal(self, images: Sequence[InputImage], overwrite: bool) -> None:
        journal = self.path / JOURNAL
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
        header = json.dumps({"model": self.model})
        records = [record for line in lines[1:] if (record := _record(line))]
        known = {record.id: record for record in records}
        extra = sorted(set(known) - {image.id for image in images})
        same_model = bool(self.model) and lines[:1] == [header]
        if not overwrite:
            self._check_same(bool(self.model and known) and not same_model, extra)
        if not same_model:
            remove(self.path / PARTIAL)
        self.done = known
        for name in extra if same_model else list(known):
            self.discard(name)
        kept = [json.dumps(asdict(record)) for record in self.done.values()]
        write_atomic(journal, "\n".join([header, *kept]) + "\n")

    def _check_same(self, other_model: bool, extra: Sequence[str]) -> None:
        if other_model:
            raise CalcoError(
                Problem(
                    "OUT_OTHER_MODEL",
                    "the folder holds predictions of another model or other settings",
                    str(self.path),
                    do="choose another folder or allow overwriting",
                )
            )
        if extra:
            raise CalcoError(
                Problem(
                    "OUT_OTHER_IMAGES",
                    f"the folder holds predictions of {len(extra)} images that are no input now",
                    str(self.path),
                    got=name_some(extra, N_LISTED),
                    do="choose another folder or allow overwriting",
                )
            )


def stamp(source: Path) -> tuple[int, int]:
    """Return size in bytes and modification time in ns of a file, or of all files of a folder."""
    if source.is_dir():
        found = [p.stat() for p in source.rglob("*") if p.is_file()]
        return sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=0)
    status = source.stat()
    return status.st_size, status.st_mtime_ns


def _record(line: str) -> DoneImage | None:
    try:
        record = _DONE.validate_json(line)
    except ValidationError:  # the torn last line of a killed run: that image is done again
        return None
    return record if _is_safe(record.id) else None


def _is_safe(name: str) -> bool:
    path = Path(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def cannot_write(where: str, error: OSError) -> OutputError:
    """Say that the system refused to write."""
    return OutputError(
        Problem(
            "OUT_WRITE",
            "cannot write predictions",
            where,
            got=error.strerror or str(error),
            do="make room or choose another folder, then run the same command again",
        )
    )


def _out_is_input(folder: Path, target: Path) -> Problem:
    return Problem(
        "OUT_IS_INPUT",
        "a prediction would replace an input image",
        str(target),
        do=f"choose a folder other than {folder}",
    )

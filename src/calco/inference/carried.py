"""A model carried to other processes as the bytes of its files, and the rows it answers with.

No other process needs a disk in common with this one, and each checks the files as any other model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, Literal

import numpy as np

from calco.errors import CalcoError
from calco.formats.rle import encode
from calco.formats.urls import Place, is_url, place_of
from calco.images.io import read_image
from calco.inference.exported import WEIGHTS_ENDING, is_exported
from calco.inference.faults import IMAGE_FAULTS, one_line
from calco.inference.postprocess import clean, to_levels
from calco.inference.predictor import Predictor
from calco.inference.quality import estimate_dice
from calco.records import RleDialect
from calco.runs import RunDir

ATTEMPTS = 3  # to read a file from afar, before it counts as failed
FIRST_PAUSE_S = 0.5

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class TracedRow:
    """One row of the result: an image that was traced, or why it was not.

    Attributes:
        id: Path below the given folder without its ending, or the table's own.
        source: Where the image is.
        status: ``done`` or ``failed``.
        message: What failed.
        height: In pixels; None when failed.
        width: In pixels; None when failed.
        rle: Runs of the mask; None when failed.
        foreground_fraction: Share of mask pixels; None when failed.
        estimated_dice: What the mask would probably get; None when failed.
    """

    id: str
    source: str
    status: Literal["done", "failed"]
    message: str = ""
    height: int | None = None
    width: int | None = None
    rle: str | None = None
    foreground_fraction: float | None = None
    estimated_dice: float | None = None


def packed(run: Path) -> Files:
    """Return the files that prediction needs of a run, of a weights file or an exported one."""
    if is_exported(run):
        parts = [run, run.with_suffix(WEIGHTS_ENDING)]  # OpenVINO's are two
        return {path.name: path.read_bytes() for path in parts if path.exists()}
    root = run if run.is_dir() else run.parent
    weights = [member.weights for member in RunDir(run).members()] if run.is_dir() else [run]
    files = [*weights, *(path.with_suffix(".json") for path in weights)]
    settings = root / "postprocess.json"
    files += [settings] if settings.exists() else []
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def unpacked(runs: Sequence[Files], device: str) -> Predictor:
    """Load what was packed; several runs predict together.

    Raises:
        CalcoError: As ``Predictor.from_run``.
    """
    with TemporaryDirectory(prefix="calco-model-") as folder:
        models = []
        for number, files in enumerate(runs):
            root = Path(folder) / str(number)
            for name, data in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
            exported = [root / name for name in files if is_exported(Path(name))]
            models += exported or [root]
        first, *more = models
        return Predictor.from_run(first, device, more)


class RowTracer:
    """A copy of a model that answers tables of images with tables of runs.

    Args:
        runs: As packed.
        device: ``cpu`` or ``cuda``.
        systems: File systems of pyarrow that rows refer to by number.
        dialect: Of the runs; one row per image.
        threads: Cores for one image.
    """

    def __init__(
        self,
        runs: Sequence[Files],
        device: str,
        systems: Sequence[Any],
        dialect: RleDialect,
        threads: int = 1,
    ) -> None:
        self.predictor = unpacked(runs, device).with_threads(threads)
        self.systems = systems
        self.dialect = dialect

    def __call__(self, table: Any) -> Any:  # noqa: ANN401 - tables of pyarrow
        """Trace a table.

        Args:
            table: ``id``, ``source``; where the image is as ``path``, on the file system numbered
                ``system``, else a URL or a path of this disk; or its encoded ``bytes``.

        Returns:
            A table of ``TracedRow``, in the same order.
        """
        import pyarrow as pa

        rows = [asdict(self.trace(row)) for row in table.to_pylist()]
        return pa.Table.from_pylist(rows, schema=result_schema())

    def trace(self, row: Mapping[str, Any]) -> TracedRow:
        """Trace one image; what is wrong with it becomes the row's message."""
        id, source = str(row["id"]), str(row["source"])
        try:
            image = self._read(row)  # (H, W, C) uint8
            levels = to_levels(self.predictor.prob(image))
            mask = clean(levels, self.predictor.params)
            height, width = mask.shape
            return TracedRow(
                id,
                source,
                "done",
                height=height,
                width=width,
                rle=encode(mask, self.dialect),
                foreground_fraction=float(mask.mean()),
                estimated_dice=_none_for_nan(estimate_dice(levels, mask)),
            )
        except IMAGE_FAULTS as error:
            return TracedRow(id, source, "failed", one_line(error))

    def _read(self, row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        spec, data, system = self.predictor.spec, row.get("bytes"), row.get("system")
        if data is None and system is None and not is_url(row["path"]):
            return read_image(Path(row["path"]), spec)
        if data is None:
            path = row["path"]
            place = place_of(path) if system is None else Place(self.systems[system], path, "")
            data = _from_afar(place)
        # decoders look at a file's name, size and first bytes before they open it
        with NamedTemporaryFile(prefix="calco-image-") as file:
            file.write(data)
            file.flush()
            try:
                return read_image(Path(file.name), spec)
            except CalcoError as error:
                where = str(row["source"])
                raise CalcoError(*(replace(p, where=where) for p in error.problems)) from None


def result_schema() -> Any:  # noqa: ANN401 - a schema of pyarrow
    """Return the columns of the result with their types."""
    import pyarrow as pa

    text, number, share = pa.large_string(), pa.int32(), pa.float32()
    types = {"height": number, "width": number, "foreground_fraction": share}
    types |= {"estimated_dice": share}
    return pa.schema([(name, types.get(name, text)) for name in TracedRow.__annotations__])


def _from_afar(place: Place) -> bytes:
    """Read a whole file; a connection that breaks is tried again."""
    for attempt in range(ATTEMPTS):
        try:
            with place.system.open_input_stream(place.path) as stream:
                return bytes(stream.read())
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(FIRST_PAUSE_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value

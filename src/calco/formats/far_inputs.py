"""Images for a cluster: paths, URLs or a table of Parquet, listed here and read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calco.errors import CalcoError, Problem
from calco.formats.inputs import find_images
from calco.formats.urls import Place, images_at, is_url, place_of, unreachable
from calco.wording import name_some

TABLE_SUFFIX = ".parquet"
ENCODED_COLUMNS = ("bytes", "image")
PATH_COLUMNS = ("path", "source", "image_path")


@dataclass(frozen=True)
class FarInputs:
    """What is to be traced.

    Attributes:
        known: Source of every image, by id.
        rows: What is read by its own place; None for a table.
        systems: File systems that rows refer to by number.
        table: A table of images, with the names of its columns as (id, path, bytes).
    """

    known: Mapping[str, str]
    systems: Sequence[Any]
    rows: Sequence[Mapping[str, object]] | None = None
    table: tuple[Place, Mapping[str, str]] | None = None


def far_inputs(inputs: Sequence[str]) -> FarInputs:
    """List what is to be traced.

    Args:
        inputs: Files, folders and patterns, or URLs of files and folders, or one table.

    Raises:
        CalcoError: When something is missing, holds no image, or two share an id.
    """
    tables = [given for given in inputs if given.rstrip("/").endswith(TABLE_SUFFIX)]
    if tables and len(inputs) > 1:
        what, do = "a table of images comes alone", "give it in a run of its own"
        raise CalcoError(Problem("INPUT_TABLE", what, tables[0], do=do))
    if tables:
        return _table(place_of(tables[0]))
    local = [given for given in inputs if not is_url(given)]
    # absolute: the copies of the model work in other folders
    rows: list[dict[str, object]] = [
        {"id": i.id, "source": str(i.source), "path": str(i.source.absolute()), "system": None}
        for i in (find_images(local) if local or not inputs else ())
    ]
    systems: list[Any] = []
    for given in inputs:
        if is_url(given):
            place = place_of(given)
            rows += [
                {"id": id, "source": file.named, "path": file.path, "system": len(systems)}
                for id, file in images_at(place)
            ]
            systems.append(place.system)
    known: dict[str, str] = {}
    for row in rows:
        id, source = str(row["id"]), str(row["source"])
        if id in known:
            got, do = f"{known[id]} and {source}", "give them in separate runs"
            raise CalcoError(Problem("DUP_ID", "images share one id", id, got=got, do=do))
        known[id] = source
    return FarInputs(known, systems, rows=rows)


def _table(place: Place) -> FarInputs:
    import pyarrow.dataset as ds

    try:
        data = ds.dataset(place.path, filesystem=place.system, format="parquet")
        columns = _columns(data.schema.names, place.named)
        read = [columns["id"], *([columns["path"]] if "path" in columns else [])]
        listed = data.to_table(columns=list(dict.fromkeys(read)))
    except OSError as error:
        raise CalcoError(unreachable(place.named, error)) from None
    except ValueError as error:  # ArrowInvalid: not Parquet
        got, do = str(error).splitlines()[0][:200], "give Parquet files"
        problem = Problem("INPUT_TABLE", "the table cannot be read", place.named, got, do=do)
        raise CalcoError(problem) from None
    ids = [str(id) for id in listed[columns["id"]].to_pylist()]
    sources = listed[columns["path"]].to_pylist() if "path" in columns else [place.named] * len(ids)
    known = dict(zip(ids, map(str, sources), strict=True))
    if len(known) < len(ids) or not ids:
        what = "the ids of the table are not one for each row" if ids else "the table has no rows"
        got, do = f"{len(ids)} rows, {len(known)} ids", "give each image an id of its own"
        raise CalcoError(Problem("INPUT_TABLE", what, place.named, got, do=do))
    return FarInputs(known, (place.system,), table=(place, columns))


def _columns(names: Sequence[str], where: str) -> dict[str, str]:
    """Find the columns of a table by their names: ``id``, ``path`` and ``bytes`` as it has them."""
    found = {}
    for role, candidates in (("bytes", ENCODED_COLUMNS), ("path", PATH_COLUMNS)):
        if there := [name for name in candidates if name in names]:
            found[role] = there[0]
    if "id" in names and found:
        found["id"] = "id"
    elif "path" in found:
        found["id"] = found["path"]
    if "id" not in found:
        raise CalcoError(
            Problem(
                "INPUT_TABLE",
                "the table does not say which images are meant",
                where,
                got=name_some(list(names)),
                expected="a column path, or columns id and bytes (encoded images)",
                do="rename the columns",
            )
        )
    return found


@dataclass(frozen=True)
class RenamedRows:
    """Turns the columns of a user's table into those that ``RowTracer`` reads.

    Attributes:
        columns: Names of the user's columns, by ours.
        folder: Of the table, which paths may be relative to.
        named: The table as the user named it.
    """

    columns: Mapping[str, str]
    folder: str
    named: str

    def __call__(self, table: Any) -> Any:  # noqa: ANN401 - tables of pyarrow
        """Return ``id``, ``source`` and ``path`` with ``system``, or ``bytes``, of each row."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = table[self.columns["id"]].cast(pa.string())
        found = {"id": ids, "source": pa.array([self.named] * len(table))}
        if "path" in self.columns:
            found["source"] = table[self.columns["path"]].cast(pa.string())
            places = [self._place(path) for path in found["source"].to_pylist()]
            found["path"] = pa.array([path for path, _ in places], pa.string())
            found["system"] = pa.array([system for _, system in places], pa.int32())
        if "bytes" in self.columns:
            encoded = table[self.columns["bytes"]]
            if pa.types.is_struct(encoded.type):  # as the data sets library stores images
                encoded = pc.struct_field(encoded, "bytes")
            found["bytes"] = encoded
        return pa.table(found)

    def _place(self, path: str | None) -> tuple[str, int | None]:
        """Return where a path is: beside the table, on its file system, when it is relative."""
        if path is None or is_url(path) or Path(path).is_absolute():
            return path or "", None
        return f"{self.folder}/{path}", 0

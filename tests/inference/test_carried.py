"""Models in other processes, tried in this one."""

from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from calco.formats.rle import decode
from calco.inference import carried
from calco.inference.carried import RowTracer, packed, unpacked
from calco.inference.predictor import Predictor
from calco.records import RleDialect

pa = pytest.importorskip("pyarrow")
fs = pytest.importorskip("pyarrow.fs")


@pytest.fixture(scope="module")
def tracer(finished_run: Path) -> RowTracer:
    return RowTracer([packed(finished_run)], "cpu", [fs.LocalFileSystem()], RleDialect())


def test_what_is_carried_predicts_alike(finished_run: Path, discs: Path) -> None:
    files = packed(finished_run)
    assert sorted(files) == ["best.json", "best.safetensors", "postprocess.json"]
    there, here = unpacked([files], "cpu"), Predictor.from_run(finished_run)
    image = discs / "images" / "disc03.png"
    np.testing.assert_array_equal(there.predict(image), here.predict(image))
    assert there.params == here.params
    alone = packed(finished_run / "best.safetensors")
    np.testing.assert_array_equal(
        unpacked([alone, files], "cpu").predict(image), here.predict(image)
    )


def test_rows_are_masks_as_runs(tracer: RowTracer, discs: Path) -> None:
    path = discs / "images" / "disc03.png"
    places: list[dict[str, object]] = [
        {"path": str(path), "system": None},
        {"path": str(path), "system": 0},
        {"path": f"file://{path}", "system": None},
        {"bytes": path.read_bytes()},
    ]
    expected = tracer.predictor.predict(path)
    for place in places:
        row = tracer.trace({"id": "a", "source": "s", **place})
        assert (row.status, row.message, row.height, row.width) == ("done", "", 48, 48)
        assert row.rle is not None
        np.testing.assert_array_equal(decode(row.rle, (48, 48), RleDialect()), expected)
        assert row.foreground_fraction == pytest.approx(expected.mean())
        assert 0 <= (row.estimated_dice or 0) <= 1


def test_a_table_is_answered_by_a_table_in_its_order(tracer: RowTracer, discs: Path) -> None:
    names = [str(discs / "images" / f"disc{number:02d}.png") for number in (3, 99, 5)]
    rows = [{"id": name, "source": name, "path": name, "system": None} for name in names]
    answer = tracer(pa.Table.from_pylist(rows))
    assert answer.column_names == list(asdict(tracer.trace(rows[0])))
    assert answer["id"].to_pylist() == names
    assert answer["status"].to_pylist() == ["done", "failed", "done"]
    assert answer["rle"].to_pylist()[1] is None
    assert answer.schema == carried.result_schema()
    assert tracer(pa.Table.from_pylist(rows[1:2])).schema == answer.schema


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n cut"])
def test_a_bad_image_fails_alone_and_is_named(tracer: RowTracer, content: bytes) -> None:
    row = tracer.trace({"id": "a", "source": "s3://b/a.png", "bytes": content})
    assert (row.status, row.rle, row.height) == ("failed", None, None)
    assert " s3://b/a.png:" in row.message
    assert "calco-image" not in row.message


class _Shaky:
    """A file system whose connections break."""

    def __init__(self, path: Path, faults: list[OSError]) -> None:
        self.path, self.faults = path, faults

    def open_input_stream(self, _: str) -> BinaryIO:
        if self.faults:
            raise self.faults.pop()
        return self.path.open("rb")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "FIRST_PAUSE_S", 0.0)


@pytest.mark.usefixtures("unhurried")
def test_connections_that_break_are_tried_again(tracer: RowTracer, discs: Path) -> None:
    path, broken = discs / "images" / "disc03.png", OSError("reset")
    row = {"id": "a", "source": "s", "path": "x", "system": 0}
    cases: list[tuple[list[OSError], str, int]] = [
        ([broken] * 2, "done", 0),
        ([broken] * 9, "failed", 9 - carried.ATTEMPTS),
        ([PermissionError("no"), PermissionError("no")], "failed", 1),  # time would not mend it
    ]
    for faults, status, left in cases:
        tracer.systems = [_Shaky(path, faults)]
        assert tracer.trace(row).status == status
        assert len(faults) == left
    tracer.systems = [fs.LocalFileSystem()]

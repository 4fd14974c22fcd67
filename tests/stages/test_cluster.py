"""The cluster's masks are those of one process, and every image is accounted for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import calco
from calco.cli import app
from calco.errors import CalcoError
from calco.files import read_csv
from calco.formats.rle import decode
from calco.inference.carried import RowTracer, TracedRow
from calco.records import RleDialect
from calco.stages import cluster
from calco.stages.cluster import FAILURES, MANIFEST, predict_on_cluster

if find_spec("ray") is None:  # not imported here: Ray reads its settings when it is
    pytest.skip("the cluster extra is not installed", allow_module_level=True)
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def masks_of(folder: Path) -> dict[str, NDArray[np.bool_]]:
    rows = pq.read_table(folder).to_pylist()  # underscored files are passed over
    return {
        row["id"]: decode(row["rle"], (row["height"], row["width"]), RleDialect())
        for row in rows
        if row["status"] == "done"
    }


def listening() -> set[str]:
    """Return every address, as the system writes it, that something listens on."""
    lines = [
        line.split()
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        for line in table.read_text().splitlines()[1:]
    ]
    return {fields[1] for fields in lines if fields[3] == "0A"}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray as the stage starts it, kept for several tests, on two cores."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.OURS.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        ray = cluster._import_ray()
        with cluster._ray_running(ray):
            yield


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_masks_are_those_of_one_process(
    finished_run: Path, discs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = listening()
    request.getfixturevalue("ray_here")
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((discs / "images").iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_text("no image")
    arguments = ["predict", finished_run, folder, "-o", tmp_path / "out", "--cluster", "ray"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 3, result.output
    assert "predicted 6 of 7 images" in result.output
    loopback = ("0100007F:", "0000000000000000FFFF00000100007F:", "0" * 24 + "01000000:")
    assert [a for a in listening() - before if not a.startswith(loopback)] == []
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    found, model = masks_of(tmp_path / "out"), calco.load(finished_run)
    assert sorted(found) == [f"disc{number:02d}" for number in range(6)]
    for id, mask in found.items():
        np.testing.assert_array_equal(mask, model.predict(folder / f"{id}.png"))
    [failure] = read_csv(tmp_path / "out" / FAILURES)
    assert failure["id"] == "broken"
    assert "IMG_FORMAT" in failure["message"]
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert (manifest["n_images"], manifest["n_failed"]) == (7, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_an_image_that_kills_its_process_is_told_and_the_others_go_on(
    finished_run: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(RowTracer):  # defined here, so that it travels as it is
        def trace(self, row: Mapping[str, Any]) -> TracedRow:
            if row["id"] == "disc01":
                os._exit(1)
            return super().trace(row)

    monkeypatch.setattr(cluster, "RowTracer", Dying)
    monkeypatch.setattr(cluster, "IMAGES_AT_ONCE", 1)
    monkeypatch.setattr(cluster, "_retries", lambda: {"max_restarts": 1, "max_task_retries": 0})
    rows = [
        {"id": path.stem, "image": {"bytes": path.read_bytes(), "path": path.name}}
        for path in sorted((discs / "images").iterdir())[:3]
    ]
    table = tmp_path / "images.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    report = predict_on_cluster([finished_run], [f"file://{table}"], f"file://{tmp_path}/out")
    assert [(f.id, f.message[:5]) for f in report.failures] == [("disc01", "lost:")]
    model = calco.load(finished_run)
    found = masks_of(tmp_path / "out")
    assert sorted(found) == ["disc00", "disc02"]
    for id, mask in found.items():
        np.testing.assert_array_equal(mask, model.predict(discs / "images" / f"{id}.png"))


# --- what is refused before a cluster is troubled ------------------------------------------------


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "_ray_running", refuse)


def _written(rows: list[dict[str, object]], path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no such folder": (lambda root: [str(root / "no")], "INPUT_MISSING"),
    "no such bucket": (lambda root: [f"file://{root}/no"], "INPUT_MISSING"),
    "no such table": (lambda root: [str(root / "no.parquet")], "IO_ERROR"),
    "two tables": (lambda root: ["a.parquet", "b.parquet"], "comes alone"),
    "no column": (lambda root: [_written([{"x": 1}], root / "t.parquet")], "got x; expected"),
    "no ids": (lambda root: [_written([{"bytes": b"x"}], root / "t.parquet")], "INPUT_TABLE"),
    "an id twice": (
        lambda root: [_written([{"id": 1, "bytes": b"x"}] * 2, root / "t.parquet")],
        "2 rows, 1 ids",
    ),
    "no table": (lambda root: [_text(root / "t.parquet")], "cannot be read"),
    "one id twice": (
        lambda root: [f"file://{root}/a", f"file://{root}/b"],
        r"DUP_ID\] x: images share one id",
    ),
}


def _text(path: Path) -> str:
    path.write_text("no table")
    return str(path)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("case", REFUSED)
def test_wrong_inputs_are_refused_at_once(case: str, finished_run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "x.png"), np.zeros((3, 3), np.uint8))
    inputs, told = REFUSED[case]
    with pytest.raises(CalcoError, match=told):
        predict_on_cluster([finished_run], inputs(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_ray")
def test_a_folder_of_other_files_is_refused(finished_run: Path, discs: Path) -> None:
    with pytest.raises(CalcoError, match="OUT_NOT_EMPTY"):
        predict_on_cluster([finished_run], [str(discs)], str(discs))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cluster", "rya"], "no such kind of cluster"),
        (["--cluster", "ray", "--overlay"], "--overlay: a cluster writes Parquet"),
        (["--cluster", "ray", "--dialect", "airbus"], "one row per image"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], told: str, finished_run: Path, discs: Path, tmp_path: Path
) -> None:
    command = ["predict", str(finished_run), str(discs), "-o", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_urls_need_a_cluster(finished_run: Path, tmp_path: Path) -> None:
    command = ["predict", str(finished_run), "s3://bucket/a", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "s3://bucket/a: URLs are read and written by a cluster" in result.output
    assert "--cluster ray" in result.output

from pathlib import Path

import pytest

from calco.formats.far_inputs import RenamedRows, far_inputs

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_paths_of_a_table_lie_beside_it() -> None:
    table = pa.table({"file": [1, 2], "path": ["a.png", "/b.png"]})
    rows = RenamedRows({"id": "file", "path": "path"}, "bucket/sets", "s3://bucket/sets/t")
    assert rows(table).to_pylist() == [
        {"id": "1", "source": "a.png", "path": "bucket/sets/a.png", "system": 0},
        {"id": "2", "source": "/b.png", "path": "/b.png", "system": None},
    ]


def test_images_of_a_table_may_be_those_of_the_data_sets_library() -> None:
    table = pa.table({"id": ["a"], "image": [{"bytes": b"x", "path": "a.png"}]})
    rows = RenamedRows({"id": "id", "bytes": "image"}, "sets", "s3://sets/t.parquet")
    assert rows(table).to_pylist() == [{"id": "a", "source": "s3://sets/t.parquet", "bytes": b"x"}]


@pytest.mark.parametrize(
    ("column", "known"),
    [("path", {"b.png": "b.png"}), ("image_path", {"b.png": "b.png"})],
)
def test_paths_are_ids_where_there_are_none(
    column: str, known: dict[str, str], tmp_path: Path
) -> None:
    pq.write_table(pa.table({column: ["b.png"]}), tmp_path / "t.parquet")
    found = far_inputs([str(tmp_path / "t.parquet")])
    assert found.known == known
    assert found.table is not None
    assert found.table[1] == {"path": column, "id": column}


def test_files_and_urls_are_listed_together(tmp_path: Path) -> None:
    for name in ("here/a.png", "there/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    found = far_inputs([str(tmp_path / "here"), f"file://{tmp_path}/there"])
    assert found.known == {
        "a": str(tmp_path / "here/a.png"),
        "b": f"file://{tmp_path}/there/b.png",
    }
    assert found.rows is not None
    assert [row["system"] for row in found.rows] == [None, 0]

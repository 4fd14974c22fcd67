import csv
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.formats.tables import ID_COLUMNS, Table, column_of, read_table


def table_of(tmp_path: Path, data: bytes) -> Table:
    (tmp_path / "t.csv").write_bytes(data)
    return read_table(tmp_path / "t.csv", "t.csv")


@pytest.mark.parametrize(
    "data",
    [
        b"id,rle\n0001,1 3\nNA,\n",
        b"\xef\xbb\xbfid,rle\r\n0001,1 3\r\nNA,\r\n\r\n\r\n",  # byte-order mark, CRLF, blank rows
        b"id;rle\n0001;1 3\nNA;\n",
        b"id\trle\n0001\t1 3\nNA\t\n",
        b'"id","rle"\n"0001","1 3"\n"NA",""\n',
    ],
)
def test_one_table_in_many_spellings(tmp_path: Path, data: bytes) -> None:
    table = table_of(tmp_path, data)
    assert table.header == ("id", "rle")
    assert [(row.line, row.cells) for row in table.rows] == [(2, ("0001", "1 3")), (3, ("NA", ""))]


def test_every_cell_stays_text(tmp_path: Path) -> None:
    ids = ["0001", "NA", "null", "1e5", "true", "1.0"]
    table = table_of(tmp_path, ("id,x\n" + "".join(f"{i},1\n" for i in ids)).encode())
    assert [row.cells[0] for row in table.rows] == ids


def test_line_numbers_count_blank_and_quoted_lines(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'id,x\n\n"a\nb",1\nc,2\n')
    assert [(row.line, row.cells[0]) for row in table.rows] == [(3, "a\nb"), (5, "c")]


def test_ragged_rows_are_left_out_and_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, b"id,x\na,1\nb,1,2\nc\n")
    assert [row.cells[0] for row in table.rows] == ["a"]
    assert [(p.code, p.where) for p in table.problems] == [
        ("CSV_ROW", "t.csv:3"),
        ("CSV_ROW", "t.csv:4"),
    ]


@pytest.mark.parametrize(
    ("data", "code", "where"),
    [
        ("id,x\na,1\n".encode("utf-16"), "CSV_ENCODING", "t.csv"),
        ("id,x\na,1\n".encode("utf-16-be"), "CSV_ENCODING", "t.csv"),
        (b"id,x\na,1\nb\xff,2\n", "CSV_ENCODING", "t.csv:3"),
        (b'id,x\na,1\n"b,2\nc,3\n', "CSV_SYNTAX", "t.csv:3"),
        (b"", "CSV_EMPTY", "t.csv"),
    ],
)
def test_unreadable_tables_are_named_with_their_line(
    tmp_path: Path, data: bytes, code: str, where: str
) -> None:
    with pytest.raises(CalcoError) as caught:
        table_of(tmp_path, data)
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == (code, where)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match=r"IO_MISSING\] no\.csv: there is no such table"):
        read_table(tmp_path / "no.csv", "no.csv")


def test_long_cells_are_read_and_the_readers_limit_is_restored(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    table = table_of(tmp_path, b"id,x\na," + b"1 " * 200_000 + b"\n")
    assert len(table.rows[0].cells[1]) == 400_000
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"x" * 5000, 1),
        (b"id,x\na,1\nb," + b"1 " * 5000 + b"\nc,2\n", 3),
        (b'id,x\na,1\n"b,' + b"1\n" * 5000, 3),  # an open quote takes every line behind it
    ],
)
def test_endless_lines_and_cells_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, line: int
) -> None:
    monkeypatch.setattr("calco.formats.tables.MAX_CELL_CHARS", 1000)
    with pytest.raises(CalcoError, match=rf"CSV_SYNTAX\] t\.csv:{line}:"):
        table_of(tmp_path, data)


def test_a_line_of_just_the_longest_length_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calco.formats.tables.MAX_CELL_CHARS", 10)
    table = table_of(tmp_path, b"id,x\na,1234567\nb,2")  # with its end, line 2 has ten signs
    assert [row.cells for row in table.rows] == [("a", "1234567"), ("b", "2")]


def test_a_zero_byte_is_a_sign_like_others(tmp_path: Path) -> None:
    assert table_of(tmp_path, b"id,x\na\0b,1\n").rows[0].cells == ("a\0b", "1")


def test_columns_are_found_whatever_their_case_and_signs(tmp_path: Path) -> None:
    assert column_of(table_of(tmp_path, b"x,Image_Id\n"), ID_COLUMNS, "ids") == 1


def test_missing_column_shows_the_header_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CalcoError) as caught:
        column_of(table_of(tmp_path, b"imageidd,x\n"), ID_COLUMNS, "ids")
    problem = caught.value.problems[0]
    assert problem.code == "CSV_COLUMN"
    assert problem.got == "'imageidd', 'x'"
    assert "'imageidd'" in problem.do

from pathlib import Path

import cv2
import numpy as np
import pytest

from calco.formats.rle_rows import RowBook, assign_rows, empty_token, is_safe_id
from calco.formats.tables import Row, Table
from calco.records import RleDialect


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((4, 6), np.uint8))
    return path


def book_of(image: Path, *rows: tuple[str, str]) -> RowBook:
    lines = tuple(Row(n, cells) for n, cells in enumerate(rows, 2))
    table = Table("t.csv", ("id", "rle"), lines, ",")
    return assign_rows(table, (0, 1), {"a": [image], "a.png": [image], "twice": [image, image]})


def test_rows_of_one_image_are_gathered(image: Path) -> None:
    book = book_of(image, ("a", "1 2"), ("a.png", "9 1"), ("a", ""))
    book.check(book.dialect)
    mask = book.masks(book.dialect)[image]
    assert (mask.rows, mask.where) == (("1 2", "9 1"), "t.csv:2")
    assert book.dialect == RleDialect(per_object=True, columns=("id", "rle"))
    assert book.problems == []


def test_only_empty_rows_are_an_empty_mask(image: Path) -> None:
    book = book_of(image, ("a", "-1"))
    assert book.dialect.empty == "-1"
    assert book.masks(book.dialect)[image].rows == ()
    assert book.image_runs() == []


def test_a_faulty_row_takes_its_image_out(image: Path) -> None:
    book = book_of(image, ("a", "1 2"), ("a", "1 x"))
    assert book.masks(book.dialect) == {}
    (problem,) = book.problems
    assert (problem.code, problem.where) == ("RLE_SYNTAX", "t.csv:3")


def test_a_run_outside_takes_its_image_out(image: Path) -> None:
    book = book_of(image, ("a", "24 2"))
    book.check(book.dialect)
    assert book.masks(book.dialect) == {}
    assert (book.problems[0].code, book.problems[0].where) == ("RLE_RANGE", "t.csv:2")


def test_overlapping_and_falling_runs_are_one_warning(image: Path) -> None:
    book = book_of(image, ("a", "1 4 3 2"), ("a", "9 1 2 1"), ("a", "1 2 3 1"))
    book.check(book.dialect)
    (warning,) = book.problems
    assert (warning.code, warning.severity, warning.got) == ("RLE_OVERLAP", "warning", "lines 2, 3")
    assert image in book.masks(book.dialect)


def test_exact_repeats_count_once_with_a_warning(image: Path) -> None:
    book = book_of(image, ("a", "1 2"), ("a", "1 2"))
    assert book.masks(book.dialect)[image].rows == ("1 2",)
    assert (book.problems[0].code, book.problems[0].got) == ("CSV_REPEATED", "a.png (2 times)")


def test_ids_without_image_or_with_several_are_listed_with_their_lines(image: Path) -> None:
    book = book_of(image, ("a", "1 2"), ("ghost", "1 2"), ("twice", "1 2"))
    unclear, missing = book.problems
    assert (unclear.code, unclear.got) == ("DUP_ID", "'twice' (line 4)")
    assert (missing.code, missing.got) == ("ORPHAN_MASK", "'ghost' (line 3)")


def test_an_unreadable_image_is_reported_once(tmp_path: Path) -> None:
    broken = tmp_path / "a.png"
    broken.touch()
    book = book_of(broken, ("a", "1 2"), ("a", "4 2"))
    assert [p.code for p in book.problems] == ["IMG_EMPTY"]
    book.check(book.dialect)
    assert book.masks(book.dialect) == {}


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../../b",
        "C:\\x",
        "c:x",
        "\\\\host\\x",
        "a\0b",
        "CON",
        "nul.png",
        "",
    ],
)
def test_unsafe_ids_are_refused_with_their_line(image: Path, name: str) -> None:
    assert not is_safe_id(name)
    (problem,) = book_of(image, ("a", "1 2"), (name, "1 2")).problems
    assert (problem.code, problem.where) == ("ID_UNSAFE", "t.csv:3")


@pytest.mark.parametrize("name", ["0001", "NA", "a b[1]*", "-x", "sub/a.png", "console", "é"])
def test_safe_ids(name: str) -> None:
    assert is_safe_id(name)


@pytest.mark.parametrize(
    ("texts", "token"),
    [
        (["1 2", "", ""], ""),
        (["1 2", "-1", "-1", "-"], "-1"),
        (["1 0", "5 3"], "1 0"),
        (["nan", "5 3"], ""),
    ],
)
def test_empty_token(texts: list[str], token: str) -> None:
    assert empty_token(texts) == token

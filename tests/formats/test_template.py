"""What a sample submission tells, and what it cannot."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from calco.errors import CalcoError
from calco.formats.dialects import dialect
from calco.formats.tables import long_cells
from calco.formats.template import read_template, template_dialect


def template(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "sample_submission.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_ids_stay_text(tmp_path: Path) -> None:
    ids = ["0001", "NA", "null", "1e5", "true", "-1", "007.png", ""]
    path = template(tmp_path, "id,rle_mask\n" + "".join(f"{i},1 1\n" for i in ids))
    assert read_template(path).keys() == tuple(ids)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_mark_line_ends_and_blank_rows(
    tmp_path: Path, encoding: str, newline: str
) -> None:
    path = template(tmp_path, newline.join(["id,rle_mask", "a,", "", "b,1 1", "", ""]), encoding)
    read = read_template(path)
    assert read.header == ("id", "rle_mask")
    assert read.rows == (("a", ""), ("b", "1 1"))


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("img,rle_mask", ("img", "rle_mask")),
        ("EncodedPixels,ImageId", ("ImageId", "EncodedPixels")),
        ("ImageId,EncodedPixels,ClassId", ("ImageId", "EncodedPixels")),
        ("id,class,predicted", ("id", "predicted")),
        ("name,answer", ("name", "answer")),
        ("mask,rle", ("mask", "rle")),
    ],
)
def test_columns_are_found_by_name_then_place(
    tmp_path: Path, header: str, columns: tuple[str, str]
) -> None:
    row = ",".join("x" for _ in header.split(","))
    assert read_template(template(tmp_path, f"{header}\n{row}\n")).columns == columns


def test_a_class_column_tells_rows_apart(tmp_path: Path) -> None:
    path = template(tmp_path, "id,class,predicted\n1,stomach,\n1,bowel,\n")
    assert read_template(path).keys() == ("1_stomach", "1_bowel")


def test_a_class_column_is_no_key_where_ids_are_unique(tmp_path: Path) -> None:
    path = template(tmp_path, "id,class,predicted\n1,stomach,\n2,stomach,\n")
    assert read_template(path).keys() == ("1", "2")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "TEMPLATE_EMPTY"),
        ("id,rle_mask\n", "TEMPLATE_EMPTY"),
        ("id,rle_mask\na\n", "TEMPLATE_ROW.*csv:2"),
        ("id,rle_mask\na,1 1\nb,1,1\n", "TEMPLATE_ROW.*csv:3"),
        ("id;rle_mask\na;1 1\n", "TEMPLATE_COLUMNS.*comma"),
        ("id\na\n", "TEMPLATE_COLUMNS"),
        ("id,x,y\na,b,c\n", "TEMPLATE_COLUMNS.*id, x, y"),
    ],
)
def test_what_is_no_template_is_named(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(CalcoError, match=code):
        read_template(template(tmp_path, text))


def test_a_template_of_another_encoding_or_none(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="TEMPLATE_READ"):
        read_template(template(tmp_path, "id,rle_mask\na,1 1\n", "utf-16"))
    with pytest.raises(CalcoError, match="TEMPLATE_READ"):
        read_template(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("img,rle_mask\na.jpg,1 1\n", "carvana"),
        ("id,rle_mask\na,1 1\n", "tgs"),
        ("record_id,encoded_pixels\na,-\nb,1 1\n", "contrails"),
        ("Id,Predicted\na,1 1\n", "vesuvius"),
        ("ImageId_ClassId,EncodedPixels\na.jpg_1,1 1\n", "severstal"),
        ("ImageId,EncodedPixels\na,-1\nb,-1\n", "siim"),
        ("ImageId,EncodedPixels\na.jpg,1 2\n", "airbus"),
    ],
)
def test_competitions_are_recognised(tmp_path: Path, text: str, name: str) -> None:
    found, note = template_dialect(read_template(template(tmp_path, text)))
    assert found == dialect(name) if name != "airbus" else found.per_object
    assert "recognised" in note
    assert name in note


def test_columns_of_rules_that_differ_ask_for_a_name(tmp_path: Path) -> None:
    path = template(tmp_path, "id,predicted\na,\n")
    with pytest.raises(CalcoError, match=r"RLE_DIALECT.*hubmap or uwmadison"):
        template_dialect(read_template(path))


def test_image_id_with_blank_cells_is_not_siim(tmp_path: Path) -> None:
    path = template(tmp_path, "ImageId,EncodedPixels\na,\nb,\n")
    found, note = template_dialect(read_template(path))
    assert found == dialect("dsb2018")
    assert "siim" not in note


def test_a_class_beside_the_id_is_one_row_per_class(tmp_path: Path) -> None:
    path = template(tmp_path, "ImageId,EncodedPixels,ClassId\na,,1\na,,2\n")
    assert not template_dialect(read_template(path))[0].per_object


@pytest.mark.parametrize(
    ("cells", "empty", "objects"),
    [(("1 1", "1 1"), "", False), (("-1", "1 1"), "-1", False), (("1 0", "1 0"), "1 0", False)],
)
def test_unknown_columns_get_the_usual_rule(
    tmp_path: Path, cells: tuple[str, str], empty: str, objects: bool
) -> None:
    path = template(tmp_path, f"name,answer\na,{cells[0]}\nb,{cells[1]}\n")
    found, note = template_dialect(read_template(path))
    assert (found.order, found.base, found.relative) == ("column", 1, False)
    assert (found.empty, found.per_object) == (empty, objects)
    assert "no known competition" in note


def test_repeated_ids_mean_one_row_per_object(tmp_path: Path) -> None:
    path = template(tmp_path, "name,answer\na,1 1\na,3 1\nb,1 1\n")
    assert template_dialect(read_template(path))[0].per_object


def test_long_cells_are_read_and_the_limit_put_back(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = template(tmp_path, "id,rle_mask\na," + "1 1 " * 100_000 + "\n")
    assert len(read_template(path).rows[0][1]) == 400_000
    with pytest.raises(ZeroDivisionError), long_cells(7):
        raise ZeroDivisionError
    assert csv.field_size_limit() == before

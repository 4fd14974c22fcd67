"""Masks drawn from tables of run lengths, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from calco.config import DataConfig
from calco.errors import CalcoError
from calco.formats.dialects import dialect
from calco.stages.rle_table import decode_table
from calco.stages.submission import write_submission

MASK = np.array([[1, 0, 1], [0, 0, 1]], bool)


def table(folder: Path, *rows: str) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join(("id,rle_mask", *rows)) + "\n")
    return path


def drawn(path: Path) -> list[list[int]]:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return [[int(v) for v in line] for line in mask]


@pytest.mark.parametrize("name", ["tgs", "carvana", "siim", "dsb2018", "contrails"])
def test_what_was_encoded_is_decoded(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), MASK.view(np.uint8) * np.uint8(255))
    cv2.imwrite(str(tmp_path / "n.png"), np.zeros((2, 3), np.uint8))
    masks = {"a.jpg": tmp_path / "m.png", "b": tmp_path / "n.png"}
    write_submission(masks, tmp_path / "s.csv", dialect(name))
    report = decode_table(tmp_path / "s.csv", tmp_path / "o", (2, 3), dialect(name), DataConfig())
    assert (report.n_masks, report.n_empty) == (2, 1)
    assert drawn(tmp_path / "o" / "a.png") == [[255, 0, 255], [0, 0, 255]]
    assert drawn(tmp_path / "o" / "b.png") == [[0, 0, 0], [0, 0, 0]]


def test_images_give_the_size_of_each(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.zeros((2, 3), np.uint8))
    cv2.imwrite(str(images / "b.png"), np.zeros((1, 2), np.uint8))
    rows = table(tmp_path, "a,1 1", "a.png,5 2", "b,2 1")
    decode_table(rows, tmp_path / "o", images, dialect("dsb2018"), DataConfig())
    assert drawn(tmp_path / "o" / "a.png") == [[255, 0, 255], [0, 0, 255]]
    assert drawn(tmp_path / "o" / "b.png") == [[0, 255]]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (("a,1 x", "b,1 1"), r"RLE_SYNTAX.*t\.csv:2"),
        (("a,1 1", "b,6 2"), r"RLE_RANGE.*t\.csv:3"),
        (("../a,1 1",), "ID_UNSAFE"),
        (("a,1 1,2",), "CSV_ROW"),
    ],
)
def test_one_faulty_row_and_nothing_is_written(
    tmp_path: Path, rows: tuple[str, ...], code: str
) -> None:
    with pytest.raises(CalcoError, match=code):
        decode_table(table(tmp_path, *rows), tmp_path / "o", (2, 3), dialect("tgs"), DataConfig())
    assert not (tmp_path / "o").exists()


def test_square_masks_without_images_ask_for_the_order(tmp_path: Path) -> None:
    rows = table(tmp_path, "a,1 1")
    with pytest.raises(CalcoError, match=r"RLE_ORDER.*--order or --dialect"):
        decode_table(rows, tmp_path / "o", (2, 2), None, DataConfig())
    decode_table(rows, tmp_path / "o", (2, 2), None, DataConfig(rle_order="row", rle_base=0))
    assert drawn(tmp_path / "o" / "a.png") == [[0, 255], [0, 0]]


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="OUT_NOT_EMPTY"):
        decode_table(table(tmp_path, "a,1 1"), tmp_path, (2, 2), dialect("tgs"), DataConfig())

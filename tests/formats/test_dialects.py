"""The presets, each against a mask encoded by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calco.errors import CalcoError
from calco.formats.dialects import PRESETS, dialect
from calco.formats.rle import decode, encode

# 2 x 3 with every pixel its own column- and row-number:
#   # # .     down the columns 1 2 | 3 4 | 5 6 -> pixels 1 and 3, 6
#   . . #     along the rows   1 2 3 | 4 5 6   -> pixels 1 2 and 6
MASK = np.array([[1, 1, 0], [0, 0, 1]], bool)
COLUMN, ROW = "1 1 3 1 6 1", "1 2 6 1"
BY_HAND = {
    "airbus": COLUMN,
    "carvana": ROW,
    "contrails": COLUMN,
    "dsb2018": COLUMN,
    "hubmap": COLUMN,
    "severstal": COLUMN,
    # from 0: run at 0; one pixel further on the next; two pixels after its end the last
    "siim": "0 1 1 1 2 1",
    "tgs": COLUMN,
    "uwmadison": ROW,
    "vesuvius": ROW,
}
EMPTY = {"siim": "-1", "contrails": "-"}


def test_every_preset_was_encoded_by_hand() -> None:
    assert set(BY_HAND) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_masks_are_written_as_the_competition_reads_them(name: str) -> None:
    rule = dialect(name)
    assert encode(MASK, rule) == BY_HAND[name]
    assert np.array_equal(decode(BY_HAND[name], (2, 3), rule), MASK)


@pytest.mark.parametrize("name", PRESETS)
def test_the_empty_mask_has_the_competitions_token(name: str) -> None:
    assert encode(np.zeros((2, 3), bool), dialect(name)) == EMPTY.get(name, "")


PER_OBJECT = {"airbus", "dsb2018"}
HEADERS = {
    "airbus": "ImageId,EncodedPixels",
    "carvana": "img,rle_mask",
    "contrails": "record_id,encoded_pixels",
    "dsb2018": "ImageId,EncodedPixels",
    "hubmap": "id,predicted",
    "severstal": "ImageId_ClassId,EncodedPixels",
    "siim": "ImageId,EncodedPixels",
    "tgs": "id,rle_mask",
    "uwmadison": "id,predicted",
    "vesuvius": "Id,Predicted",
}


@pytest.mark.parametrize("name", PRESETS)
def test_rows_and_columns_are_the_competitions(name: str) -> None:
    assert dialect(name).per_object == (name in PER_OBJECT)
    assert ",".join(dialect(name).columns) == HEADERS[name]


def test_airbus_reads_a_published_ship_as_neighbouring_columns() -> None:
    # the first runs of a row of train_ship_segmentations.csv: 768 apart, the height of the image
    mask = decode("264661 17 265429 33 266197 33 266965 33", (768, 768), dialect("airbus"))
    rows, columns = np.nonzero(mask)
    assert sorted(set(columns.tolist())) == [344, 345, 346, 347]
    assert rows.max() - rows.min() + 1 == 33


def test_siim_reads_the_published_example_as_one_growing_blob() -> None:
    # the first runs of a published row: about 1024 apart, the height of the image
    cell = "387620 23 996 33 986 43 977 51 968 58 962 65"
    mask = decode(cell, (1024, 1024), dialect("siim"))
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 23 + 33 + 43 + 51 + 58 + 65
    assert columns.max() - columns.min() == 5  # six neighbouring columns
    assert rows.max() - rows.min() < 80


def test_carvana_rows_follow_the_cars_roof() -> None:
    # the first runs of train_masks.csv; in 1280 x 1918 they lie on consecutive rows
    mask = decode("879386 40 881253 141 883140 205", (1280, 1918), dialect("carvana"))
    rows, _ = np.nonzero(mask)
    assert sorted(set(rows.tolist())) == [458, 459, 460]


@pytest.mark.parametrize(
    ("typo", "meant"), [("carvanna", "carvana"), ("TGS", "tgs"), ("dsb18", "dsb2018")]
)
def test_a_misspelt_name_is_refused_with_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(CalcoError, match=f"RLE_DIALECT.*did you mean {meant}"):
        dialect(typo)


def test_a_strange_name_lists_all() -> None:
    with pytest.raises(CalcoError, match=r"airbus, carvana.*sample_submission"):
        dialect("zzz")


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PRESETS["tgs"] = PRESETS["siim"]  # type: ignore[index]

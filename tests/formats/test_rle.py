from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.formats.rle import (
    decode,
    decode_rows,
    encode,
    encode_objects,
    looks_like_runs,
    parse_runs,
)
from calco.images.objects import split_objects
from calco.records import RleDialect

KAGGLE = RleDialect()
ORDERS: tuple[Literal["column", "row"], ...] = ("column", "row")
BASES: tuple[Literal[0, 1], ...] = (0, 1)
DIALECTS = [
    RleDialect(order, base, relative, empty)
    for order, base, relative, empty in product(ORDERS, BASES, (False, True), ("", "-1", "-"))
]


def grid(text: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in line] for line in text.split()])


# 3 x 5; counted down the columns from 1: column 1 is 1-3, column 2 is 4-6, ...
L_SHAPE = grid(
    """
    .#...
    .#...
    .###.
    """
)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (RleDialect("column", 1), "4 3 9 1 12 1"),
        (RleDialect("column", 0), "3 3 8 1 11 1"),
        (RleDialect("row", 1), "2 1 7 1 12 3"),
        (RleDialect("row", 0), "1 1 6 1 11 3"),
        # gaps after the run before: it ends at 6, two background pixels, ...
        (RleDialect("column", 1, relative=True), "4 3 2 1 2 1"),
        (RleDialect("row", 0, relative=True), "1 1 4 1 4 3"),
    ],
)
def test_golden_l_shape(dialect: RleDialect, text: str) -> None:
    assert encode(L_SHAPE, dialect) == text
    np.testing.assert_array_equal(decode(text, (3, 5), dialect), L_SHAPE)


@settings(max_examples=150, deadline=None)
@given(
    mask=arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    dialect=st.sampled_from(DIALECTS),
)
def test_round_trip_of_any_mask_in_any_dialect(
    mask: NDArray[np.bool_], dialect: RleDialect
) -> None:
    text = encode(mask, dialect)
    np.testing.assert_array_equal(decode(text, mask.shape, dialect), mask)
    np.testing.assert_array_equal(
        decode_rows(encode_objects(split_objects(mask), dialect), mask.shape, dialect), mask
    )
    if mask.any():
        assert parse_runs(text, dialect)[:, 1].sum() == mask.sum()


def test_corner_pixels_are_kept() -> None:
    assert encode(np.ones((2, 2), bool), KAGGLE) == "1 4"
    assert encode(grid("#. .#"), KAGGLE) == "1 1 4 1"


@pytest.mark.parametrize("empty", ["", "-1", "-", "1 0"])
def test_empty_mask_is_the_dialects_token(empty: str) -> None:
    dialect = replace(KAGGLE, empty=empty)
    assert encode(np.zeros((4, 3), bool), dialect) == empty
    assert encode_objects(np.zeros((4, 3), np.int32), dialect) == []
    for text in (empty, "", "  ", "nan", "NaN"):
        assert not decode(text, (4, 3), dialect).any()


def test_objects_are_8_connected_and_keep_their_own_runs() -> None:
    mask = grid(
        """
        #..#
        .#.#
        ...#
        """
    )
    assert encode_objects(split_objects(mask), KAGGLE) == ["1 1 5 1", "10 3"]


def test_column_decoding_gives_a_contiguous_mask() -> None:
    mask = decode("2 3", (3, 4), KAGGLE)
    assert mask.dtype == np.bool_
    assert mask.flags.c_contiguous


def test_overlapping_and_unsorted_runs_are_joined() -> None:
    mask = decode("4 2 1 3 2 1 2 3", (1, 6), KAGGLE)
    assert mask.astype(int).tolist() == [[1, 1, 1, 1, 1, 0]]


def test_rows_are_joined() -> None:
    assert decode_rows(("1 1", "", "3 1"), (1, 3), KAGGLE).tolist() == [[True, False, True]]
    assert not decode_rows((), (2, 2), KAGGLE).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a", "token 2: 'a'"),
        ("1 2 3", "3 numbers"),
        ("1 2.5", "token 2: '2.5'"),
        ("-3 4", "token 1: '-3'"),
        ("1 2 5 0", "token 4: '0'"),
        ("1 \u0662", "token 2"),  # a digit, but not one of ours
        ("1 1_0", "token 2: '1_0'"),
        ("1 " + "9" * 40, "token 2"),
        ("-1", "token 1: '-1'"),  # not this dialect's empty token
    ],
)
def test_bad_syntax_names_the_token(text: str, message: str) -> None:
    with pytest.raises(CalcoError) as caught:
        decode(text, (4, 4), KAGGLE, "train.csv:7")
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == ("RLE_SYNTAX", "train.csv:7")
    assert message in problem.got


@pytest.mark.parametrize(
    ("text", "base", "hint"),
    [
        ("0 3", 1, "data.rle_base: 0"),
        ("15 2", 0, "data.rle_base: 1"),
        ("99 1", 1, "size the mask was drawn on"),
        ("1 1000000000000", 1, "data.rle_order"),  # would be 1 TB if allocated first
    ],
)
def test_runs_outside_the_image_are_refused_with_a_hint(text: str, base: int, hint: str) -> None:
    dialect = RleDialect(base=1 if base else 0)
    with pytest.raises(CalcoError) as caught:
        decode(text, (4, 4), dialect, "train.csv:7")
    problem = caught.value.problems[0]
    assert problem.code == "RLE_RANGE"
    assert hint in problem.do
    assert "4 x 4" in problem.expected


def test_wrong_base_is_not_silently_the_same_mask() -> None:
    text = encode(L_SHAPE, KAGGLE)
    wrong = decode(text, (3, 5), replace(KAGGLE, base=0))
    assert (wrong != L_SHAPE).any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1 2", True), ("1 2 3", False), ("", False), ("cat", False), ("1.5 2", False)],
)
def test_looks_like_runs(text: str, expected: bool) -> None:
    assert looks_like_runs(text) is expected

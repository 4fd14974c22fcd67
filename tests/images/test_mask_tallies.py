"""Counting the values of masks, fast and right, and what the counts say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calco.images.mask_tallies import (
    Tally,
    are_photos,
    count_values,
    mean_foreground,
    pixels_between_ends,
    total_colors,
)
from calco.records.data import MaskCode

WHITE = MaskCode("values", values=(255,), background=(0,))


def tally(values: dict[float, int], sample: int = 0, flatness: float = 1.0) -> Tally:
    return Tally(Path("a.png"), sample, sum(values.values()), values, flatness=flatness)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_count_values_equals_a_plain_count(dtype: str) -> None:
    plane = np.random.default_rng(0).integers(0, 5, (30, 40)).astype(dtype)
    counts, flatness = count_values(plane)
    values, expected = np.unique(plane, return_counts=True)
    assert counts == dict(zip(values.tolist(), expected.tolist(), strict=True))
    assert flatness == pytest.approx(np.mean(plane.ravel()[1:] == plane.ravel()[:-1]))


def test_count_values_of_one_pixel() -> None:
    assert count_values(np.array([[3]])) == ({3: 1}, 1.0)


def test_objects_of_one_sample_add_up_before_the_mean() -> None:
    objects = [tally({0: 75, 255: 25}), tally({0: 75, 255: 25})]
    other = tally({255: 10}, sample=1)
    assert mean_foreground([*objects, other], WHITE) == (0.5 + 1) / 2
    inverted = MaskCode("values", values=(255,), invert=True)
    assert mean_foreground([*objects, other], inverted) == 0.25


@pytest.mark.parametrize(
    ("code", "share"),
    [
        (MaskCode("values", values=(1, 2)), 0.3),
        (MaskCode("threshold", threshold=1), 0.2),
        (MaskCode("color", color=(2, 2, 2)), 0.2),
    ],
)
def test_the_share_of_a_code_is_that_of_its_pixels(code: MaskCode, share: float) -> None:
    assert tally({0: 70, 1: 10, 2: 20}).foreground_fraction(code) == pytest.approx(share)


def test_grey_values_are_colours_up_to_255() -> None:
    assert total_colors([tally({0: 5, 128: 2, 300: 1, -1: 1})]) == {0: 5, 0x808080: 2}


def test_smear_is_black_white_and_little_between() -> None:
    smear: dict[float, int] = {0: 890, 20: 10, 40: 2, 90: 2, 130: 1, 200: 1, 250: 94}
    assert pixels_between_ends(smear) == 6
    assert pixels_between_ends({0: 900, 1: 50, 2: 50}) is None  # classes: nothing in between
    assert pixels_between_ends({**smear, 70: 900}) is None  # more grey than white
    assert pixels_between_ends({**smear, 300: 1}) is None  # not 8-bit


def test_photos_have_many_values_that_change_from_pixel_to_pixel() -> None:
    many: dict[float, int] = dict.fromkeys(range(64), 10)
    assert are_photos([tally(many, flatness=0.3)])
    assert not are_photos([tally(many, flatness=0.95)])  # as numbered objects do
    assert not are_photos([tally(dict.fromkeys(range(5), 10), flatness=0.3)])
    assert not are_photos([tally({**many, 0: 900, 63: 900}, flatness=0.3)])  # a soft mask
    assert not are_photos([])

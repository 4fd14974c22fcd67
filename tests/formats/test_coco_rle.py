"""COCO's compressed runs, byte for byte those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as peer

from calco.errors import CalcoError
from calco.formats.coco_rle import compress, decompress

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(max_examples=200, deadline=None)
@given(mask=MASKS)
def test_any_mask_is_written_and_read_as_pycocotools_does(mask: NDArray[np.bool_]) -> None:
    text = compress(mask)
    theirs = peer.encode(np.asfortranarray(mask.view(np.uint8)))
    assert text == theirs["counts"].decode()
    assert np.array_equal(decompress(text, (mask.shape[0], mask.shape[1])), mask)
    assert np.array_equal(peer.decode(theirs), mask)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_large_masks_have_long_runs(share: float) -> None:
    mask = np.random.default_rng(0).random((700, 900)) < share
    text = compress(mask)
    assert text == peer.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode()
    assert np.array_equal(decompress(text, (700, 900)), mask)


def test_by_hand() -> None:
    # down the columns 1, 2 | 3, 4: one background, two foreground, one background
    assert compress(np.array([[0, 1], [1, 0]], bool)) == "121"
    # 32 is one low group of 00000 and more, then 1: 'P' and '1'
    assert compress(np.zeros((4, 8), bool)) == "P1"


@pytest.mark.parametrize("text", ["", "P", "12 ", "1\u00e9", "~", "PPPPPPPP1"])
def test_what_is_no_compressed_text_is_refused(text: str) -> None:
    with pytest.raises(CalcoError, match=r"RLE_SYNTAX.*a\.json"):
        decompress(text, (2, 2), "a.json")


@pytest.mark.parametrize("text", ["1", "5", "12O", "22222"])
def test_runs_that_do_not_fill_the_image_are_refused(text: str) -> None:
    with pytest.raises(CalcoError, match=r"RLE_RANGE.*4 pixels \(2 x 2\)"):
        decompress(text, (2, 2))

"""What is cleaned strip by strip is what is cleaned whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from calco.inference.postprocess import clean
from calco.inference.regions import Strips, clean_strips
from calco.records import Postprocess

Levels = NDArray[np.uint8]
# below the threshold, above it, above the peak: few values make many regions and many contacts
LEVELS = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.sampled_from([0, 150, 250]),
)
PARAMS = st.builds(
    Postprocess,
    st.just(0.5),
    st.sampled_from([0, 1, 2, 3, 8, 40]),
    st.sampled_from([0, 1, 2, 5, 30]),
    min_peak=st.sampled_from([0.0, 0.9]),
)


def cut(levels: Levels, rows: int) -> Strips:
    def read() -> Iterator[Levels]:
        return (levels[top : top + rows] for top in range(0, len(levels), rows))

    return read


def in_strips(levels: Levels, rows: int, params: Postprocess) -> NDArray[np.bool_]:
    return np.concatenate(list(clean_strips(cut(levels, rows), params)))


@given(LEVELS, PARAMS, st.integers(1, 7))
def test_strips_are_cleaned_as_the_whole(levels: Levels, params: Postprocess, rows: int) -> None:
    np.testing.assert_array_equal(in_strips(levels, rows, params), clean(levels, params))


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.6])
def test_dense_noise_too(rows: int, share: float) -> None:
    # near 0.4 and 0.6 regions of both kinds wind through the whole picture
    rng = np.random.default_rng(0)
    levels = (rng.random((100, 80)) < share).astype(np.uint8) * np.uint8(200)
    params = Postprocess(0.5, 30, 12)
    np.testing.assert_array_equal(in_strips(levels, rows, params), clean(levels, params))


def picture(text: str) -> Levels:
    rows = [[{".": 0, "#": 200, "P": 255}[c] for c in line] for line in text.split()]
    return np.array(rows, np.uint8)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        # the arc has 10 px: only the sum of its parts reaches the area
        (Postprocess(0.5, 10), ".##.. #..#. #..#. #..#. .##.."),
        (Postprocess(0.5, 11), "..... ..... ..... ..... ....."),
        # the hole has 6 px, two in each of three rows
        (Postprocess(0.5, 10, 6), ".##.. ####. ####. ####. .##.."),
        (Postprocess(0.5, 10, 5), ".##.. #..#. #..#. #..#. .##.."),
    ],
)
def test_by_hand(params: Postprocess, expected: str) -> None:
    ring = picture(".##.. #..#. #..#. #..#. .##..")
    np.testing.assert_array_equal(in_strips(ring, 1, params), picture(expected) > 0)


def test_a_peak_in_one_strip_saves_the_object_in_all() -> None:
    levels = picture("#.#.. #.#.. #.P.. #.#..")
    expected = picture("..#.. ..#.. ..#.. ..#..") > 0
    np.testing.assert_array_equal(in_strips(levels, 2, Postprocess(0.5, min_peak=0.9)), expected)


def test_only_the_borders_of_strips_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    import calco.inference.regions as module

    kept: list[int] = []
    add = module._Seams.add

    def counted(self: Any, labels: Any, sums: Any) -> None:  # noqa: ANN401
        add(self, labels, sums)
        kept.append(self._n_nodes)

    monkeypatch.setattr(module._Seams, "add", counted)
    specks = np.zeros((64, 64), np.uint8)
    specks[1::3, 1::3] = 200  # 441 of them, none in the first or last row of a strip of 16
    specks[15::16] = 0
    specks[::16] = 0
    in_strips(specks, 16, Postprocess(0.5, 2))
    assert kept == [0, 0, 0, 0]

"""Outlines hold exactly the pixels they were traced from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calco.images.outlines import fill, trace


@settings(max_examples=200, deadline=None)
@given(mask=arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_round_trip_and_no_ring_touches_itself(mask: NDArray[np.bool_]) -> None:
    polygons = trace(mask)
    assert np.array_equal(fill(polygons, mask.shape), mask)
    for polygon in polygons:
        outer, *holes = (fill([(ring,)], mask.shape) for ring in polygon)
        assert all((outer & hole).sum() == hole.sum() for hole in holes)
        for ring in polygon:
            assert len(np.unique(ring, axis=0)) == len(ring) >= 4
            assert len(ring) % 2 == 0  # no corner on a straight side


def test_a_ring_with_a_hole() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    ((outer, hole),) = trace(mask)
    assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert hole.tolist() == [[1, 1], [1, 2], [2, 2], [2, 1]]


def test_pixels_that_touch_at_a_corner_are_two_polygons() -> None:
    assert len(trace(np.eye(2, dtype=bool))) == len(trace(np.eye(2, dtype=bool)[::-1])) == 2


def test_nothing_has_no_outline() -> None:
    assert trace(np.zeros((2, 3), bool)) == []
    assert not fill([], (2, 3)).any()


@pytest.mark.parametrize("ring", [[[0, 0], [1, 1], [0, 1]], [[0, 0], [4, 0], [4, 1], [0, 1]]])
def test_other_outlines_are_refused(ring: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="along the edges"):
        fill([(np.array(ring),)], (2, 3))

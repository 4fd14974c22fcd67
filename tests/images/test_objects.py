"""Every pixel of a mask belongs to exactly one object; discs that touch are two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calco.images.objects import Method, split_objects

METHODS: tuple[Method, ...] = ("components", "watershed")


def discs(*circles: tuple[int, int, int], size: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    """Draw discs, each given as row, column and radius."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    drawn = [(rows - r) ** 2 + (cols - c) ** 2 <= radius**2 for r, c, radius in circles]
    return np.asarray(np.any(drawn, axis=0))


@pytest.mark.parametrize(
    ("circles", "n_objects"),
    [
        (((30, 20, 14), (30, 44, 14)), 2),  # 1.7 radii between their centres
        (((30, 20, 14), (30, 40, 8)), 2),  # a small one at a large one
        (((30, 20, 14), (30, 25, 14)), 1),  # one long object
        (((20, 20, 12), (20, 42, 12), (38, 31, 12)), 3),
        (((0, 20, 12), (0, 42, 12)), 2),  # cut by the border
    ],
)
def test_touching_discs_are_cut_at_their_neck(
    circles: tuple[tuple[int, int, int], ...], n_objects: int
) -> None:
    mask = discs(*circles)
    assert split_objects(mask).max() == 1
    labels = split_objects(mask, "watershed")
    assert labels.max() == n_objects
    if n_objects > 1:
        assert len({int(labels[r, c]) for r, c, _ in circles}) == n_objects


def test_the_cut_of_two_equal_discs_is_halfway() -> None:
    labels = split_objects(discs((30, 20, 14), (30, 44, 14)), "watershed")
    first, second = np.bincount(labels.ravel())[1:]
    assert abs(int(first) - int(second)) < 0.05 * first


def test_steps_of_an_outline_are_no_objects() -> None:
    bar = np.zeros((20, 60), bool)
    bar[8:12, 5:55] = True
    bar[7, 10:50:3] = True  # a ragged side
    assert split_objects(bar, "watershed").max() == 1


def test_no_fragment_is_cut_off() -> None:
    mask = discs((30, 30, 14))
    mask[29:32, 43:47] = True  # a stub of 12 pixels at most
    assert split_objects(mask, "watershed").max() == 1


@settings(max_examples=100, deadline=None)
@given(
    mask=arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))),
    method=st.sampled_from(METHODS),
)
def test_objects_are_a_partition_numbered_by_their_first_pixel(
    mask: NDArray[np.bool_], method: Method
) -> None:
    labels = split_objects(mask, method)
    assert np.array_equal(labels > 0, mask)
    numbers, first = np.unique(labels[mask], return_index=True)
    assert numbers.tolist() == list(range(1, len(numbers) + 1))
    assert (np.diff(first) > 0).all()
    parts = split_objects(mask)
    for number in numbers:  # an object lies in one part, and is connected itself
        assert len(np.unique(parts[labels == number])) == 1
        assert split_objects(labels == number).max() == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [False, True])
def test_masks_of_one_kind(method: Method, value: bool) -> None:
    assert split_objects(np.full((5, 7), value), method).max() == int(value)

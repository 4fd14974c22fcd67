from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from calco.inference.postprocess import clean, label_holes, label_objects, to_levels
from calco.records import Postprocess


def grid(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def cleaned(mask: NDArray[np.bool_], area: int = 0, hole: int = 0) -> NDArray[np.bool_]:
    levels = mask.astype(np.uint8) * np.uint8(255)
    return clean(levels, Postprocess(min_area_px=area, max_hole_px=hole))


def by_scipy(mask: NDArray[np.bool_], area: int, hole: int) -> NDArray[np.bool_]:
    """Clean object by object with another library."""
    labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
    mask = mask.copy()
    for i in range(1, n + 1):
        if (labels == i).sum() < area:
            mask[labels == i] = False
    labels, n = ndimage.label(~mask)
    for i in range(1, n + 1):
        rows, cols = np.nonzero(labels == i)
        inside = rows.min() > 0 and rows.max() < mask.shape[0] - 1
        inside = inside and cols.min() > 0 and cols.max() < mask.shape[1] - 1
        if inside and len(rows) <= hole:
            mask[labels == i] = True
    return mask


class TestThreshold:
    def test_levels_round_to_the_nearest(self) -> None:
        prob = np.array([[0, 1 / 255, 1.4 / 255, 1.6 / 255, 0.5, 1]], np.float32)
        assert to_levels(prob).tolist() == [[0, 1, 1, 2, 128, 255]]

    @pytest.mark.parametrize("threshold", [0.0, 0.2, 0.3, 0.5, 0.501, 0.7, 0.99, 1.0])
    def test_is_strictly_above_on_every_level(self, threshold: float) -> None:
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        expected = levels.astype(float) > threshold * 255
        assert np.array_equal(clean(levels, Postprocess(threshold)), expected)

    @given(st.floats(0, 1), st.integers(0, 2**31))
    @settings(max_examples=50)
    def test_of_a_saved_probability_image_gives_exactly_the_mask(
        self, threshold: float, seed: int
    ) -> None:
        prob = np.random.default_rng(seed).random((8, 8), dtype=np.float32)
        params = Postprocess(threshold)
        saved = to_levels(prob)
        assert np.array_equal(clean(prob, params), clean(saved, params))
        assert np.array_equal(clean(prob, params), saved > threshold * 255)

    def test_a_lower_threshold_never_loses_a_pixel(self) -> None:
        prob = np.random.default_rng(0).random((32, 32), dtype=np.float32)
        masks = [clean(prob, Postprocess(t)) for t in (0.1, 0.4, 0.8)]
        assert not (masks[1] & ~masks[0]).any()
        assert not (masks[2] & ~masks[1]).any()

    def test_float64_is_read_as_float32(self) -> None:
        prob = np.random.default_rng(0).random((8, 8))
        expected = clean(prob.astype(np.float32), Postprocess())
        assert np.array_equal(clean(prob, Postprocess()), expected)  # type: ignore[arg-type]


class TestSmallObjects:
    def test_go_when_smaller_than_the_limit(self) -> None:
        mask = grid(
            "##...#",
            "#.....",
            "....##",
            "....##",
        )
        expected = grid(
            "......",
            "......",
            "....##",
            "....##",
        )
        assert np.array_equal(cleaned(mask, area=4), expected)
        assert np.array_equal(cleaned(mask, area=1), mask)

    def test_are_connected_across_corners(self) -> None:
        mask = grid(
            "#...",
            ".#..",
            "..#.",
        )
        assert np.array_equal(cleaned(mask, area=3), mask)
        assert not cleaned(mask, area=4).any()

    def test_empty_and_full_masks_survive(self) -> None:
        assert not cleaned(np.zeros((4, 5), bool), area=3, hole=3).any()
        assert cleaned(np.ones((4, 5), bool), area=20, hole=3).all()
        assert not cleaned(np.ones((4, 5), bool), area=21).any()

    def test_one_pixel_image(self) -> None:
        assert cleaned(np.ones((1, 1), bool), area=1, hole=1).all()
        assert not cleaned(np.ones((1, 1), bool), area=2).any()
        assert not cleaned(np.zeros((1, 1), bool), hole=9).any()


class TestHoles:
    RING = grid(
        ".......",
        ".#####.",
        ".#...#.",
        ".#####.",
        ".......",
    )

    def test_are_filled_up_to_and_including_the_limit(self) -> None:
        assert np.array_equal(cleaned(self.RING, hole=2), self.RING)
        assert cleaned(self.RING, hole=3)[2, 1:6].all()

    def test_the_surroundings_are_no_hole(self) -> None:
        assert cleaned(self.RING, hole=10**9).sum() == 15

    @pytest.mark.parametrize("turn", range(4))
    def test_that_touch_the_border_stay_open(self, turn: int) -> None:
        bay = np.rot90(grid("#.##", "#.##", "####"), turn)
        assert np.array_equal(cleaned(bay, hole=100), bay)

    def test_a_gap_across_a_corner_does_not_let_the_background_in(self) -> None:
        # background is 4-connected, so the 8-connected diamond encloses its middle
        diamond = grid(
            ".....",
            "..#..",
            ".#.#.",
            "..#..",
            ".....",
        )
        assert cleaned(diamond, hole=1)[2, 2]

    def test_a_speck_inside_a_hole_goes_first(self) -> None:
        mask = grid(
            ".........",
            ".#######.",
            ".#.....#.",
            ".#..#..#.",
            ".#.....#.",
            ".#######.",
            ".........",
        )
        filled = cleaned(mask, area=2, hole=15)
        assert filled.sum() == 5 * 7
        assert cleaned(mask, area=2, hole=14).sum() == 5 * 7 - 15  # the hole is larger


@given(
    st.integers(0, 2**31),
    st.sampled_from([0.2, 0.4, 0.6, 0.8]),
    st.integers(0, 12),
    st.integers(0, 12),
)
@settings(max_examples=60)
def test_agrees_with_another_library_and_is_idempotent(
    seed: int, density: float, area: int, hole: int
) -> None:
    mask = np.random.default_rng(seed).random((13, 17)) < density
    once = cleaned(mask, area, hole)
    assert np.array_equal(once, by_scipy(mask, area, hole))
    assert np.array_equal(cleaned(once, area, hole), once)


def test_labels_and_areas_belong_together() -> None:
    mask = grid(
        "##..",
        "....",
        "###.",
    )
    labels, areas = label_objects(mask)
    assert areas.tolist() == [0, 2, 3]
    assert [(labels == i).sum() for i in (1, 2)] == [2, 3]
    _, hole_areas = label_holes(TestHoles.RING)
    assert sorted(hole_areas)[0] == 3
    assert (hole_areas > 35).sum() == 2  # the foreground and the surroundings are no holes


def test_does_not_write_into_its_input() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    levels.flags.writeable = False  # writing would raise
    before = levels.tobytes()
    assert clean(levels, Postprocess(min_area_px=4, max_hole_px=4)).shape == levels.shape
    assert levels.tobytes() == before


def test_accepts_views_that_are_not_contiguous() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    params = Postprocess(0.4, min_area_px=4, max_hole_px=4)
    assert np.array_equal(clean(levels.T, params), clean(levels, params).T)


class TestDoubtfulObjects:
    LEVELS = np.array(
        [
            [140, 0, 0, 140, 250],
            [140, 0, 0, 0, 140],
            [0, 0, 0, 0, 0],
            [200, 0, 140, 201, 0],
        ],
        np.uint8,
    )

    @pytest.mark.parametrize(
        ("min_peak", "kept"),
        [
            (0.0, [2, 3, 1, 2]),  # pixels of the four objects
            (0.5, [2, 3, 1, 2]),  # not above the threshold: no object is that low
            (0.6, [0, 3, 1, 2]),
            (200 / 255, [0, 3, 0, 2]),  # strictly above
            (0.9, [0, 3, 0, 0]),
            (1.0, [0, 0, 0, 0]),
        ],
    )
    def test_go_unless_one_pixel_exceeds_the_peak(self, min_peak: float, kept: list[int]) -> None:
        mask = clean(self.LEVELS, Postprocess(0.5, min_peak=min_peak))
        left, right = mask[:2, :1], mask[:2, 3:]
        low_left, low_right = mask[3:, :1], mask[3:, 2:]
        assert [int(part.sum()) for part in (left, right, low_left, low_right)] == kept

    def test_size_and_peak_are_both_asked(self) -> None:
        mask = clean(self.LEVELS, Postprocess(0.5, min_area_px=2, min_peak=0.6))
        assert int(mask.sum()) == 5  # the single pixel is sure but small

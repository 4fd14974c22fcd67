from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calco.images.tiles import FloatMap, Tiling, Window, blend, blended, windows

TILINGS = st.integers(1, 20).flatmap(
    lambda tile: st.builds(Tiling, st.just(tile), st.integers(0, tile - 1))
)
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def test_windows_by_hand() -> None:
    assert windows((5, 10), Tiling(tile_px=4, overlap_px=1)) == [
        Window(top, left, 4, 4) for top in (0, 1) for left in (0, 3, 6)
    ]


def test_a_small_image_is_one_window() -> None:
    assert windows((3, 2), Tiling(tile_px=4, overlap_px=1)) == [Window(0, 0, 3, 2)]
    assert windows((4, 4), Tiling(tile_px=4, overlap_px=1)) == [Window(0, 0, 4, 4)]


def test_all_tiles_lie_on_one_grid() -> None:
    tiles = windows((1024, 3000), Tiling(tile_px=1024, overlap_px=256))
    assert [w.left for w in tiles] == [0, 768, 1536, 2048]  # 1976 would be off the poolings' grid
    assert [w.width for w in tiles] == [1024, 1024, 1024, 952]


@given(SIZES, TILINGS)
def test_windows_cover_every_pixel_overlap_and_stay_inside(
    size: tuple[int, int], tiling: Tiling
) -> None:
    seen = np.zeros(size, int)
    tiles = windows(size, tiling)
    for tile in tiles:
        assert tile.height <= tiling.tile_px
        assert tile.width <= tiling.tile_px
        assert seen[tile.slices].shape == (tile.height, tile.width)  # inside: nothing was cut off
        seen[tile.slices] += 1
    assert seen.min() >= 1
    assert len(set(tiles)) == len(tiles)
    lefts = sorted({tile.left for tile in tiles})
    step = tiling.tile_px - tiling.overlap_px
    assert all(b - a <= step for a, b in itertools.pairwise(lefts))
    assert {tile.width for tile in tiles if tile.left < lefts[-1]} <= {tiling.tile_px}


@pytest.mark.parametrize("overlap", [-1, 4, 9])
def test_impossible_overlap_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 3"):
        windows((10, 10), Tiling(tile_px=4, overlap_px=overlap))


# --- blending


def noise(size: tuple[int, int]) -> FloatMap:
    return np.random.default_rng(0).random(size, np.float32)


@given(SIZES, TILINGS)
def test_identity_through_tiles_is_the_identity_to_the_bit(
    size: tuple[int, int], tiling: Tiling
) -> None:
    image = noise(size)
    image.flat[0] = np.nextafter(np.float32(1), np.float32(0))
    out = blend(size, tiling, lambda tile: image[tile.slices])
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, image)


@given(SIZES, TILINGS)
def test_every_pixel_is_given_out_once_in_bands_of_rows(
    size: tuple[int, int], tiling: Tiling
) -> None:
    seen = np.zeros(size, int)
    tops = []
    for window, values in blended(size, tiling, lambda tiles: map(whole(noise(size)), tiles)):
        assert values.shape == (window.height, window.width)
        seen[window.slices] += 1
        tops.append(window.top)
    assert (seen == 1).all()
    assert tops == sorted(tops)


@given(SIZES, TILINGS, st.data())
def test_starting_at_a_later_row_changes_no_bit(
    size: tuple[int, int], tiling: Tiling, data: st.DataObject
) -> None:
    of_tile = {w: noise((w.height, w.width)) * (i % 7) for i, w in enumerate(windows(size, tiling))}
    tops = sorted({w.top for w in of_tile})
    first_row = data.draw(st.sampled_from(tops))
    asked: list[Window] = []

    def predict(tile: Window) -> FloatMap:
        asked.append(tile)
        return of_tile[tile]

    all_of_it = blend(size, tiling, of_tile.__getitem__)
    for window, values in blended(size, tiling, lambda ts: map(predict, ts), first_row):
        assert window.top >= first_row
        np.testing.assert_array_equal(values, all_of_it[window.slices])
    assert all(tile.top + tile.height > first_row for tile in asked)  # and nothing in vain


@given(SIZES, TILINGS)
def test_the_mixture_stays_within_what_was_predicted(size: tuple[int, int], tiling: Tiling) -> None:
    rng, bits = np.random.default_rng(1), np.array([0, 1], np.float32)
    out = blend(size, tiling, lambda w: rng.choice(bits, (w.height, w.width)))
    assert out.min() >= 0
    assert out.max() <= 1


def whole(image: FloatMap) -> Callable[[Window], FloatMap]:
    return lambda tile: image[tile.slices]


@pytest.mark.parametrize("tile_px", [48, 64, 97])
def test_a_shift_invariant_network_shows_no_seam(tile_px: int) -> None:
    # each tile sees zeros around itself, 5 px far; a quarter of the overlap of 24 is more
    size, image = (150, 201), noise((150, 201))

    def blurred(values: FloatMap) -> FloatMap:
        seen = cv2.GaussianBlur(values, (11, 11), 3, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(seen, np.float32)

    out = blend(size, Tiling(tile_px, 24), lambda tile: blurred(image[tile.slices]))
    np.testing.assert_allclose(out, blurred(image), atol=1e-6)
    # the control: without overlap the borders of tiles show
    out = blend(size, Tiling(tile_px, 0), lambda tile: blurred(image[tile.slices]))
    assert np.abs(out - blurred(image)).max() > 0.1


def test_neighbours_are_mixed_gradually() -> None:
    # left tile says 0, right tile says 1: from left to right the mixture only rises
    out = blend((8, 24), Tiling(16, 8), lambda tile: np.full((8, 16), tile.left > 0, np.float32))
    row = out[4]
    assert (row[:10] == 0).all()  # a quarter of the overlap is left to the other tile
    assert (row[14:] == 1).all()
    assert (np.diff(row[9:15]) > 0).all()
    assert row[11] + row[12] == 1

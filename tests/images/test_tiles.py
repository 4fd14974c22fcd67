import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calco.images.tiles import Window, blend, blend_weights, windows


def test_windows_by_hand() -> None:
    assert windows((5, 10), tile_px=4, overlap_px=1) == [
        Window(top, left, 4, 4) for top in (0, 1) for left in (0, 3, 6)
    ]


def test_a_small_image_is_one_window() -> None:
    assert windows((3, 2), tile_px=4, overlap_px=1) == [Window(0, 0, 3, 2)]
    assert windows((4, 4), tile_px=4, overlap_px=1) == [Window(0, 0, 4, 4)]


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(1, 20).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, t - 1))),
)
def test_windows_cover_every_pixel_overlap_and_stay_inside(
    size: tuple[int, int], tiling: tuple[int, int]
) -> None:
    tile_px, overlap_px = tiling
    seen = np.zeros(size, int)
    tiles = windows(size, tile_px, overlap_px)
    for tile in tiles:
        assert tile.height == min(tile_px, size[0])
        assert tile.width == min(tile_px, size[1])
        assert seen[tile.slices].shape == (tile.height, tile.width)  # inside: nothing was cut off
        seen[tile.slices] += 1
    assert seen.min() >= 1
    assert len(set(tiles)) == len(tiles)
    lefts = sorted({tile.left for tile in tiles})
    assert all(b - a <= tile_px - overlap_px for a, b in itertools.pairwise(lefts))


@pytest.mark.parametrize("overlap", [-1, 4, 9])
def test_impossible_overlap_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 3"):
        windows((10, 10), tile_px=4, overlap_px=overlap)


def test_weights_are_positive_symmetric_and_largest_in_the_middle() -> None:
    weights = blend_weights(1024, 37)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert np.unravel_index(weights.argmax(), weights.shape)[1] == 18
    assert blend_weights(1, 1).item() == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (31, 33), (64, 64), (97, 101)])
@pytest.mark.parametrize("overlap_px", [0, 5, 8, 16])
def test_identity_through_tiles_is_the_identity(size: tuple[int, int], overlap_px: int) -> None:
    image = np.random.default_rng(0).random(size, np.float32)
    tiles = windows(size, tile_px=32, overlap_px=overlap_px)
    out = blend(size, tiles, lambda tile: image[tile.slices])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, image, rtol=1e-6, atol=1e-6)


def test_neighbours_are_mixed_gradually() -> None:
    # left tile says 0, right tile says 1: from left to right the mixture only rises
    size, tiles = (8, 24), windows((8, 24), tile_px=16, overlap_px=8)
    out = blend(size, tiles, lambda tile: np.full((8, 16), tile.left > 0, np.float32))
    row = out[4]
    assert (row[:8] == 0).all()
    assert (row[16:] == 1).all()
    assert (np.diff(row[7:17]) > 0).all()
    assert row[11] + row[12] == pytest.approx(1)

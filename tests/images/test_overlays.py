import io

import numpy as np
import pytest
from PIL import Image

from calco.images.overlays import (
    PRED_COLOR,
    SIDE_PX,
    TRUE_COLOR,
    encode,
    for_display,
    overlay,
)


def has(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has about a colour, lines being smooth; (H, W) bool."""
    same: np.ndarray = (np.abs(picture - np.array(color)) < 90).all(axis=-1)
    return same


def square(size: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


@pytest.mark.parametrize(
    ("height", "width", "channels"),
    [(1, 1, 1), (7, 1000, 3), (1200, 30, 1), (64, 64, 4), (64, 48, 2), (700, 700, 3)],
)
def test_result_is_rgb_with_a_fixed_longer_side(height: int, width: int, channels: int) -> None:
    image = np.full((height, width, channels), 90, np.uint8)
    picture = overlay(image, np.ones((height, width), bool), None)
    assert picture.dtype == np.uint8
    assert max(picture.shape[:2]) == SIDE_PX
    assert picture.shape[2] == 3


def test_lines_follow_the_border_of_the_mask() -> None:
    # 64 px enlarged 8 times: the square 16..48 covers 128..383, its border lies on these rows
    picture = overlay(np.full((64, 64, 1), 90, np.uint8), square(64, 16, 48), None)
    rows, columns = np.nonzero(has(picture, TRUE_COLOR))
    assert abs(rows.min() - 128) <= 3
    assert abs(rows.max() - 383) <= 3
    assert abs(columns.min() - 128) <= 3
    assert not has(picture, TRUE_COLOR)[140:370, 140:370].any()  # the inside stays free
    assert not has(picture, PRED_COLOR).any()


def test_nothing_is_drawn_without_a_mask() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    empty = np.zeros((64, 64), bool)
    assert (overlay(image, None, None) == 110 * 90 // 90).all()  # brightened, otherwise untouched
    assert np.array_equal(overlay(image, empty, empty), overlay(image, None, None))


def test_both_lines_show_where_truth_and_prediction_agree() -> None:
    mask = square(64, 16, 48)
    picture = overlay(np.full((64, 64, 1), 90, np.uint8), mask, mask)
    middle = picture[:, 256]  # a column across both horizontal borders
    assert has(middle, TRUE_COLOR).any()
    assert has(middle, PRED_COLOR).any()


@pytest.mark.parametrize("size", [48, 4000])
def test_an_object_of_one_pixel_is_seen_at_any_scale(size: int) -> None:
    mask = square(size, size // 2, size // 2 + 1)
    picture = overlay(np.full((size, size, 1), 200, np.uint8), None, mask)
    assert has(picture, PRED_COLOR).any()


def test_holes_are_traced_too() -> None:
    ring = square(64, 8, 56) & ~square(64, 24, 40)
    picture = overlay(np.full((64, 64, 1), 90, np.uint8), ring, None)
    assert has(picture, TRUE_COLOR)[170:340, 170:340].any()


def test_dark_pictures_are_brightened_and_bright_ones_kept() -> None:
    dark = np.array([[[10, 20, 30]]], np.uint8).repeat(16, 0).repeat(16, 1)
    assert for_display(dark)[0, 0].tolist() == [36, 73, 110]  # times 110 / 30
    bright = np.full((4, 4, 3), 200, np.uint8)
    assert np.array_equal(for_display(bright), bright)
    black = np.zeros((4, 4, 1), np.uint8)
    assert not for_display(black).any()
    assert (for_display(black + 1) == 8).all()  # the gain is bounded: noise stays noise


def test_input_is_never_changed() -> None:
    image = np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)
    overlay(image, square(SIDE_PX, 10, 90), None)
    assert (image == 200).all()


def test_encoded_pictures_keep_to_their_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    data = encode(noise, max_bytes=100_000)
    assert len(data) <= 100_000
    assert Image.open(io.BytesIO(data)).size == (SIDE_PX, SIDE_PX)

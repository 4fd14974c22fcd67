from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.images.alignment import align, edges_of, shrunken_grey
from calco.records import Alignment, Turn

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def blobs(size: tuple[int, int], seed: int = 0, radii: tuple[int, int] = (6, 13)) -> Mask:
    """Draw discs of different sizes all over a mask."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(size, np.uint8)
    for _ in range(size[0] * size[1] // 2500):
        row, col = (int(rng.integers(0, side)) for side in size)
        cv2.circle(drawn, (col, row), int(rng.integers(*radii)), 1, cv2.FILLED)
    return drawn > 0


def picture(mask: Mask, step: float = 90, blur: float = 1.5, noise: float = 6) -> Image:
    """Show a mask as an image: ``step`` grey levels above its surroundings, blurred and noisy."""
    rng = np.random.default_rng(9)
    levels = 100 + step * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur)
    levels = levels + rng.normal(0, noise, mask.shape)
    return np.asarray(levels.clip(0, 255)[..., None], np.uint8)


def aligned(image: Image, mask: Mask) -> Alignment:
    edges = edges_of(shrunken_grey(image), mask)
    assert edges is not None
    return align(edges)


def moved(mask: Mask, by: tuple[int, int]) -> Mask:
    """Move a mask by (rows, columns); what comes in from outside is background."""
    matrix = np.array([[1, 0, by[1]], [0, 1, by[0]]], np.float32)
    return np.asarray(cv2.warpAffine(mask.view(np.uint8), matrix, mask.shape[::-1]) > 0)


SOUND = blobs((200, 240))


def test_a_mask_that_lies_well() -> None:
    found = aligned(picture(SOUND), SOUND)
    assert found.score == found.shift_score > 0.6
    assert (found.shift_px, found.turn, found.rival) == ((0, 0), "", 0)


def test_the_sign_tells_whether_objects_are_brighter() -> None:
    assert aligned(picture(SOUND, step=-60), SOUND).score < -0.5
    bright, inverted = aligned(picture(SOUND), SOUND), aligned(picture(SOUND), ~SOUND)
    assert inverted.score == pytest.approx(-bright.score, abs=1e-4)  # the edges are the same


@pytest.mark.parametrize("by", [(5, 0), (0, -5), (-7, 7), (20, -3)])
@pytest.mark.parametrize(("size", "step_px"), [((200, 240), 1), ((256, 320), 2), ((520, 700), 3)])
def test_a_shift_is_found(by: tuple[int, int], size: tuple[int, int], step_px: int) -> None:
    true = blobs(size)
    found = aligned(picture(true), moved(true, by))
    assert found.step_px == step_px
    back = (found.shift_px[0] + by[0], found.shift_px[1] + by[1])
    assert math.hypot(*back) <= step_px / 2 + 0.5  # to a fraction of a step, rounded
    assert found.shift_score > 0.6
    assert found.rival < 0.5 * found.shift_score
    assert found.score < 0.9 * found.shift_score


UNDONE: dict[Turn, Callable[[Mask], Mask]] = {
    "mirrored": np.fliplr,
    "upside_down": np.flipud,
    "half_turn": lambda mask: np.rot90(mask, 2),
    "transposed": np.transpose,
    "anti_transposed": lambda mask: np.rot90(mask, 2).T,
    "quarter_left": lambda mask: np.rot90(mask, -1),
    "quarter_right": np.rot90,
}


@pytest.mark.parametrize("turn", UNDONE)
@pytest.mark.parametrize("side_px", [200, 301])
def test_a_turn_is_found(turn: Turn, side_px: int) -> None:
    true = blobs((side_px, side_px))
    found = aligned(picture(true), np.ascontiguousarray(UNDONE[turn](true)))
    assert found.turn == turn
    assert found.turn_score > 0.5
    assert abs(found.score) < 0.2
    assert abs(found.shift_score) < 0.5 * found.turn_score


def test_an_oblong_image_is_not_turned_by_a_quarter() -> None:
    assert aligned(picture(SOUND), blobs(SOUND.shape, seed=5)).turn in (
        "mirrored",
        "upside_down",
        "half_turn",
    )


def test_dim_and_noisy_objects_are_enough() -> None:
    dim = picture(SOUND, step=4, noise=1.5)
    assert aligned(dim, SOUND).shift_px == (0, 0)
    assert aligned(dim, moved(SOUND, (0, 9))).shift_px == (0, -9)


def test_specks_do_not_outshine_dim_objects() -> None:
    spots = picture(SOUND, step=10, noise=2)
    spots[10:14, 10:14] = spots[150:153, 200:203] = 255
    assert aligned(spots, moved(SOUND, (8, 0))).shift_px == (-8, 0)


def membranes(size: tuple[int, int]) -> Mask:
    """Draw thin lines between cells."""
    rng = np.random.default_rng(3)
    seeds = rng.uniform(0, size, (60, 2))
    away = np.hypot(*(np.indices(size)[:, None] - seeds.T[..., None, None]))  # (60, H, W)
    first, second = np.partition(away, 1, axis=0)[:2]
    return np.asarray(second - first < 3)


def test_thin_structures() -> None:
    true = membranes((240, 240))
    image = picture(true, step=-60, noise=15)
    assert aligned(image, true).shift_px == (0, 0)
    found = aligned(image, moved(true, (-8, 5)))
    assert found.shift_px == (8, -5)
    assert found.shift_score < -0.35


def test_one_large_smooth_object() -> None:
    true = np.zeros((300, 300), np.uint8)
    cv2.ellipse(true, (140, 150), (80, 50), 30, 0, 360, 1, cv2.FILLED)
    image = picture(true > 0, step=40, blur=4)
    assert aligned(image, true > 0).shift_px == (0, 0)
    found = aligned(image, moved(true > 0, (12, -10)))
    assert math.hypot(found.shift_px[0] + 12, found.shift_px[1] - 10) <= 2
    assert found.rival < 0.6 * found.shift_score


def test_a_repeating_pattern_has_a_rival() -> None:
    stripes = np.indices((200, 240))[1] // 8 % 2 == 0
    found = aligned(picture(stripes), moved(stripes, (0, 5)))
    assert found.rival > 0.8 * abs(found.shift_score)


@pytest.mark.parametrize("blur", [1.5, 3, 6])
def test_light_from_one_side_is_no_shift(blur: float) -> None:
    smooth = cv2.GaussianBlur(SOUND.astype(np.float32), (0, 0), blur)
    relief = 120 + 900 / blur * cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    found = aligned(relief.clip(0, 255).astype(np.uint8)[..., None], SOUND)
    assert found.shift_px != (0, 0)
    assert found.rival > 0.8 * abs(found.shift_score)


def test_masks_of_other_images_fit_nowhere() -> None:
    for seed in range(1, 6):
        found = aligned(picture(SOUND), blobs(SOUND.shape, seed))
        assert max(abs(found.shift_score), abs(found.turn_score)) < 0.15


def test_noise_fits_nowhere() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SOUND.shape, 3), np.uint8)
    found = aligned(noise, SOUND)
    assert abs(found.shift_score) < 0.1


def test_light_and_gain_hardly_matter() -> None:
    image = picture(SOUND)
    score = aligned(image, SOUND).score
    dark = (image * np.float32(0.3) + 5).astype(np.uint8)
    shaded = (image * np.linspace(0.5, 1, 240)[None, :, None]).astype(np.uint8)
    assert aligned(dark, SOUND).score == pytest.approx(score, abs=0.05)
    assert aligned(shaded, SOUND).score == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_is_seen(channels: int) -> None:
    assert aligned(np.repeat(picture(SOUND), channels, axis=2), SOUND).score > 0.6


def test_without_edges_there_is_nothing_to_compare() -> None:
    image = shrunken_grey(picture(SOUND))
    assert edges_of(image, np.zeros(SOUND.shape, bool)) is None
    assert edges_of(image, np.ones(SOUND.shape, bool)) is None
    blank = np.full((*SOUND.shape, 3), 77, np.uint8)
    assert edges_of(shrunken_grey(blank), SOUND) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (23, 200), (40, 4000)])
def test_too_small_to_say(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    small = shrunken_grey(image)
    assert small.size >= 1
    assert edges_of(small, image[..., 0] > 99) is None


@pytest.mark.parametrize("side_px", [24, 255, 256, 511, 512, 1000])
def test_large_images_are_compared_small(side_px: int) -> None:
    small = shrunken_grey(np.zeros((side_px, side_px // 2 + 12, 3), np.uint8))
    assert small.shape[0] <= 255
    assert small.shape[0] >= min(side_px, 128)

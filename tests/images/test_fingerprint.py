from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from calco.images.fingerprint import (
    MOST_VALUES,
    blank_tile_fraction,
    contrast,
    diameters_px,
    measure,
    scaled_dice,
    texture_px,
    thickness_px,
)

Plane = NDArray[np.uint8]


def plane(*rows: str) -> Plane:
    """Type a mask as text: # is foreground."""
    return np.array([[c == "#" for c in row] for row in rows], np.uint8)


def empty(height: int = 64, width: int = 64) -> Plane:
    return np.zeros((height, width), np.uint8)


def bar(width_px: int, length_px: int = 50, first: int = 10) -> Plane:
    """Draw a horizontal line well inside a mask."""
    mask = empty()
    mask[first : first + width_px, 5 : 5 + length_px] = 1
    return mask


def disc(diameter_px: float, side_px: int = 80) -> Plane:
    rows, cols = np.mgrid[:side_px, :side_px] - (side_px - 1) / 2
    return np.asarray(rows**2 + cols**2 <= diameter_px**2 / 4, np.uint8)


def slanted(width_px: float, degrees: float, side_px: int = 160) -> Plane:
    """Draw a line of 120 px through the middle."""
    rows, cols = np.mgrid[:side_px, :side_px] - side_px / 2 + 0.3
    angle = math.radians(degrees)
    across = rows * math.cos(angle) - cols * math.sin(angle)
    along = rows * math.sin(angle) + cols * math.cos(angle)
    return np.asarray((abs(across) < width_px / 2) & (abs(along) < 60), np.uint8)


def blobs(seed: int = 0, side_px: int = 160) -> Plane:
    """Draw shapes of every thickness, some cut off by the edge."""
    noise = np.random.default_rng(seed).standard_normal((side_px, side_px), np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 5) > 0.02, np.uint8)


def grain(sigma_px: float, size: tuple[int, int] = (256, 256), seed: int = 0) -> Plane:
    """Draw noise with a Gaussian blur."""
    noise = np.random.default_rng(seed).standard_normal(size, np.float32)
    if sigma_px:
        noise = ndimage.gaussian_filter(noise, sigma_px, mode="wrap")
    return np.asarray((120 + 30 * noise / noise.std()).clip(0, 255), np.uint8)


# --- objects


def test_diameters_are_those_of_discs_of_the_same_area() -> None:
    mask = plane(
        "##...#",
        "##....",
        "...###",
        "#..###",
    )  # areas 4, 1, 6 and 1
    assert diameters_px(mask).tolist() == pytest.approx(
        [2 * math.sqrt(area / math.pi) for area in (1, 1, 4, 6)]
    )


def test_pixels_that_touch_at_a_corner_are_one_object() -> None:
    assert len(diameters_px(plane("#..", ".#.", "..#"))) == 1
    assert len(diameters_px(plane("#..", "...", "..#"))) == 2


@pytest.mark.parametrize("diameter", [9, 21, 60])
def test_a_disc_has_its_diameter(diameter: int) -> None:
    assert diameters_px(disc(diameter)).tolist() == pytest.approx([diameter], abs=0.5)


def test_planted_discs_are_all_found() -> None:
    mask = empty(200, 300)
    for number in range(20):
        row, col = divmod(number, 5)
        mask[10 + 40 * row :, 10 + 60 * col :][:30, :30] |= disc(7 + number, 30)
    measures = measure(np.dstack([mask]), mask)
    assert measures.n_objects == 20
    assert measures.diameters_px == pytest.approx([7 + n for n in range(20)], abs=0.7)
    assert measures.foreground_fraction == mask.mean()


# --- thickness


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 13])
def test_a_line_has_its_width(width: int) -> None:
    for mask in (bar(width), bar(width).T, bar(width)[:, ::-1], bar(width, first=0)):
        assert set(thickness_px(mask).tolist()) == {width}


def test_a_line_counts_by_its_length() -> None:
    # a centre line of 3 px width begins one pixel behind each end
    assert [len(thickness_px(bar(w))) for w in (1, 2, 3)] == [50, 100, 48]


@pytest.mark.parametrize("degrees", [15, 30, 45, 70])
@pytest.mark.parametrize("width", [2, 3, 5, 9, 16])
def test_a_slanted_line_has_about_its_width(width: int, degrees: float) -> None:
    measured = thickness_px(slanted(width, degrees))
    assert np.median(measured) == pytest.approx(width, abs=1.1)
    assert len(measured) > 30


@pytest.mark.parametrize("diameter", [3, 4, 10, 15, 40, 61])
def test_a_disc_is_about_as_thick_as_wide(diameter: int) -> None:
    measured = thickness_px(disc(diameter))
    assert len(measured) <= 4
    assert measured == pytest.approx(diameter, abs=1.5)


def test_thickness_tells_what_area_does_not() -> None:
    line, square = bar(1, 49), empty()
    square[20:27, 20:27] = 1
    assert diameters_px(line).tolist() == diameters_px(square).tolist()
    assert thickness_px(line).max() == 1
    assert thickness_px(square).tolist() == [7]


def test_an_arm_is_thinner_than_its_body() -> None:
    mask = disc(31)
    mask[39:41, 60:78] = 1
    measured = thickness_px(mask)
    assert set(measured[:-4].tolist()) == {2}
    assert measured[-1] == pytest.approx(31, abs=1.5)


def test_outside_is_background() -> None:
    assert thickness_px(np.ones((6, 40), np.uint8)).max() == 6
    assert thickness_px(np.ones((1, 1), np.uint8)).tolist() == [1]


def test_distances_are_true() -> None:
    mask = blobs()
    away = ndimage.distance_transform_edt(np.pad(mask, 1))
    crests = (away > 0) & (away == ndimage.maximum_filter(away, size=3))
    measured = thickness_px(mask)
    assert len(measured) == np.count_nonzero(crests) > 100
    twice = np.sort(2 * away[crests])
    assert np.all((twice - measured > -1e-4) & (twice - measured < 1 + 1e-4))


# --- what a smaller image leaves


def test_nothing_is_lost_of_what_fits_the_smaller_pixels() -> None:
    mask = empty()
    mask[8:24, 16:40] = 1
    assert scaled_dice(mask, 1) == scaled_dice(mask, 2) == 1
    # at a quarter each corner pixel is worth 5/8 squared, and lost
    assert scaled_dice(mask, 4) == pytest.approx(2 * (384 - 4) / (384 + 384 - 4))


def test_a_line_of_one_pixel_is_lost_at_half_the_size() -> None:
    # half of a small pixel is foreground; a quarter pixel beside its centre it is worth 3/8
    assert scaled_dice(bar(1), 2) == 0


def test_a_line_of_three_pixels_loses_one_at_a_quarter() -> None:
    mask = empty(16, 64)
    mask[4:7] = 1
    # three quarters of a small pixel: 0.66 at the two rows next to its centre, 0.47 at the others
    assert scaled_dice(mask, 4) == pytest.approx(2 * 2 / (3 + 2))


def test_what_is_thicker_keeps_more() -> None:
    kept = [scaled_dice(slanted(width, 30), 4) for width in (2, 4, 8, 16)]
    assert kept == sorted(kept)
    assert kept[0] < 0.3 < 0.95 < kept[-1]


def test_there_is_nothing_to_keep_of_an_empty_mask() -> None:
    assert math.isnan(scaled_dice(empty(), 2))


def test_an_image_smaller_than_the_factor_becomes_one_pixel() -> None:
    assert scaled_dice(np.ones((1, 1), np.uint8), 4) == 1
    assert scaled_dice(plane("#.", ".."), 4) == 0


# --- blank tiles


def test_tiles_are_counted() -> None:
    mask = empty(300, 128)  # three tiles of 100 rows
    assert blank_tile_fraction(mask) == 1
    mask[99, 0] = 1
    assert blank_tile_fraction(mask) == pytest.approx(2 / 3)
    mask[100, 127] = 1
    assert blank_tile_fraction(mask) == pytest.approx(1 / 3)
    assert blank_tile_fraction(np.ones((1, 1), np.uint8)) == 0


# --- contrast


def test_contrast_by_hand() -> None:
    grey = np.array([[10, 20, 30, 40]], np.uint8)
    # of the four pairs (20 or 40, 10 or 30) three are brighter and one is darker
    assert contrast(grey, np.array([[0, 1, 0, 1]], np.uint8)) == pytest.approx(0.5)
    assert contrast(grey, np.array([[0, 0, 1, 1]], np.uint8)) == 1
    assert contrast(grey, np.array([[1, 0, 0, 0]], np.uint8)) == -1


def test_contrast_is_what_counting_all_pairs_gives() -> None:
    rng = np.random.default_rng(0)
    grey, mask = rng.integers(0, 9, (12, 11), np.uint8), rng.integers(0, 2, (12, 11), np.uint8)
    inside, outside = grey[mask == 1].astype(int), grey[mask == 0].astype(int)
    expected = np.sign(inside[:, None] - outside[None]).mean()
    assert contrast(grey, mask) == pytest.approx(expected)
    assert contrast(255 - grey, mask) == pytest.approx(-expected)
    assert contrast(grey, 1 - mask) == pytest.approx(-expected)


def test_grey_levels_that_tell_nothing_have_no_contrast() -> None:
    assert contrast(np.full((64, 64), 7, np.uint8), bar(5)) == 0
    assert abs(contrast(grain(0)[:160, :160], blobs())) < 0.05


@pytest.mark.parametrize("value", [0, 1])
def test_one_side_alone_has_no_contrast(value: int) -> None:
    assert math.isnan(contrast(grain(0), np.full((256, 256), value, np.uint8)))


# --- texture


def test_white_noise_is_unlike_the_next_pixel() -> None:
    # from 1 at lag 0 to 0 at lag 1, crossing 1/e at 1 - 1/e
    assert texture_px(grain(0)) == pytest.approx(1 - math.exp(-1), abs=0.02)


@pytest.mark.parametrize("sigma", [1.5, 3, 6])
def test_blurred_noise_reaches_twice_its_blur(sigma: float) -> None:
    # its autocorrelation is exp(-lag^2 / (4 sigma^2))
    assert texture_px(grain(sigma)) == pytest.approx(2 * sigma, rel=0.15)


@pytest.mark.parametrize("period", [20, 40, 50])
def test_waves_cross_where_the_cosine_does(period: int) -> None:
    wave = 100 + 80 * np.sin(2 * np.pi * np.arange(240) / period)
    lag = period * math.acos(math.exp(-1)) / (2 * math.pi)
    image = np.tile(wave.astype(np.uint8), (200, 1))
    assert texture_px(image) == pytest.approx(lag, rel=0.05)
    assert texture_px(image.T) == texture_px(image)


def test_the_finer_direction_counts() -> None:
    stretched = np.repeat(grain(0, (256, 32)), 8, axis=1)  # (256, 256), fine along columns only
    assert texture_px(stretched) == pytest.approx(0.63, abs=0.03)


def test_only_the_middle_is_looked_at() -> None:
    image = np.full((600, 700), 10, np.uint8)
    image[:150] = grain(0, (150, 700))
    assert math.isnan(texture_px(image))
    image[200:400, 300:400] = grain(0, (200, 100))
    assert texture_px(image) > 0


def test_light_that_falls_off_everywhere_has_a_long_lag() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    assert 20 < texture_px(ramp) <= 100


def test_texture_of_very_small_images() -> None:
    assert math.isnan(texture_px(np.full((40, 40), 200, np.uint8)))
    assert math.isnan(texture_px(np.array([[9]], np.uint8)))
    assert 0 < texture_px(np.array([[0, 9]], np.uint8)) <= 1
    assert 0 < texture_px(grain(0, (1, 64))) <= 32


# --- whole samples


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_any_number_of_channels(channels: int) -> None:
    mask = blobs()
    grey = np.asarray(60 + 100 * mask, np.uint8)
    measures = measure(np.repeat(grey[..., None], channels, axis=2), mask)
    assert measures.contrast == 1
    assert np.flatnonzero(measures.levels).tolist() == [60, 160]
    assert measures.levels[160] == pytest.approx(mask.mean())


def test_levels_are_those_of_every_channel() -> None:
    image = np.zeros((2, 5, 13), np.uint8)
    image[..., 7] = 200
    levels = measure(image, np.ones((2, 5), np.uint8)).levels
    assert levels[200] == pytest.approx(1 / 13)
    assert levels.sum() == pytest.approx(1)


def test_an_empty_mask_has_no_objects() -> None:
    measures = measure(grain(1)[..., None], empty(256, 256))
    assert (measures.foreground_fraction, measures.n_objects) == (0, 0)
    assert measures.blank_tile_fraction == 1
    assert len(measures.diameters_px) == len(measures.thickness_px) == 0
    assert math.isnan(measures.half_scale_dice)
    assert math.isnan(measures.contrast)
    assert measures.texture_px > 0


def test_one_pixel() -> None:
    measures = measure(np.full((1, 1, 3), 50, np.uint8), np.ones((1, 1), np.uint8))
    assert (measures.foreground_fraction, measures.n_objects) == (1, 1)
    assert measures.thickness_px.tolist() == [1]
    assert measures.half_scale_dice == measures.quarter_scale_dice == 1
    assert math.isnan(measures.contrast)
    assert math.isnan(measures.texture_px)


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.rot90])
def test_turning_changes_nothing(turn: object) -> None:
    assert callable(turn)
    mask, image = blobs(), np.repeat(grain(2)[:160, :160, None], 3, axis=2)
    here, there = measure(image, mask), measure(turn(image), turn(mask))
    assert here.foreground_fraction == there.foreground_fraction
    assert here.n_objects == there.n_objects
    assert np.array_equal(here.diameters_px, there.diameters_px)
    assert here.thickness_px == pytest.approx(there.thickness_px, abs=1e-4)
    assert here.half_scale_dice == pytest.approx(there.half_scale_dice, abs=1e-3)
    assert here.contrast == there.contrast
    assert here.texture_px == pytest.approx(there.texture_px, abs=0.05)


def test_twice_the_size_is_twice_the_figures() -> None:
    mask = blobs()
    twice = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
    assert diameters_px(twice) == pytest.approx(2 * diameters_px(mask))
    assert thickness_px(twice).max() == pytest.approx(2 * thickness_px(mask).max(), rel=0.05)
    assert scaled_dice(twice, 4) == pytest.approx(scaled_dice(mask, 2), abs=0.02)


def test_of_a_large_image_the_fullest_part_is_measured() -> None:
    mask, image = empty(1100, 2300), np.full((1100, 2300, 3), 40, np.uint8)
    mask[1050:1070, 2200:2220] = 1  # the last part
    mask[5, 3] = 1
    image[mask == 1] = 90
    measures = measure(image, mask)
    assert measures.foreground_fraction == 401 / mask.size
    assert measures.diameters_px.tolist() == pytest.approx([2 * 20 / math.sqrt(math.pi)])
    assert measures.contrast == 1


def test_objects_of_a_large_image_are_estimated_from_its_part() -> None:
    mask = empty(1024, 4096)
    mask[4::16, 4::16] = 1
    assert measure(mask[..., None], mask).n_objects == 1024 * 4096 / 16**2


def test_a_mask_of_noise_fills_no_memory() -> None:
    mask = empty(600, 600)
    mask[::4, ::4] = 1
    mask[:300:4, 1::4] = 1
    measures = measure(mask[..., None], mask)
    assert measures.n_objects == 150**2
    for values in (measures.diameters_px, measures.thickness_px):
        assert len(values) == MOST_VALUES
    assert np.median(measures.diameters_px[: MOST_VALUES // 2]) == pytest.approx(1.128, abs=1e-3)
    assert np.mean(measures.diameters_px > 1.2) == pytest.approx(0.5, abs=0.01)

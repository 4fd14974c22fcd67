"""From what is stored to the network's input, by one rule for a whole data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from tests.images.pictures import GREY, RGB, fault, noise, palette_image, save

from calco.config import DataConfig
from calco.images.io import (
    IMAGE_SUFFIXES,
    Pixels,
    choose_spec,
    header_size,
    is_junk,
    read_image,
    read_pixels,
    spread,
    to_input,
)
from calco.records.data import ImageSpec

REAL = Path(__file__).resolve().parents[2].parent / "shared/data"


@pytest.mark.parametrize("name", ["._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/a.png"])
def test_junk(name: str) -> None:
    assert is_junk(Path("images") / name)


def test_images_are_no_junk() -> None:
    assert not any(is_junk(Path("images") / f"a{suffix}") for suffix in IMAGE_SUFFIXES)


# --- palettes and transparency


def test_grey_palette_becomes_grey(tmp_path: Path) -> None:
    image = read_pixels(save(tmp_path / "a.png", palette_image([9, 9, 9, 7, 7, 7, 5, 5, 5])))
    assert_array_equal(image.pixels, [[9, 7], [7, 5]])


def test_grey_palette_of_four_columns_is_not_taken_for_rgba(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2, 1]] * 2, np.uint8), mode="P")
    picture.putpalette([9, 9, 9, 7, 7, 7, 5, 5, 5])
    assert_array_equal(read_pixels(save(tmp_path / "a.png", picture)).pixels, [[9, 7, 5, 7]] * 2)


def test_transparent_palette_is_composited_on_black(tmp_path: Path) -> None:
    picture = palette_image([200, 100, 50, 100, 100, 100, 1, 2, 3])
    image = read_pixels(save(tmp_path / "a.png", picture, transparency=bytes([255, 0, 255])))
    assert_array_equal(image.pixels[0], [[200, 100, 50], [0, 0, 0]])
    assert image.notes == ("transparency composited on black",)


def test_opaque_alpha_is_dropped_silently(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.full_like(GREY, 255)])
    image = read_pixels(save(tmp_path / "a.png", rgba))
    assert_array_equal(image.pixels, RGB)
    assert (image.mode, image.notes) == ("RGBA", ())


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_transparency_is_composited_on_black(tmp_path: Path, name: str) -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], np.uint8)
    image = read_pixels(save(tmp_path / name, rgba))
    # 51 / 255 = 0.2
    assert_array_equal(image.pixels, [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]])
    assert "transparency composited on black" in image.notes


def test_grey_with_alpha_becomes_grey(tmp_path: Path) -> None:
    la = np.array([[[200, 255], [200, 51]]], np.uint8)
    image = read_pixels(save(tmp_path / "a.png", Image.fromarray(la, mode="LA")))
    assert_array_equal(image.pixels, [[200, 40]])
    assert image.mode == "LA"


def test_transparent_key_colour_is_composited(tmp_path: Path) -> None:
    image = read_pixels(save(tmp_path / "a.png", RGB, transparency=(0, 20, 255)))
    assert_array_equal(image.pixels[0, 0], [0, 0, 0])
    assert_array_equal(image.pixels[1], RGB[1])


# --- to_input


def test_grey_is_repeated_to_three() -> None:
    levels = to_input(Pixels(GREY, "L"), ImageSpec(channels=3))
    assert_array_equal(levels, np.dstack([GREY] * 3))
    assert levels.flags.c_contiguous


def test_colour_becomes_luma_only_for_one_channel() -> None:
    levels = to_input(Pixels(RGB, "RGB"), ImageSpec(channels=1))
    luma = 0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]
    assert levels.shape == (2, 3, 1)
    assert np.abs(levels[..., 0] - luma).max() <= 0.51


def test_scale_follows_the_spec_not_the_image() -> None:
    spec = ImageSpec(channels=1, low=100, high=612)
    dark = np.array([[0, 100, 101, 356, 612, 5000]], np.uint16)
    # 1 / 512 of 255 rounds to 0; 256 / 512 of 255 is 127.5, rounded to even
    assert_array_equal(to_input(Pixels(dark, "I;16"), spec)[..., 0], [[0, 0, 0, 128, 255, 255]])
    assert_array_equal(to_input(Pixels(dark[:, :4], "I;16"), spec)[..., 0], [[0, 0, 0, 128]])


def test_eight_bit_images_are_taken_as_they_are() -> None:
    levels = to_input(Pixels(GREY, "L"), ImageSpec(channels=1, low=0, high=65535))
    assert_array_equal(levels[..., 0], GREY)


def test_input_may_be_written_to(tmp_path: Path) -> None:
    levels = read_image(save(tmp_path / "a.png", RGB), ImageSpec())
    levels[0, 0] = 7
    assert levels.flags.c_contiguous


def test_deep_image_among_shallow_ones_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(np.uint16))
    problem = fault(lambda: read_image(path, ImageSpec()))
    assert (problem.code, problem.where) == ("IMG_DEPTH", str(path))


def test_wrong_number_of_channels_names_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", RGB)
    problem = fault(lambda: read_image(path, ImageSpec(channels=4)))
    assert (problem.code, problem.where, problem.expected) == ("IMG_CHANNELS", str(path), "4")


# --- choose_spec


def spec_of(*paths: Path, **settings: Any) -> ImageSpec:  # noqa: ANN401
    return choose_spec(paths, DataConfig(**settings))


def test_grey_set_has_one_channel(tmp_path: Path) -> None:
    grey = save(tmp_path / "a.png", GREY)
    same = save(tmp_path / "b.png", np.dstack([GREY] * 3))
    assert spec_of(grey, same) == ImageSpec(channels=1)


def test_one_coloured_image_makes_three_channels(tmp_path: Path) -> None:
    grey = [save(tmp_path / f"{i}.png", np.dstack([GREY] * 3)) for i in range(9)]
    assert spec_of(*grey, save(tmp_path / "z.png", RGB)).channels == 3


def test_the_setting_wins(tmp_path: Path) -> None:
    assert spec_of(save(tmp_path / "a.png", RGB), channels=1).channels == 1
    assert spec_of(save(tmp_path / "b.png", GREY), channels=3).channels == 3


def test_other_counts_are_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(9, 90, 13), photometric="minisblack", planarconfig=1)
    assert spec_of(tmp_path / "a.tif", channels=3).channels == 13


def test_one_odd_image_does_not_decide_for_the_others(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", RGB) for i in range(3)]
    tifffile.imwrite(tmp_path / "z.tif", noise(9, 90, 5), photometric="minisblack", planarconfig=1)
    assert spec_of(*paths, tmp_path / "z.tif").channels == 3


def test_settings_of_reading_are_handed_on(tmp_path: Path) -> None:
    spec = spec_of(save(tmp_path / "a.png", GREY), frame=0, max_megapixels=5)
    assert (spec.frame, spec.max_megapixels) == (0, 5)


def test_unreadable_images_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<html>")
    assert spec_of(tmp_path / "a.png", save(tmp_path / "b.png", GREY)).channels == 1
    assert spec_of(tmp_path / "a.png").channels == 3
    assert spec_of().channels == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 65535, 10000).astype(np.uint16), (0, 65535)),
        (np.linspace(0, 4095, 10000).astype(np.uint16), (0, 4095)),  # 12 bits in 16 are not black
        (np.linspace(0, 1000, 10000).astype(np.uint16), (0, 1023)),
        (np.linspace(0, 1, 10000).astype(np.float32), (0, 1)),
        (np.linspace(-1, 1, 10000).astype(np.float32), (-1, 1)),
        # a dim camera: p0.1 = 103.5, p99.9 = 611.5, widened to tens
        (np.linspace(103, 612, 10000).astype(np.uint16), (100, 620)),
        (np.full(10000, 7, np.uint16), (7, 8)),
    ],
)
def test_range_of_deep_images(
    tmp_path: Path, values: NDArray[Any], expected: tuple[float, float]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values.reshape(100, 100))
    spec = spec_of(tmp_path / "a.tif")
    assert (spec.low, spec.high) == pytest.approx(expected)
    levels = read_image(tmp_path / "a.tif", spec)
    assert values.min() == values.max() or np.ptp(levels) > 200


def test_one_hot_pixel_does_not_darken_the_set(tmp_path: Path) -> None:
    dim = np.tile(np.linspace(100, 600, 100).astype(np.uint16), (100, 1))
    dim[0, 0] = 65535
    tifffile.imwrite(tmp_path / "a.tif", dim)
    assert spec_of(tmp_path / "a.tif").high == pytest.approx(600)


def test_mixed_depths_take_the_range_of_the_type(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16) * 257)
    shallow = save(tmp_path / "b.png", GREY)
    spec = spec_of(tmp_path / "a.tif", shallow)
    assert (spec.low, spec.high) == (0, 65535)
    assert_array_equal(read_image(tmp_path / "a.tif", spec), read_image(shallow, spec))


def test_spread_covers_a_sequence() -> None:
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread((), 5) == []


@pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")
@pytest.mark.parametrize(
    ("folder", "channels"), [("dsb2018/train/images", 3), ("isbi2012/train/images", 1)]
)
def test_real_sets(folder: str, channels: int) -> None:
    paths = sorted((REAL / folder).iterdir())
    assert choose_spec(paths, DataConfig()) == ImageSpec(channels=channels)
    for path in spread(paths, 8):
        image = read_image(path, ImageSpec(channels=channels))
        assert image.shape == (*header_size(path), channels)

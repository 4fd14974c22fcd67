"""TIFF of any depth, number of channels and order on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from calco.errors import CalcoError, Problem
from calco.images.io import header_size, read_pixels

GREY = np.array([[0, 10, 20], [30, 40, 255]], np.uint8)  # (2, 3)


def fault(read: Callable[[], object]) -> Problem:
    with pytest.raises(CalcoError) as caught:
        read()
    (problem,) = caught.value.problems
    return problem


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
def test_compressed_tiff(tmp_path: Path, compression: str | None) -> None:
    deep = noise(40, 30, 1)[..., 0].astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", deep, compression=compression)
    assert_array_equal(read_pixels(tmp_path / "a.tif").pixels, deep)


def test_jpeg_inside_tiff(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    smooth = cv2.resize(noise(4, 4), (64, 48), interpolation=cv2.INTER_LINEAR)
    path = tmp_path / "a.tif"
    Image.fromarray(smooth).save(path, compression="jpeg", quality=95)
    image = read_pixels(path)
    assert np.abs(image.pixels.astype(int) - smooth).mean() < 3
    assert image.mode == "RGB"
    data = path.read_bytes().replace(b"\xff\xc0", b"\xff\xc1", 1)[:-300]
    path.write_bytes(data)
    assert fault(lambda: read_pixels(path)).code == "IMG_TRUNCATED"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [2, 4, 13])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_with_many_channels_is_channels_last(
    tmp_path: Path, channels: int, planar: str
) -> None:
    data = noise(70, 90, channels)
    stored = data if planar == "contig" else np.moveaxis(data, 2, 0).copy()
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="minisblack",
        planarconfig=planar,
        extrasamples=["unspecified"] * (channels - 1),
    )
    image = read_pixels(tmp_path / "a.tif")
    assert_array_equal(image.pixels, data)
    assert image.mode == f"{channels} channels"
    assert header_size(tmp_path / "a.tif") == (70, 90)


def test_tiff_channels_written_without_hints(tmp_path: Path) -> None:
    data = noise(70, 90, 13)
    tifffile.imwrite(tmp_path / "a.tif", data)  # as 70 pages of 90 x 13
    assert_array_equal(read_pixels(tmp_path / "a.tif").pixels, data)
    assert header_size(tmp_path / "a.tif") == (70, 90)


def test_imagej_channels_are_channels(tmp_path: Path) -> None:
    data = noise(30, 40, 2)
    planes = np.moveaxis(data, 2, 0).copy()
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": "CYX"})
    assert_array_equal(read_pixels(tmp_path / "a.tif").pixels, data)


def test_white_is_zero_tiff_is_turned_around(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    assert_array_equal(read_pixels(tmp_path / "a.tif").pixels, 255 - GREY)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float16", "float64"])
def test_other_numbers_become_float32(tmp_path: Path, dtype: str) -> None:
    data = np.array([[1, 2], [3, 1000]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", data)
    image = read_pixels(tmp_path / "a.tif")
    assert image.pixels.dtype == np.float32
    assert_array_equal(image.pixels, data.astype(np.float32))


def test_stack_of_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 40, 50), np.uint8), photometric="minisblack")
    assert fault(lambda: read_pixels(tmp_path / "a.tif")).what == "file has 5 frames"
    assert read_pixels(tmp_path / "a.tif", frame=4).pixels.shape == (40, 50)


def test_reduced_copies_in_a_tiff_are_no_frames(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(noise(64, 64), photometric="rgb", subifds=0)
        tiff.write(noise(16, 16), photometric="rgb", subfiletype=1)
    assert read_pixels(tmp_path / "a.tif").pixels.shape == (64, 64, 3)


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    assert fault(lambda: read_pixels(tmp_path / "a.tif")).code == "IMG_FORMAT"


def test_many_channels_count_towards_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(100, 100, 16), photometric="minisblack", planarconfig="contig")
    assert fault(lambda: read_pixels(path, max_megapixels=0.03)).code == "IMG_SIZE"
    assert read_pixels(path, max_megapixels=0.04).channels == 16

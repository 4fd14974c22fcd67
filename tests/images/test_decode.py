"""Golden pixels of every mode and orientation, and every file that is cut or swollen."""

from __future__ import annotations

import resource
import struct
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from tests.images.pictures import GREY, RGB, fault, noise, palette_image, save

from calco.images.io import header_size, read_pixels

# --- golden pixels


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_lossless_rgb_comes_back_as_stored(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, RGB, **({"lossless": True} if name == "a.webp" else {}))
    image = read_pixels(path)
    assert_array_equal(image.pixels, RGB)
    assert (image.mode, image.channels, image.notes) == ("RGB", 3, ())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_grey_stays_two_dimensional(tmp_path: Path, name: str) -> None:
    image = read_pixels(save(tmp_path / name, GREY))
    assert_array_equal(image.pixels, GREY)
    assert (image.mode, image.channels) == ("L", 1)


def test_grey_gif_is_looked_up_in_its_palette(tmp_path: Path) -> None:
    image = read_pixels(save(tmp_path / "a.gif", GREY))
    assert_array_equal(image.pixels, GREY)
    assert header_size(tmp_path / "a.gif") == GREY.shape


def test_jpeg_is_near_its_source(tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    image = read_pixels(save(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(image.pixels.astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif"])
def test_one_bit_becomes_black_and_white(tmp_path: Path, name: str) -> None:
    bits = np.array([[True, False], [False, True]])
    image = read_pixels(save(tmp_path / name, bits))
    assert_array_equal(image.pixels, [[255, 0], [0, 255]])
    assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette_is_looked_up(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, palette_image([0, 0, 0, 250, 10, 20, 1, 2, 3]))
    image = read_pixels(path)
    assert_array_equal(image.pixels[:, :, 0], [[0, 250], [250, 1]])
    assert_array_equal(image.pixels[0, 1], [250, 10, 20])
    assert image.mode == "P"


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_keeps_its_depth(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 255, 256], [4095, 40000, 65535]], np.uint16)
    path = tmp_path / name
    path.write_bytes(imagecodecs.png_encode(deep)) if name == "a.png" else tifffile.imwrite(
        path, deep
    )
    image = read_pixels(path)
    assert_array_equal(image.pixels, deep)
    assert image.pixels.dtype == np.uint16


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_png_with_channels_keeps_its_depth(tmp_path: Path, channels: int) -> None:
    deep = np.arange(6 * channels, dtype=np.uint16).reshape(2, 3, channels) * 1000
    if channels in (2, 4):
        deep[..., -1] = 65535
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(deep))
    expected = {2: deep[..., 0], 3: deep, 4: deep[..., :3]}[channels]
    assert_array_equal(read_pixels(path).pixels, expected)


def test_sixteen_bit_png_by_opencv_is_rgb(tmp_path: Path) -> None:
    deep = np.zeros((2, 2, 3), np.uint16)
    deep[..., 0] = 50000  # red
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    assert_array_equal(read_pixels(tmp_path / "a.png").pixels, deep)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, name: str) -> None:
    # pure cyan ink swallows red; Pillow writes the JPEG with Adobe's inversion
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255
    image = read_pixels(save(tmp_path / name, Image.fromarray(ink, mode="CMYK")))
    assert np.abs(image.pixels.astype(int) - [0, 255, 255]).max() <= 2
    assert image.notes == ("converted from CMYK to RGB",)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", RGB, format="PNG")
    image = read_pixels(path)
    assert_array_equal(image.pixels, RGB)
    assert image.notes == ("is PNG though named .jpg",)


# --- EXIF

# where the pixel stored at the top left belongs: EXIF 2.32, tag 0x0112
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def tagged(path: Path, orientation: int, array: NDArray[Any]) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, array, exif=exif)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    path = tagged(tmp_path / name, orientation, stored)
    image = read_pixels(path)
    assert_array_equal(image.pixels, UPRIGHT[orientation])
    assert image.orientation == orientation
    assert header_size(path) == image.pixels.shape
    assert bool(image.notes) == (orientation != 1)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_exif_turns_lossy_formats(tmp_path: Path, name: str, orientation: int) -> None:
    path = tagged(tmp_path / name, orientation, noise(20, 30))
    assert header_size(path) == (30, 20)
    assert read_pixels(path).pixels.shape == (30, 20, 3)


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    data = tagged(tmp_path / "a.png", 6, RGB).read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]  # IEND is 12 bytes
    (tmp_path / "b.png").write_bytes(moved)
    assert read_pixels(tmp_path / "b.png").orientation == 6
    assert header_size(tmp_path / "b.png") == (3, 2)


def test_undefined_orientation_is_upright(tmp_path: Path) -> None:
    assert read_pixels(tagged(tmp_path / "a.png", 77, RGB)).orientation == 1


# --- refusals


def swollen(path: Path, side: int) -> Path:
    """Write a small image whose header claims a huge square."""
    save(path, noise(8, 8))
    data = bytearray(path.read_bytes())
    match path.suffix:
        case ".jpg":
            at = data.index(b"\xff\xc0") + 5
            data[at : at + 4] = struct.pack(">HH", side, side)
        case ".bmp":
            data[18:26] = struct.pack("<ii", side, side)
        case ".gif":
            data[6:10] = struct.pack("<HH", side, side)
        case ".webp":
            chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4)
            chunk += (side - 1).to_bytes(3, "little") * 2
            data[12:12] = chunk
            data[4:8] = struct.pack("<I", len(data) - 8)
    path.write_bytes(data)
    if path.suffix == ".tif":
        with tifffile.TiffFile(path, mode="r+") as tiff:
            for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                tiff.pages[0].tags[tag].overwrite(side)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.tif", "a.gif"])
def test_swollen_headers_are_refused_without_memory(tmp_path: Path, name: str) -> None:
    path = swollen(tmp_path / name, 16000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fault(lambda: read_pixels(path)).code == "IMG_SIZE"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def write_half(path: Path, **options: Any) -> Path:  # noqa: ANN401
    save(path, noise(64, 64), **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp", "a.webp", "a.gif"])
def test_half_a_file_is_refused(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    problem = fault(lambda: read_pixels(write_half(tmp_path / name)))
    assert (problem.code, problem.where) == ("IMG_TRUNCATED", str(tmp_path / name))
    assert capfd.readouterr() == ("", "")  # decoders print to the terminal by themselves


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_deep_and_compressed_files_cut_anywhere_are_refused(tmp_path: Path, share: float) -> None:
    deep = noise(64, 64).astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    tifffile.imwrite(tmp_path / "b.tif", deep, compression="lzw")
    for name in ("a.png", "b.tif"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(share * len(data))])
        assert fault(lambda name=name: read_pixels(tmp_path / name)).code == "IMG_TRUNCATED"  # type: ignore[misc]


def test_huge_text_in_a_huge_file(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "a" * 70_000_000, zip=False)
    path = save(tmp_path / "a.png", RGB, pnginfo=info)
    assert fault(lambda: read_pixels(path)).code == "IMG_METADATA"


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.gif"])
def test_any_frame_can_be_read(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (0, 250)]
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert fault(lambda: read_pixels(tmp_path / name)).code == "IMG_FRAMES"
    assert read_pixels(tmp_path / name, frame=1).pixels.max() == 250
    assert read_pixels(tmp_path / name, frame=0).pixels.max() == 0
    assert fault(lambda: read_pixels(tmp_path / name, frame=2)).expected == "0 to 1"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = palette_image([1, 2, 3] * 3)
    read_pixels(save(tmp_path / "a.png", picture, transparency=bytes([0, 255, 255])))
    tifffile.imwrite(tmp_path / "b.tif", noise(8, 8), description="<OME broken", software="x")
    read_pixels(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")

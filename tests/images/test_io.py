"""Reading images: golden pixels per mode, and every refusal by its code."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from calco.config import DataConfig
from calco.errors import CalcoError, Problem
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

GREY = np.array([[0, 10, 20], [30, 40, 255]], np.uint8)  # (2, 3)
RGB = np.dstack([GREY, GREY[:, ::-1], 255 - GREY])  # (2, 3, 3)


def fault(read: Callable[[], object]) -> Problem:
    with pytest.raises(CalcoError) as caught:
        read()
    (problem,) = caught.value.problems
    return problem


def save(path: Path, image: Image.Image | NDArray[Any], **options: Any) -> Path:  # noqa: ANN401
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(path, **options)
    return path


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def palette_image(colors: list[int]) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), mode="P")
    image.putpalette(colors)
    return image


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


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
def test_compressed_tiff(tmp_path: Path, compression: str | None) -> None:
    deep = noise(40, 30, 1)[..., 0].astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", deep, compression=compression)
    assert_array_equal(read_pixels(tmp_path / "a.tif").pixels, deep)


def test_jpeg_inside_tiff(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    smooth = cv2.resize(noise(4, 4), (64, 48), interpolation=cv2.INTER_LINEAR)
    path = save(tmp_path / "a.tif", smooth, compression="jpeg", quality=95)
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


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, name: str) -> None:
    # pure cyan ink swallows red; Pillow writes the JPEG with Adobe's inversion
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255
    image = read_pixels(save(tmp_path / name, Image.fromarray(ink, mode="CMYK")))
    assert np.abs(image.pixels.astype(int) - [0, 255, 255]).max() <= 2
    assert image.notes == ("converted from CMYK to RGB",)


def test_lab_tiff_becomes_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.full((4, 4, 3), [200, 100, 50], np.uint8))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB")
    assert converted is not None
    image = read_pixels(save(tmp_path / "a.tif", converted))
    assert np.abs(image.pixels.astype(int) - [200, 100, 50]).max() <= 3
    assert "converted from LAB to RGB" in image.notes


def test_colour_profile_is_noted(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    image = read_pixels(save(tmp_path / "a.png", RGB, icc_profile=profile))
    assert image.notes == ("has a colour profile that is not applied",)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_pixels(save(tmp_path / "b.png", RGB, icc_profile=srgb)).notes == ()


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", RGB, format="PNG")
    image = read_pixels(path)
    assert_array_equal(image.pixels, RGB)
    assert image.notes == ("is PNG though named .jpg",)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_extreme_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert read_pixels(save(tmp_path / "a.png", np.zeros(shape, np.uint8))).pixels.shape == shape


@pytest.mark.parametrize("name", ["á b[1]*.png", "-x.png", "new\nline.png", "a\u0301.png"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    assert_array_equal(read_pixels(save(tmp_path / name, GREY)).pixels, GREY)


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


def bomb(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )


def test_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(30000, 30000))
    assert path.stat().st_size < 80
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problem = fault(lambda: read_pixels(path))
    assert problem.code == "IMG_SIZE"
    assert "30000 x 30000 (H x W), 900 megapixels" in problem.got
    assert "data.max_megapixels" in problem.do
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


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


def test_own_limit_replaces_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", noise(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_pixels(path, max_megapixels=0.01).pixels.shape == (100, 100, 3)
    assert fault(lambda: read_pixels(path, max_megapixels=0.009)).code == "IMG_SIZE"


def test_many_channels_count_towards_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(100, 100, 16), photometric="minisblack", planarconfig="contig")
    assert fault(lambda: read_pixels(path, max_megapixels=0.03)).code == "IMG_SIZE"
    assert read_pixels(path, max_megapixels=0.04).channels == 16


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


def test_flipped_byte_in_a_png_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(64, 64))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert fault(lambda: read_pixels(path)).code == "IMG_TRUNCATED"


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b"<!DOCTYPE html><title>404</title>", "web page"),
        (b"\n<html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe", "PostScript"),
        (b"SIMPLE  =", "FITS"),
        (b"<svg xmlns=''>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"not found", "text"),
        (b"\x00\x01\x02", "unknown"),
    ],
)
def test_strangers_are_named(tmp_path: Path, content: bytes, guess: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    problem = fault(lambda: read_pixels(path))
    assert problem.code == "IMG_FORMAT"
    assert guess in problem.what
    assert repr(content[:16]) in problem.got


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert fault(lambda: read_pixels(tmp_path / "a.png")).code == "IMG_EMPTY"


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    assert fault(lambda: read_pixels(tmp_path / "folder.png")).code == "NOT_A_FILE"
    assert fault(lambda: read_pixels(tmp_path / "pipe.png")).code == "NOT_A_FILE"
    assert "link" in fault(lambda: read_pixels(tmp_path / "dangling.png")).what
    assert fault(lambda: header_size(tmp_path / "missing.png")).code == "IO_MISSING"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop an administrator
    assert fault(lambda: read_pixels(path)).code == "IO_PERMISSION"


@pytest.mark.parametrize("compressed", [True, False])
def test_huge_text_chunk(tmp_path: Path, compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "a" * 70_000_000, zip=compressed)
    path = save(tmp_path / "a.png", RGB, pnginfo=info)
    assert fault(lambda: read_pixels(path)).code == "IMG_METADATA"


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.gif"])
def test_frames(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (0, 250)]
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    problem = fault(lambda: read_pixels(tmp_path / name))
    assert (problem.code, problem.what) == ("IMG_FRAMES", "file has 2 frames")
    assert "data.frame: 0" in problem.do
    assert read_pixels(tmp_path / name, frame=1).pixels.max() == 250
    assert read_pixels(tmp_path / name, frame=0).pixels.max() == 0
    assert fault(lambda: read_pixels(tmp_path / name, frame=2)).expected == "0 to 1"


def test_stack_of_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 40, 50), np.uint8), photometric="minisblack")
    assert fault(lambda: read_pixels(tmp_path / "a.tif")).what == "file has 5 frames"
    assert read_pixels(tmp_path / "a.tif", frame=4).pixels.shape == (40, 50)


def test_reduced_copies_in_a_tiff_are_no_frames(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(noise(64, 64), photometric="rgb", subifds=0)
        tiff.write(noise(16, 16), photometric="rgb", subfiletype=1)
    assert read_pixels(tmp_path / "a.tif").pixels.shape == (64, 64, 3)


def test_nonfinite_pixels_are_counted(tmp_path: Path) -> None:
    data = np.zeros((4, 5), np.float32)
    data[2, 3], data[3, 0] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", data)
    problem = fault(lambda: read_pixels(tmp_path / "a.tif"))
    assert problem.code == "IMG_NONFINITE"
    assert problem.got == "2 NaN or infinite values, first at (row, col) = (2, 3)"


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    assert fault(lambda: read_pixels(tmp_path / "a.tif")).code == "IMG_FORMAT"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = palette_image([1, 2, 3] * 3)
    read_pixels(save(tmp_path / "a.png", picture, transparency=bytes([0, 255, 255])))
    tifffile.imwrite(tmp_path / "b.tif", noise(8, 8), description="<OME broken", software="x")
    read_pixels(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/a.png"])
def test_junk(name: str) -> None:
    assert is_junk(Path("images") / name)


def test_images_are_no_junk() -> None:
    assert not any(is_junk(Path("images") / f"a{suffix}") for suffix in IMAGE_SUFFIXES)


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

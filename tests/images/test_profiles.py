"""Colours by embedded profiles; the profiles are made here, so that the result can be foretold."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image, ImageCms

from calco.images import profiles
from calco.images.io import read_pixels
from calco.images.mask_files import read_mask_pixels
from calco.images.profiles import to_rgb, to_srgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
SWAPPED = RGB[..., [1, 0, 2]]
APPLIED = ("brought to sRGB by its colour profile",)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_primaries() -> bytes:
    """sRGB in which red and green have changed their names: pixels come out swapped."""
    return srgb().replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")


def grey_profile(gamma: float) -> bytes:
    """An ICC 2.4 profile of grey levels with a plain power as their curve."""
    white = [round(v * 65536) for v in (0.9642, 1.0, 0.8249)]  # D50, 16.16 fixed point
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", *white),
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2),
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *white)
    return head.ljust(128, b"\0") + table + body


def test_colours_are_converted() -> None:
    values, notes = to_srgb(RGB, swapped_primaries())
    assert np.abs(values.astype(int) - SWAPPED).max() <= 2
    assert notes == APPLIED


def test_srgb_under_any_name_changes_nothing() -> None:
    renamed = srgb().replace(b"s\0R\0G\0B", b"m\0i\0n\0e")
    assert renamed != srgb()
    for profile in (srgb(), renamed):
        values, notes = to_srgb(RGB, profile)
        assert values is RGB
        assert notes == ()


def test_a_grey_profile_bends_grey_levels() -> None:
    levels = np.array([[0, 64, 128, 255]], np.uint8)
    values, notes = to_srgb(levels, grey_profile(gamma=1.0))
    # sRGB of a linear v is 1.055 v^(1/2.4) - 0.055: 64/255 is 136.9 and 128/255 is 188.1
    assert np.abs(values.astype(int) - [[0, 137, 188, 255]]).max() <= 1
    assert (values.ndim, notes) == (2, APPLIED)


def test_grey_levels_with_a_profile_of_colours_stay_grey() -> None:
    # swapped primaries change no grey, though the profile is not sRGB
    values, notes = to_srgb(GREY, swapped_primaries())
    assert (values.shape, notes) == (GREY.shape, APPLIED)
    assert np.abs(values.astype(int) - GREY).max() <= 2
    assert to_srgb(GREY, srgb())[0] is GREY


@pytest.mark.parametrize("profile", [b"", b"none", srgb()[:300], grey_profile(1.0)[:150]])
def test_a_profile_that_cannot_be_used_is_a_note(profile: bytes) -> None:
    values, notes = to_srgb(RGB, profile)
    assert values is RGB
    assert "not applied" in notes[0]


def test_large_profiles_are_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "MAX_PROFILE_BYTES", 100)
    profiles._transform.cache_clear()
    assert "not applied" in to_srgb(RGB, swapped_primaries())[1][0]


def test_one_profile_serves_many_threads() -> None:
    pictures = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in range(32)]
    with ThreadPoolExecutor(8) as threads:
        converted = [v for v, _ in threads.map(lambda p: to_srgb(p, swapped_primaries()), pictures)]
    for picture, values in zip(pictures, converted, strict=True):
        assert np.abs(values.astype(int) - picture[..., [1, 0, 2]]).max() <= 2


def test_a_profile_of_other_channels_is_a_note() -> None:
    assert "not applied" in to_srgb(RGB, grey_profile(1.0))[1][0]
    assert "not applied" in to_srgb(np.dstack([RGB, RGB]), srgb())[1][0]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert "not applied" in to_srgb(RGB, lab)[1][0]


def test_deep_images_keep_their_levels_and_say_so() -> None:
    deep = RGB.astype(np.uint16) * 257
    values, notes = to_srgb(deep, swapped_primaries())
    assert values is deep
    assert "more than 8 bits" in notes[0]
    assert to_srgb(deep, srgb())[1] == ()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_profiles_are_found_in_every_format(tmp_path: Path, name: str) -> None:
    flat = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    options = {"lossless": True} if name == "a.webp" else {"quality": 100}
    Image.fromarray(flat).save(tmp_path / name, icc_profile=swapped_primaries(), **options)
    image = read_pixels(tmp_path / name)
    assert np.abs(image.pixels.astype(int) - (100, 200, 50)).max() <= 4
    assert image.notes == APPLIED


def test_palettes_and_transparency_are_converted_too(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([200, 100, 50, 0, 0, 0])
    palette.save(tmp_path / "a.png", icc_profile=swapped_primaries())
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "b.png", icc_profile=swapped_primaries())
    for name in ("a.png", "b.png"):
        pixels = read_pixels(tmp_path / name).pixels.astype(int)
        assert np.abs(pixels - [[[100, 200, 50], [0, 0, 0]]]).max() <= 2


def test_masks_keep_their_colours_whatever_their_profile(tmp_path: Path) -> None:
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    Image.fromarray(red).save(tmp_path / "a.png", icc_profile=swapped_primaries())
    assert (np.asarray(read_mask_pixels(tmp_path / "a.png").colors) == 0xFF0000).all()


def test_a_tiff_tag_that_is_no_profile_is_a_note(tmp_path: Path) -> None:
    tag = (34675, "B", 4, b"none", True)
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", extratags=[tag])
    image = read_pixels(tmp_path / "a.tif")
    assert_array_equal(image.pixels, RGB)
    assert "not applied" in image.notes[0]


@pytest.mark.parametrize("profile", [None, b"none"])
def test_cmyk_without_a_sound_profile_is_converted_plainly(profile: bytes | None) -> None:
    ink = Image.fromarray(np.full((2, 2, 4), (255, 0, 0, 0), np.uint8), mode="CMYK")
    if profile:
        ink.info["icc_profile"] = profile
    image, (note,) = to_rgb(ink)
    assert_array_equal(np.asarray(image), np.full((2, 2, 3), (0, 255, 255)))
    assert note.startswith("converted from CMYK to RGB")
    assert ("not applied" in note) == (profile is not None)
    assert "icc_profile" not in image.info  # it is not the profile of the RGB


def test_lab_is_converted_by_its_definition() -> None:
    # L* 50 without colour is the grey of 18.4 % reflectance: sRGB 119
    lab = Image.fromarray(np.full((2, 2, 3), (128, 0, 0), np.uint8), mode="LAB")
    image, notes = to_rgb(lab)
    assert np.abs(np.asarray(image).astype(int) - 119).max() <= 2
    assert notes == ("converted from LAB to RGB",)


def test_images_of_other_modes_are_handed_on() -> None:
    picture = Image.fromarray(RGB)
    assert to_rgb(picture) == (picture, ())

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, PngImagePlugin

from calco.errors import CalcoError
from calco.images.decode import read_stored
from calco.images.png import read_plain_png

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
MODES = {"L": RGB[..., 0], "LA": RGB[..., :2], "RGB": RGB, "RGBA": np.dstack([RGB, RGB[..., :1]])}


def save(path: Path, mode: str = "RGB", **options: Any) -> Path:  # noqa: ANN401
    Image.fromarray(np.ascontiguousarray(MODES[mode]), mode=mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_plain_files_are_read_as_they_were_written(tmp_path: Path, mode: str) -> None:
    stored = read_plain_png(save(tmp_path / "a.png", mode), 100)
    assert stored is not None
    assert_array_equal(stored.values, MODES[mode])
    assert (stored.mode, stored.has_alpha) == (mode, mode.endswith("A"))
    assert (stored.palette, stored.orientation, stored.notes) == (None, 1, ())


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_what_does_not_change_pixels_is_passed_over(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "a microscope")
    info.add(b"gAMA", struct.pack(">I", 45455))
    stored = read_plain_png(save(tmp_path / "a.png", pnginfo=info, dpi=(300, 300)), 100)
    assert stored is not None
    assert_array_equal(stored.values, RGB)


def test_what_may_change_pixels_is_left_to_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    long_text = PngImagePlugin.PngInfo()
    long_text.add_text("Comment", "x" * 70_000)
    files = [
        save(tmp_path / "key.png", transparency=(1, 2, 3)),
        save(tmp_path / "exif.png", exif=exif),
        save(tmp_path / "profile.png", icc_profile=b"x" * 200),
        save(tmp_path / "text.png", pnginfo=long_text),
    ]
    Image.fromarray(RGB).quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(RGB[..., 0] > 99).save(tmp_path / "bits.png")
    Image.fromarray(RGB[..., 0].astype(np.uint16)).save(tmp_path / "deep.png")
    more = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    more[0].save(tmp_path / "film.png", save_all=True, append_images=more[1:])
    files += [tmp_path / f"{name}.png" for name in ("palette", "bits", "deep", "film")]
    assert [p.name for p in files if read_plain_png(p, 100) is not None] == []


def test_a_file_without_its_end_is_left_to_pillow(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png").read_bytes()
    for size in (10, 20, 33, 60, len(data) - 12, len(data) - 1):
        (tmp_path / "b.png").write_bytes(data[:size])
        assert read_plain_png(tmp_path / "b.png", 100) is None


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a.png").read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(CalcoError, match="IMG_TRUNCATED"):
        read_stored(tmp_path / "a.png", 100)


def test_rows_that_are_missing_are_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 7, 5, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in RGB[:3])
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(CalcoError, match="IMG_TRUNCATED"):
        read_stored(tmp_path / "a.png", 100)


def test_size_and_frame_are_checked_before_decoding(tmp_path: Path) -> None:
    bomb = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    rest = chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb + rest)
    with pytest.raises(CalcoError, match="IMG_SIZE"):
        read_plain_png(tmp_path / "a.png", 100)
    with pytest.raises(CalcoError, match="IMG_FRAMES"):
        read_plain_png(save(tmp_path / "b.png"), 100, frame=1)

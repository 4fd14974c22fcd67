"""What is told from the first bytes of a file and from its header, before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calco.errors import CalcoError, Problem
from calco.images.files import (
    check_megapixels,
    decoder_faults,
    first_bytes,
    name_notes,
    refuse_frames,
    sniff,
)
from calco.images.io import header_size, read_pixels


def fault(read: Callable[[], object]) -> Problem:
    with pytest.raises(CalcoError) as caught:
        read()
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_formats_are_known_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.dat"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, kind)
    assert sniff(path) == kind
    assert name_notes(path, sniff(path)) == ()  # .dat claims nothing


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b"\n<html>", "web page"),
        (b"<?xml version='1.0'?>", "web page"),
        (b"\x00\x00\x00\x0cjP  \r\n", "JPEG 2000"),
        (b'{"shapes": []}', "JSON text"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x00\x01\x02", "unknown"),
    ],
)
def test_strangers_are_named(tmp_path: Path, content: bytes, guess: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    problem = fault(lambda: sniff(path))
    assert (problem.code, problem.where) == ("IMG_FORMAT", str(path))
    assert guess in problem.what
    assert repr(content[:16]) in problem.got


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # would block for ever
    assert fault(lambda: first_bytes(tmp_path / "pipe.png")).code == "NOT_A_FILE"
    (tmp_path / "folder.png").mkdir()
    assert fault(lambda: first_bytes(tmp_path / "folder.png")).what == "is a folder"
    (tmp_path / "dangling.png").symlink_to("nowhere")
    assert "link" in fault(lambda: first_bytes(tmp_path / "dangling.png")).what
    assert fault(lambda: header_size(tmp_path / "missing.png")).code == "IO_MISSING"


def test_own_limit_replaces_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_pixels(path, max_megapixels=0.01).pixels.shape == (100, 100, 3)
    assert fault(lambda: read_pixels(path, max_megapixels=0.009)).code == "IMG_SIZE"


def test_channels_beyond_four_count_towards_the_limit() -> None:
    path = Path("a.tif")
    check_megapixels(path, (1000, 1000), 4, limit=1)
    problem = fault(lambda: check_megapixels(path, (1000, 1000), 8, limit=1))
    assert problem.got == "1000 x 1000 x 8 (H x W), 2 megapixels"
    assert fault(lambda: check_megapixels(path, (0, 5), 1, 1)).what == "image has no pixels"


def test_frames_are_chosen_or_refused() -> None:
    path = Path("a.gif")
    refuse_frames(path, 1, None)
    refuse_frames(path, 3, 2)
    assert "data.frame: 0" in fault(lambda: refuse_frames(path, 3, None)).do
    assert fault(lambda: refuse_frames(path, 3, 3)).expected == "0 to 2"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (
            ValueError("too large for MAX_TEXT_CHUNK"),
            "IMG_METADATA",
        ),
        (OSError("image file is truncated (5 bytes not processed)"), "IMG_TRUNCATED"),
        (OSError(5, "Input/output error"), "IO_ERROR"),
        (MemoryError(), "IMG_MEMORY"),
        (KeyError(), "IMG_TRUNCATED"),
    ],
)
def test_whatever_a_decoder_raises_is_one_problem(raised: Exception, code: str) -> None:
    def decode() -> None:
        with decoder_faults(Path("a.png")):
            raise raised

    problem = fault(decode)
    assert (problem.code, problem.where) == (code, "a.png")
    assert problem.do

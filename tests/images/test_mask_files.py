"""Mask files: every kind that is read, every kind that is refused, each held to the code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from calco.errors import CalcoError, Problem
from calco.images.mask_files import MASK_SUFFIXES, read_mask_file, read_mask_pixels
from calco.records.data import MaskCode

SHAPE = np.array([[0, 0, 0, 0], [0, 1, 1, 0]], bool)  # (2, 4), a quarter is foreground


def fault(read: Callable[[], object]) -> Problem:
    with pytest.raises(CalcoError) as caught:
        read()
    (problem,) = caught.value.problems
    return problem


def write(path: Path, array: NDArray[Any], mode: str | None = None, **options: Any) -> Path:  # noqa: ANN401
    Image.fromarray(array, mode=mode).save(path, **options)
    return path


def test_file_outside_the_code_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.array([[0, 255, 128, 128, 3]], np.uint8))
    code = MaskCode("values", values=(255,), background=(0,))
    problem = fault(lambda: read_mask_file(path, code))
    assert (problem.code, problem.where) == ("MASK_VALUES", str(path))
    assert problem.got == "128 (2 px), 3 (1 px)"
    assert problem.expected == "only 0, 255"


def test_deep_file_outside_the_code_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 65535, 300]], np.uint16))
    code = MaskCode("values", values=(65535,), background=(0,))
    assert fault(lambda: read_mask_file(tmp_path / "a.tif", code)).got == "300 (1 px)"


def test_colour_outside_the_code_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.array([[[0, 0, 0], [0, 9, 0]]], np.uint8))
    code = MaskCode("color", color=(255, 0, 0), background=(0,))
    assert fault(lambda: read_mask_file(path, code)).got == "(0, 9, 0) (1 px)"


def test_coloured_file_among_grey_ones_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.array([[[0, 0, 0], [0, 9, 0]]], np.uint8))
    code = MaskCode("values", values=(255,), background=(0,))
    assert fault(lambda: read_mask_file(path, code)).what == "mask is coloured"


def test_file_without_transparency_is_refused_by_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8))
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"))).code == "MASK_ALPHA"


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_turned_masks_are_refused(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8), exif=exif)
    problem = fault(lambda: read_mask_file(path, MaskCode("values", values=(1,))))
    assert (problem.code, problem.got) == ("MASK_EXIF", f"orientation {orientation}")


def test_many_channels_are_no_mask(tmp_path: Path) -> None:
    data = np.zeros((8, 8, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", planarconfig="contig")
    np.save(tmp_path / "a.npy", data)
    for name in ("a.tif", "a.npy"):
        path = tmp_path / name
        assert fault(lambda path=path: read_mask_file(path, MaskCode("alpha"))).code == (  # type: ignore[misc]
            "MASK_CHANNELS"
        )


# --- arrays


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["object array", "pickle", "zip"])
def test_pickles_are_refused_unopened(tmp_path: Path, form: str) -> None:
    path, sprung = tmp_path / "a.npy", tmp_path / "sprung"
    match form:
        case "object array":
            np.save(path, np.array([Trap(sprung)], object), allow_pickle=True)
        case "pickle":
            path.write_bytes(pickle.dumps(Trap(sprung)))
        case _:
            np.savez(tmp_path / "a.npz", SHAPE)
            (tmp_path / "a.npz").rename(path)
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"))).code == "UNSAFE_FILE"
    assert not sprung.exists()


def test_broken_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((64, 64), bool))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"))).code == "IMG_TRUNCATED"
    path.write_bytes(whole.replace(b"}", b"{", 1))
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"))).code == "IMG_TRUNCATED"
    np.save(path, np.array([[np.nan, 1]]))
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"))).code == "IMG_NONFINITE"
    np.save(path, np.zeros((64, 64), bool))
    limit = 0.004  # megapixels, below 64 x 64
    assert fault(lambda: read_mask_file(path, MaskCode("alpha"), limit)).code == "IMG_SIZE"


def test_npy_is_a_mask_suffix() -> None:
    assert {".npy", ".png"} <= MASK_SUFFIXES


# --- channels and frames


def test_real_numbers_with_transparency_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = np.dstack([SHAPE.astype(np.float32)] * 3 + [np.ones(SHAPE.shape, np.float32)])
    data[0, 0, 3] = 0.25
    tifffile.imwrite(path, data, photometric="rgb", extrasamples=["unassalpha"])
    pixels = read_mask_pixels(path)
    assert_array_equal(np.asarray(pixels.values), SHAPE)
    assert_array_equal(np.flatnonzero(~np.asarray(pixels.opaque)), [0])


def test_real_numbers_are_no_colours(tmp_path: Path) -> None:
    data = SHAPE[..., None] * np.array([1, 0.5, 0], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
    problem = fault(lambda: read_mask_pixels(tmp_path / "a.tif"))
    assert (problem.code, problem.got) == ("MASK_CHANNELS", "3 channels of float32")


def test_masks_of_several_frames_are_refused_without_naming_a_setting(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    problem = fault(lambda: read_mask_pixels(tmp_path / "a.gif"))
    assert (problem.code, problem.do) == ("IMG_FRAMES", "save one mask per file")

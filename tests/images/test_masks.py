"""Which mask pixels are foreground: codes that are found, and what is left to the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from calco.config import DataConfig
from calco.errors import Problem
from calco.images.mask_files import read_mask_file
from calco.images.masks import detect_code
from calco.records.data import FileMask, MaskCode, ObjectMasks, RleDialect, RleMask

REAL = Path(__file__).resolve().parents[2].parent / "shared/data"

SHAPE = np.array([[0, 0, 0, 0], [0, 1, 1, 0]], bool)  # (2, 4), a quarter is foreground


def disc(size: int = 96) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:size, :size]
    mask: NDArray[np.bool_] = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 4) ** 2
    return mask


def write(path: Path, array: NDArray[Any], mode: str | None = None, **options: Any) -> Path:  # noqa: ANN401
    Image.fromarray(array, mode=mode).save(path, **options)
    return path


def detect(paths: Sequence[Path], **settings: Any) -> tuple[MaskCode, tuple[Problem, ...]]:  # noqa: ANN401
    return detect_code([FileMask(p) for p in paths], DataConfig(**settings), paths[0].parent)


def check_clean(path: Path, kind: str, **settings: Any) -> MaskCode:  # noqa: ANN401
    """A file that shows SHAPE is detected without a word and read back as SHAPE."""
    code, problems = detect([path], **settings)
    assert problems == ()
    assert code.kind == kind
    assert_array_equal(read_mask_file(path, code), SHAPE)
    return code


def only(problems: tuple[Problem, ...]) -> Problem:
    (problem,) = problems
    return problem


# --- codes that are detected


@pytest.mark.parametrize("high", [1, 7, 127, 128, 254, 255])
def test_grey_masks_of_two_values(tmp_path: Path, high: int) -> None:
    code = check_clean(write(tmp_path / "a.png", SHAPE.astype(np.uint8) * high), "values")
    assert (code.values, code.background) == ((high,), (0,))
    assert code.note == f"values {{0, {high}}}: foreground is {high}, 25 % of pixels"


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_one_bit_masks(tmp_path: Path, name: str) -> None:
    assert check_clean(write(tmp_path / name, SHAPE), "values").values == (1,)


@pytest.mark.parametrize("high", [1, 255, 300, 65535])
def test_sixteen_bit_masks(tmp_path: Path, high: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", SHAPE.astype(np.uint16) * high)
    assert check_clean(tmp_path / "a.tif", "values").values == (high,)


def test_float_masks(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", SHAPE.astype(np.float32))
    assert check_clean(tmp_path / "a.tif", "values").values == (1,)
    tifffile.imwrite(tmp_path / "b.tif", SHAPE.astype(np.float32) * 0.5)
    assert check_clean(tmp_path / "b.tif", "threshold").threshold == 0.25


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">i2", "float32"])
@pytest.mark.parametrize("shape", [(2, 4), (1, 2, 4), (2, 4, 1)])
def test_npy_masks(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", SHAPE.astype(dtype).reshape(shape))
    assert check_clean(tmp_path / "a.npy", "values").values == (1,)


def test_white_on_black_rgb_is_grey(tmp_path: Path) -> None:
    rgb = np.dstack([SHAPE.astype(np.uint8) * 255] * 3)
    assert check_clean(write(tmp_path / "a.png", rgb), "values").values == (255,)


def test_one_colour_on_black(tmp_path: Path) -> None:
    rgb = SHAPE[..., None] * np.array([255, 128, 0], np.uint8)
    code = check_clean(write(tmp_path / "a.png", rgb), "color")
    assert code.color == (255, 128, 0)
    assert code.note == "foreground is the colour (255, 128, 0), 25 % of pixels"


def test_one_colour_on_black_with_an_empty_grey_mask(tmp_path: Path) -> None:
    rgb = SHAPE[..., None] * np.array([255, 0, 0], np.uint8)
    red = write(tmp_path / "a.png", rgb)
    empty = write(tmp_path / "b.png", np.zeros((2, 4), np.uint8))
    code, problems = detect([red, empty])
    assert problems == ()
    assert not read_mask_file(empty, code).any()


def test_one_colour_on_white_is_detected_with_a_warning(tmp_path: Path) -> None:
    rgb = np.where(SHAPE[..., None], np.array([255, 0, 0]), 255).astype(np.uint8)
    path = write(tmp_path / "a.png", rgb)
    code, problems = detect([path])
    assert only(problems).severity == "warning"
    assert_array_equal(read_mask_file(path, code), SHAPE)


def palette_mask(path: Path, indices: NDArray[np.uint8], colors: list[int]) -> Path:
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colors)
    image.save(path)
    return path


def test_gif_masks(tmp_path: Path) -> None:
    # as Carvana ships them: one bit, black and white in the palette
    path = palette_mask(tmp_path / "a.gif", SHAPE.astype(np.uint8), [0, 0, 0, 255, 255, 255])
    assert check_clean(path, "color").color == (255, 255, 255)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette_of_two(tmp_path: Path, name: str) -> None:
    path = palette_mask(tmp_path / name, SHAPE.astype(np.uint8), [0, 0, 0, 128, 0, 0])
    assert check_clean(path, "color").color == (128, 0, 0)


def test_palettes_ordered_differently_show_the_same_shape(tmp_path: Path) -> None:
    black_first = palette_mask(tmp_path / "a.png", SHAPE.astype(np.uint8), [0, 0, 0, 255, 255, 255])
    white_first = palette_mask(
        tmp_path / "b.png", (~SHAPE).astype(np.uint8), [255, 255, 255, 0, 0, 0]
    )
    code, problems = detect([black_first, white_first])
    assert problems == ()
    assert_array_equal(read_mask_file(black_first, code), SHAPE)
    assert_array_equal(read_mask_file(white_first, code), SHAPE)


def test_palette_without_colours_is_read_by_index(tmp_path: Path) -> None:
    path = palette_mask(tmp_path / "a.png", SHAPE.astype(np.uint8), [0, 0, 0, 0, 0, 0])
    assert check_clean(path, "values").values == (1,)


def test_shape_in_the_transparency(tmp_path: Path) -> None:
    rgba = np.zeros((2, 4, 4), np.uint8)
    rgba[..., 3] = SHAPE * 255
    code = check_clean(write(tmp_path / "a.png", rgba), "alpha")
    assert code.note == "foreground is what is opaque, 25 % of pixels"


def test_shape_in_colour_and_transparency(tmp_path: Path) -> None:
    rgba = np.dstack([SHAPE.astype(np.uint8) * 255] * 4)
    check_clean(write(tmp_path / "a.png", rgba), "values")


def test_two_values_without_zero_warn(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8) + 1)
    code, problems = detect([path])
    assert (only(problems).code, only(problems).severity) == ("MASK_VALUES", "warning")
    assert_array_equal(read_mask_file(path, code), SHAPE)


def test_share_is_the_mean_over_masks_of_any_size(tmp_path: Path) -> None:
    small = write(tmp_path / "a.png", np.full((2, 2), 255, np.uint8))  # 1
    large = write(tmp_path / "b.png", np.zeros((40, 40), np.uint8))  # 0
    assert detect([small, large])[0].note.endswith("foreground is 255, 50 % of pixels")


# --- smeared masks


def test_jpeg_mask_is_thresholded_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", disc().astype(np.uint8) * 255, quality=75)
    code, problems = detect([path])
    problem = only(problems)
    assert (problem.code, problem.severity) == ("MASK_VALUES", "warning")
    levels = np.asarray(Image.open(path))
    between = int(((levels > 32) & (levels < 223)).sum())
    assert f"{between} pixels" in problem.got
    assert (code.kind, code.threshold) == ("threshold", 127)
    assert np.mean(read_mask_file(path, code) != disc()) < 0.005


def test_blurred_mask_needs_a_threshold(tmp_path: Path) -> None:
    blurred = cv2.GaussianBlur(disc().astype(np.uint8) * 255, (0, 0), 4)
    path = write(tmp_path / "a.png", blurred)
    problem = only(detect([path])[1])
    assert (problem.code, problem.severity) == ("MASK_VALUES", "error")
    assert "from 0 " in problem.got
    assert "data.threshold" in problem.do
    code, problems = detect([path], threshold=100)
    assert problems == ()
    assert_array_equal(read_mask_file(path, code), blurred > 100)


def test_class_indices_beside_a_void_value_are_not_smear(tmp_path: Path) -> None:
    classes = np.zeros((60, 60), np.uint8)
    classes[:21, :] = np.arange(21)[:, None]
    classes[50:] = 255
    assert only(detect([write(tmp_path / "a.png", classes)])[1]).code == "MASK_CLASSES"


# --- several classes, photos, empty and full


def test_several_classes_need_a_choice(tmp_path: Path) -> None:
    classes = np.array([[0, 0, 0, 0], [0, 0, 1, 2]], np.uint8)
    path = write(tmp_path / "a.png", classes)
    problem = only(detect([path])[1])
    assert problem.code == "MASK_CLASSES"
    assert problem.got == "0 (75 %), 1 (12.5 %), 2 (12.5 %)"
    assert "data.foreground" in problem.do
    for foreground in [(1,), (2,), (1, 2)]:
        code, problems = detect([path], foreground=foreground)
        assert problems == ()
        assert_array_equal(read_mask_file(path, code), np.isin(classes, foreground))


def test_files_with_different_codes_are_told_apart(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{i}.png", SHAPE.astype(np.uint8) * high)
        for i, high in enumerate([1, 255, 255])
    ]
    problem = only(detect(paths)[1])
    assert problem.code == "MASK_CLASSES"
    assert "single files hold {0, 255} in 2, {0, 1} in 1" in problem.got


def test_a_stray_value_is_sent_to_its_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.png", SHAPE.astype(np.uint8) * 255) for i in range(4)]
    stray = np.where(SHAPE, 255, 0).astype(np.uint8)
    stray[0, 0] = 77
    write(paths[2], stray)
    problem = only(detect(paths)[1])
    assert (problem.code, problem.where) == ("MASK_CLASSES", "2.png")
    assert problem.got.endswith("; 77 is in 1 of 4 files looked at")


def test_object_numbers_are_pointed_at_a_threshold(tmp_path: Path) -> None:
    labels = np.kron(np.arange(100).reshape(10, 10), np.ones((8, 8))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", labels)
    problem = only(detect([tmp_path / "a.tif"])[1])
    assert problem.code == "MASK_CLASSES"
    assert "data.threshold: 0" in problem.do
    code, _ = detect([tmp_path / "a.tif"], threshold=0)
    assert_array_equal(read_mask_file(tmp_path / "a.tif", code), labels > 0)


def test_several_colours_need_a_choice(tmp_path: Path) -> None:
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[0, :3], rgb[1, 0] = [255, 0, 0], [0, 0, 255]
    path = write(tmp_path / "a.png", rgb)
    problem = only(detect([path])[1])
    assert problem.code == "MASK_COLORS"
    assert problem.got == "(0, 0, 0) 50 %, (255, 0, 0) 37.5 %, (0, 0, 255) 12.5 %"
    code, problems = detect([path], foreground_color=(0, 0, 255))
    assert problems == ()
    assert_array_equal(read_mask_file(path, code), rgb[..., 2] == 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_photos_are_told_from_masks(tmp_path: Path, channels: int) -> None:
    rng = np.random.default_rng(0)
    shape = (64, 64) if channels == 1 else (64, 64, 3)
    photo = np.clip(rng.normal(90, 20, shape), 0, 255).astype(np.uint8)
    problem = only(detect([write(tmp_path / "a.png", photo)])[1])
    assert problem.code == "MASK_PHOTO"
    assert "are image and mask folders swapped?" in problem.what


@pytest.mark.parametrize("value", [0, 255])
def test_sets_without_contrast(tmp_path: Path, value: int) -> None:
    paths = [write(tmp_path / f"{i}.png", np.full((2, 4), value, np.uint8)) for i in range(3)]
    code, problems = detect(paths)
    assert only(problems).code == ("MASK_ALL_FULL" if value else "MASK_ALL_EMPTY")
    assert only(problems).severity == "error"
    assert read_mask_file(paths[0], code).all() == bool(value)


def test_setting_that_matches_nothing_is_all_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8) * 255)
    assert only(detect([path], foreground=(1,))[1]).code == "MASK_ALL_EMPTY"


# --- settings


def test_invert(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", (~SHAPE).astype(np.uint8) * 255)
    code = check_clean(path, "values", invert=True)
    assert code.note == "values {0, 255}: foreground is 255, then inverted, 25 % of pixels"


def test_two_settings_for_one_thing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8))
    problem = only(detect([path], threshold=0, foreground=(1,))[1])
    assert problem.code == "CONFIG_CONFLICT"
    assert problem.got == "data.foreground, data.threshold"


# --- other sources


def test_encoded_masks_have_no_file_code(tmp_path: Path) -> None:
    source = RleMask(("1 2",), RleDialect(), "a.csv:2")
    code, problems = detect_code([source], DataConfig(invert=True), tmp_path)
    assert (code.kind, code.invert, problems) == ("rle", True, ())


def test_objects_of_a_sample_add_up(tmp_path: Path) -> None:
    masks = []
    for i in range(2):
        mask = np.zeros((2, 4), np.uint8)
        mask[i, 0] = 255
        masks.append(write(tmp_path / f"{i}.png", mask))
    code, problems = detect_code([ObjectMasks(tuple(masks))], DataConfig(), tmp_path)
    assert problems == ()
    assert code.note == "values {0, 255}: foreground is 255, 25 % of pixels"


def test_no_masks_at_all(tmp_path: Path) -> None:
    assert detect_code([], DataConfig(), tmp_path)[0].note == "no masks"


def test_unreadable_masks_are_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "0.png"
    broken.write_bytes(b"<html>")
    code, problems = detect([broken, write(tmp_path / "a.png", SHAPE.astype(np.uint8))])
    assert (code.values, problems) == ((1,), ())
    assert detect([broken])[0].note == "no readable mask"


def test_messages_name_files_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    path = write(tmp_path / "masks" / "a.png", np.zeros((2, 4), np.uint8))
    _, problems = detect_code([FileMask(path)], DataConfig(), tmp_path)
    assert only(problems).where == "masks/a.png"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.png", SHAPE.astype(np.uint8) * 255)
    path.write_bytes(path.read_bytes()[:-20])
    detect([path])
    assert capfd.readouterr() == ("", "")


# --- real data


@pytest.mark.skipif(not REAL.exists(), reason="real data not beside the repository")
@pytest.mark.parametrize("folder", ["dsb2018/train", "isbi2012/train"])
def test_real_masks_and_photos(folder: str) -> None:
    masks = sorted((REAL / folder / "masks").iterdir())[::8]
    code, problems = detect(masks)
    assert problems == ()
    assert code.note.startswith("values {0, 255}: foreground is 255, ")
    images = sorted((REAL / folder / "images").iterdir())[::8]
    assert only(detect(images)[1]).code == "MASK_PHOTO"

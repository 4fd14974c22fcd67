from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calco.errors import CalcoError
from calco.images.given import Given, read_given
from calco.images.io import read_image
from calco.records import ImageSpec

RGB = ImageSpec(channels=3)
GREY = ImageSpec(channels=1)
DEEP = ImageSpec(channels=1, low=0.0, high=4095.0)


def _image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _refused(source: object, spec: ImageSpec) -> str:
    with pytest.raises(CalcoError) as caught:
        read_given(source, spec)  # type: ignore[arg-type]
    [problem] = caught.value.problems
    assert "\n" not in str(problem)
    return str(problem)


@pytest.mark.parametrize(
    "mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16", "YCbCr", "F", "I"]
)
def test_a_picture_is_read_as_its_file(mode: str, tmp_path: Path) -> None:
    spec = RGB if mode not in ("I;16", "F", "I") else DEEP
    if mode in ("I;16", "F", "I"):
        values = np.arange(0, 3000, 100).reshape(5, 6)
        dtype = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]
        picture = Image.fromarray(values.astype(dtype))
    else:
        picture = Image.fromarray(_image(9, 7, 4), "RGBA")
        picture = picture if mode == "RGBA" else picture.convert("RGB").convert(mode)
        if mode == "LA":
            picture.putalpha(Image.fromarray(_image(9, 7)))
    assert picture.mode == mode
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "F", "I") else "a.png")
    picture.save(path)
    before = picture.copy()
    expected = read_image(path, spec)
    np.testing.assert_array_equal(read_given(picture, spec), expected)
    assert picture == before  # a program's own picture stays as it is
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_given(opened, spec), expected)
        np.testing.assert_array_equal(read_given(opened, spec), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_picture_lies_as_its_file(ending: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(_image(4, 9, 3)).save(path, exif=exif)
    with Image.open(path) as opened:
        found = read_given(opened, RGB)
        assert found.shape == ((4, 9, 3) if orientation < 5 else (9, 4, 3))
        np.testing.assert_array_equal(found, read_image(path, RGB))


def test_a_transparent_palette_stays_in_the_picture_of_the_program() -> None:
    picture = Image.fromarray(_image(5, 5), "L").convert("P")
    picture.info["transparency"] = 3
    read_given(picture, RGB)
    assert picture.info["transparency"] == 3


@pytest.mark.parametrize("as_given", [str, Path])
def test_paths_are_files(as_given: type, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(_image(4, 5, 3)).save(path)
    given: Given = as_given(path)
    np.testing.assert_array_equal(read_given(given, RGB), read_image(path, RGB))


def test_arrays_are_taken_as_they_are() -> None:
    image = _image(4, 5, 3)
    np.testing.assert_array_equal(read_given(image, RGB), image)
    grey = _image(4, 5)
    assert read_given(grey, GREY).tolist() == grey[..., None].tolist()
    assert read_given(grey, RGB).tolist() == np.dstack([grey] * 3).tolist()
    assert read_given(_image(3, 5, 3), GREY).shape == (3, 5, 1)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_deep_arrays_are_scaled_by_the_range_of_training(dtype: type) -> None:
    image: NDArray[Any] = np.array([[0, 4095], [2048, 819]]).astype(dtype)
    assert read_given(image, DEEP)[..., 0].tolist() == [[0, 255], [128, 51]]


@pytest.mark.parametrize(
    ("shape", "code", "told"),
    [
        ((7,), "IMG_SHAPE", "channels last"),
        ((2, 7, 8, 3), "IMG_SHAPE", "give a list of images"),
        ((0, 7, 3), "IMG_SHAPE", "shape (0, 7, 3)"),
        ((3, 40, 50), "IMG_CHANNELS", "image.transpose(1, 2, 0)"),
        ((40, 50, 4), "IMG_CHANNELS", "image[..., :3]"),
        ((40, 50, 2), "IMG_CHANNELS", "expected (H, W, 3) or (H, W)"),
    ],
)
def test_wrong_shapes_are_told_with_the_remedy(
    shape: tuple[int, ...], code: str, told: str
) -> None:
    line = _refused(np.zeros(shape, np.uint8), RGB)
    assert code in line
    assert told in line


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (bool, "image.astype(np.uint8) * 255"),
        (np.float32, "np.rint(255 * image).astype(np.uint8)"),
        (np.int64, "image.astype(np.uint8)"),
        (np.uint16, "got uint16"),
        (complex, "expected uint8"),
        (object, "expected uint8"),
    ],
)
def test_wrong_values_are_told_with_the_remedy(dtype: type, told: str) -> None:
    line = _refused(np.ones((4, 4, 3), dtype), RGB)
    assert "IMG_DEPTH" in line
    assert told in line


def test_six_channels_need_six() -> None:
    six = ImageSpec(channels=6)
    assert read_given(_image(3, 3, 6), six).shape == (3, 3, 6)
    assert "expected (H, W, 6)" in _refused(_image(3, 3), six)


def test_nan_is_refused() -> None:
    assert "IMG_NONFINITE" in _refused(np.array([[0, np.nan]], np.float32), DEEP)
    assert "IMG_DEPTH" in _refused(np.array([[True]]), DEEP)


@pytest.mark.parametrize(
    ("source", "told"),
    [(b"\x89PNG", "io.BytesIO"), ({"a"}, "give a list"), (None, "NoneType"), (3, "got int")],
)
def test_what_is_no_image_is_told(source: object, told: str) -> None:
    line = _refused(source, RGB)
    assert "IMG_KIND" in line
    assert told in line


def test_tensors_are_told_apart() -> None:
    torch = pytest.importorskip("torch")
    assert "tensor.numpy()" in _refused(torch.zeros(3, 4, 4), RGB)

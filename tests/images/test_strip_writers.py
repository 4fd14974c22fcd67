from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

import calco.images.strip_writers as module
from calco.images.strip_writers import Form, write_strips

FORMS: tuple[Form, ...] = ("png", "tif", "zarr")


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


def cut(values: NDArray[np.uint8], rows: int) -> Iterator[NDArray[np.uint8]]:
    return (values[top : top + rows] for top in range(0, len(values), rows))


def read(path: Path, form: Form) -> NDArray[np.uint8]:
    if form == "zarr":
        return np.asarray(zarr.open_array(str(path), mode="r")[:])
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (5, 70), (32, 64), (97, 65)])
@pytest.mark.parametrize("rows", [1, 7, 40, 200])
def test_what_is_written_is_read_back(
    tmp_path: Path, form: Form, size: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE_PX", 32)
    path = tmp_path / f"a.{form}"
    write_strips(path, form, size, cut(noise(*size), rows))
    np.testing.assert_array_equal(read(path, form), noise(*size))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_tiffs_are_tiled_and_deflated_and_say_nothing_else(tmp_path: Path) -> None:
    write_strips(tmp_path / "a.tif", "tif", (600, 700), cut(noise(600, 700), 100))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page = tiff.pages[0]
        assert (page.tilelength, page.tilewidth, page.compression) == (512, 512, 8)
        assert not tiff.is_bigtiff
        assert not {"Software", "DateTime", "ImageDescription"} & {t.name for t in page.tags}


@pytest.mark.parametrize("form", FORMS)
def test_half_an_image_gets_no_name_and_leaves_the_old_one(tmp_path: Path, form: Form) -> None:
    path = tmp_path / f"a.{form}"
    write_strips(path, form, (8, 9), cut(noise(8, 9), 3))

    def broken() -> Iterator[NDArray[np.uint8]]:
        yield np.zeros((3, 9), np.uint8)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_strips(path, form, (8, 9), broken())
    np.testing.assert_array_equal(read(path, form), noise(8, 9))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

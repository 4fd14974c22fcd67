"""Every window of every kind of file holds the pixels that the whole image has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

import calco.images.windowed as module
from calco.errors import CalcoError
from calco.images.io import read_image
from calco.images.tiff_windows import TiffWindows
from calco.images.tiles import Window
from calco.images.windowed import opened
from calco.records import ImageSpec

Tile = tuple[int, int] | None

SPEC = ImageSpec(channels=3)
GREY = ImageSpec(channels=1)
DEEP = ImageSpec(channels=3, low=0.0, high=4095.0)
WINDOWS = [Window(0, 0, 70, 90), Window(0, 0, 1, 1), Window(13, 31, 40, 33), Window(69, 0, 1, 90)]


@pytest.fixture(autouse=True)
def _all_images_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOWED_PX", 0)


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:  # noqa: ANN401
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows * 2, cols, rows + cols], axis=-1).astype(np.uint8)


def check(path: Path, spec: ImageSpec, whole: NDArray[np.uint8], level: int = 0) -> None:
    height, width = whole.shape[:2]
    with opened(path, spec, level) as image:
        assert image is not None
        assert image.size == (height, width)
        for w in WINDOWS:
            if w.top < height and w.left < width:
                room = (height - w.top, width - w.left)
                window = Window(w.top, w.left, min(w.height, room[0]), min(w.width, room[1]))
                part = image.read(window)
                assert part.flags.c_contiguous
                np.testing.assert_array_equal(part, whole[window.slices])


WRITERS: dict[str, Callable[[Path], object]] = {
    "tiled": lambda p: tifffile.imwrite(p, noise(70, 90, 3), tile=(32, 16)),
    "deflate": lambda p: tifffile.imwrite(
        p, noise(70, 90, 3), tile=(32, 32), compression="zlib", predictor=True
    ),
    "zstd, big": lambda p: tifffile.imwrite(
        p, noise(70, 90, 3), tile=(32, 32), compression="zstd", bigtiff=True
    ),
    "jpeg": lambda p: tifffile.imwrite(
        p, smooth(70, 90), tile=(32, 32), compression="jpeg", photometric="rgb"
    ),
    "jpeg, subsampled": lambda p: tifffile.imwrite(
        p, smooth(70, 90), tile=(32, 32), compression="jpeg", subsampling=(2, 2)
    ),
    "one strip": lambda p: tifffile.imwrite(p, noise(70, 90, 3)),
    "strips": lambda p: tifffile.imwrite(p, noise(70, 90, 3), rowsperstrip=8),
    "strips, lzw": lambda p: tifffile.imwrite(
        p, noise(70, 90, 3), rowsperstrip=8, compression="lzw"
    ),
    "planar": lambda p: tifffile.imwrite(
        p, noise(3, 70, 90), planarconfig="separate", photometric="rgb", tile=(32, 32)
    ),
    "planar strips": lambda p: tifffile.imwrite(
        p, noise(3, 70, 90), planarconfig="separate", photometric="rgb", rowsperstrip=7
    ),
    "channels as pages": lambda p: tifffile.imwrite(
        p, noise(3, 70, 90), metadata={"axes": "CYX"}, ome=True, photometric="minisblack"
    ),
    "grey": lambda p: tifffile.imwrite(p, noise(70, 90), tile=(32, 32)),
    "white is zero": lambda p: tifffile.imwrite(p, noise(70, 90), photometric="miniswhite"),
    "alpha": lambda p: tifffile.imwrite(
        p, noise(70, 90, 4), extrasamples=["unassalpha"], photometric="rgb", tile=(32, 32)
    ),
    "big-endian": lambda p: tifffile.imwrite(p, noise(70, 90, 3), byteorder=">"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_windows_are_parts_of_the_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    WRITERS[kind](path)
    check(path, SPEC, read_image(path, SPEC))
    check(path, GREY, read_image(path, GREY))


@pytest.mark.parametrize("kind", ["tiled", "strips", "one strip"])
@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_windows_are_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / "a.tif"
    WRITERS[kind](path)
    turn(path, orientation)
    check(path, SPEC, read_image(path, SPEC))
    check(path, GREY, read_image(path, GREY))


def turn(path: Path, orientation: int) -> None:
    values = tifffile.imread(path)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tile = (page.tilelength, page.tilewidth) if page.is_tiled else None
        rows = None if tile else page.rowsperstrip
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, values, tile=tile, rowsperstrip=rows, extratags=[tag])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bits_are_scaled_as_in_training(
    tmp_path: Path, byteorder: str, tile: Tile, compression: str | None
) -> None:
    values = noise(70, 90, 3, dtype=np.uint16) * 16
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values, byteorder=byteorder, tile=tile, compression=compression, photometric="rgb"
    )
    check(path, DEEP, read_image(path, DEEP))


# --- pyramids


def write_pyramid(path: Path, levels: list[NDArray[Any]]) -> None:
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif"), bigtiff=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, tile=(32, 32), photometric="rgb")
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, tile=(16, 16), photometric="rgb")


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif"])
def test_any_level_of_a_pyramid_is_read(tmp_path: Path, name: str) -> None:
    levels = [noise(70, 90, 3), noise(35, 45, 3), noise(18, 23, 3)]
    write_pyramid(tmp_path / name, levels)
    for number, level in enumerate(levels):
        check(tmp_path / name, SPEC, level, number)
    with pytest.raises(CalcoError, match=r"IMG_LEVEL.*level 3.*2 \(18 x 23\)"):
        check(tmp_path / name, SPEC, levels[0], 3)


def test_pyramids_are_read_by_window_however_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOWED_PX", 10**6)
    write_pyramid(tmp_path / "a.tif", [noise(70, 90, 3), noise(35, 45, 3)])
    check(tmp_path / "a.tif", SPEC, noise(70, 90, 3))
    tifffile.imwrite(tmp_path / "b.tif", noise(70, 90, 3), tile=(32, 32))
    with opened(tmp_path / "b.tif", SPEC) as image:
        assert image is None


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_plain_images_have_one_level(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), noise(70, 90, 3))
    with (
        pytest.raises(CalcoError, match=r"IMG_LEVEL.*no pyramid"),
        opened(tmp_path / f"a{suffix}", SPEC, 1),
    ):
        pass


# --- zarr


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", ["yxc", "cyx", "yx"])
def test_zarr_arrays(tmp_path: Path, zarr_format: Literal[2, 3], axes: str) -> None:
    shape = {"yxc": (70, 90, 3), "cyx": (3, 70, 90), "yx": (70, 90)}[axes]
    values = noise(*shape)
    chunks = tuple(min(n, 32) for n in shape)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=shape, chunks=chunks, dtype="u1", zarr_format=zarr_format
    )
    array[:] = values
    whole = {"yxc": values, "cyx": values.transpose(1, 2, 0) if axes == "cyx" else values}.get(
        axes, np.repeat(values[..., None], 3, axis=-1)
    )
    check(tmp_path / "a.zarr", SPEC, whole)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_pyramids(tmp_path: Path, version: str) -> None:
    levels = [noise(1, 3, 1, 70, 90), noise(1, 3, 1, 35, 45)]
    group = zarr.open_group(str(tmp_path / "a.zarr"), zarr_format=2 if version == "0.4" else 3)
    for i, level in enumerate(levels):
        array = group.create_array(
            f"s{i}", shape=level.shape, chunks=(1, 1, 1, 32, 32), dtype=level.dtype
        )
        array[:] = level
    image = {
        "axes": [{"name": name} for name in "tczyx"],
        "datasets": [{"path": "s0"}, {"path": "s1"}],
    }
    group.attrs.update(
        {"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}}
    )
    for number, level in enumerate(levels):
        check(tmp_path / "a.zarr", SPEC, level[0, :, 0].transpose(1, 2, 0), number)
    with pytest.raises(CalcoError, match="IMG_LEVEL"):
        check(tmp_path / "a.zarr", SPEC, levels[0], 2)


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        (".zarray", '{"shape": [4, 4], "filters": [{"id": "pickle"}]}', "codec pickle"),
        (".zarray", '{"shape": [4, 4], "dtype": "|O", "compressor": null}', r"type \|O"),
        (
            "zarr.json",
            '{"node_type": "array", "codecs": [{"name": "sharding_indexed", "configuration":'
            ' {"codecs": [{"name": "numcodecs.pickle"}]}}]}',
            "codec pickle",
        ),
        ("zarr.json", '{"node_type": "group"}', "does not describe"),
        ("zarr.json", "{", "damaged"),
        (
            ".zattrs",
            '{"multiscales": [{"datasets": [{"path": "../other"}]}]}',
            "outside of the store",
        ),
    ],
)
def test_zarr_that_asks_for_more_than_numbers_is_refused(
    tmp_path: Path, name: str, text: str, got: str
) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / ".zgroup").write_text("{}")
    (folder / name).write_text(text)
    with pytest.raises(CalcoError, match=f"IMG_FORMAT.*{got}"), opened(folder, SPEC):
        pass


def test_stacks_of_zarr_planes_are_no_image(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(40, 70, 90), chunks=(1, 32, 32), dtype="u1")
    with (
        pytest.raises(CalcoError, match=r"shape \(40, 70, 90\)"),
        opened(tmp_path / "a.zarr", SPEC),
    ):
        pass


# --- damage and traps


def cut(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:-n_bytes])


@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_a_damaged_part_is_named_and_the_rest_is_read(
    tmp_path: Path, compression: str | None, tile: Tile
) -> None:
    path = tmp_path / "a.tif"
    rows = None if tile else 16
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(smooth(70, 90), tile=tile, rowsperstrip=rows, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        start, count = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    if compression:
        data[start : start + count] = b"\xff\xd8\xff\xd9" + b"\x17" * (count - 4)
        path.write_bytes(data)
    else:
        path.write_bytes(data[: start + count // 2])
    with opened(path, SPEC) as image:
        assert image is not None
        assert image.read(Window(0, 0, 10, 10)).shape == (10, 10, 3)
        with pytest.raises(CalcoError, match=r"a\.tif, window at row 64, column 80"):
            image.read(Window(64, 80, 6, 10))


def test_a_jpeg_larger_than_its_tile_is_not_decoded(tmp_path: Path) -> None:
    small, large = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(small, smooth(64, 64), tile=(64, 64), compression="jpeg")
    tifffile.imwrite(large, np.zeros((512, 512, 3), np.uint8), tile=(512, 512), compression="jpeg")
    with tifffile.TiffFile(large) as tiff:
        page = tiff.pages[0]
        bomb = large.read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
    with tifffile.TiffFile(small) as tiff:
        page = tiff.pages[0]
        data = bytearray(small.read_bytes()) + bomb
        offset_at, count_at = page.tags[324].valueoffset, page.tags[325].valueoffset
    data[offset_at : offset_at + 4] = (len(data) - len(bomb)).to_bytes(4, "little")
    data[count_at : count_at + 4] = len(bomb).to_bytes(4, "little")
    small.write_bytes(data)
    with opened(small, SPEC) as image:
        assert image is not None
        with pytest.raises(CalcoError, match=r"IMG_TRUNCATED.*tile or strip 0"):
            image.read(Window(0, 0, 8, 8))


def test_what_cannot_be_read_by_window_is_held_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import calco.images.tiff_windows as tiff_module

    monkeypatch.setattr(tiff_module, "MAX_SEGMENT_BYTES", 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(70, 90, 3), rowsperstrip=70, compression="zlib")
    with opened(path, SPEC) as image:
        assert image is None  # small enough to be read whole
    with (
        pytest.raises(CalcoError, match=r"IMG_SIZE.*strips of 70 x 90 px"),
        opened(path, ImageSpec(channels=3, max_megapixels=0.001)),
    ):
        pass
    tifffile.imwrite(path, noise(70, 90, 3))  # one strip, but bare: any part of it can be read
    check(path, ImageSpec(channels=3, max_megapixels=0.001), noise(70, 90, 3))


def test_forged_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEGAPIXELS", 0.001)
    tifffile.imwrite(tmp_path / "a.tif", noise(70, 90, 3), tile=(32, 32))
    with pytest.raises(CalcoError, match="IMG_SIZE"), opened(tmp_path / "a.tif", SPEC):
        pass


def test_values_that_are_no_numbers_fail_their_window(tmp_path: Path) -> None:
    values = np.zeros((70, 90), np.float32)
    values[60, 60] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(32, 32))
    with opened(tmp_path / "a.tif", ImageSpec(channels=1, low=0.0, high=1.0)) as image:
        assert image is not None
        image.read(Window(0, 0, 50, 50))
        with pytest.raises(CalcoError, match="IMG_NONFINITE"):
            image.read(Window(40, 40, 30, 30))


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import calco.images.tiff_windows as tiff_module

    monkeypatch.setattr(tiff_module, "CACHE_BYTES", 3 * 32 * 32 * 3)
    tifffile.imwrite(tmp_path / "a.tif", noise(70, 90, 3), tile=(32, 32), compression="zlib")
    with opened(tmp_path / "a.tif", SPEC) as image:
        assert image is not None
        raster = image.raster
        assert isinstance(raster, TiffWindows)
        np.testing.assert_array_equal(image.read(WINDOWS[0]), noise(70, 90, 3))
        assert len(raster._cache) == 3


def test_a_shrunken_image_is_made_of_means(tmp_path: Path) -> None:
    values = np.repeat(np.repeat(noise(7, 9), 10, axis=0), 10, axis=1)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(32, 32))
    with opened(tmp_path / "a.tif", GREY) as image:
        assert image is not None
        np.testing.assert_array_equal(image.shrunken(10)[..., 0], noise(7, 9))
        assert image.shrunken(100).shape == (1, 1, 1)

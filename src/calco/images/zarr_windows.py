"""Parts of a zarr array, plain or a level of an OME-Zarr pyramid."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from calco.errors import CalcoError, Problem
from calco.images.files import refuse_level
from calco.images.stored import Stored, native
from calco.images.tiles import Window

MAX_CHUNK_BYTES = 1 << 27
MAX_METADATA_BYTES = 1 << 24
MAX_CHANNELS = 16  # an axis as short as this is channels, not a picture's side

# zarr looks codecs up by the names in a file, and some of those run what they unpack
_SAFE_CODECS = frozenset(
    {"blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma", "delta", "shuffle"}
    | {"bytes", "transpose", "crc32c", "sharding_indexed"}
)


class ZarrWindows:
    """One image of a zarr store; threads may read at a time.

    Args:
        path: For messages.
        array: What is read.
        axes: A letter for each of its axes: ``y``, ``x``, ``c``; any other has one entry.
    """

    def __init__(self, path: Path, array: Any, axes: str) -> None:  # noqa: ANN401
        self.path = path
        self.array = array
        self.axes = axes

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.array.shape[self.axes.index("y")], self.array.shape[self.axes.index("x")]

    def stored(self, window: Window) -> Stored:
        """Return the values of a window.

        Raises:
            CalcoError: IMG_FORMAT.
        """
        rows, columns = window.slices
        where: dict[str, slice | int] = {"y": rows, "x": columns, "c": slice(None)}
        values = np.asarray(self.array[tuple(where.get(axis, 0) for axis in self.axes)])
        kept = [axis for axis in self.axes if axis in where]
        values = values.transpose([kept.index(axis) for axis in "yxc" if axis in kept])
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[..., 0]
        values, notes = native(values, self.path)
        return Stored(values, f"zarr {self.array.dtype}", notes=notes)


def open_zarr(path: Path, level: int) -> tuple[ZarrWindows, int]:
    """Open a zarr array, or the first image of an OME-Zarr group.

    Args:
        path: Its folder.
        level: Of a pyramid, 0 is the finest.

    Returns:
        The image and the number of levels.

    Raises:
        CalcoError: When zarr is not installed, or the folder holds no image it can read safely.
    """
    try:
        import zarr
    except ModuleNotFoundError:
        what, do = "zarr arrays need the package zarr", "pip install 'calco[zarr]'"
        problem = Problem("ZARR_MISSING", what, str(path), "not installed", do=do)
        raise CalcoError(problem) from None
    places, axes = _levels(path)
    for place in places:
        _check_codecs(path, place)
    arrays = [zarr.open_array(str(place), mode="r") for place in places]
    shape = arrays[0].shape
    axes = axes or _guessed_axes(shape)
    others = [n for axis, n in zip(axes, shape, strict=False) if axis not in "yxc"]
    if len(axes) != len(shape) or not {"y", "x"} <= set(axes) or math.prod(others) != 1:
        raise CalcoError(_no_image(path, f"shape {shape}, axes {axes or 'unknown'}"))
    images = [ZarrWindows(path, array, axes) for array in arrays]
    refuse_level(path, level, [image.size for image in images])
    array = images[level].array
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK_BYTES:
        raise CalcoError(_no_image(path, f"chunks of shape {array.chunks}"))
    return images[level], len(images)


def _levels(path: Path) -> tuple[list[Path], str]:
    """Find the arrays of a store, finest first, and their axes; those of a plain array are ""."""
    node = _json(path, "zarr.json")
    if node.get("node_type") == "array" or (path / ".zarray").is_file():
        return [path], ""
    attributes = node.get("attributes", {}) if node else _json(path, ".zattrs")
    try:
        image = attributes.get("ome", attributes)["multiscales"][0]
        names = [PurePosixPath(level["path"]) for level in image["datasets"]]
        axes = "".join(a if isinstance(a, str) else a["name"] for a in image.get("axes", "tczyx"))
    except (KeyError, IndexError, TypeError, AttributeError):
        got = "a group that does not describe an image"
        raise CalcoError(_no_image(path, got)) from None
    if not names or any(name.is_absolute() or ".." in name.parts for name in names):
        raise CalcoError(_no_image(path, "levels outside of the store"))
    return [path / name for name in names], axes


def _check_codecs(path: Path, place: Path) -> None:
    """Refuse an array that needs more than plain numbers and known compression."""
    node = _json(place, "zarr.json")
    if node:
        names = list(_names(node.get("codecs"), "name"))
    else:
        node = _json(place, ".zarray")
        names = list(_names([node.get("compressor"), node.get("filters")], "id"))
    strange = sorted({name.removeprefix("numcodecs.") for name in names} - _SAFE_CODECS)
    if not node:
        raise CalcoError(_no_image(path, f"no array at {place.name}"))
    if strange:
        raise CalcoError(_no_image(path, f"codec {', '.join(strange)}"))
    if "O" in str(node.get("dtype", "")):
        raise CalcoError(_no_image(path, f"type {node['dtype']}"))


def _names(node: Any, key: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Yield the names of all codecs, those inside of others too."""
    match node:
        case dict():
            if isinstance(node.get(key), str):
                yield node[key]
            for value in node.values():
                yield from _names(value, key)
        case list():
            for value in node:
                yield from _names(value, key)


def _json(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        return {}
    with file.open("rb") as stream:
        text = stream.read(MAX_METADATA_BYTES)
    try:
        node = json.loads(text)
    except (ValueError, RecursionError):
        raise CalcoError(_no_image(folder, f"a damaged {name}")) from None
    return node if isinstance(node, dict) else {}


def _guessed_axes(shape: Sequence[int]) -> str:
    """Name the axes of a plain array by their lengths."""
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        if shape[2] <= MAX_CHANNELS:
            return "yxc"
        if shape[0] <= MAX_CHANNELS:
            return "cyx"
    return ""


def _no_image(path: Path, got: str) -> Problem:
    return Problem(
        "IMG_FORMAT",
        "not a zarr image calco reads",
        str(path),
        got=got,
        expected="one 2-D image of integers or reals, or an OME-Zarr pyramid of it, in chunks of"
        f" at most {MAX_CHUNK_BYTES >> 20} MB",
        do="name the array inside the store, or write it anew",
    )

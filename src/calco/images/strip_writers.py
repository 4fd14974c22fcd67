"""Grey images written from the top, strip by strip, never whole in memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, assert_never

import numpy as np
import tifffile
from numpy.typing import NDArray

from calco.files import atomic_file, atomic_folder

Form = Literal["png", "tif", "zarr"]
TILE_PX = 512
"""Side of the tiles of TIFF and of the chunks of zarr."""

_Strips = Iterable[NDArray[np.uint8]]


def write_strips(path: Path, form: Form, size: tuple[int, int], strips: _Strips) -> None:
    """Write a grey image; its name never holds half of it.

    Args:
        path: File, or folder of a zarr array.
        form: ``png``; ``tif``, tiled and deflated, BigTIFF when it may need to be; or ``zarr``,
            version 2, in chunks.
        size: (height, width).
        strips: (h, W) uint8 from the top, of any heights.
    """
    match form:
        case "png":
            with atomic_file(path) as file:
                _write_png(file, size, strips)
        case "tif":
            with atomic_file(path) as file:
                _write_tiff(file, size, strips)
        case "zarr":
            with atomic_folder(path) as folder:
                _write_zarr(folder, size, strips)
        case _:
            assert_never(form)


def _write_png(file: BinaryIO, size: tuple[int, int], strips: _Strips) -> None:
    height, width = size
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))  # 8-bit grey
    packer = zlib.compressobj(level=4)
    for strip in strips:
        unfiltered = np.pad(strip, ((0, 0), (1, 0)))  # each row begins with its filter, 0 for none
        _chunk(file, b"IDAT", packer.compress(unfiltered.tobytes()))
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    if data or name == b"IEND":
        check = zlib.crc32(data, zlib.crc32(name))
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", check))


def _write_tiff(file: BinaryIO, size: tuple[int, int], strips: _Strips) -> None:
    big = size[0] * size[1] > 2**31  # offsets of classic TIFF end at 4 GB
    # tifffile takes the number of a descriptor for a name, unless it is given one
    handle = tifffile.FileHandle(file, name="mask.tif")
    with tifffile.TiffWriter(handle, bigtiff=big) as tiff:
        tiff.write(
            _tiles(strips),
            shape=size,
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="minisblack",
            compression="zlib",
            software=False,
            metadata=None,
            maxworkers=1,  # more of them would take tiles ahead, and memory
        )


def _tiles(strips: _Strips) -> Iterator[NDArray[np.uint8]]:
    for band in _bands(strips):
        for left in range(0, band.shape[1], TILE_PX):
            part = band[:, left : left + TILE_PX]
            room = (TILE_PX - part.shape[0], TILE_PX - part.shape[1])
            yield np.pad(part, ((0, room[0]), (0, room[1])))  # (TILE_PX, TILE_PX)


def _bands(strips: _Strips) -> Iterator[NDArray[np.uint8]]:
    """Cut strips of any heights into bands as high as a tile."""
    held: list[NDArray[np.uint8]] = []
    for strip in strips:
        held.append(strip)
        while sum(map(len, held)) >= TILE_PX:
            rows = np.concatenate(held)
            yield rows[:TILE_PX]
            held = [rows[TILE_PX:]]
    if sum(map(len, held)):
        yield np.concatenate(held)


def _write_zarr(folder: Path, size: tuple[int, int], strips: _Strips) -> None:
    import zarr

    array = zarr.create_array(
        str(folder),
        shape=size,
        chunks=(min(TILE_PX, size[0]), min(TILE_PX, size[1])),
        dtype="u1",
        zarr_format=2,  # what every reader knows
        overwrite=True,
    )
    top = 0
    for band in _bands(strips):
        array[top : top + len(band)] = band
        top += len(band)

"""Images that are never whole in memory: from windows to levels on disk, from those to a mask.

Probabilities are written, row of tiles by row of tiles, into a scratch file of one byte per pixel.
When all of it is there it is cleaned and written out. A run that was killed goes on with the row it
was at, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.files import remove, write_atomic
from calco.images.overlays import overlay
from calco.images.strip_writers import Form, write_strips
from calco.images.tiles import FloatMap, Window, blended, windows
from calco.images.windowed import WindowedImage
from calco.inference.outputs import PARTIAL, OutputFolder, cannot_write, stamp
from calco.inference.postprocess import to_levels
from calco.inference.quality import DiceEstimate
from calco.inference.regions import clean_strips
from calco.inference.streams import Streams, Tracer, abreast
from calco.records import Postprocess

STRIP_PX = 4_000_000
"""Pixels of a strip that is cleaned at a time; its labels take four bytes each."""

OVERLAY_PX = 1024  # longer side of an overlay, enough to judge an outline

Levels = NDArray[np.uint8]
OnTile = Callable[[int, int], None]


@dataclass(frozen=True)
class Scratch:
    """Where the levels of one image are collected.

    Attributes:
        folder: Its own; removed when the image is done.
        key: What the levels are made of; those made of anything else are not continued.
    """

    folder: Path
    key: str

    @property
    def levels(self) -> Path:
        """(H, W) uint8 in reading order, ``rint(255 * prob)``."""
        return self.folder / "levels"

    @property
    def state(self) -> Path:
        """JSON of the key and of how many rows are done."""
        return self.folder / "state.json"

    def rows_done(self) -> int:
        """Return how many rows of levels are on disk for good."""
        try:
            state = json.loads(self.state.read_text("utf-8"))
            same = state["key"] == self.key and self.levels.is_file()
            return int(state["rows"]) if same else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def note(self, rows: int) -> None:
        """Note that so many rows are on disk."""
        write_atomic(self.state, json.dumps({"key": self.key, "rows": rows}))

    def discard(self) -> None:
        """Remove it all."""
        remove(self.folder)


def scratch_for(root: Path, name: str, key: str) -> Scratch:
    """Name the scratch of an image; ids may be longer than a file name, and of any depth."""
    return Scratch(root / hashlib.sha256(name.encode()).hexdigest()[:24], key)


def write_levels(
    tracer: Tracer, image: WindowedImage, scratch: Scratch, on_tile: OnTile | None = None
) -> None:
    """Predict tile by tile, and keep the levels of all pixels in the scratch.

    Args:
        tracer: The model.
        image: Read by window.
        scratch: Continued when it holds rows of the same.
        on_tile: Called as (tiles done, tiles in all).

    Raises:
        CalcoError: When a part of the image cannot be read, or the model sees whole images only.
    """
    tiling = tracer.tiling
    if tiling is None:
        raise CalcoError(_sees_whole_images(image.path))
    size, tiles = image.size, windows(image.size, tiling)
    first_row = scratch.rows_done()
    if first_row == size[0]:
        return
    done = sum(tile.top < first_row for tile in tiles)

    def one(streams: Streams, tile: Window) -> FloatMap:
        return streams.prob(image.read(tile))

    def predict(needed: Iterable[Window]) -> Iterator[FloatMap]:
        nonlocal done
        asked = list(needed)
        for tile, prob in zip(asked, abreast(tracer, asked, one), strict=True):
            if tile.top >= first_row:
                done += 1
                if on_tile:
                    on_tile(done, len(tiles))
            yield prob

    _write(scratch, size, blended(size, tiling, predict, first_row))


def _write(
    scratch: Scratch, size: tuple[int, int], blocks: Iterator[tuple[Window, FloatMap]]
) -> None:
    scratch.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(scratch.levels, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        for window, prob in blocks:
            levels = to_levels(prob)
            for row in range(window.height):
                start = (window.top + row) * size[1] + window.left
                os.pwrite(descriptor, levels[row].tobytes(), start)
            if window.left + window.width == size[1]:
                os.fsync(descriptor)  # before it is noted: a note must not outlive its rows
                scratch.note(window.top + window.height)
    finally:
        os.close(descriptor)


def strips_of(scratch: Scratch, size: tuple[int, int]) -> Iterator[Levels]:
    """Read the levels from the top, in strips of about ``STRIP_PX`` pixels."""
    height, width = size
    rows = max(1, STRIP_PX // width)
    with scratch.levels.open("rb") as file:
        for top in range(0, height, rows):
            n_px = min(rows, height - top) * width
            yield np.frombuffer(file.read(n_px), np.uint8).reshape(-1, width)


class Cleaned:
    """The mask of an image, made anew from its levels whenever it is iterated, and what it is like.

    Args:
        scratch: Holds all levels.
        size: (height, width).
        params: From levels to mask.
        step_px: Side of the squares of the small mask.
    """

    def __init__(
        self, scratch: Scratch, size: tuple[int, int], params: Postprocess, step_px: int
    ) -> None:
        self.scratch = scratch
        self.size = size
        self.params = params
        self.step_px = step_px
        self.estimate = DiceEstimate()
        self._share = np.zeros((-(-size[0] // step_px), -(-size[1] // step_px)))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield strips of (h, W) uint8 in {0, 255}; afterwards the properties hold."""
        self.estimate = DiceEstimate()
        self._share[:] = 0
        top = 0
        masks = clean_strips(lambda: strips_of(self.scratch, self.size), self.params)
        for levels, mask in zip(strips_of(self.scratch, self.size), masks, strict=True):
            self.estimate = self.estimate.plus(levels, mask)
            self._shrink(top, mask)
            top += len(mask)
            yield mask.view(np.uint8) * np.uint8(255)

    @property
    def foreground_fraction(self) -> float:
        """Share of mask pixels."""
        return self.estimate.n_pred / (self.size[0] * self.size[1])

    @property
    def small(self) -> NDArray[np.bool_]:
        """(ceil(H / step), ceil(W / step)) bool: squares that are mask by half or more."""
        return self._share >= self.step_px**2 / 2

    def _shrink(self, top: int, mask: NDArray[np.bool_]) -> None:
        step = self.step_px
        columns = np.add.reduceat(mask, np.arange(0, mask.shape[1], step), axis=1, dtype=np.int64)
        np.add.at(self._share, np.arange(top, top + len(mask)) // step, columns)


@dataclass(frozen=True)
class Traced:
    """What became of a large image.

    Attributes:
        form: Ending of its files.
        foreground_fraction: Share of mask pixels.
        estimated_dice: What the mask would probably get.
        scratch: To be discarded when the files are noted.
    """

    form: Form
    foreground_fraction: float
    estimated_dice: float
    scratch: Scratch


def trace_large(
    tracer: Tracer, image: WindowedImage, folder: OutputFolder, name: str, on_tile: OnTile
) -> Traced:
    """Predict an image by window and write its outputs, each whole.

    Args:
        tracer: The model.
        image: Read by window.
        folder: Takes the outputs and, meanwhile, the scratch.
        name: Id of the image.
        on_tile: Called as (tiles done, tiles in all).

    Raises:
        CalcoError: When a part of the image cannot be read.
        OutputError: When the system refuses to write.
    """
    key = f"{stamp(image.path)} {image.size}"
    scratch = scratch_for(folder.path / PARTIAL, name, key)
    try:
        write_levels(tracer, image, scratch, on_tile)
        return _write_outputs(tracer.params, image, folder, name, scratch)
    except OSError as error:  # of reading, faults come as CalcoError
        raise cannot_write(name, error) from None


def _write_outputs(
    params: Postprocess, image: WindowedImage, folder: OutputFolder, name: str, scratch: Scratch
) -> Traced:
    size = image.size
    step_px = -(-max(size) // OVERLAY_PX)
    cleaned = Cleaned(scratch, size, params, step_px)
    form = image.form
    for output, target in zip(folder.outputs, folder.prepare(name, form), strict=True):
        match output:
            case "mask":
                write_strips(target, form, size, cleaned)
            case "prob":
                write_strips(target, form, size, strips_of(scratch, size))
            case "overlay":
                picture = overlay(image.shrunken(step_px), None, cleaned.small, OVERLAY_PX)
                write_atomic(target, bytes(cv2.imencode(".jpg", picture[..., ::-1])[1]))
            case _:
                assert_never(output)
    return Traced(form, cleaned.foreground_fraction, cleaned.estimate.dice, scratch)


def _sees_whole_images(path: Path) -> Problem:
    return Problem(
        "IMG_SIZE",
        "this model sees images shrunk to one size, and so large a one only in parts",
        str(path),
        do="cut the image as the training images were, or train without fit.resize_px",
    )

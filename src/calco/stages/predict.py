"""Trace images: one mask file per image, restartable, and every input accounted for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.formats.inputs import InputImage, find_images
from calco.images.io import read_image
from calco.images.overlays import overlay
from calco.images.windowed import opened
from calco.inference.big import OVERLAY_PX, trace_large
from calco.inference.faults import IMAGE_FAULTS, one_line
from calco.inference.outputs import DoneImage, Output, OutputError, OutputFolder, stamp
from calco.inference.postprocess import clean, to_levels
from calco.inference.quality import estimate_dice
from calco.inference.streams import Streams, Tracer, abreast
from calco.records import Prediction

FILES_AHEAD = 64  # done, and not yet told of because an earlier one is large
ALMOST = 0.99  # share of a large image when all of it is predicted

OnProgress = Callable[[int, int, Prediction], None]
OnTile = Callable[[float, int, str], None]


@dataclass(frozen=True)
class PredictOptions:
    """What to write and what to replace.

    Attributes:
        prob: Write ``prob/<id>.png``, probability times 255, rounded.
        overlay: Write ``overlay/<id>.jpg``, the outline on the picture.
        overwrite: Accept an output folder with other files or another model's predictions.
        model: Identity of the model, e.g. the sha256 of its weights, by which a rerun knows its
            own outputs; without it every image is done again.
        at_once: Images predicted at a time, on one core each, when they are small; None is as
            many as there are cores.
        level: Of images that are pyramids, 0 is the finest; masks have its size.
    """

    prob: bool = False
    overlay: bool = False
    overwrite: bool = False
    model: str = ""
    at_once: int | None = None
    level: int = 0


def predict_files(
    predictor: Tracer,
    inputs: Sequence[str | Path],
    out: Path,
    options: PredictOptions | None = None,
    on_progress: OnProgress | None = None,
    on_tile: OnTile | None = None,
) -> tuple[Prediction, ...]:
    """Write ``<id>.png`` (uint8 {0, 255}, the input's size) for every image, then manifest.csv.

    Run again after a kill it does what is missing; images whose file and model are unchanged are
    kept. An image that cannot be read fails alone. Large ones come last, one after the other, and
    are read and written by window: above ``spec.max_megapixels`` the mask is ``<id>.tif``, that of
    a zarr array ``<id>.zarr``.

    Args:
        predictor: The model.
        inputs: Files, folders (with sub-folders) and patterns.
        out: Folder to write; created.
        options: What to write besides masks.
        on_progress: Called as (images done, images in all, the last one).
        on_tile: Called as (images done with the part of a large one, images in all, which part).

    Returns:
        One per image, sorted by id; ``failed`` ones say why.

    Raises:
        CalcoError: Before any work when inputs or folder are wrong; midway when the folder
            cannot be written.
    """
    options = options or PredictOptions()
    _refuse_own_input(inputs, out)
    images = find_images(inputs, skip=out)
    folder = OutputFolder(out, _identity(predictor, options), _outputs(options))
    predictions: list[Prediction] = []

    def tile_done(image: InputImage, done: int, total: int) -> None:
        if on_tile:
            part = min(done / total, ALMOST)  # it is still to be cleaned and written
            note = f"{image.id}: {done} of {total} tiles"
            on_tile(len(predictions) + part, len(images), note)

    with folder.claimed(images, options.overwrite):
        for prediction in _predict_all(predictor, images, folder, options, tile_done):
            predictions.append(prediction)
            if on_progress:
                on_progress(len(predictions), len(images), prediction)
        predictions.sort(key=lambda prediction: prediction.id)
        folder.write_manifest(predictions)
    return tuple(predictions)


def mask_files(predictions: Sequence[Prediction], out: Path) -> dict[str, Path]:
    """Return the mask file of every image that was done, by id: what a submission is made of."""
    return {p.id: out / f"{p.id}{p.ending}" for p in predictions if p.status == "done"}


def _predict_all(
    predictor: Tracer,
    images: Sequence[InputImage],
    folder: OutputFolder,
    options: PredictOptions,
    on_tile: Callable[[InputImage, int, int], None],
) -> Iterator[Prediction]:
    def one(streams: Streams, image: InputImage) -> Prediction | None:
        return _predict_one(streams, image, folder, options)

    large = []
    found = abreast(predictor, images, one, options.at_once, ahead=FILES_AHEAD)
    for image, prediction in zip(images, found, strict=True):
        if prediction:
            yield prediction
        else:
            large.append(image)
    for image in large:
        yield _predict_large(predictor, image, folder, options, partial(on_tile, image))


def _predict_one(
    streams: Streams, image: InputImage, folder: OutputFolder, options: PredictOptions
) -> Prediction | None:
    """Predict an image in memory; None when it is one to be read by window."""
    if known := folder.is_done(image):
        return _prediction(image, known)
    began = time.perf_counter()
    try:
        with opened(image.source, streams.tracer.spec, options.level) as windowed:
            if windowed:
                return None
        size, mtime_ns = stamp(image.source)  # before reading: the next run sees a later change
        files, share, estimate = _trace(streams, image.source, options)
    except IMAGE_FAULTS as error:  # the other images go on
        folder.discard(image.id)
        return _failure(image, time.perf_counter() - began, error)
    seconds = time.perf_counter() - began
    done = DoneImage(
        id=image.id,
        size=size,
        mtime_ns=mtime_ns,
        outputs=folder.outputs,
        foreground_fraction=share,
        estimated_dice=estimate,
        seconds=seconds,
    )
    folder.write(done, files)
    return _prediction(image, done)


def _predict_large(
    predictor: Tracer,
    image: InputImage,
    folder: OutputFolder,
    options: PredictOptions,
    on_tile: Callable[[int, int], None],
) -> Prediction:
    began = time.perf_counter()
    try:
        size, mtime_ns = stamp(image.source)
        with opened(image.source, predictor.spec, options.level) as large:
            if large is None:
                raise CalcoError(_changed(image.source))
            traced = trace_large(predictor, large, folder, image.id, on_tile)
    except OutputError:
        raise
    except IMAGE_FAULTS as error:
        folder.discard(image.id)
        return _failure(image, time.perf_counter() - began, error)
    done = DoneImage(
        id=image.id,
        size=size,
        mtime_ns=mtime_ns,
        outputs=folder.outputs,
        foreground_fraction=traced.foreground_fraction,
        estimated_dice=traced.estimated_dice,
        seconds=time.perf_counter() - began,
        form=traced.form,
    )
    folder.note(done)
    traced.scratch.discard()
    return _prediction(image, done)


def _failure(image: InputImage, seconds: float, error: Exception) -> Prediction:
    return Prediction(image.id, image.source, "failed", math.nan, seconds, one_line(error))


def _changed(source: Path) -> Problem:
    return Problem("IMG_SIZE", "the file was replaced meanwhile", str(source), do="run again")


def _prediction(image: InputImage, done: DoneImage) -> Prediction:
    return Prediction(
        id=image.id,
        source=image.source,
        status="done",
        foreground_fraction=done.foreground_fraction,
        seconds=done.seconds,
        estimated_dice=done.estimated_dice,
        ending=f".{done.form}",
    )


def _trace(
    streams: Streams, source: Path, options: PredictOptions
) -> tuple[list[bytes], float, float]:
    """Return the encoded outputs in the order of ``_outputs``, foreground share and quality."""
    image = read_image(source, streams.tracer.spec)  # (H, W, C) uint8
    prob = streams.prob(image)  # (H, W) float32
    if prob.shape != image.shape[:2]:
        raise CalcoError(
            Problem(
                "PRED_SIZE",
                "the model changed the image's size",
                got=str(prob.shape),
                expected=str(image.shape[:2]),
                do="give a model whose output is as large as its input",
            )
        )
    levels = to_levels(prob)  # (H, W) uint8
    mask = clean(levels, streams.tracer.params)  # (H, W) bool
    files = [_encode(".png", mask.astype(np.uint8) * np.uint8(255))]
    if options.prob:
        files.append(_encode(".png", levels))
    if options.overlay:
        side_px = min(OVERLAY_PX, max(mask.shape))
        files.append(_encode(".jpg", overlay(image, None, mask, side_px)[..., ::-1]))
    return files, float(mask.mean()), estimate_dice(levels, mask)


def _outputs(options: PredictOptions) -> tuple[Output, ...]:
    wanted: dict[Output, bool] = {"mask": True, "prob": options.prob, "overlay": options.overlay}
    return tuple(output for output, is_wanted in wanted.items() if is_wanted)


def _encode(suffix: str, array: NDArray[np.uint8]) -> bytes:
    # written from bare pixels: no metadata (place, camera, owner) of the input can follow
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(array))[1])


def _identity(predictor: Tracer, options: PredictOptions) -> str:
    if not options.model:
        return ""
    params = predictor.params
    spec, how = predictor.spec, f"{predictor.tiling}, level {options.level}"
    return f"{options.model} {spec} {replace(params, note='')} {how}"


def _refuse_own_input(inputs: Sequence[str | Path], out: Path) -> None:
    for given in inputs:
        if Path(given).is_dir() and Path(given).resolve() == out.resolve():
            raise CalcoError(
                Problem(
                    "OUT_IS_INPUT",
                    "the output folder is the input folder",
                    str(out),
                    do="choose another output folder",
                )
            )

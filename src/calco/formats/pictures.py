"""Samples as pictures for people: the image with its truth and a prediction traced on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calco.errors import CalcoError, Problem
from calco.formats.truth import read_sample
from calco.images.figures import draw_sheet
from calco.images.io import read_image, read_pixels
from calco.images.overlays import overlay
from calco.records import ImageScore, Sample, SampleIndex

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


def trace(index: SampleIndex, sample: Sample, pred: BoolArray | None = None) -> UInt8Array:
    """Return a sample's image with its truth in blue and a prediction in orange.

    Args:
        index: How images and masks are read.
        sample: One of the index; without a mask no truth is drawn.
        pred: (H, W) bool at the image's size.

    Returns:
        (H', W', 3) uint8, see ``calco.images.overlays.overlay``.

    Raises:
        CalcoError: When the image or its mask cannot be read.
    """
    if sample.mask is None:
        return overlay(read_image(sample.image, index.spec), None, pred)
    image, true = read_sample(sample, index)  # (H, W, C), (H, W)
    return overlay(image, true, pred)


def trace_scored(index: SampleIndex, score: ImageScore, predictions: Path) -> UInt8Array:
    """Return a scored image with truth and the mask that was scored.

    Args:
        index: Holds the sample.
        score: Of the image.
        predictions: Folder with ``<subset>/<id>.png``, {0, 255}.

    Raises:
        CalcoError: When the sample is not in the index or a file cannot be read.
    """
    sample = next((s for s in index if s.id == score.id), None)
    if sample is None:
        what, do = "scored image is not in the audit", "restore audit.json or train again"
        raise CalcoError(Problem("RUN_FILE", what, score.id, do=do))
    path = predictions / score.subset / f"{score.id}.png"
    pixels = read_pixels(path, max_megapixels=index.spec.max_megapixels).pixels
    return trace(index, sample, pixels.reshape(pixels.shape[:2]) > 0)


def draw_samples(index: SampleIndex, n: int = 6) -> bytes:
    """Draw samples from all over a data set, their truth traced, as one JPEG.

    Raises:
        CalcoError: When one of them cannot be read.
    """
    picked = np.unique(np.linspace(0, len(index) - 1, min(n, len(index))).round().astype(int))
    samples = [index.samples[i] for i in picked]
    return draw_sheet([(s.id, trace(index, s)) for s in samples])


def draw_scored(index: SampleIndex, scores: Sequence[ImageScore], predictions: Path) -> bytes:
    """Draw scored images in the order given, truth and prediction traced, as one JPEG.

    Raises:
        CalcoError: When one of them cannot be read.
    """
    return draw_sheet(
        [(f"{s.id}  Dice {s.dice:.3f}", trace_scored(index, s, predictions)) for s in scores]
    )

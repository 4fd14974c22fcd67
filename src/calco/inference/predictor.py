"""A trained network as users meet it: an image in, a probability map of its exact size out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calco.errors import CalcoError, Problem
from calco.formats.truth import read_sample
from calco.images.augment import resized
from calco.images.io import Pixels, read_image, to_input
from calco.images.tiles import Tiling, blend
from calco.inference.engines import Engine, TorchEngine
from calco.inference.exported import is_exported, read_exported
from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean, to_levels
from calco.inference.streams import WHOLE_PX, Streams, abreast
from calco.nets.build import Ensemble
from calco.nets.checkpoint import ModelCard, load_model
from calco.nets.folding import fold_norms
from calco.records import ImageSpec, Postprocess, Sample, SampleIndex
from calco.runs import RunDir

MIN_TILE_PX = 64
MIRRORS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # steps along rows and columns
TILE_PX = 1024
TILE_OVERLAP_PX = 256
"""Where two tiles meet, both have 128 px of context; the classic U-Net looks 94 px far. Tiles start
at multiples of 768 px, on the grid of every pooling."""

Image = NDArray[np.uint8]
FloatMap = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Predictor:
    """A network, how it reads images, and how its probabilities become masks.

    Images go through one at a time, so that a prediction never depends on its neighbours.

    Args:
        engine: What runs the network.
        card: How images are read and resized.
        params: From probability to mask.
        tiling: How images larger than a tile are cut; None cuts those alone that are too large
            for memory, and as the network's scale asks for.
    """

    def __init__(
        self, engine: Engine, card: ModelCard, params: Postprocess, tiling: Tiling | None = None
    ) -> None:
        self.engine = engine
        self.card = card
        self.params = params
        self._tiling = tiling

    @classmethod
    def of(
        cls, network: nn.Module, card: ModelCard, params: Postprocess, device: str | torch.device
    ) -> Predictor:
        """Predict with a copy of a network, made as fast as it can be.

        Args:
            network: Images (B, C, H, W) uint8 to logits (B, 1, H, W); left as it is.
            card: How images are read and resized.
            params: From probability to mask.
            device: ``auto``, ``cpu`` or ``cuda``.
        """
        return cls(TorchEngine(fold_norms(network, card.spec.channels), device), card, params)

    @classmethod
    def from_run(cls, run: Path, device: str = "cpu") -> Predictor:
        """Load the best model of a run and the clean-up tuned for it; runs no code from its files.

        Args:
            run: Run folder, whose folds predict as one, or a weights file with its seal beside it,
                or a file that ``calco export`` wrote.
            device: ``auto``, ``cpu`` or ``cuda``; exported files run on the processor.

        Raises:
            CalcoError: When the model is missing, damaged or not calco's, or folds do not match.
        """
        if is_exported(run):
            if device not in ("auto", "cpu"):
                do = "use --device cpu, or predict with the run"
                what = "exported models run on the processor"
                raise CalcoError(Problem("DEVICE", what, "--device", device, do=do))
            graph, exported = read_exported(run)
            return cls(graph, exported.card, exported.params)
        network, card = load_networks(run)
        folder = RunDir(run if run.is_dir() else run.parent)
        return cls.of(network, card, folder.load_postprocess(), device)

    def with_threads(self, threads: int) -> Predictor:
        """Return the same, for calls from several threads that take so many cores each."""
        engine = self.engine.with_threads(threads)
        return Predictor(engine, self.card, self.params, self._tiling)

    def with_tiling(self, tile_px: int | None, overlap_px: int | None) -> Predictor:
        """Return the same with other tiles; None leaves the side, or makes a quarter of it overlap.

        Raises:
            CalcoError: When tiles are too small to overlap so much, or too large to be seen.
        """
        if tile_px is None and overlap_px is None:
            return self
        scale = self.card.network.scale
        tile_px = tile_px or round(TILE_PX / scale)
        overlap_px = tile_px // 4 if overlap_px is None else overlap_px
        largest_px = math.isqrt(round(WHOLE_PX / scale**2))
        if not MIN_TILE_PX <= tile_px <= largest_px:
            expected = f"{MIN_TILE_PX} to {largest_px}"
            raise CalcoError(
                Problem("TILE", "no such tile", "--tile", str(tile_px), expected, "change it")
            )
        if not 0 <= overlap_px <= tile_px // 2:
            expected = f"0 to {tile_px // 2}, half a tile"
            raise CalcoError(
                Problem(
                    "TILE",
                    "tiles cannot overlap so",
                    "--overlap",
                    str(overlap_px),
                    expected,
                    "change it",
                )
            )
        return Predictor(self.engine, self.card, self.params, Tiling(tile_px, overlap_px))

    @property
    def tiling(self) -> Tiling | None:
        """How large images are cut; None when the network sees all of an image, shrunk."""
        return self._tiling_px() if self.card.resize_px is None else None

    def seen_px(self, height: int, width: int) -> int:
        """Return how many pixels of such an image the network sees at a time."""
        if self.card.resize_px is not None:
            height = width = self.card.resize_px
        n_px = min(height * width, self._whole_px())
        return max(1, min(round(self.card.network.scale**2 * n_px), WHOLE_PX))

    @property
    def spec(self) -> ImageSpec:
        """How image files become network input; the same as in training."""
        return self.card.spec

    def prob(self, image: NDArray[np.generic]) -> FloatMap:
        """Return the probability of foreground of every pixel.

        Args:
            image: (H, W, C) or grey (H, W), RGB order, any H, W >= 1. Uint8, or deeper values in
                the range of the training images; channels are converted as for files.

        Returns:
            (H, W) float32 in [0, 1].

        Raises:
            CalcoError: When its shape, channels or depth cannot be converted.
        """
        pixels = self._as_input(image)  # (H, W, C) uint8
        side = self.card.resize_px
        if side is None:
            return self._prob_at_size(pixels)
        height, width = pixels.shape[:2]
        no_mask = np.zeros((height, width), np.uint8)
        prob = self._prob_at_size(resized(pixels, no_mask, side)[0])  # (side, side)
        back: FloatMap = cv2.resize(prob, (width, height), interpolation=cv2.INTER_LINEAR)
        return back

    def mask(self, image: NDArray[np.generic]) -> Mask:
        """Return the foreground, cleaned up as tuned on validation.

        Args:
            image: As for ``prob``.

        Returns:
            (H, W) bool.
        """
        return clean(self.prob(image), self.params)

    def predict(self, source: NDArray[np.generic] | str | Path) -> Mask:
        """Trace an array or an image file.

        Args:
            source: As for ``prob``, or the path of an image.

        Returns:
            (H, W) bool, of the image's size after its EXIF orientation.
        """
        if isinstance(source, np.ndarray):
            return self.mask(source)
        return self.mask(read_image(Path(source), self.spec))

    def _as_input(self, image: NDArray[np.generic]) -> Image:
        if image.ndim not in (2, 3) or 0 in image.shape:
            raise CalcoError(
                Problem(
                    "IMG_SHAPE",
                    "the array is not an image",
                    got=f"shape {image.shape}",
                    expected=f"(H, W, {self.spec.channels}) or (H, W)",
                    do="give one image, channels last",
                )
            )
        flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        return to_input(Pixels(flat, "array"), self.spec)

    def _tiling_px(self) -> Tiling:
        scale = self.card.network.scale  # memory goes by the pixels that the network sees
        return self._tiling or Tiling(round(TILE_PX / scale), round(TILE_OVERLAP_PX / scale))

    def _whole_px(self) -> float:
        """Return how many pixels an image may have to be seen whole."""
        if self._tiling:
            return self._tiling.tile_px**2
        return WHOLE_PX / self.card.network.scale**2

    def _prob_at_size(self, pixels: Image) -> FloatMap:
        """Return probabilities at the image's own size, in tiles when it is too large."""
        height, width = pixels.shape[:2]
        if height * width <= self._whole_px():
            return self._mirrored(pixels)
        tiling = self._tiling_px()
        return blend((height, width), tiling, lambda tile: self._mirrored(pixels[tile.slices]))

    def _mirrored(self, pixels: Image) -> FloatMap:
        """Run the network, on mirrored images too when that was found to help."""
        if not self.params.flips:
            return self._run(pixels)
        total = np.zeros(pixels.shape[:2], np.float32)
        for rows, cols in MIRRORS:
            mirrored = np.ascontiguousarray(pixels[::rows, ::cols])
            total += self._run(mirrored)[::rows, ::cols]
        return total / np.float32(len(MIRRORS))

    def _run(self, pixels: Image) -> FloatMap:
        logits = self.engine.logits(pixels[None])[0]  # (H, W) float32
        prob: FloatMap = torch.sigmoid(torch.from_numpy(logits)).numpy()
        return prob


def load_networks(run: Path) -> tuple[nn.Module, ModelCard]:
    """Load the network of a run, its folds as one, and how it reads images.

    Args:
        run: Run folder or a weights file with its seal beside it.

    Raises:
        CalcoError: When the model is missing, damaged or not calco's, or folds do not match.
    """
    folder = RunDir(run if run.is_dir() else run.parent)
    weights = [member.weights for member in folder.members()] if run.is_dir() else [run]
    models = [load_model(path) for path in weights]
    card = models[0][1]
    for path, (_, other) in zip(weights, models, strict=True):
        if other != card:
            raise CalcoError(
                Problem(
                    "RUN_FILE",
                    "the folds of this run are different networks",
                    str(path),
                    expected=f"a network like {weights[0]}",
                    do="restore it or train again",
                )
            )
    members = [network for network, _ in models]
    return (members[0] if len(members) == 1 else Ensemble(members)), card


def predict_maps(
    predictor: Predictor,
    index: SampleIndex,
    groups: Sequence[str],
    known: Mapping[str, NDArray[np.uint8]] | None = None,
) -> list[ProbMap]:
    """Predict labelled samples and put their truth beside.

    Args:
        predictor: Reads the images by its own rule, whatever data set they are from.
        index: Samples with a truth.
        groups: Group of each sample, in the index's order.
        known: (H, W) levels by id, of samples that this predictor has predicted before.

    Returns:
        One map per sample, in the index's order.

    Raises:
        CalcoError: Lists every sample without a truth or with files that cannot be read.
    """

    def one(streams: Streams, labelled: tuple[Sample, str]) -> ProbMap | CalcoError:
        sample, group = labelled
        try:
            image, true = read_sample(sample, index, predictor.spec)
        except CalcoError as error:
            return error
        levels = known.get(sample.id) if known else None
        if levels is None:
            levels = to_levels(streams.prob(image))
        return ProbMap(sample.id, group, levels, true)

    found = list(abreast(predictor, zip(index, groups, strict=True), one))
    problems = [p for error in found if isinstance(error, CalcoError) for p in error.problems]
    if problems:
        raise CalcoError(*problems)
    return [traced for traced in found if isinstance(traced, ProbMap)]

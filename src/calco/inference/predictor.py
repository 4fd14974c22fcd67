"""A trained network as users meet it: an image in, a probability map of its exact size out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, overload

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calco.errors import CalcoError, Problem
from calco.formats.truth import read_sample
from calco.images.augment import resized
from calco.images.given import Given, read_given
from calco.images.tiles import Tiling, blend
from calco.inference.engines import Engine, TorchEngine
from calco.inference.exported import is_exported, read_exported
from calco.inference.maps import ProbMap
from calco.inference.networks import common_card, folder_of, load_networks
from calco.inference.postprocess import clean, to_levels
from calco.inference.streams import AHEAD, ALL, WHOLE_PX, Streams, abreast
from calco.inference.views import View, mean_over, views_of
from calco.nets.build import Ensemble
from calco.nets.checkpoint import ModelCard
from calco.nets.folding import fold_norms
from calco.records import MEANS, ImageSpec, Mean, Postprocess, Sample, SampleIndex

MIN_TILE_PX = 64
TILE_PX = 1024
TILE_OVERLAP_PX = 256
"""Where two tiles meet, both have 128 px of context; the classic U-Net looks 94 px far. Tiles start
at multiples of 768 px, on the grid of every pooling."""

_Given = TypeVar("_Given", bound=Given)
_Found = TypeVar("_Found")
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
    def from_run(cls, run: Path, device: str = "cpu", more: Sequence[Path] = ()) -> Predictor:
        """Load the best model of a run and the clean-up tuned for it; runs no code from its files.

        Args:
            run: Run folder, whose folds predict as one, or a weights file with its seal beside it,
                or a file that ``calco export`` wrote.
            device: ``auto``, ``cpu`` or ``cuda``; exported files run on the processor.
            more: Runs that predict together with it, each with the same weight; views, threshold
                and clean-up stay those of ``run``.

        Raises:
            CalcoError: When a model is missing, damaged or not calco's, or they do not match.
        """
        if more:
            return cls._of_several((run, *more), device)
        if is_exported(run):
            if device not in ("auto", "cpu"):
                do = "use --device cpu, or predict with the run"
                what = "exported models run on the processor"
                raise CalcoError(Problem("DEVICE", what, "--device", device, do=do))
            graph, exported = read_exported(run)
            return cls(graph, exported.card, exported.params)
        network, card = load_networks(run)
        return cls.of(network, card, folder_of(run).load_postprocess(), device)

    @classmethod
    def _of_several(cls, runs: Sequence[Path], device: str) -> Predictor:
        exported = [run for run in runs if is_exported(run)]
        if exported:
            do = "give the runs that they were exported from"
            what = "exported models do not predict together"
            raise CalcoError(Problem("ENSEMBLE", what, str(exported[0]), do=do))
        networks, cards = zip(*(load_networks(run) for run in runs), strict=True)
        card = common_card(runs, cards)
        params = folder_of(runs[0]).load_postprocess()
        return cls.of(Ensemble(networks, params.mean), card, params, device)

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
        return max(1, min(round(self._largest_scale() ** 2 * n_px), WHOLE_PX))

    @property
    def spec(self) -> ImageSpec:
        """How image files become network input; the same as in training."""
        return self.card.spec

    @overload
    def prob(self, source: Given) -> FloatMap: ...
    @overload
    def prob(self, source: list[_Given] | tuple[_Given, ...]) -> list[FloatMap]: ...
    @overload
    def prob(self, source: Iterator[_Given]) -> Iterator[FloatMap]: ...
    def prob(
        self, source: Given | list[_Given] | tuple[_Given, ...] | Iterator[_Given]
    ) -> FloatMap | list[FloatMap] | Iterator[FloatMap]:
        """Return the probability of foreground of every pixel.

        Threads may share a predictor and call it at the same time.

        Args:
            source: One image, several, or an iterator of them. An image is a path, a picture of
                Pillow, or an array: (H, W) grey or (H, W, C) in RGB order, any H, W >= 1, uint8
                or, where the training images were deeper, uint16 and others in their range.
                Several images are predicted side by side, each as alone but for rounding.

        Returns:
            (H, W) float32 in [0, 1] at the image's size, after its EXIF orientation; a list of
            them for a list or tuple; for an iterator an iterator, which draws a few images ahead
            of what is taken from it and so needs memory for those alone.

        Raises:
            CalcoError: When an image cannot be read or does not fit the model, naming its place;
                from an iterator when the turn comes to it.
        """
        return self._each(source, _as_it_is)

    @overload
    def predict(self, source: Given) -> Mask: ...
    @overload
    def predict(self, source: list[_Given] | tuple[_Given, ...]) -> list[Mask]: ...
    @overload
    def predict(self, source: Iterator[_Given]) -> Iterator[Mask]: ...
    def predict(
        self, source: Given | list[_Given] | tuple[_Given, ...] | Iterator[_Given]
    ) -> Mask | list[Mask] | Iterator[Mask]:
        """Trace images: the foreground, cleaned up as tuned on validation.

        Args:
            source: As for ``prob``.

        Returns:
            (H, W) bool; a list or an iterator of them, as for ``prob``.

        Raises:
            CalcoError: As for ``prob``.
        """
        return self._each(source, partial(clean, params=self.params))

    def _each(
        self,
        source: Given | list[_Given] | tuple[_Given, ...] | Iterator[_Given],
        finish: Callable[[FloatMap], _Found],
    ) -> _Found | list[_Found] | Iterator[_Found]:
        if isinstance(source, list | tuple):
            return list(self._abreast(iter(source), finish, ALL))
        if isinstance(source, Iterator):
            return self._abreast(source, finish)
        return finish(self._prob(read_given(source, self.spec)))

    def _abreast(
        self, sources: Iterator[_Given], finish: Callable[[FloatMap], _Found], ahead: int = AHEAD
    ) -> Iterator[_Found]:
        def one(streams: Streams, numbered: tuple[int, Given]) -> _Found:
            number, source = numbered
            try:
                image = read_given(source, self.spec)
            except CalcoError as error:
                places = (p.where or f"item {number}" for p in error.problems)
                located = zip(error.problems, places, strict=True)
                raise CalcoError(*(replace(p, where=place) for p, place in located)) from None
            return finish(streams.prob(image))

        return abreast(self, enumerate(sources), one, ahead=ahead)

    def _prob(self, pixels: Image) -> FloatMap:
        """Return probabilities at the image's size, by way of the card's size if it has one."""
        side = self.card.resize_px
        if side is None:
            return self._prob_at_size(pixels)
        height, width = pixels.shape[:2]
        no_mask = np.zeros((height, width), np.uint8)
        prob = self._prob_at_size(resized(pixels, no_mask, side)[0])  # (side, side)
        back: FloatMap = cv2.resize(prob, (width, height), interpolation=cv2.INTER_LINEAR)
        return back

    def _tiling_px(self) -> Tiling:
        scale = self.card.network.scale  # memory goes by the pixels that the network sees
        return self._tiling or Tiling(round(TILE_PX / scale), round(TILE_OVERLAP_PX / scale))

    def _whole_px(self) -> float:
        """Return how many pixels an image may have to be seen whole."""
        if self._tiling:
            return self._tiling.tile_px**2
        return WHOLE_PX / self._largest_scale() ** 2

    def _largest_scale(self) -> float:
        """Return by how much the largest view is enlarged on its way to the network."""
        return self.card.network.scale * max((1.0, *self.params.scales))

    def _prob_at_size(self, pixels: Image) -> FloatMap:
        """Return probabilities at the image's own size, in tiles when it is too large."""
        height, width = pixels.shape[:2]
        if height * width <= self._whole_px():
            return self._viewed(pixels)
        tiling = self._tiling_px()
        return blend((height, width), tiling, lambda tile: self._viewed(pixels[tile.slices]))

    def _viewed(self, pixels: Image) -> FloatMap:
        """Run the network, on further views of the image too where that was found to help."""
        views, mean = views_of(self.params), self.params.mean
        if len(views) == 1:
            return self._run(pixels)
        return mean_over(pixels, views, self._run, (mean,))[mean]

    def _run(self, pixels: Image) -> FloatMap:
        logits = self.engine.logits(pixels[None])[0]  # (H, W) float32
        prob: FloatMap = torch.sigmoid(torch.from_numpy(logits)).numpy()
        return prob


def _as_it_is(prob: FloatMap) -> FloatMap:
    return prob


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

    def one(streams: Streams, read: _Labelled) -> ProbMap:
        levels = known.get(read.id) if known else None
        if levels is None:
            levels = to_levels(streams.prob(read.image))
        return ProbMap(read.id, read.group, levels, read.true)

    return _of_all(predictor, index, groups, one)


def predict_viewed(
    predictor: Predictor, index: SampleIndex, groups: Sequence[str], views: Sequence[View]
) -> dict[Mean, list[ProbMap]]:
    """Predict labelled samples as ``predict_maps``, every view once, averaged in every way.

    Args:
        predictor: Its own views and clean-up play no part.
        index: Samples with a truth.
        groups: Group of each sample, in the index's order.
        views: Of each image.

    Raises:
        CalcoError: Lists every sample without a truth or with files that cannot be read.
    """

    def one(streams: Streams, read: _Labelled) -> dict[Mean, ProbMap]:
        probs = mean_over(read.image, views, streams.prob)
        return {
            mean: ProbMap(read.id, read.group, to_levels(prob), read.true)
            for mean, prob in probs.items()
        }

    plain = Predictor(predictor.engine, predictor.card, Postprocess())
    found = _of_all(plain, index, groups, one)
    return {mean: [maps[mean] for maps in found] for mean in MEANS}


@dataclass(frozen=True, eq=False)
class _Labelled:
    """A sample that was read: (H, W, C) uint8 and (H, W) bool."""

    id: str
    group: str
    image: Image
    true: Mask


def _of_all(
    predictor: Predictor,
    index: SampleIndex,
    groups: Sequence[str],
    work: Callable[[Streams, _Labelled], _Found],
) -> list[_Found]:
    """Read all samples and work on them side by side; all faults are told at once."""

    def one(streams: Streams, labelled: tuple[Sample, str]) -> _Found | CalcoError:
        sample, group = labelled
        try:
            read = _Labelled(sample.id, group, *read_sample(sample, index, predictor.spec))
        except CalcoError as error:
            return error
        return work(streams, read)

    found = list(abreast(predictor, zip(index, groups, strict=True), one, ahead=ALL))
    problems = [p for error in found if isinstance(error, CalcoError) for p in error.problems]
    if problems:
        raise CalcoError(*problems)
    return [result for result in found if not isinstance(result, CalcoError)]

"""Batches that are pure in (seed, epoch, index)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from calco.errors import CalcoError, Problem
from calco.images.augment import augment, generator_for, resized
from calco.records import ImageSpec, Plan
from calco.training.cache import Decoded, Held, read_ahead
from calco.training.steps import Batches, Feed
from calco.training.team import ALONE, Team
from calco.wording import counted

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images (B, C, H, W) uint8, masks (B, 1, H, W) uint8 in {0, 1}, sample numbers (B,) int64."""

FOCUS_POINTS = 256  # candidate centres remembered per image
MIN_STEPS_PER_EPOCH = 16  # small sets are repeated, so that epochs are not all bookkeeping


class CropRule(Protocol):
    """What of a plan says how training crops are made."""

    @property
    def crop_px(self) -> int:
        """Side of the square crops."""

    @property
    def resize_px(self) -> int | None:
        """Side to which whole images are resized instead; None crops them."""

    @property
    def augment(self) -> float:
        """Strength of augmentation, 0 to 1."""

    @property
    def focus(self) -> float:
        """Share of crops that hold foreground for certain."""


@dataclass(frozen=True)
class Cut:
    """How crops are made before there is a plan; see ``CropRule``."""

    crop_px: int
    resize_px: int | None
    augment: float
    focus: float


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Augmented training crops; item (epoch, index) is the same bytes whoever asks, whenever.

    Args:
        samples: Decoded training part.
        rule: How they are cut out, a plan for example.
        seed: Training seed.
    """

    def __init__(self, samples: Sequence[Decoded], rule: CropRule, seed: int) -> None:
        self.seed = seed
        self.strength = rule.augment
        self.focus = rule.focus
        self.side_px = rule.resize_px or rule.crop_px
        self.samples = samples
        if side_px := rule.resize_px:
            self.samples = list(read_ahead(lambda sample: _shrunken(sample, side_px), samples))
        masks = read_ahead(lambda sample: sample.mask, self.samples)  # streamed ones are decoded
        self.focus_points = [
            _foreground_points(mask, generator_for(seed, 0, i)) for i, mask in enumerate(masks)
        ]
        self.not_empty = [i for i, points in enumerate(self.focus_points) if len(points)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return image (C, H, W) uint8, mask (1, H, W) uint8 and the sample's number."""
        epoch, visit = key
        index = visit % len(self.samples)
        rng = generator_for(self.seed, epoch, visit)
        focus = None
        if self.not_empty and rng.random() < self.focus:
            if not len(self.focus_points[index]):  # most images may be empty: take another's turn
                index = self.not_empty[rng.integers(len(self.not_empty))]
            row, col = rng.choice(self.focus_points[index])
            focus = (int(row), int(col))
        image, mask = self.samples[index].pixels()
        image, mask = augment(image, mask, self.side_px, self.strength, rng, focus)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (C, H, W)
        return pixels, torch.from_numpy(mask)[None], index


def _shrunken(sample: Decoded, side_px: int) -> Decoded:
    """Stretch a sample to a square; small as that is, it is held even when it was streamed."""
    return Held(sample.id, *resized(*sample.pixels(), side_px))


def crop_feed(samples: Sequence[Decoded], cut: Cut, seed: int) -> Feed:
    """Return batches of real crops without end, for steps that are timed.

    Args:
        samples: Some of the training part.
        cut: How crops are made, their side aside.
        seed: Training seed.
    """

    def feed(crop_px: int, batch: int) -> Batches:
        crops = Crops(samples, replace(cut, crop_px=crop_px), seed)
        for epoch in itertools.count(1):
            images, masks, _ = default_collate([crops[epoch, visit] for visit in range(batch)])
            yield images, masks

    return feed


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch, pure in (seed, epoch); set ``epoch`` and ``skip`` before use.

    Args:
        n_samples: Of the training part.
        plan: Batch, and whether whole images are shown.
        seed: Training seed.
        team: Of each batch it takes the own part. How batches are made up does not depend on it,
            except where they would have fewer images than it has processes.

    Raises:
        CalcoError: When a batch has too few images for all processes.
    """

    def __init__(self, n_samples: int, plan: Plan, seed: int, team: Team = ALONE) -> None:
        self.seed = seed
        self.batch, self.team = plan.batch, team
        repeats = 1 if plan.resize_px else -(-MIN_STEPS_PER_EPOCH * plan.batch // n_samples)
        self.visits = n_samples * repeats
        if min(plan.batch, self.visits) < team.size:
            raise CalcoError(_too_few(min(plan.batch, self.visits), team.size))
        self.epoch = 1
        self.skip = 0

    def __len__(self) -> int:
        # near-equal batches may have an image less than planned, but one for each process
        return min(-(-self.visits // self.batch), self.visits // self.team.size)

    @property
    def sizes(self) -> list[int]:
        """Images of each batch, over all processes."""
        least, more = divmod(self.visits, len(self))
        return [least + (number < more) for number in range(len(self))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.visits)
        # near-equal batches: a last batch of one would ruin batch statistics, dropping it, data
        for batch in np.array_split(order, len(self))[self.skip :]:
            part = np.array_split(batch, self.team.size)[self.team.rank]
            yield [(self.epoch, int(i)) for i in part]


class TrainLoader:
    """Batches of augmented crops.

    Args:
        samples: Decoded training part.
        plan: Crop, batch and augmentation.
        seed: Training seed.
        workers: Loader processes; 0 loads in this one. Never changes a batch.
        team: Processes that share each batch.

    Raises:
        CalcoError: When a batch has too few images for all processes.
    """

    def __init__(
        self,
        samples: Sequence[Decoded],
        plan: Plan,
        seed: int,
        workers: int,
        team: Team = ALONE,
    ) -> None:
        self.samples = samples
        self.team = team
        self.order = EpochBatches(len(samples), plan, seed, team)
        self.loader = DataLoader(
            Crops(samples, plan, seed),
            batch_sampler=self.order,
            num_workers=workers,
            persistent_workers=workers > 0,
            # its own: drawing worker seeds from torch's would shift dropout after a resume
            generator=torch.Generator().manual_seed(seed),
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the samples, by their numbers."""
        return tuple(s.id for s in self.samples)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return len(self.order)

    def batches(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield this process's part of the batches of an epoch (from 1), without the first."""
        self.order.epoch, self.order.skip = epoch, skip
        try:
            yield from self.loader
        except CalcoError as error:
            raise _retold(error) from None

    def weight(self, number: int, n_images: int) -> float:
        """Return what the mean loss of a part is multiplied with: processes average gradients.

        Parts of one batch differ by an image at most; so weighted, each image counts alike.

        Args:
            number: Of the batch in its epoch, from 0.
            n_images: In the part.
        """
        if self.team.size == 1:
            return 1.0
        return n_images * self.team.size / self.order.sizes[number]


@dataclass(frozen=True)
class Loaders:
    """What training reads.

    Attributes:
        train: Augmented batches.
        validation: Whole images, never augmented.
        spec: How the images were read.
        tested_ratio: Test pixels that all trainings predict over validation pixels of one.
        n_folds: Trainings on this split.
        start: Weights to begin with; None takes the network's usual ones.
    """

    train: TrainLoader
    validation: tuple[Decoded, ...]
    spec: ImageSpec
    tested_ratio: float
    n_folds: int = 1
    start: Path | None = None


def _retold(error: CalcoError) -> CalcoError:
    """Put into words what a loader process could not read; torch carries over the text alone."""
    if all(isinstance(problem, Problem) for problem in error.problems):
        return error
    got = str(error.problems[0]).strip().rpartition("\n")[2]
    what, do = "a training image cannot be read again", "restore it, then go on with --resume"
    return CalcoError(Problem("IMG_REREAD", what, got=got, do=do))


def _too_few(n_images: int, n_processes: int) -> Problem:
    return Problem(
        "TEAM_BATCH",
        "a batch has too few images for all processes",
        "fit.batch",
        got=counted(n_images, "image"),
        expected=f"at least one for each of {n_processes} processes",
        do="raise fit.batch or lower --devices",
    )


def _foreground_points(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int32]:
    """Return up to FOCUS_POINTS random foreground pixels as (N, 2) int32 (row, col)."""
    flat = np.flatnonzero(mask)
    if len(flat) > FOCUS_POINTS:
        flat = rng.choice(flat, FOCUS_POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)

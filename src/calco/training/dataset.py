"""Batches that are pure in (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from calco.images.augment import augment, generator_for, resized
from calco.records import ImageSpec, Plan
from calco.training.cache import Decoded

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images (B, C, H, W) uint8, masks (B, 1, H, W) uint8 in {0, 1}, sample numbers (B,) int64."""

FOCUS_POINTS = 256  # candidate centres remembered per image
MIN_STEPS_PER_EPOCH = 16  # small sets are repeated, so that epochs are not all bookkeeping


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Augmented training crops; item (epoch, index) is the same bytes whoever asks, whenever.

    Args:
        samples: Decoded training part.
        plan: Crop or resize side, share of crops on foreground and strength of augmentation.
        seed: Training seed.
    """

    def __init__(self, samples: Sequence[Decoded], plan: Plan, seed: int) -> None:
        self.seed = seed
        self.strength = plan.augment
        self.focus = plan.focus
        self.side_px = plan.resize_px or plan.crop_px
        self.pairs = [(s.image, s.mask) for s in samples]
        if plan.resize_px:
            self.pairs = [resized(image, mask, plan.resize_px) for image, mask in self.pairs]
        self.focus_points = [
            _foreground_points(mask, generator_for(seed, 0, i))
            for i, (_, mask) in enumerate(self.pairs)
        ]
        self.not_empty = [i for i, points in enumerate(self.focus_points) if len(points)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return image (C, H, W) uint8, mask (1, H, W) uint8 and the sample's number."""
        epoch, visit = key
        index = visit % len(self.pairs)
        rng = generator_for(self.seed, epoch, visit)
        focus = None
        if self.not_empty and rng.random() < self.focus:
            if not len(self.focus_points[index]):  # most images may be empty: take another's turn
                index = self.not_empty[rng.integers(len(self.not_empty))]
            row, col = rng.choice(self.focus_points[index])
            focus = (int(row), int(col))
        image, mask = self.pairs[index]
        image, mask = augment(image, mask, self.side_px, self.strength, rng, focus)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (C, H, W)
        return pixels, torch.from_numpy(mask)[None], index


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch, pure in (seed, epoch); set ``epoch`` and ``skip`` before use."""

    def __init__(self, n_samples: int, plan: Plan, seed: int) -> None:
        self.seed = seed
        self.batch = plan.batch
        repeats = 1 if plan.resize_px else -(-MIN_STEPS_PER_EPOCH * plan.batch // n_samples)
        self.visits = n_samples * repeats
        self.epoch = 1
        self.skip = 0

    def __len__(self) -> int:
        return -(-self.visits // self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.visits)
        # near-equal batches: a last batch of one would ruin batch statistics, dropping it, data
        for batch in np.array_split(order, len(self))[self.skip :]:
            yield [(self.epoch, int(i)) for i in batch]


class TrainLoader:
    """Batches of augmented crops.

    Args:
        samples: Decoded training part.
        plan: Crop, batch and augmentation.
        seed: Training seed.
        workers: Loader processes; 0 loads in this one. Never changes a batch.
    """

    def __init__(self, samples: Sequence[Decoded], plan: Plan, seed: int, workers: int) -> None:
        self.samples = samples
        self.order = EpochBatches(len(samples), plan, seed)
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
        """Yield the batches of an epoch (from 1), leaving out the first ``skip``."""
        self.order.epoch, self.order.skip = epoch, skip
        yield from self.loader


@dataclass(frozen=True)
class Loaders:
    """What training reads.

    Attributes:
        train: Augmented batches.
        validation: Whole images, never augmented.
        spec: How the images were read.
        tested_ratio: Test pixels that all trainings predict over validation pixels of one.
        n_folds: Trainings on this split.
    """

    train: TrainLoader
    validation: tuple[Decoded, ...]
    spec: ImageSpec
    tested_ratio: float
    n_folds: int = 1


def _foreground_points(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int32]:
    """Return up to FOCUS_POINTS random foreground pixels as (N, 2) int32 (row, col)."""
    flat = np.flatnonzero(mask)
    if len(flat) > FOCUS_POINTS:
        flat = rng.choice(flat, FOCUS_POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)

"""Decode the training and validation parts once and hand out batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calco.config import Config
from calco.records import Plan, Split
from calco.training.cache import MEMORY_SHARE, Decoded, available_bytes, decode, is_sharded
from calco.training.dataset import Loaders, TrainLoader
from calco.training.shared_cache import decode_shared
from calco.training.team import ALONE, Team


def read_samples(
    split: Split, scratch: Path | None = None, team: Team = ALONE
) -> tuple[Decoded, ...]:
    """Read what is trained and validated on, once; the test part stays closed.

    Args:
        split: Its training and validation parts are read.
        scratch: Folder for the pixels that memory does not hold; None keeps all in memory.
        team: Several processes share the pixels in that folder; the first to come decodes them.

    Raises:
        CalcoError: Lists every file that changed or vanished since the audit; SCRATCH_WRITE when
            memory and disk are too small.
    """
    index = split.index.only(a.id for a in split.assignments if a.subset != "test")
    if scratch and team.size > 1:
        if is_sharded(index):  # never copied: each process keeps its part of the memory
            share = int(MEMORY_SHARE * available_bytes() / team.local_size)
            return decode(index, scratch, share)
        return decode_shared(index, scratch, "shared")
    return decode(index, scratch)


def build_loaders(
    samples: Sequence[Decoded],
    split: Split,
    plan: Plan,
    config: Config,
    fold: int = 0,
    team: Team = ALONE,
) -> Loaders:
    """Make the batches of one training.

    Args:
        samples: From ``read_samples``.
        split: Says which of them this training learns from.
        plan: Crop, batch and augmentation.
        config: Seed and loader processes.
        fold: Which of the split's trainings.
        team: Processes that share the work.

    Raises:
        CalcoError: When a batch has too few images for all processes.
    """
    division = split.divisions()[fold]
    train_ids = {sample.id for sample in division.train}
    validation_ids = {sample.id for sample in division.validation}
    train = [sample for sample in samples if sample.id in train_ids]
    validation = tuple(sample for sample in samples if sample.id in validation_ids)
    return Loaders(
        train=TrainLoader(train, plan, config.seed, config.fit.workers, team),
        validation=validation,
        spec=split.index.spec,
        tested_ratio=ratio_of_test(split, fold),
        n_folds=split.n_folds,
    )


def ratio_of_test(split: Split, fold: int = 0) -> float:
    """Return the test pixels that all trainings predict over those of one's validation part.

    Sizes are alike across parts, so images stand for pixels.
    """
    return split.n_folds * len(split.part("test")) / len(split.divisions()[fold].validation)

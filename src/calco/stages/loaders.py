"""Decode the training and validation parts once and hand out batches."""

from __future__ import annotations

from calco.config import Config
from calco.records import Plan, Split
from calco.training.dataset import Loaders, TrainLoader, decode


def build_loaders(split: Split, plan: Plan, config: Config) -> Loaders:
    """Read both parts into memory; the test part stays closed.

    Raises:
        CalcoError: Lists every file that changed or vanished since the audit.
    """
    train = decode(split.part("train"))
    validation = decode(split.part("validation"))
    return Loaders(
        train=TrainLoader(train, plan, config.seed, config.fit.workers),
        validation=validation,
        spec=split.index.spec,
        # sizes are alike across parts, so images stand for pixels
        pixel_ratio=1 + len(split.part("test")) / len(validation),
    )

"""Generated data and one small finished run, shared by the tests that need them."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import settings

from calco.config import Config, load_config

if TYPE_CHECKING:
    from calco.training.progress import Watch

TINY = (
    "model.family=unet",
    "model.width=4",
    "model.depth=2",
    "fit.crop_px=32",
    "fit.batch=4",
    "fit.epochs=2",
    "fit.learning_rate=0.01",
    "evaluate.bootstrap=100",
    "fit.preflight=false",
)
"""Settings under which a whole run takes about two seconds."""


# a machine that is busy elsewhere is no fault of the code
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Settings of a run that takes about two seconds."""
    return load_config(None, TINY)


def draw_discs(folder: Path, count: int, side_px: int = 48, seed: int = 0) -> Path:
    """Write bright discs on noise as images/ and masks/; learnt in seconds, no two alike."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows, cols = np.mgrid[:side_px, :side_px]
    for number in range(count):
        mask = np.zeros((side_px, side_px), bool)
        for _ in range(int(rng.integers(1, 4))):
            row, col = rng.integers(8, side_px - 8, 2)
            mask |= (rows - row) ** 2 + (cols - col) ** 2 < rng.integers(16, 60)
        image = rng.normal(60, 12, (side_px, side_px, 3)) + 110 * mask[..., None]
        name = f"disc{number:02d}.png"
        cv2.imwrite(str(folder / "images" / name), image.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / name), mask.astype(np.uint8) * 255)
    return folder


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of bright discs with masks."""
    return draw_discs(tmp_path_factory.mktemp("discs") / "data", 20)


@pytest.fixture(scope="session")
def finished_run(
    discs: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A whole run on the discs; tests must not change it."""
    from calco.api import train

    folder = tmp_path_factory.mktemp("runs") / "discs"
    train(discs, folder, config=tiny_config)
    return folder


@pytest.fixture
def stop_at() -> Callable[[int, signal.Signals], Watch]:
    """Make listeners that send this process a signal at one step of training."""
    from calco.training.progress import Progress, Watch

    def listener(step: int, by: signal.Signals) -> Watch:
        seen = itertools.count(1)

        def on_step(_: Progress) -> None:
            if next(seen) == step:
                os.kill(os.getpid(), by)

        return Watch(on_step=on_step)

    return listener

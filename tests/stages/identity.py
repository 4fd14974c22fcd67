"""A network that needs no training, and pictures whose prediction is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import calco.inference.outputs as outputs
from calco.files import read_csv
from calco.images.tiles import Tiling
from calco.records import ImageSpec, Postprocess, Prediction
from calco.stages.predict import PredictOptions

Gray = NDArray[np.uint8]
ALL = PredictOptions(prob=True, overlay=True, model="m1")


class Identity:
    """Sees the image's first channel as the probability; counts what it was asked."""

    def __init__(self, threshold: float = 0.5, channels: int = 1) -> None:
        self.spec = ImageSpec(channels=channels)
        self.params = Postprocess(threshold)
        self.n_asked = 0
        self.counting = Lock()

    def with_threads(self, threads: int) -> Identity:
        return self

    @property
    def tiling(self) -> Tiling | None:
        return Tiling(64, 16)

    def seen_px(self, height: int, width: int) -> int:
        return height * width

    def prob(self, image: Gray) -> NDArray[np.float32]:
        with self.counting:
            self.n_asked += 1
        return image[..., 0].astype(np.float32) / np.float32(255)


def gray(height: int, width: int, seed: int = 0) -> Gray:
    random = np.random.default_rng(seed)
    return (random.random((height, width)) < 0.4).astype(np.uint8) * np.uint8(255)


def save(path: Path, image: Gray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def read(path: Path) -> Gray:
    return np.asarray(Image.open(path))


def save_ten(folder: Path) -> Path:
    """Write ten images, the last two in a sub-folder."""
    for i in range(10):
        name = f"sub/{i:04}.png" if i > 7 else f"{i:04}.png"
        save(folder / name, gray(9, 7 + i, seed=i))
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Hash every file for people, times aside."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != outputs.JOURNAL:
            data = path.read_bytes()
            if path.name == outputs.MANIFEST:
                rows = [{**row, "seconds": ""} for row in read_csv(path)]
                data = repr(rows).encode()
            hashes[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return hashes


def statuses(predictions: Sequence[Prediction]) -> list[str]:
    return [p.status for p in predictions]

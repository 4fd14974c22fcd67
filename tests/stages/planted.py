"""Maps whose right clean-up is known."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean
from calco.metrics.summary import score_image
from calco.records import Postprocess


def mean_dice(maps: list[ProbMap], params: Postprocess) -> float:
    return float(
        np.mean([score_image("", "", "", clean(m.levels, params), m.true).dice for m in maps])
    )


def discs(
    rng: np.random.Generator, size: tuple[int, int], n: int, radius_px: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw filled discs, (H, W) uint8 {0, 1}, away from the border."""
    image = np.zeros(size, np.uint8)
    for _ in range(n):
        radius = int(rng.integers(*radius_px))
        centre = [int(rng.integers(radius + 1, side - radius - 1)) for side in size[::-1]]
        cv2.circle(image, centre, radius, 1, -1)
    return image


def planted(
    n: int = 24,
    *,
    seed: int = 0,
    object_prob: float = 0.95,
    ground_prob: float = 0.02,
    empty_share: float = 0.0,
    n_spots: int = 0,
    noise: float = 0.01,
) -> list[ProbMap]:
    """Maps whose right settings are known: discs of at least 150 px, false spots of 3 x 3 px."""
    rng = np.random.default_rng(seed)
    size = (96, 80)
    maps = []
    for i in range(n):
        true = discs(rng, size, 0 if i < empty_share * n else 3, (7, 12))
        spots = np.zeros(size, np.uint8)
        for row, col in rng.integers(2, 76, size=(n_spots, 2)):
            spots[row : row + 3, col : col + 3] = 1
        prob = np.where((true | spots) > 0, object_prob, ground_prob)
        prob = (prob + rng.normal(0, noise, size)).clip(0, 1)
        maps.append(ProbMap(f"i{i}", f"i{i}", np.rint(prob * 255).astype(np.uint8), true > 0))
    return maps

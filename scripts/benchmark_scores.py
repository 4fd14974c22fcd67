"""Time the outline scores against MONAI on the same masks and write reports/scores_benchmark.json.

Both score every pair of masks in turn, so that other work on the machine spoils the ratio little,
and their values are compared on the way: speed counts only where the figures agree.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from numpy.typing import NDArray

from calco.metrics.boundary import score_boundary

REPORT = Path(__file__).parents[1] / "reports" / "scores_benchmark.json"
N_PAIRS = 200
SIDE_PX = 512
TOLERANCE_PX = 2.0
ROUNDS = 3  # the fastest counts

Mask = NDArray[np.bool_]
Values = tuple[float, float, float]


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        n_pairs: Pairs of masks.
        side_px: Their height and width.
        foreground_fraction: Mean over the true masks.
        threads: Of either side.
        calco_ms: Processor time per pair: HD95, ASSD, NSD and boundary IoU.
        monai_ms: The same of HD95, ASSD and NSD.
        ratio: ``monai_ms / calco_ms``; above 1 calco is the faster one.
        largest_difference: Between any two values; MONAI's are in single precision.
    """

    n_pairs: int
    side_px: int
    foreground_fraction: float
    threads: int
    calco_ms: float
    monai_ms: float
    ratio: float
    largest_difference: float


def main() -> None:
    """Measure, print, write the report."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result = measure([draw_pair(seed) for seed in range(N_PAIRS)])
    print(
        f"{result.n_pairs} pairs of {SIDE_PX} x {SIDE_PX}: calco {result.calco_ms:.2f} ms,"
        f" MONAI {result.monai_ms:.2f} ms, ratio {result.ratio:.1f},"
        f" largest difference {result.largest_difference:.1e}"
    )
    packages = ("numpy", "opencv-python-headless", "scipy", "monai", "torch")
    versions = {"python": platform.python_version(), **{p: version(p) for p in packages}}
    report = {"versions": versions, "rounds": ROUNDS, **asdict(result)}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(pairs: list[tuple[Mask, Mask]]) -> Benchmark:
    """Score all pairs with both, alternately; tensors are made before the clock runs."""
    batches = [tuple(torch.from_numpy(m[None, None].copy()) for m in pair) for pair in pairs]
    ours_s, theirs_s = [0.0] * ROUNDS, [0.0] * ROUNDS
    largest = 0.0
    for number in range(ROUNDS):
        for (pred, true), (pred_batch, true_batch) in zip(pairs, batches, strict=True):
            ours, seconds = timed(partial(ours_of, pred, true))
            ours_s[number] += seconds
            theirs, seconds = timed(partial(theirs_of, pred_batch, true_batch))
            theirs_s[number] += seconds
            largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    calco_ms, monai_ms = (1000 * min(s) / len(pairs) for s in (ours_s, theirs_s))
    return Benchmark(
        n_pairs=len(pairs),
        side_px=SIDE_PX,
        foreground_fraction=round(float(np.mean([true.mean() for _, true in pairs])), 3),
        threads=1,
        calco_ms=round(calco_ms, 3),
        monai_ms=round(monai_ms, 3),
        ratio=round(monai_ms / calco_ms, 1),
        largest_difference=largest,
    )


def timed(call: Callable[[], Values]) -> tuple[Values, float]:
    """Return a result and the processor time it took in seconds."""
    start = time.process_time()
    values = call()
    return values, time.process_time() - start


def ours_of(pred: Mask, true: Mask) -> Values:
    """Score with calco; boundary IoU is computed too."""
    score = score_boundary(pred, true, TOLERANCE_PX)
    return score.hd95_px, score.assd_px, score.nsd


def theirs_of(pred: torch.Tensor, true: torch.Tensor) -> Values:
    """Score with MONAI.

    Args:
        pred: (1, 1, H, W) bool.
        true: (1, 1, H, W) bool.
    """
    hd95 = compute_hausdorff_distance(pred, true, include_background=True, percentile=95)
    assd = compute_average_surface_distance(pred, true, include_background=True, symmetric=True)
    nsd = compute_surface_dice(pred, true, [TOLERANCE_PX], include_background=True)
    return hd95.item(), assd.item(), nsd.item()


def draw_pair(seed: int) -> tuple[Mask, Mask]:
    """Draw blobs all over the image as truth, and the same with another edge as prediction."""
    rng = np.random.default_rng(seed)
    size = (SIDE_PX, SIDE_PX)
    ground = cv2.GaussianBlur(rng.normal(size=size), (0, 0), 20.0)
    wobble = cv2.GaussianBlur(rng.normal(size=size), (0, 0), 5.0)
    true = ground > np.quantile(ground, 0.75)
    pred = ground + 0.2 * ground.std() / wobble.std() * wobble > np.quantile(ground, 0.75)
    return pred, true


if __name__ == "__main__":
    main()

"""Validation at original resolution, through the same predictor that users get."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from calco.inference.postprocess import clean, to_levels
from calco.inference.predictor import Predictor
from calco.metrics.summary import score_image
from calco.training.cache import Decoded

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Validation:
    """One pass over the validation part.

    Attributes:
        loss: Mean over images.
        dice: Mean per-image Dice at threshold 0.5, original resolution.
        pred_fraction: Mean share of predicted foreground.
        true_fraction: Mean share of true foreground.
        prob_max: Largest probability anywhere.
        levels: (H, W) uint8 ``rint(255 * prob)`` of each image that was predicted.
    """

    loss: float
    dice: float
    pred_fraction: float
    true_fraction: float
    prob_max: float
    levels: tuple[NDArray[np.uint8], ...] = field(default=(), compare=False, repr=False)


NOT_VALIDATED = Validation(math.nan, math.nan, math.nan, math.nan, math.nan)
MIN_IMAGES = 24  # fewer cannot tell one epoch from another


def validate(
    predictor: Predictor,
    samples: Sequence[Decoded],
    loss_of: Loss,
    others: Sequence[Decoded] = (),
) -> Validation:
    """Score every validation image once, each with equal weight.

    Args:
        predictor: Whose maps are scored.
        samples: What is scored.
        loss_of: Logits and masks to one loss per image.
        others: Images that are only predicted; their levels follow those of ``samples``.
    """
    found = [_one(predictor, sample, loss_of) for sample in samples]
    rows = np.array([figures for figures, _ in found])  # (N, 5)
    loss, dice, pred, true, _ = rows.mean(axis=0).tolist()
    levels = (
        *(levels for _, levels in found),
        *(to_levels(predictor.prob(sample.image)) for sample in others),
    )
    return Validation(loss, dice, pred, true, float(rows[:, 4].max()), levels)


def seconds_per_px(predictor: Predictor, samples: Sequence[Decoded]) -> float:
    """Measure what predicting one pixel takes, on an image of middling size."""
    middling = sorted(samples, key=lambda s: s.mask.size)[len(samples) // 2]
    times_s = []
    for _ in range(2):  # the first call may set up kernels, either may be disturbed
        began = time.perf_counter()
        predictor.prob(middling.image)
        times_s.append(time.perf_counter() - began)
    return min(times_s) / middling.mask.size


def affordable(
    samples: Sequence[Decoded], per_px_s: float, allowance_s: float
) -> tuple[Decoded, ...]:
    """Return the samples that can be predicted in the time allowed, spread over the part.

    Args:
        samples: Validation part.
        per_px_s: From ``seconds_per_px``.
        allowance_s: For one pass; infinite keeps all samples.
    """
    cost_s = per_px_s * sum(s.mask.size for s in samples)
    count = len(samples) * min(1.0, allowance_s / cost_s)
    count = min(len(samples), max(MIN_IMAGES, int(count)))
    chosen = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return tuple(samples[i] for i in np.unique(chosen))


def _one(
    predictor: Predictor, sample: Decoded, loss_of: Loss
) -> tuple[tuple[float, ...], NDArray[np.uint8]]:
    prob = predictor.prob(sample.image)  # (H, W) float32
    true = sample.mask.astype(bool)
    pred = clean(prob, predictor.params)
    logit = torch.logit(torch.from_numpy(prob), eps=1e-6)[None, None]  # (1, 1, H, W)
    truth = torch.from_numpy(sample.mask).float()[None, None]  # (1, 1, H, W)
    loss = float(loss_of(logit, truth).mean())
    dice = score_image(sample.id, sample.id, "validation", pred, true).dice
    figures = loss, dice, float(pred.mean()), float(true.mean()), float(prob.max())
    return figures, to_levels(prob)

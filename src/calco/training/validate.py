"""Validation at original resolution, through the same predictor that users get."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from calco.inference.device import usable_cores
from calco.inference.postprocess import clean, to_levels
from calco.inference.streams import ALL, Streams, Tracer, abreast
from calco.metrics.summary import score_image
from calco.training.cache import Decoded, evenly
from calco.training.team import ALONE, Team

Levels = NDArray[np.uint8]
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
    levels: tuple[Levels, ...] = field(default=(), compare=False, repr=False)


NOT_VALIDATED = Validation(math.nan, math.nan, math.nan, math.nan, math.nan)
IDLE_SHARE = 0.8  # of its cores' time that a probe computes on an idle machine
MIN_IMAGES = 24  # fewer cannot tell one epoch from another


def validate(
    predictor: Tracer,
    samples: Sequence[Decoded],
    loss_of: Loss,
    others: Sequence[Decoded] = (),
    team: Team = ALONE,
) -> Validation:
    """Score every validation image once, each with equal weight.

    Args:
        predictor: Whose maps are scored.
        samples: What is scored.
        loss_of: Logits and masks to one loss per image.
        others: Images that are only predicted; their levels follow those of ``samples``.
        team: Processes that share the images; they all get the figures, the first one the levels.
    """

    def score(streams: Streams, sample: Decoded) -> tuple[tuple[float, ...], Levels]:
        return _score(streams, sample, loss_of)

    found = list(abreast(predictor, team.share(samples), score, ahead=ALL))
    rest = abreast(
        predictor,
        team.share(others),
        lambda streams, s: to_levels(streams.prob(s.image)),
        ahead=ALL,
    )
    levels = team.collected([levels for _, levels in found]) + team.collected(list(rest))
    rows = team.collected([np.array(figures) for figures, _ in found])  # of (5,)
    means = (
        [*np.mean(rows, axis=0)[:4].tolist(), float(np.max(rows, axis=0)[4])]
        if rows
        else [math.nan] * 5
    )
    loss, dice, pred, true, largest = team.led(*means)
    return Validation(loss, dice, pred, true, largest, tuple(levels))


class Pace:
    """What predicting a pixel takes, in seconds: by recent probes, and by real validations."""

    def __init__(self) -> None:
        self.probes: deque[float] = deque(maxlen=5)
        self.wanting: deque[float] = deque(maxlen=5)
        self.validated_px_s = 0.0

    @property
    def px_s(self) -> float:
        """Seconds per pixel; a busy moment of the machine does not change it."""
        return max(median(self.probes), self.validated_px_s)

    @property
    def slowdown(self) -> float:
        """How much longer work takes on the processor because others want its cores, too."""
        return max(1.0, IDLE_SHARE * median(self.wanting))

    def probe(self, predictor: Tracer, samples: Sequence[Decoded], n_processes: int = 1) -> None:
        """Time images as large as those that half of the pixels are in, one for each core."""
        by_size = sorted(samples, key=_n_px)
        reached_px = np.cumsum([_n_px(s) for s in by_size])
        usual = by_size[int(np.searchsorted(reached_px, reached_px[-1] / 2))]
        times_s, n_images = [], usable_cores()
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(2):  # the first call may set up kernels, either may be disturbed
            began_one = time.perf_counter()
            list(abreast(predictor, [usual.image] * n_images, Streams.prob))
            times_s.append(time.perf_counter() - began_one)
        spent_s, computed_s = time.perf_counter() - began, time.process_time() - cpu_began
        self.wanting.append(n_images * spent_s / max(computed_s, 1e-9))
        self.probes.append(min(times_s) / (n_processes * n_images * _n_px(usual)))

    def note(self, seconds: float, samples: Sequence[Decoded]) -> None:
        """Take in how long a validation took, which reads, cleans up and scores, too."""
        self.validated_px_s = seconds / area_px(samples)


def area_px(samples: Sequence[Decoded]) -> int:
    """Return the pixels of all images."""
    return sum(_n_px(s) for s in samples)


def _n_px(sample: Decoded) -> int:
    return math.prod(sample.size)


def affordable(
    samples: Sequence[Decoded], per_px_s: float, allowance_s: float
) -> tuple[Decoded, ...]:
    """Return the samples that can be predicted in the time allowed, spread over the part.

    Args:
        samples: Validation part.
        per_px_s: Seconds that a pixel takes.
        allowance_s: For one pass; infinite keeps all samples.
    """
    cost_s = per_px_s * area_px(samples)
    count = len(samples) * min(1.0, allowance_s / cost_s)
    count = min(len(samples), max(MIN_IMAGES, int(count)))
    return tuple(evenly(samples, count))


def _score(streams: Streams, sample: Decoded, loss_of: Loss) -> tuple[tuple[float, ...], Levels]:
    image, mask = sample.pixels()
    prob = streams.prob(image)  # (H, W) float32
    true = mask.astype(bool)
    pred = clean(prob, streams.tracer.params)
    logit = torch.logit(torch.from_numpy(prob), eps=1e-6)[None, None]  # (1, 1, H, W)
    truth = torch.from_numpy(mask).float()[None, None]  # (1, 1, H, W)
    loss = float(loss_of(logit, truth).mean())
    dice = score_image(sample.id, sample.id, "validation", pred, true).dice
    figures = loss, dice, float(pred.mean()), float(true.mean()), float(prob.max())
    return figures, to_levels(prob)

"""Who hears of training while it goes on, and of what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calco.errors import Problem
from calco.records import Epoch


@dataclass(frozen=True)
class Progress:
    """Where training stands, for a progress bar.

    Attributes:
        fraction: Of training done, in [0, 1].
        epoch: From 1.
        loss: Of the last step.
        best_dice: Best validation Dice so far; NaN before the first.
        left_s: Seconds left, estimated.
    """

    fraction: float
    epoch: int
    loss: float
    best_dice: float
    left_s: float

    @classmethod
    def after(
        cls, history: Sequence[Epoch], fraction: float, loss: float, spent_s: float, most_s: float
    ) -> Progress:
        """Tell from the epochs so far and the share of training done.

        Args:
            history: Complete epochs.
            fraction: Of training done, in [0, 1].
            loss: Of the last step.
            spent_s: Seconds of training.
            most_s: Seconds left by the clock.
        """
        left_s = min(spent_s / max(fraction, 1e-6) - spent_s, most_s)
        dices = [e.validation_dice for e in history if math.isfinite(e.validation_dice)]
        best = max(dices, default=math.nan)
        return cls(fraction, len(history) + 1, loss, best, max(left_s, 0.0))


@dataclass
class Watch:
    """Who wants to hear of training; every call is optional."""

    on_step: Callable[[Progress], None] = field(default=lambda _: None)
    on_epoch: Callable[[Epoch], None] = field(default=lambda _: None)
    on_advice: Callable[[Problem], None] = field(default=lambda _: None)
    on_best: Callable[[Mapping[str, NDArray[np.uint8]]], None] = field(default=lambda _: None)
    """Weights were kept; hears what they say of each validation image, (H, W) levels by id, or of
    none when only a sample was validated."""

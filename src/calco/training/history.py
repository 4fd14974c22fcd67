"""Which epoch was best and whether to go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from calco.records import Epoch


@dataclass
class Monitor:
    """Follows one validation figure; only finite values count.

    Attributes:
        figure: ``dice`` is better high, ``loss`` better low.
        patience: Validations without improvement before stopping; None never stops.
        min_delta: Smallest change that resets patience; any improvement is kept as best.
        best: Best value so far; NaN before the first finite one.
        best_epoch: Its epoch; 0 before.
        stale: Validations since the last change of at least ``min_delta``.
        anchor: Value that ``min_delta`` is measured from.
    """

    figure: Literal["dice", "loss"] = "dice"
    patience: int | None = None
    min_delta: float = 0.0
    best: float = math.nan
    best_epoch: int = 0
    stale: int = 0
    anchor: float = math.nan

    def update(self, epoch: Epoch) -> bool:
        """Take in a validated epoch and return whether it is the best so far."""
        value = epoch.validation_dice if self.figure == "dice" else epoch.validation_loss
        if not math.isfinite(value):
            # max([nan, .5]) is nan: a NaN must never pick itself as best
            self.stale += 1
            return False
        sign = 1.0 if self.figure == "dice" else -1.0
        moved = math.isnan(self.anchor) or sign * (value - self.anchor) >= self.min_delta
        self.stale = 0 if moved else self.stale + 1
        self.anchor = value if moved else self.anchor
        better = math.isnan(self.best) or sign * (value - self.best) > 0
        if better:
            self.best, self.best_epoch = value, epoch.epoch
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.stale >= self.patience

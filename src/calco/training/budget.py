"""The clock of a run: how much of the budget is gone and when training must end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

FIRST_RESERVE = 0.12  # share of the budget kept for tuning, test and report until it is measured
FIXED_RESERVE_S = 6.0  # report, baseline and files, measured on two cores
SAFETY = 1.4  # the machine may slow down between validation and test


@dataclass
class Clock:
    """Wall-clock time of a run, counted from the start of the command.

    Attributes:
        budget_s: Seconds for the whole run; None is unlimited.
        started: ``time.monotonic()`` at the start, moved back by what earlier parts of a resumed
            run used.
    """

    budget_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    reserve_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reserve_s = 0.0
        if self.budget_s is not None:
            self.reserve_s = FIRST_RESERVE * self.budget_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def fit_left_s(self) -> float:
        """Seconds until training must hand over to tuning and test; infinite without a budget."""
        if self.budget_s is None:
            return math.inf
        return self.budget_s - self.reserve_s - self.elapsed_s

    def reserve_for(self, validation_s: float, pixel_ratio: float) -> None:
        """Set aside what comes after training, measured rather than guessed.

        Args:
            validation_s: Seconds of one validation pass.
            pixel_ratio: Pixels of validation and test parts over those of the validation part.
        """
        if self.budget_s is not None:
            measured = SAFETY * validation_s * pixel_ratio + FIXED_RESERVE_S
            self.reserve_s = min(measured, 0.5 * self.budget_s)

    def progress(self, began_s: float) -> float:
        """Return the share of training time used, in [0, 1]; 0 without a budget.

        Args:
            began_s: ``elapsed_s`` when training began.
        """
        if self.budget_s is None:
            return 0.0
        total = self.budget_s - self.reserve_s - began_s
        return min(1.0, (self.elapsed_s - began_s) / total) if total > 0 else 1.0

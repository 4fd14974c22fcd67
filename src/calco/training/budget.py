"""The clock of a run: how much of the budget is gone and when training must end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

FIRST_RESERVE = 0.12  # share of the budget kept for tuning, test and report until it is measured
FIXED_RESERVE_S = 8.0  # tuning, baseline, report and files, measured on two cores
VIEWS_SHARE = 0.2  # of the budget, at most, to predict other views: training gains more in it
SAFETY = 1.4  # the machine may slow down between validation and test


@dataclass
class Clock:
    """Wall-clock time of a run, counted from the start of the command.

    Attributes:
        budget_s: Seconds for the whole run; None is unlimited.
        started: ``time.monotonic()`` at the start.
        earlier_s: Seconds used by earlier parts of a resumed run.
        reserve_s: Kept for what comes after training.
        fold_began_s: ``elapsed_s`` when the training of this fold began; 0 without folds.
        folds_left: Trainings that share the time left, this one included.
        views: Predictions that an image costs at each step of what tuning tries: 4 with mirror
            images. A step is tried with all validation images, and the last is tested with.
        steps_s: What each step takes that time is set aside for, as measured last.
        after_s: Seconds per training that what comes after takes besides predicting.
        slowdown: How much longer it takes because other programs want the processor, too.
    """

    budget_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    earlier_s: float = 0.0
    reserve_s: float = field(init=False)
    fold_began_s: float = 0.0
    folds_left: int = 1
    views: tuple[float, ...] = (4.0,)
    steps_s: tuple[float, ...] = ()
    after_s: float = FIXED_RESERVE_S
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        self.reserve_s = 0.0
        if self.budget_s is not None:
            self.reserve_s = FIRST_RESERVE * self.budget_s

    @property
    def elapsed_s(self) -> float:
        """Seconds of the run so far, pauses left out."""
        return time.monotonic() - self.started + self.earlier_s

    @property
    def fit_left_s(self) -> float:
        """Seconds until this training must hand over; infinite without a budget."""
        return self.fit_end_s - self.elapsed_s

    @property
    def fit_end_s(self) -> float:
        """``elapsed_s`` at which this training must end; infinite without a budget."""
        if self.budget_s is None:
            return math.inf
        left_s = self.budget_s - self.reserve_s - self.fold_began_s
        return self.fold_began_s + left_s / self.folds_left

    def begin_fold(self, folds_left: int) -> None:
        """Give the training that begins now its share of the time left.

        Args:
            folds_left: Trainings to come, this one included.
        """
        self.fold_began_s, self.folds_left = self.elapsed_s, folds_left

    def reserve_for(self, validation_s: float, tested_ratio: float, n_folds: int = 1) -> None:
        """Set aside what comes after the last step, measured rather than guessed.

        The last validation predicts all images, for tuning. Only where an earlier one was better
        are they predicted once more, which ``SAFETY`` has to pay for.

        Args:
            validation_s: Seconds of one validation pass.
            tested_ratio: Test pixels that all trainings predict over validation pixels of one.
            n_folds: Trainings; with several, tuning is repeated without each.
        """
        if self.budget_s is None:
            return
        predicted_s, tried_s, steps_s = validation_s * tested_ratio, 0.0, []
        for n_views in self.views:
            tried_s += validation_s * n_views * n_folds
            all_s = tried_s + validation_s * n_views * tested_ratio
            if SAFETY * all_s > VIEWS_SHARE * self.budget_s:
                break
            predicted_s = all_s
            steps_s.append(validation_s * n_views * (tested_ratio + n_folds))
        self.steps_s = tuple(steps_s)
        after_s = validation_s + SAFETY * predicted_s + self.slowdown * self.after_s * n_folds
        self.reserve_s = min(after_s, 0.5 * self.budget_s)

    def has_time_for_views(self, step: int) -> bool:
        """Whether a step of ``views`` can be tried now: training may have ended late."""
        if self.budget_s is None:
            return True
        if step >= len(self.steps_s):
            return False
        after_s = self.slowdown * self.after_s
        return self.elapsed_s + self.steps_s[step] + after_s <= self.budget_s

    def progress(self, began_s: float) -> float:
        """Return the share of training time used, in [0, 1]; 0 without a budget.

        Args:
            began_s: ``elapsed_s`` when training began.
        """
        if self.budget_s is None:
            return 0.0
        total = self.fit_end_s - began_s
        return min(1.0, (self.elapsed_s - began_s) / total) if total > 0 else 1.0

"""When a trial is given up: at some tenths of it, it is compared with what others had by then."""

from __future__ import annotations

import math

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import Trial

from calco.records import Pruner

RUNGS = 10  # moments of a trial at which it may be compared with the others
# Averaged weights lag behind in the first tenth, where the best of twelve trials once had a Dice of
# 0.00. These numbers lost least in half of the time when trials were replayed: reports/pruning.md.
FIRST_RUNG = 2
KEEP_ONE_OF = 2  # of those that came as far, at each of the rungs 2, 4 and 8
N_STARTUP = 2  # complete trials before the median of such is asked


class Rungs:
    """Compares a trial with others after each tenth of it.

    Trials are validated at different moments, and keep the weights that were best: at each rung the
    highest Dice by then stands for the others. A trial is judged whenever it is validated at a rung
    or beyond, by all that is known of it.

    Args:
        trial: Of a study that has a pruner.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.last, self.dice = 0, math.nan

    def note(self, fraction: float, dice: float) -> None:
        """Take in a validation.

        Args:
            fraction: Share of the trial that is done, in (0, 1].
            dice: Mean of the validation images; one that is not finite is passed over.

        Raises:
            TrialPruned: When the trial is given up.
        """
        if not math.isfinite(dice):
            return
        rung = min(RUNGS, int(RUNGS * fraction + 1e-9))
        for passed in range(self.last + 1, rung):
            if math.isfinite(self.dice):
                self.trial.report(self.dice, passed)
        self.dice = max(dice, self.dice) if math.isfinite(self.dice) else dice
        if rung <= self.last:
            return
        self.last = rung
        self.trial.report(self.dice, rung)
        if rung < RUNGS and self.trial.should_prune():
            raise optuna.TrialPruned


def make_pruner(rule: Pruner) -> BasePruner:
    """Return what decides by a rule.

    Reference:
        ``halving``: Li et al. (2020), https://arxiv.org/abs/1810.05934; ``median``: Golovin et al.
        (2017), https://doi.org/10.1145/3097983.3098043; ``hyperband``: Li et al. (2018),
        https://arxiv.org/abs/1603.06560
    """
    match rule:
        case "halving":
            return SuccessiveHalvingPruner(FIRST_RUNG, KEEP_ONE_OF)
        case "median":
            return MedianPruner(n_startup_trials=N_STARTUP, n_warmup_steps=FIRST_RUNG)
        case "hyperband":
            return HyperbandPruner(min_resource=FIRST_RUNG, max_resource=RUNGS)
        case "none":
            return NopPruner()

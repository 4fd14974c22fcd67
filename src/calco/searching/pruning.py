"""When a trial is given up: at some tenths of it, it is compared with what others had by then."""

from __future__ import annotations

import math

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import Trial

from calco.records import Pruner

RUNGS = 10  # moments of a trial at which it may be compared with the others
# The first trial has the settings of the plan: others may be held against it alone. In the first
# tenth, averaged weights lag behind: of twelve trials the best had a Dice of 0.00. Both are chosen
# on that one sweep, see reports/sweep.json and docs/how-to/sweep.md.
N_STARTUP = 1  # complete trials before one is given up
FIRST_RUNG = 2


class Rungs:
    """Compares a trial with others after each tenth of it.

    Trials are validated at different moments. At a rung that none fell on, what was known by then
    stands.

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
        self.dice = dice
        if rung <= self.last:
            return
        self.last = rung
        self.trial.report(dice, rung)
        if rung < RUNGS and self.trial.should_prune():
            raise optuna.TrialPruned


def make_pruner(rule: Pruner) -> BasePruner:
    """Return what decides by a rule."""
    match rule:
        case "median":
            return MedianPruner(n_startup_trials=N_STARTUP, n_warmup_steps=FIRST_RUNG)
        case "hyperband":
            return HyperbandPruner(min_resource=FIRST_RUNG, max_resource=RUNGS)
        case "none":
            return NopPruner()

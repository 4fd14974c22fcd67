"""What a sweep is and what its trials left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from calco.records.training import Epoch

TrialState = Literal["waiting", "running", "complete", "pruned", "failed"]
Pruner = Literal["halving", "median", "hyperband", "none"]
Setting = bool | int | float | str | None


def short_name(key: str) -> str:
    """Return what a setting is called where there is little room.

    Example:
        >>> short_name("fit.learning_rate"), short_name("loss.name")
        ('learning_rate', 'loss')
    """
    section, _, name = key.rpartition(".")
    return section if name == "name" else name


@dataclass(frozen=True)
class SweepSpec:
    """What all workers of a sweep agree on; it lies in the study that they share.

    Attributes:
        config: Settings of all trials, as YAML.
        space: Settings that differ, as YAML.
        fixed: Settings that the plan chose once, so that trials differ by ``space`` alone.
        n_trials: Trials in all.
        each_s: Seconds that a trial may take; None trains by ``fit.epochs``.
        pruner: Rule by which trials that lag behind are given up.
        seed: Of the draws.
        data_sha256: Digest of the images, masks and their division: what trials are scored on.
    """

    config: str
    space: str
    fixed: Mapping[str, Setting]
    n_trials: int
    each_s: float | None
    pruner: Pruner
    seed: int
    data_sha256: str


@dataclass(frozen=True)
class SweepTrial:
    """One trial, as its last attempt left it.

    Attributes:
        number: From 0, one per trial that was asked for.
        state: ``pruned`` ones were given up early.
        params: Values tried, by dotted key.
        dice: Mean validation Dice of the weights kept, threshold 0.5, all validation images; of a
            pruned trial the best so far. NaN where nothing was validated.
        history: Epochs, empty until the trial ends.
        seconds: That the last attempt took.
        attempts: 1 unless a worker was killed or stopped.
        problem: Why it failed; empty otherwise.
    """

    number: int
    state: TrialState
    params: Mapping[str, Setting] = field(default_factory=dict)
    dice: float = math.nan
    history: tuple[Epoch, ...] = ()
    seconds: float = 0.0
    attempts: int = 1
    problem: str = ""


@dataclass(frozen=True)
class Sweep:
    """A study: its trials and which of them is best.

    Attributes:
        name: Of the study.
        spec: What is searched, and how.
        trials: One per trial asked for, by number.
        importance: Share of each setting in what makes trials good; empty with too few trials.
    """

    name: str
    spec: SweepSpec
    trials: tuple[SweepTrial, ...]
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> SweepTrial | None:
        """The complete trial of the highest validation Dice; None before there is one."""
        complete = [t for t in self.trials if t.state == "complete" and math.isfinite(t.dice)]
        return max(complete, key=lambda t: t.dice, default=None)

    def count(self, *states: TrialState) -> int:
        """Return how many trials are in these states."""
        return sum(trial.state in states for trial in self.trials)

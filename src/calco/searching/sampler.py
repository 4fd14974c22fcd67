"""Draws that depend on the seed, the trial and what finished before it; on no worker's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState


class SeededTpe(BaseSampler):
    """Optuna's tree-structured Parzen estimator, seeded anew for every trial.

    Workers that each began with the same seed would draw the same settings; one that is resumed
    would draw others than it had drawn unbroken.

    Args:
        seed: Of the sweep.
        n_random: Trials that are drawn without looking at earlier ones.

    Reference:
        Bergstra et al. (2011), Algorithms for Hyper-Parameter Optimization.
    """

    def __init__(self, seed: int, n_random: int) -> None:
        self.seed, self.n_random = seed, n_random
        self.tpe = TPESampler(n_startup_trials=n_random, seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the draws of a trial."""
        own = int(np.random.SeedSequence((self.seed, trial.number)).generate_state(1)[0])
        self.tpe = TPESampler(n_startup_trials=self.n_random, seed=own)
        self.tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn jointly."""
        return self.tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw that."""
        return self.tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as Optuna declares it
        """Draw one setting by itself."""
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Take in how a trial ended."""
        self.tpe.after_trial(study, trial, state, values)

"""Measure reports/pruning.md: what each rule of giving up would have cost and saved.

    python scripts/replay_pruning.py

The trials of reports/sweep.json that were trained in full are told to a rule epoch by epoch, as a
sweep would have. The first has the settings of the plan and stays the first; the others come in
the order they were drawn in, and in others drawn anew, since a rule that knows only what came
before can be lucky. Nothing is trained; it takes half a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, get_args

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner

from benchmark_sweep import MOST_LOST, MOST_TIME, REPORT
from calco.files import write_atomic
from calco.records import Pruner
from calco.searching.pruning import FIRST_RUNG, KEEP_ONE_OF, N_STARTUP, RUNGS, Rungs, make_pruner
from calco.sweeps import OWN_NAME

PAGE = REPORT.with_name("pruning.md")
Rule = Callable[[], BasePruner]
ORDERS = 40  # of the trials of each sweep
MEDIANS = ((1, 2), (2, 1), (2, 2), (2, 4), (3, 2), (4, 2))  # first tenth, complete trials
HALVINGS = ((1, 2), (1, 3), (2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 3))  # first, 1 of how many


@dataclass(frozen=True)
class History:
    """A trial that was trained in full.

    Attributes:
        dice: Of the weights kept, on all validation images.
        epochs: Validation Dice after each epoch.
    """

    dice: float
    epochs: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What a rule would have done to the trials of a sweep.

    Attributes:
        lost: Dice of the best trial less that of the best of those kept.
        share: Epochs trained, of all.
    """

    lost: float
    share: float

    @property
    def met(self) -> bool:
        """Whether it is what a rule is aimed at."""
        return self.lost <= MOST_LOST and self.share <= MOST_TIME


def main() -> None:
    """Replay and write."""
    write_atomic(PAGE, page(read_sweeps()))


def read_sweeps() -> dict[str, list[History]]:
    """Read the full trials of each sweep that kept their histories; repeated ones once."""
    known: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))
    sweeps = {}
    for found in known.values():
        full = [trial["full"] for trial in found["trials"]]
        if all("validation_dice" in trial for trial in full):
            name = f"{found['data']}, {found['settings'][-1]}, seed {found['seed']}"
            sweeps[name] = [History(t["dice"], tuple(t["validation_dice"])) for t in full]
    return sweeps


def replay(trials: Sequence[History], pruner: BasePruner) -> Outcome:
    """Tell a rule of trials, one after the other."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    # Hyperband divides trials by the name of their study
    study = optuna.create_study(study_name=OWN_NAME, direction="maximize", pruner=pruner)
    kept, n_epochs = [], 0
    for history in trials:
        trial = study.ask()
        rungs = Rungs(trial)
        try:
            for number, dice in enumerate(history.epochs, start=1):
                n_epochs += 1
                rungs.note(number / len(history.epochs), dice)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, history.dice)
            kept.append(history.dice)
    lost = max(trial.dice for trial in trials) - max(kept)
    return Outcome(lost, n_epochs / sum(len(trial.epochs) for trial in trials))


def replay_in_orders(trials: Sequence[History], rule: Rule) -> list[Outcome]:
    """Tell a rule of the trials in the order they had, then in others."""
    outcomes = []
    for seed in range(ORDERS):
        others = list(trials[1:])
        if seed:
            np.random.default_rng(seed).shuffle(others)
        outcomes.append(replay([trials[0], *others], rule()))
    return outcomes


def page(sweeps: Mapping[str, Sequence[History]]) -> str:
    """Write a row for every rule, those in use first."""
    rules = rules_replayed()
    outcomes = {
        (rule, name): replay_in_orders(trials, make)
        for rule, make in rules.items()
        for name, trials in sweeps.items()
    }
    lines = [INTRODUCTION, "| rule |" + HEAD, "|---|" + RULE]
    for rule in rules:
        lines.append(row(rule, [o for name in sweeps for o in outcomes[rule, name]]))
    lines += ["", "## By sweep, by the usual rule\n", "| trials |" + HEAD, "|---|" + RULE]
    usual = next(iter(rules))
    lines += [row(name, outcomes[usual, name]) for name in sweeps]
    return "\n".join(lines) + "\n"


def rules_replayed() -> dict[str, Rule]:
    """Return the rules in use, by their options, then others."""
    medians = {
        f"median of complete ones, from {first} tenths, after {n} complete": partial(
            MedianPruner, n_startup_trials=n, n_warmup_steps=first
        )
        for first, n in MEDIANS
    }
    halvings = {
        f"best 1 of {eta}, at {rungs_of(first, eta)} tenths": partial(
            SuccessiveHalvingPruner, min_resource=first, reduction_factor=eta
        )
        for first, eta in HALVINGS
    }
    used: dict[Pruner, str] = {
        "halving": f"best 1 of {KEEP_ONE_OF}, at {rungs_of(FIRST_RUNG, KEEP_ONE_OF)} tenths",
        "median": f"median of complete ones, from {FIRST_RUNG} tenths, after {N_STARTUP} complete",
    }
    rules: dict[str, Rule] = {
        f"**`--pruner {pruner}`** {used.get(pruner, '')}".rstrip(): partial(make_pruner, pruner)
        for pruner in get_args(Pruner)
    }
    others: dict[str, Rule] = {**medians, **halvings}
    return rules | {name: others[name] for name in others if name not in used.values()}


def rungs_of(first: int, eta: int) -> str:
    """Name the tenths at which halving compares."""
    return ", ".join(str(first * eta**k) for k in range(RUNGS) if first * eta**k < RUNGS)


def row(name: str, found: Sequence[Outcome]) -> str:
    """Return a row of a table: means, and the mean of the worst tenth of what was lost."""
    worst = sorted(o.lost for o in found)[-max(1, len(found) // 10) :]
    cells = (fmean(o.lost for o in found), fmean(worst), fmean(o.share for o in found))
    met = fmean(o.met for o in found)
    return "| {} | {:.4f} | {:.4f} | {:.0%} | {:.0%} |".format(name, *cells, met)


HEAD = " Dice lost, mean | worst tenth | share of the epochs | both aims met |"
RULE = "---|" * 4
INTRODUCTION = f"""# Rules by which trials are given up, replayed

Written by `scripts/replay_pruning.py` from the full trials of `sweep.json`, in {ORDERS} orders of
those of each sweep. Aimed at: at most {MOST_LOST} of validation Dice lost in at most
{MOST_TIME:.0%} of the epochs. The trials are the same for all rules; in a real sweep what is drawn
next depends on what was given up before: [sweep.md](sweep.md) has sweeps that were run twice.
"""


if __name__ == "__main__":
    main()

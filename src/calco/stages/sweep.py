"""Sweep stage: agree with other workers on what is tried, try it, write down what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from calco.errors import CalcoError, Problem
from calco.records import Plan, Sweep, SweepSpec
from calco.searching.space import Choices, Dimension, Params, Space, Value
from calco.wording import name_some

if TYPE_CHECKING:  # they need Optuna, an extra
    from calco.searching.study import Job, SharedStudy

USUAL_TRIALS = 30
MAX_GRID = 1000  # combinations: each waits in the storage from the beginning
_ENCODERS = ("model.family", ("encoder_unet",))
USED_BY: Mapping[str, tuple[str, tuple[Value, ...]]] = {
    "model.width": ("model.family", ("unet", "lean")),
    "model.depth": ("model.family", ("unet",)),
    "model.norm": ("model.family", ("unet", "lean")),
    "model.pretrained": _ENCODERS,
    "model.freeze_encoder": _ENCODERS,
    "fit.encoder_lr_factor": _ENCODERS,
    "fit.layer_decay": _ENCODERS,
    "loss.gamma": ("loss.name", ("focal",)),
    "loss.alpha": ("loss.name", ("tversky",)),
}
"""Which values of another setting make one matter; those that always do are left out."""


def require_optuna() -> None:
    """Refuse to begin where Optuna is not installed.

    Raises:
        CalcoError: With what to install.
    """
    try:
        import calco.searching.study  # noqa: F401
    except ModuleNotFoundError as error:
        what, do = "sweeps need Optuna", "pip install 'calco[sweep]'"
        where = (error.name or "optuna").partition(".")[0]
        raise CalcoError(Problem("SWEEP_MISSING", what, where, "not installed", do=do)) from None


def open_study(url: str, name: str, lost_after_s: float) -> SharedStudy:
    """Open a study, which need not exist yet.

    Args:
        url: Of the storage.
        name: Of the study in it.
        lost_after_s: Silence after which a worker counts as killed.

    Raises:
        CalcoError: When Optuna is not installed or the storage cannot be opened.
    """
    require_optuna()
    from calco.searching.study import Place, SharedStudy

    return SharedStudy(Place(url, name, lost_after_s))


def count_trials(space: Space | None, asked: int | None) -> int:
    """Return how many trials there are: as many as asked for, and of a grid at most all.

    Args:
        space: What the user wants searched; None where that is the usual.
        asked: Trials that the user wants; None takes the whole grid, or the usual number.

    Raises:
        CalcoError: When the whole of a vast grid would be tried unasked.
    """
    points = space.n_combinations if space else math.inf
    if asked is None and MAX_GRID < points < math.inf:
        what, do = "the grid is vast", "say with --trials how many of them are drawn"
        got = f"{points:.0f} combinations"
        raise CalcoError(Problem("SPACE_GRID", what, "--space", got, f"up to {MAX_GRID}", do))
    if math.isinf(points):
        return asked or USUAL_TRIALS
    return int(points) if asked is None else min(asked, int(points))


def ask(space: Space, n_trials: int, first: Params) -> list[Mapping[str, Value]]:
    """Return the settings that each trial must have; what is missing is drawn when it begins.

    Args:
        space: A grid is tried point by point when it has just as many.
        n_trials: Trials in all.
        first: Settings that would be chosen without a sweep: the first trial has them, so that
            the best one is never worse by more than luck.
    """
    if n_trials == space.n_combinations:
        return list(space.grid())
    return [space.inside(first), *({} for _ in range(n_trials - 1))]


def require_sound(space: Space, plan: Callable[[Params], Plan]) -> None:
    """Refuse values that no trial could have, and settings that would change none.

    Args:
        space: What is searched.
        plan: Plans a trial of some settings; raises what is wrong with them.

    Raises:
        CalcoError: Lists all of them.
    """
    faults: list[Problem] = []
    for dimension in space.dimensions:
        for value in _extremes(dimension):
            try:
                plan({dimension.key: value})
            except CalcoError as error:
                faults += error.problems
    if not faults:
        faults += _idle(space, plan({}))
    if faults:
        raise CalcoError(*faults)


def _idle(space: Space, usual: Plan) -> list[Problem]:
    """Name what is searched although it would change no trial."""
    chosen: Mapping[str, Value] = {"model.family": usual.network.family, "loss.name": usual.loss}
    listed = {d.key: d.values for d in space.dimensions if isinstance(d, Choices)}
    faults = []
    for key in space.keys:
        other, users = USED_BY.get(key, ("", ()))
        had = listed.get(other, (chosen.get(other),))
        if other and not set(had) & set(users):
            do = f"leave it out, or set {other} to {' or '.join(map(str, users))}"
            got = f"{other} {name_some(map(str, had))}"
            faults.append(Problem("SPACE_IDLE", "it would change no trial", key, got, do=do))
    return faults


def _extremes(dimension: Dimension) -> tuple[Value, ...]:
    """Return the values of which one is refused if any that is drawn would be."""
    if isinstance(dimension, Choices):
        return dimension.values
    d = dimension
    if not d.whole:
        return (d.low, d.high)
    return (int(d.low), min(int(d.low + (d.step or 1)), int(d.high)), int(d.high))


def agree(found: SweepSpec, own: SweepSpec, name: str) -> SweepSpec:
    """Return what a study's workers agree on, which is what its founder said.

    Args:
        found: What lies in the storage.
        own: What this worker would have founded.
        name: Of the study.

    Raises:
        CalcoError: When it is another sweep.
    """
    # the time of a trial is the founder's to say, and what its machine made the plan fix
    compared = ("config", "space", "n_trials", "pruner", "seed", "data_sha256")
    others = [key for key in compared if getattr(found, key) != getattr(own, key)]
    if (found.each_s is None) != (own.each_s is None):
        others.append("budget")
    if others:
        raise CalcoError(
            Problem(
                "SWEEP_OTHER",
                "the storage holds another sweep of this name",
                name,
                got=f"different {name_some(others)}",
                do="choose another --name, or repeat the command that began it",
            )
        )
    return found


def sweep(study: SharedStudy, space: Space, spec: SweepSpec, job: Job) -> Sweep:
    """Work until nothing waits, or nothing more may begin.

    Raises:
        StoppedError: After a signal.
    """
    study.work(space, spec, job)
    return study.read(spec, space)


def require_result(found: Sweep) -> None:
    """Refuse to call a sweep done in which every trial failed.

    Raises:
        CalcoError: With what the first one failed of.
    """
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if len(failed) < len(found.trials):
        return
    raise CalcoError(
        Problem(
            "SWEEP_FAILED",
            "every trial failed",
            found.name,
            got=failed[0].problem if failed else "no trials",
            do="mend that, or take it out of the search space",
        )
    )

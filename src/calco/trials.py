"""One trial of a sweep: a short training whose weights are scored on validation and thrown away."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from calco.config import Config, Family
from calco.files import to_json
from calco.inference.postprocess import clean, to_levels
from calco.inference.predictor import Predictor
from calco.metrics.summary import score_image
from calco.records import Epoch, Fingerprint, Machine, Plan, Postprocess, Split
from calco.replay import settings_of
from calco.runs import RunDir
from calco.searching.space import Choices, Params, Space, Value, overlay
from calco.stages.fingerprint import take_fingerprint
from calco.stages.fit import fit
from calco.stages.loaders import build_loaders
from calco.stages.plan import families, is_too_slow, make_plan, measure_machine
from calco.training.budget import Clock
from calco.training.cache import Decoded
from calco.training.progress import Progress, Watch

VALIDATION_SHARE = 0.15  # of a trial: it cannot be given up before it is validated

Report = Callable[[float, Epoch], None]


@dataclass(frozen=True)
class Bench:
    """What every trial of a worker needs, made once.

    Attributes:
        samples: Decoded training and validation images.
        split: Which of them are which.
        config: Settings of all trials.
        fingerprint: Of the training part.
        machines: What a step costs here, per network; None where nothing was timed.
        scratch: Folder for the weights of the trial under way.
    """

    samples: tuple[Decoded, ...]
    split: Split
    config: Config
    fingerprint: Fingerprint
    machines: Mapping[Family, Machine | None]
    scratch: Path

    def plan(self, config: Config, each_s: float | None) -> Plan:
        """Plan a trial, by what was timed of its network.

        Args:
            config: Settings of the trial.
            each_s: Seconds that it may take; None trains by epochs.

        Raises:
            CalcoError: When settings do not go together.
        """
        family: Family = config.model.family or list(self.machines)[-1]
        chosen = config.model_copy(
            update={
                "budget_s": each_s,
                "model": config.model.model_copy(update={"family": family}),
            }
        )
        machine = self.machines.get(family)
        return make_plan(self.fingerprint, machine, chosen, each_s or math.inf)


class TrialClock(Clock):
    """The clock of one trial: nothing but one more validation comes after its training."""

    def reserve_for(self, validation_s: float, tested_ratio: float, n_folds: int = 1) -> None:
        """Set aside the last validation, and one of the weights kept."""
        if self.budget_s is not None:
            self.reserve_s = min(2 * validation_s, 0.5 * self.budget_s)


def set_up(
    samples: tuple[Decoded, ...],
    split: Split,
    config: Config,
    budget_s: float | None,
    wanted: tuple[Space | None, int],
    scratch: Path,
) -> Bench:
    """Look at the training part, and time the networks that trials may have.

    Args:
        samples: Decoded training and validation images.
        split: Which of them are which.
        config: Settings of all trials.
        budget_s: Of the whole sweep; None times nothing.
        wanted: What is searched, as far as the user said, and the number of trials.
        scratch: Folder for the weights of trials.

    Raises:
        CalcoError: When a step needs more memory than there is, or there is no such device.
    """
    train_ids = {sample.id for sample in split.divisions()[0].train}
    train_samples = [s for s in samples if s.id in train_ids]
    fingerprint = take_fingerprint(train_samples, split)
    space, n_trials = wanted
    timed = config.model_copy(update={"budget_s": budget_s})
    searched = _families(space)
    machines: dict[Family, Machine | None] = {}
    for family in searched or families(config):
        machines[family] = measure_machine(train_samples, fingerprint, timed, family)
        machine = machines[family]
        each_s = (budget_s or math.inf) / n_trials
        if not searched and not (machine and is_too_slow(machine, fingerprint, each_s)):
            break
    return Bench(samples, split, config, fingerprint, machines, scratch)


def train_trial(
    bench: Bench,
    each_s: float | None,
    params: Params,
    report: Report,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> float:
    """Train with some settings, score all validation images at threshold 0.5, leave no file.

    Args:
        bench: Data and settings that all trials share.
        each_s: Seconds that the trial may take; None trains by epochs.
        params: Settings that are tried.
        report: Hears of the share of the trial that is done and of each epoch; may raise.
        on_step: Hears of every step.

    Returns:
        Mean Dice of the weights that were best on validation.

    Raises:
        CalcoError: When settings do not go together, or the loss stays NaN.
        StoppedError: After a signal.
    """
    config = _for_trial(overlay(bench.config, params))
    plan, clock = bench.plan(config, each_s), TrialClock(each_s)
    loaders = replace(build_loaders(bench.samples, bench.split, plan, config), tested_ratio=1.0)
    levels: dict[str, NDArray[np.uint8]] = {}

    def keep(maps: Mapping[str, NDArray[np.uint8]]) -> None:
        levels.clear()  # of weights that are kept no more
        levels.update(maps)

    def on_epoch(epoch: Epoch) -> None:
        by_epochs = epoch.epoch / plan.epochs if plan.epochs else 0.0
        report(max(by_epochs, clock.progress(0.0)), epoch)

    watch = Watch(on_step=on_step, on_epoch=on_epoch, on_best=keep)
    with TemporaryDirectory(dir=bench.scratch) as name:
        fit(loaders, plan, config, RunDir(Path(name)), clock, watch)
        missing = [s for s in loaders.validation if s.id not in levels]
        if missing:  # the best weights were validated on a sample of the images
            predictor = Predictor.from_run(Path(name), config.device)
            levels.update({s.id: to_levels(predictor.prob(s.image)) for s in missing})
    return fmean(_dice(sample, levels[sample.id]) for sample in loaders.validation)


def fixed_by(plan: Plan, config: Config, space: Space) -> dict[str, Value]:
    """Return what the plan chose for all trials, so that they differ by what is searched alone.

    Args:
        plan: Of a trial without a sweep.
        config: Settings of all trials; what is given there needs not be fixed.
        space: What is searched.
    """
    chosen: dict[str, Value] = {"model.family": plan.network.family}
    chosen["model.scale"] = plan.network.scale
    if not config.fit.resize_px:
        chosen["fit.crop_px"] = plan.crop_px
    given = config.model_dump(mode="json")
    keep = {k: v for k, v in chosen.items() if given[k.split(".")[0]][k.split(".")[1]] is None}
    if "model.family" in space.keys:
        keep.pop("fit.crop_px", None)  # crops must fit the network
    return {key: value for key, value in keep.items() if key not in space.keys}


def as_params(plan: Plan) -> dict[str, Value]:
    """Return the settings that a plan chose, by their dotted keys."""
    sections = settings_of(json.loads(to_json(plan)))
    return {
        f"{section}.{name}": value
        for section, tree in sections.items()
        if isinstance(tree, dict)
        for name, value in tree.items()
    }


def _families(space: Space | None) -> tuple[Family, ...]:
    """Return the networks that are searched, if they are."""
    for dimension in space.dimensions if space else ():
        if isinstance(dimension, Choices) and dimension.key == "model.family":
            return tuple(v for v in dimension.values if v)  # type: ignore[misc]
    return ()


def _for_trial(config: Config) -> Config:
    share = max(config.fit.validation_share, VALIDATION_SHARE)
    fit_config = config.fit.model_copy(update={"preflight": False, "validation_share": share})
    return config.model_copy(update={"fit": fit_config})


def _dice(sample: Decoded, levels: NDArray[np.uint8]) -> float:
    pred, true = clean(levels, Postprocess()), sample.mask.astype(bool)
    return score_image(sample.id, sample.id, "validation", pred, true).dice

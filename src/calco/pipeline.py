"""All stages in order: the first file to read, after config.py and records.py."""

from __future__ import annotations

import math
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from calco import __version__
from calco.config import Config
from calco.errors import CalcoError, StoppedError
from calco.held_out import joined, validation_maps, viewed_maps
from calco.inference.maps import ProbMap, save_levels
from calco.inference.postprocess import clean
from calco.inference.predictor import Predictor, predict_maps
from calco.inference.views import cost_of
from calco.metrics.summary import score_image
from calco.nets.asked import require_network
from calco.records import (
    FitJob,
    FitResult,
    ImageScore,
    Plan,
    Postprocess,
    PredictJob,
    Reference,
    Scores,
    Split,
)
from calco.runs import RunDir
from calco.stages.audit import audit_samples, require_unchanged
from calco.stages.evaluate import evaluate, otsu_baseline
from calco.stages.fingerprint import take_fingerprint
from calco.stages.fit import fit
from calco.stages.label_errors import find_label_errors, write_suspicions
from calco.stages.learning_curve import BUDGET_SHARE, measure_learning, worth_measuring
from calco.stages.loaders import build_loaders, ratio_of_test, read_samples
from calco.stages.plan import families, is_too_slow, make_plan, measure_machine
from calco.stages.report import write_report
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.stages.transfer import Source, begin_from, open_source, seen_before, settings_with
from calco.stages.tune import looks_to_try, nested_dice, tune_postprocess, tune_viewed
from calco.teamwork import ask, predict_together
from calco.training.budget import Clock
from calco.training.cache import Decoded
from calco.training.dataset import Loaders
from calco.training.progress import Watch
from calco.training.shared_cache import remove_shared
from calco.training.team import ALONE, Team
from calco.training.threads import threads_restored
from calco.wording import without_login


@dataclass
class Listener:
    """Who wants to hear of the run: each finished record, the audit and training as they go."""

    on_record: Callable[[object], None] = field(default=lambda _: None)
    on_audit: Callable[[int, int], None] = field(default=lambda done, total: None)
    watch: Watch = field(default_factory=Watch)


@dataclass(frozen=True)
class Task:
    """What is learnt from, and how.

    Attributes:
        samples: Decoded training and validation images.
        split: Which of them are which.
        plan: What is built and how it is trained.
        config: All settings.
        levels: What the weights kept say of each validation image, (H, W) uint8 by id; filled by
            ``train``, so that nothing is predicted twice. Images may be missing.
        team: Processes that share the work; this one leads.
    """

    samples: Sequence[Decoded]
    split: Split
    plan: Plan
    config: Config
    levels: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    team: Team = ALONE


def run(
    data: Path,
    config: Config,
    folder: RunDir,
    clock: Clock,
    listener: Listener,
    team: Team = ALONE,
) -> Scores:
    """Run every stage; once the data are accepted each record is on disk before the next stage.

    Args:
        data: Folder of images and masks.
        config: All settings.
        folder: Where everything is left.
        clock: Started with the command.
        listener: Hears of every record.
        team: Processes that train and predict together; this one leads.

    Raises:
        CalcoError: Lists all faults of the data or the settings.
        StoppedError: After a signal; ``resume`` goes on.
    """
    tell = listener.on_record
    folder.require_new()
    source = open_source(config)  # a wrong one is said before the data are read
    require_network(config, source.card.network if source else None)
    tell(index := index_samples(data, config.data))
    tell(audit := audit_samples(index, config.data, config.audit, listener.on_audit))
    if audit.errors:
        raise CalcoError(*audit.errors)  # bad data leaves no folder behind
    with folder.locked():
        with taken_back_on_fault(folder):
            folder.save_config(config)
            folder.save_manifest(describe_machine(config, source))
            folder.save_index(index)
            split = split_samples(audit, config.split)
            if source and (seen := seen_before(source, split, audit)):
                listener.watch.on_advice(seen)
                audit = replace(audit, problems=(*audit.problems, seen))
            folder.save_audit(audit)
            tell(folder.save_split(split))
            tell((task := prepare(split, config, folder, clock, source, team)).plan)
        return train_and_test(task, folder, clock, listener)


@contextmanager
def taken_back_on_fault(folder: RunDir) -> Iterator[None]:
    """Fill a locked folder; a fault or Ctrl-C leaves none behind, as all in it was just written.

    Raises:
        CalcoError: When another process has filled it while the data were read.
    """
    folder.require_new()
    try:
        yield
    except (CalcoError, KeyboardInterrupt):
        shutil.rmtree(folder.path, ignore_errors=True)  # Windows keeps the lock file
        raise


def resume(folder: RunDir, clock: Clock, listener: Listener, team: Team = ALONE) -> Scores:
    """Go on with a stopped run, on the split and plan it left; the team may be another.

    Raises:
        CalcoError: When the folder holds no run, or its images or masks changed since.
        StoppedError: After another signal.
    """
    config = folder.load_config()
    _set_aside_for_views(clock, config)
    require_unchanged(folder.load_audit())
    split, plan = folder.load_split(), folder.load_plan()
    with folder.locked():
        listener.on_record(plan)
        samples = read_samples(split, folder.scratch, team)
        task = Task(samples, split, plan, config, team=team)
        return train_and_test(task, folder, clock, listener)


def prepare(
    split: Split,
    config: Config,
    folder: RunDir,
    clock: Clock,
    source: Source | None = None,
    team: Team = ALONE,
) -> Task:
    """Decode what is learnt from, look at it and at the machine, and plan the training.

    Args:
        split: Of the data.
        config: All settings.
        folder: Gets the plan, and the weights to begin with.
        clock: Started with the command.
        source: Weights to begin with; None takes the network's usual ones.
        team: Processes that share the work.

    Raises:
        CalcoError: When files changed since the audit, or memory is too small.
    """
    samples = read_samples(split, folder.scratch, team)
    train_ids = {sample.id for sample in split.part("train")}
    _set_aside_for_views(clock, config)
    train_samples = [s for s in samples if s.id in train_ids]
    fingerprint = take_fingerprint(train_samples, split)
    validation = {sample.id for sample in split.divisions()[0].validation}
    n_px = sum(math.prod(s.size) for s in samples if s.id in validation)
    asked = settings_with(source, config) if source else config
    for family in families(asked):
        machine = measure_machine(train_samples, fingerprint, asked, family)
        if machine:
            clock.reserve_for(
                machine.predict_px_s * n_px / team.size, ratio_of_test(split), split.n_folds
            )
        fit_s = (clock.fit_left_s - _foretelling_s(split, config)) / split.n_folds
        if not (machine and is_too_slow(machine, fingerprint, fit_s)):
            break
    plan = make_plan(fingerprint, machine, asked, fit_s)
    if source:
        plan = begin_from(source, plan, config, split, folder)
    return Task(samples, split, folder.save_plan(plan), config, team=team)


@threads_restored()
def train_and_test(task: Task, folder: RunDir, clock: Clock, listener: Listener) -> Scores:
    """Fit, tune on validation, test once, report.

    Raises:
        StoppedError: After a signal; a report of what there is has been written.
    """
    tell, split, config = listener.on_record, task.split, task.config
    try:
        foretell(task, folder, listener)
        fits = train(task, folder, clock, listener)
    except StoppedError:
        write_report(folder)
        raise
    finally:
        remove_shared(folder.scratch)  # what was mapped stays readable
    folds, params = tune(task, folder, clock)
    tell(folder.save_postprocess(params))
    maps = {"validation": joined(folds)}
    if split.n_folds > 1:
        save_levels(maps["validation"], folder.out_of_fold)
    predictor = Predictor.from_run(folder.path, config.device)
    index, groups = split.part_and_groups("test")  # read here, once
    job = PredictJob(index, folder.path.resolve(), config.device, params.look)
    maps["test"] = predict_together(task.team, predictor, job, groups)
    tell(scores := folder.save_scores(evaluate(maps, params, config.evaluate, folder)))
    suspicions = find_label_errors(maps["validation"] + maps["test"], params)
    write_suspicions(suspicions, folder.suspicions_csv)
    otsu_dice = otsu_baseline(split.part("train"), split.part("test"))
    reference = Reference(otsu_dice, nested_dice(folds, config.tune))
    folder.save_summary(scores, fits, reference, clock.elapsed_s)
    write_report(folder)
    folder.save_summary(scores, fits, reference, clock.elapsed_s)  # now with the report's time
    return scores


def train(task: Task, folder: RunDir, clock: Clock, listener: Listener) -> list[FitResult]:
    """Fit once, or once per fold; trainings that a stopped run had finished are not repeated.

    Raises:
        StoppedError: After a signal.
    """
    results, n_folds = [], task.split.n_folds
    for number in range(n_folds):
        own = folder.fold(number, n_folds)
        result = own.finished_fit()
        if result:
            clock.earlier_s += result.seconds
        else:
            own.path.mkdir(parents=True, exist_ok=True)
            clock.begin_fold(n_folds - number)
            ask(task.team, _fit_job(task, folder, number))
            loaders = _loaders(task, folder, number, task.team)
            watch = replace(listener.watch, on_best=partial(_keep_levels, task, loaders))
            result = fit(loaders, task.plan, task.config, own, clock, watch)
        listener.on_record(result)
        results.append(result)
    return results


def _fit_job(task: Task, folder: RunDir, number: int) -> FitJob:
    run, own = folder.path.resolve(), folder.fold(number, task.split.n_folds).path.resolve()
    return FitJob(task.split, task.plan, task.config, number, run, own)


def _loaders(task: Task, folder: RunDir, number: int = 0, team: Team = ALONE) -> Loaders:
    """Return what one of a run's trainings reads, the weights it begins with among it."""
    loaders = build_loaders(task.samples, task.split, task.plan, task.config, number, team)
    team.meet()
    return replace(loaders, start=folder.start if task.plan.start else None)


def _keep_levels(task: Task, loaders: Loaders, levels: Mapping[str, NDArray[np.uint8]]) -> None:
    for sample in loaders.validation:
        task.levels.pop(sample.id, None)  # of weights that are kept no more
    task.levels.update(levels)


def foretell(task: Task, folder: RunDir, listener: Listener) -> None:
    """Learn from quick trainings what more labels would give, where that is worth its time.

    Raises:
        StoppedError: After a signal.
    """
    allowance_s = _foretelling_s(task.split, task.config)
    if not allowance_s or folder.load_learning():
        return

    def train_on(split: Split, each_s: float, seed: int) -> list[ImageScore]:
        return train_quickly(replace(task, split=split), folder, each_s, seed)

    curve = measure_learning(train_on, task.split, allowance_s, task.config.seed)
    if curve:
        folder.save_learning(curve)
        listener.on_record(curve)


def _set_aside_for_views(clock: Clock, config: Config) -> None:
    clock.views = tuple(cost_of(look) for look in looks_to_try(config.tune))


def _foretelling_s(split: Split, config: Config) -> float:
    """Return the seconds for quick trainings; 0 where they are not worth it."""
    if not config.budget_s or not worth_measuring(len(split.part("train")), config.budget_s):
        return 0.0
    return BUDGET_SHARE * config.budget_s


def train_quickly(task: Task, folder: RunDir, allowance_s: float, seed: int) -> list[ImageScore]:
    """Train for some seconds, score the validation images at threshold 0.5, leave no file."""
    fit_config = task.config.fit.model_copy(update={"preflight": False})
    config = task.config.model_copy(update={"seed": seed, "fit": fit_config})
    loaders = replace(_loaders(replace(task, config=config), folder), tested_ratio=1.0)
    plan, clock = replace(task.plan, budget_s=allowance_s), Clock(allowance_s, after_s=0.0)
    with TemporaryDirectory(dir=folder.path) as name:
        fit(loaders, plan, config, RunDir(Path(name)), clock, Watch())
        predictor = Predictor.from_run(Path(name), config.device)
    maps = predict_maps(predictor, *task.split.part_and_groups("validation"))
    threshold = Postprocess()
    return [
        score_image(m.id, m.group, "validation", clean(m.levels, threshold), m.true) for m in maps
    ]


def tune(task: Task, folder: RunDir, clock: Clock) -> tuple[list[list[ProbMap]], Postprocess]:
    """Choose the settings after the network; return them with the maps that they are made for."""
    split, config = task.split, task.config
    team = task.team
    maps = validation_maps(split, folder, config.device, known=task.levels, team=team)
    params = tune_postprocess(joined(maps), config.tune)
    for step, look in enumerate(looks_to_try(config.tune)):
        if not clock.has_time_for_views(step):
            break
        for mean, viewed in viewed_maps(split, folder, config.device, look, team).items():
            tried = replace(look, mean=mean)
            params = tune_viewed((joined(maps), params), joined(viewed), tried, config.tune)
            maps = viewed if params.look == tried.look else maps
    return maps, params


def describe_machine(config: Config, source: Source | None = None) -> dict[str, object]:
    """Return what a reader needs to reproduce the run; no host or user names."""
    start = {"start": {"source": source.given, "sha256": source.sha256}} if source else {}
    packages = ("torch", "numpy", "timm", "segmentation-models-pytorch", "opencv-python-headless")
    return {
        "calco": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in packages},
        "device": config.device,
        "devices": config.devices,
        "seed": config.seed,
        "command": _command(),
        **start,
    }


def _command() -> str:
    """Return what was typed, but for logins; empty when calco runs inside another program."""
    is_calco = Path(sys.argv[0]).stem in ("calco", "__main__")
    return without_login(shlex.join(["calco", *sys.argv[1:]])) if is_calco else ""

"""Sweeps: the stages up to the plan once, then one short training per trial.

The audit reads every file once, so that look-alikes stay together and the test part is the one
that ``calco train`` will keep aside. From then on nothing of the test part is opened.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calco.config import Config, config_to_yaml
from calco.errors import CalcoError, Problem, StoppedError
from calco.files import write_atomic
from calco.nets.asked import require_agreeing, require_network
from calco.pipeline import Listener, describe_machine, taken_back_on_fault
from calco.records import STOPPED_BY, Audit, Plan, Pruner, Split, Sweep, SweepSpec, SweepTrial
from calco.searching.folder import StudyNote, SweepDir
from calco.searching.space import Params, Space, default_space, overlay, parse_space, read_space
from calco.searching.space import space_to_yaml as as_yaml
from calco.stages.audit import audit_samples, require_unchanged
from calco.stages.plan import worthwhile_crops
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.stages.sweep import (
    agree,
    ask,
    count_trials,
    open_study,
    require_optuna,
    require_result,
    require_sound,
    sweep,
)
from calco.stages.sweep_page import write_sweep_page
from calco.training.budget import Clock
from calco.training.cache import Decoded, decode, is_sharded
from calco.training.progress import Progress
from calco.training.shared_cache import decode_shared, remove_shared
from calco.training.signals import stop_on_signals
from calco.training.threads import threads_restored
from calco.trials import Bench, Report, as_params, fixed_by, set_up, train_trial

if TYPE_CHECKING:  # it needs Optuna, an extra
    from calco.searching.study import SharedStudy

LEAST_TRIAL_S = 10.0  # in less, luck decides
FINISH_S = 5.0  # of the budget, for the page
WORTH_BEGINNING = 0.5  # of a trial's time: with less left, none begins
OWN_NAME = "sweep"  # of the study in the sweep's own folder


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep is, beside the settings of its trials.

    Attributes:
        n_trials: Trials in all; None takes a whole grid, or the usual number.
        budget_s: Seconds for all of them; None trains each by ``fit.epochs``.
        space: YAML file of what is searched; None searches the usual.
        pruner: Rule by which trials that lag behind are given up.
        storage: URL of what workers share; None is a file in the sweep's folder.
        name: Of the study in that storage; None takes the data folder's.
        lost_after_s: Silence after which a worker counts as killed.
    """

    n_trials: int | None = None
    budget_s: float | None = None
    space: Path | None = None
    pruner: Pruner = "halving"
    storage: str | None = None
    name: str | None = None
    lost_after_s: float = 60.0


@dataclass
class SweepListener(Listener):
    """Who wants to hear of a sweep, trial by trial."""

    on_trial: Callable[[SweepTrial], None] = field(default=lambda _: None)


def begin_sweep(
    data: Path,
    config: Config,
    options: SweepOptions,
    folder: SweepDir,
    clock: Clock,
    listener: SweepListener,
) -> Sweep:
    """Begin a sweep, or help with the one that lies in a storage that workers share.

    Args:
        data: Folder of images and masks.
        config: Settings of all trials.
        options: What is searched and for how long.
        folder: Must be new.
        clock: Started with the command.
        listener: Hears of every record and trial.

    Raises:
        CalcoError: Lists all faults of the data, the settings or the search space.
        StoppedError: After a signal; ``resume_sweep`` goes on.
    """
    require_optuna()
    asked = _ask(data, config, options)
    folder.run.require_new()
    require_network(asked.config)
    if options.storage:  # a typo is said before an hour of reading
        open_study(options.storage, asked.name, options.lost_after_s)
    audit = _look(data, asked.config, listener)
    with folder.run.locked(), taken_back_on_fault(folder.run):
        split = _save_data(folder, asked.config, audit, listener)
        url = options.storage or folder.own_storage
        study = open_study(url, asked.name, options.lost_after_s)
        bench = _bench(folder, asked, audit, split)
        spec = _agree(study, asked, bench, _digest(audit, split), clock)
        plan = bench.plan(overlay(asked.config, spec.fixed), spec.each_s)
        listener.on_record(plan)
        folder.run.save_plan(plan)
        write_atomic(folder.space_yaml, spec.space)
        folder.save_note(StudyNote(asked.name, own=options.storage is None))
    return _work(study, spec, bench, folder, clock, listener)


def resume_sweep(
    folder: SweepDir,
    options: SweepOptions,
    device: str | None,
    listener: SweepListener,
    data: Path | None = None,
) -> Sweep:
    """Go on with a sweep, alone or beside workers that are at it.

    Args:
        folder: Of the sweep.
        options: The storage, unless it lies in the folder, and the silence of a killed worker.
        device: To train on; None takes the one it was begun with.
        listener: Hears of every trial.
        data: Folder that the user means; None takes the one it was begun with.

    Raises:
        CalcoError: When the folder holds no sweep, one of other data, or its images or masks
            changed since.
        StoppedError: After another signal.
    """
    note = folder.load_note()
    if note.own and options.storage:
        what, do = "the study of this sweep lies in its folder", "leave out --storage"
        raise CalcoError(Problem("SWEEP_STORAGE", what, "--storage", do=do))
    if not (note.own or options.storage):
        what, do = "the study of this sweep lies elsewhere", "repeat the --storage it began with"
        raise CalcoError(Problem("SWEEP_STORAGE", what, "--storage", "none", do=do))
    url = folder.own_storage if note.own else str(options.storage)
    study = open_study(url, note.name, options.lost_after_s)
    spec = study.spec()
    audit, split = folder.run.load_audit(), folder.run.load_split()
    if data and data.resolve() != (root := audit.index.root.resolve()):
        what, do = "the sweep is of another folder", "name that one, or leave out --resume"
        raise CalcoError(Problem("RESUME", what, str(folder.path), str(data), str(root), do))
    if spec is None or spec.data_sha256 != _digest(audit, split):
        what, do = "the study of this sweep is not in the storage", "check --storage, or begin anew"
        raise CalcoError(Problem("SWEEP_OTHER", what, note.name, do=do))
    require_unchanged(_without_test(audit, split))
    config = folder.run.load_config()
    config = config.model_copy(update={"device": device or config.device})
    budget_s = None if spec.each_s is None else spec.each_s * spec.n_trials
    space = parse_space(spec.space, config)
    asked = _Asked(config, space, spec.n_trials, budget_s, spec.pruner, note.name)
    bench = _bench(folder, asked, audit, split)
    return _work(study, spec, bench, folder, Clock(), listener)


# --- before the first trial --------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What the user wants, as far as it was said."""

    config: Config
    space: Space | None
    n_trials: int
    budget_s: float | None
    pruner: Pruner
    name: str


def _ask(data: Path, config: Config, options: SweepOptions) -> _Asked:
    """Check what was asked for, before anything is read.

    Raises:
        CalcoError: When trials would have no end, or too little time each, or settings are of
            ``calco train`` alone.
    """
    given: dict[str, object] = {"--from": config.transfer.source, "--track": config.track.to}
    given |= {"devices": config.devices > 1, "split.folds": config.split.folds}
    if names := [name for name, value in given.items() if value]:
        what, do = "a sweep does not do this", "leave it out; train the best settings with it"
        raise CalcoError(Problem("SWEEP_SETTING", what, "calco sweep", ", ".join(names), do=do))
    if options.name and not options.storage:
        what, do = "a study in the sweep's own folder has no name", "give --storage, too"
        raise CalcoError(Problem("SWEEP_SETTING", what, "--name", options.name, do=do))
    config = config.model_copy(update={"budget_s": None})
    space = read_space(options.space, config) if options.space else None
    n_trials, budget_s = count_trials(space, options.n_trials), options.budget_s
    if budget_s is None and config.fit.epochs is None:
        what, do = "trials need an end", "give --budget 2h for all of them, or --epochs for each"
        raise CalcoError(Problem("SWEEP_TIME", what, "calco sweep", "neither", do=do))
    if budget_s is not None and budget_s / n_trials < LEAST_TRIAL_S:
        what, do = "too little time for each trial", "give a larger --budget or fewer --trials"
        got = f"{budget_s / n_trials:.1f} s for each of {n_trials}"
        expected = f"at least {LEAST_TRIAL_S:g} s"
        raise CalcoError(Problem("SWEEP_TIME", what, "--budget", got, expected, do))
    name = (options.name or data.resolve().name) if options.storage else OWN_NAME
    return _Asked(config, space, n_trials, budget_s, options.pruner, name)


def _look(data: Path, config: Config, listener: SweepListener) -> Audit:
    listener.on_record(index := index_samples(data, config.data))
    audit = audit_samples(index, config.data, config.audit, listener.on_audit)
    listener.on_record(audit)
    if audit.errors:
        raise CalcoError(*audit.errors)
    return audit


def _save_data(folder: SweepDir, config: Config, audit: Audit, listener: SweepListener) -> Split:
    """Divide the data, and write down what is known of them."""
    run = folder.run
    run.save_config(config)
    run.save_manifest(describe_machine(config))
    run.save_index(audit.index)
    run.save_audit(audit)
    listener.on_record(split := run.save_split(split_samples(audit, config.split)))
    return split


def _bench(folder: SweepDir, asked: _Asked, audit: Audit, split: Split) -> Bench:
    """Map the decoded images, and time the networks; the test part stays closed."""
    index = split.index.only(a.id for a in split.assignments if a.subset != "test")
    samples: tuple[Decoded, ...]
    if is_sharded(index):  # never copied
        samples = decode(index, folder.cache)
    else:
        samples = decode_shared(index, folder.cache, _digest(audit, split)[:16])
    wanted = asked.space, asked.n_trials
    return set_up(samples, split, asked.config, asked.budget_s, wanted, folder.path)


def _agree(study: SharedStudy, asked: _Asked, bench: Bench, digest: str, clock: Clock) -> SweepSpec:
    """Found the study, or find out that it was founded with the same words."""
    existing, space, each_s = study.spec(), asked.space, None
    if asked.budget_s is not None:
        each_s = (asked.budget_s - clock.elapsed_s - FINISH_S) / asked.n_trials
        each_s = max(each_s, 0.5 * LEAST_TRIAL_S)
    plan = bench.plan(asked.config, each_s)
    if existing and not space:
        space = parse_space(existing.space, asked.config)
    elif not space:
        crops_px = worthwhile_crops(plan.network, bench.fingerprint)
        space = default_space(asked.config, plan.network.family, crops_px)
    fixed = fixed_by(plan, asked.config, space)

    def plan_one(params: Params) -> Plan:
        config = overlay(asked.config, {**fixed, **params}, "--space")
        require_agreeing(config)
        return bench.plan(config, each_s)

    if not existing:  # else the founder has seen to it, on its machine
        require_sound(space, plan_one)
    spec = SweepSpec(
        # workers may differ in their devices
        config=config_to_yaml(asked.config.model_copy(update={"device": "auto"})),
        space=as_yaml(space),
        fixed=fixed,
        n_trials=asked.n_trials,
        each_s=each_s,
        pruner=asked.pruner,
        seed=asked.config.seed,
        data_sha256=digest,
    )
    return agree(study.found(spec, ask(space, spec.n_trials, as_params(plan))), spec, asked.name)


def _digest(audit: Audit, split: Split) -> str:
    """Return a digest of the images, the masks and their division: what trials are scored on."""
    part_of = {a.id: f"{a.subset} {a.fold}" for a in split.assignments}
    lines = sorted(
        f"{f.id} {f.image_sha256} {f.mask_sha256} {part_of[f.id]}"
        for f in audit.facts
        if f.id in part_of
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _without_test(audit: Audit, split: Split) -> Audit:
    kept = {a.id for a in split.assignments if a.subset != "test"}
    facts = tuple(f for f in audit.facts if f.id in kept)
    return replace(audit, index=audit.index.only(kept), facts=facts)


# --- trials ------------------------------------------------------------------------------------


@threads_restored()
def _work(
    study: SharedStudy,
    spec: SweepSpec,
    bench: Bench,
    folder: SweepDir,
    clock: Clock,
    listener: SweepListener,
) -> Sweep:
    """Try what waits; write down what there is, also after a signal."""
    from calco.searching.study import Job

    space = parse_space(spec.space, bench.config)
    own = replace(bench, config=overlay(bench.config, spec.fixed))
    with stop_on_signals() as stop:

        def left_s() -> float:
            return (clock.budget_s or math.inf) - clock.elapsed_s - FINISH_S

        def may_begin() -> bool:
            return not stop.by and left_s() >= WORTH_BEGINNING * (spec.each_s or 0)

        def on_step(progress: Progress) -> None:
            if stop.by:  # it came before the training that is stopped by signals
                raise StoppedError(f"{STOPPED_BY}{stop.by}")
            listener.watch.on_step(progress)

        def train_on(params: Params, report: Report) -> float:
            each_s = None if spec.each_s is None else min(spec.each_s, left_s())
            return train_trial(own, each_s, params, report, on_step)

        job = Job(train_on, may_begin, listener.on_trial)
        try:
            found = sweep(study, space, spec, job)
        except StoppedError:
            _write(study.read(spec, space), bench.config, folder)
            raise
        _write(found, bench.config, folder)
        if stop.by:
            raise StoppedError(f"stopped by {stop.by} between two trials")
    if not found.count("waiting", "running"):
        remove_shared(folder.cache)
        require_result(found)
    return found


def _write(found: Sweep, config: Config, folder: SweepDir) -> None:
    folder.save_results(found, config)
    write_sweep_page(found, config, folder.page)

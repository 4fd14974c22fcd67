"""A study that any number of workers share: what is asked for, what each one got.

Every trial asked for waits in the storage from the beginning, under a number of its own. A worker
takes a waiting one, draws its settings and trains; so none is lost or done twice, whatever happens
to workers. One that falls silent counts as killed: its trial fails and waits again, once.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as State
from sqlalchemy.exc import SQLAlchemyError

from calco.errors import CalcoError, StoppedError
from calco.files import from_json, to_json
from calco.records import Epoch, Sweep, SweepSpec, SweepTrial, TrialState
from calco.searching.pruning import Rungs, make_pruner
from calco.searching.sampler import SeededTpe
from calco.searching.space import Choices, Dimension, Params, Space, Value
from calco.searching.storage import engine_url, open_storage, storage_lost, turn_in

Report = Callable[[float, Epoch], None]
"""Hears of the share of a trial that is done, and of a validated epoch; may end the trial."""
TrainOn = Callable[[Params, Report], float]
"""Trains with some settings and returns the mean validation Dice of the weights kept."""

POLL_S = 0.5  # between looks at what other workers do
LOST = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
MIN_FOR_IMPORTANCE = 8  # trials; of fewer, luck would be called importance
SLOT, SPEC, READY, BEGUN = "slot", "spec", "ready", "begun"
HISTORY, SECONDS, PROBLEM = "history", "seconds", "problem"
_STATES: Mapping[State, TrialState] = {
    State.WAITING: "waiting",
    State.RUNNING: "running",
    State.COMPLETE: "complete",
    State.PRUNED: "pruned",
    State.FAIL: "failed",
}


@dataclass(frozen=True)
class Place:
    """Where a study lies.

    Attributes:
        url: Of the storage.
        name: Of the study in it.
        lost_after_s: Silence after which a worker counts as killed.
    """

    url: str
    name: str
    lost_after_s: float = 60.0


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Attributes:
        train_on: Trains; a fault of its fails the trial and not the sweep.
        may_begin: Whether there is time for another trial.
        on_trial: Hears of each trial that ended here.
    """

    train_on: TrainOn
    may_begin: Callable[[], bool] = lambda: True
    on_trial: Callable[[SweepTrial], None] = lambda _: None


class _OwnFaultError(Exception):
    """A trial ended by a fault of its own; its attributes tell which."""


class SharedStudy:
    """A study in a storage; see the module.

    Args:
        place: Where it lies.

    Raises:
        CalcoError: When the storage cannot be opened.
    """

    def __init__(self, place: Place) -> None:
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # calco says itself what failed
        self.place = place
        self.storage = open_storage(place.url, place.lost_after_s)
        self.turn = turn_in(engine_url(place.url), place.name)

    # --- what is asked for ---------------------------------------------------------------------

    def spec(self) -> SweepSpec | None:
        """Return what the sweep is; None where there is no study, or none that was finished."""
        with self._reaching():
            names = optuna.get_all_study_names(self.storage)
            attributes = self._load().user_attrs if self.place.name in names else {}
        if READY not in attributes:
            return None
        return from_json(SweepSpec, attributes[SPEC], self.place.name)

    def found(self, spec: SweepSpec, asked: Sequence[Params]) -> SweepSpec:
        """Write down what is asked for, unless another worker has.

        Args:
            spec: Of the sweep.
            asked: Settings of each trial; those that are missing are drawn later.

        Returns:
            What the workers agree on: the one written first.
        """
        with self._reaching(), self._our_turn():
            if existing := self.spec():
                return existing
            if self.place.name in optuna.get_all_study_names(self.storage):
                # its founder was killed before the end
                optuna.delete_study(study_name=self.place.name, storage=self.storage)
            study = optuna.create_study(
                storage=self.storage, study_name=self.place.name, direction="maximize"
            )
            study.set_user_attr(SPEC, to_json(spec))
            for number, params in enumerate(asked):
                study.enqueue_trial(dict(params), user_attrs={SLOT: number})
            study.set_user_attr(READY, True)
            return spec

    # --- working -------------------------------------------------------------------------------

    def work(self, space: Space, spec: SweepSpec, job: Job) -> None:
        """Try what waits until nothing is left, or nothing more may begin.

        Args:
            space: What is drawn from.
            spec: Rule of pruning, and seed.
            job: What a trial is, and whether there is time for another.

        Raises:
            StoppedError: After a signal; the trial under way waits again.
        """
        sampler = SeededTpe(spec.seed, n_random=min(10, max(4, spec.n_trials // 3)))
        with self._reaching():
            study = self._load(sampler, make_pruner(spec.pruner))
            while job.may_begin():
                with self._our_turn():
                    self._rescue(study)
                    states = {t.state for t in study.get_trials(deepcopy=False)}
                    if State.WAITING in states:
                        self._try_one(study, space, job)
                        continue
                if State.RUNNING not in states:
                    return
                time.sleep(POLL_S)  # another worker's trial may come back

    def _try_one(self, study: optuna.Study, space: Space, job: Job) -> None:
        def objective(trial: Trial) -> float:
            taken.append(trial.number)
            values = {d.key: _draw(trial, d) for d in space.dimensions}
            trial.set_user_attr(BEGUN, True)
            self.turn.release()  # others may choose, knowing what is tried here
            try:
                return self._attempt(study, trial, values, job.train_on)
            except (StoppedError, KeyboardInterrupt) as error:
                stops.append(error)
                raise

        taken: list[int] = []
        stops: list[BaseException] = []
        try:
            study.optimize(objective, n_trials=1, catch=(_OwnFaultError,))
        except (UpdateFinishedTrialError, ValueError):
            if not self._have_ended(study, taken):
                raise
            if stops:
                raise stops[0] from None
            return  # we were silent for so long that another worker has taken it over
        except AssertionError as error:  # Optuna asserts that a trial's end can be written
            raise storage_lost(self.place.url, error) from None
        trials = study.get_trials(deepcopy=False)
        for trial in (t for t in trials if t.number in taken):
            job.on_trial(_as_record(trial.user_attrs[SLOT], [trial]))

    def _have_ended(self, study: optuna.Study, numbers: Sequence[int]) -> bool:
        trials = study.get_trials(deepcopy=False)
        return all(t.state.is_finished() for t in trials if t.number in numbers)

    def _attempt(
        self, study: optuna.Study, trial: Trial, values: Params, train_on: TrainOn
    ) -> float:
        history: list[Epoch] = []
        rungs = Rungs(trial)

        def report(fraction: float, epoch: Epoch) -> None:
            history.append(epoch)
            rungs.note(fraction, epoch.validation_dice)

        began = time.monotonic()
        try:
            return train_on(values, report)
        except optuna.TrialPruned:
            raise
        except (StoppedError, KeyboardInterrupt, OSError, *LOST):  # no fault of the trial
            if not self._have_ended(study, [trial.number]):
                self._queue_again(study, trial.number)
            raise
        except Exception as error:
            trial.set_user_attr(PROBLEM, _in_words(error))
            raise _OwnFaultError from error
        finally:
            with suppress(UpdateFinishedTrialError):  # taken over: what was raised here matters
                trial.set_user_attr(SECONDS, time.monotonic() - began)
                trial.set_user_attr(HISTORY, [astuple(epoch) for epoch in history])

    def _queue_again(self, study: optuna.Study, number: int) -> None:
        """Let a trial that was not its fault wait with the settings it had."""
        trial = next(t for t in study.get_trials(deepcopy=False) if t.number == number)
        study.add_trial(
            create_trial(
                state=State.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={SLOT: trial.user_attrs[SLOT]},
                system_attrs={"fixed_params": trial.system_attrs.get("fixed_params", {})},
            )
        )

    def _rescue(self, study: optuna.Study) -> None:
        """Fail and queue again the trials of workers that are silent."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        # and what a worker took and was killed before its first sign of life
        latest = datetime.now() - timedelta(seconds=self.place.lost_after_s)
        for trial in study.get_trials(deepcopy=False, states=(State.RUNNING,)):
            began = trial.datetime_start
            if BEGUN not in trial.user_attrs and began is not None and began < latest:
                study.tell(trial.number, state=State.FAIL)
                self._queue_again(study, trial.number)

    # --- what came of it -----------------------------------------------------------------------

    def read(self, spec: SweepSpec, space: Space) -> Sweep:
        """Return the sweep as it is now."""
        trials = self.trials()
        return Sweep(self.place.name, spec, trials, importance(trials, space))

    def trials(self) -> tuple[SweepTrial, ...]:
        """Return every trial asked for, as its last attempt left it."""
        attempts: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
        with self._reaching():
            for trial in self._load().get_trials(deepcopy=False):
                attempts[trial.user_attrs[SLOT]].append(trial)
        return tuple(_as_record(slot, attempts[slot]) for slot in sorted(attempts))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Say in one line that the storage went away."""
        try:
            yield
        except LOST as error:
            raise storage_lost(self.place.url, error) from None

    @contextmanager
    def _our_turn(self) -> Iterator[None]:
        self.turn.acquire()
        try:
            yield
        finally:
            self.turn.release()

    def _load(
        self,
        sampler: optuna.samplers.BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> optuna.Study:
        return optuna.load_study(
            study_name=self.place.name, storage=self.storage, sampler=sampler, pruner=pruner
        )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    d = dimension
    if d.whole:
        return IntDistribution(int(d.low), int(d.high), log=d.log, step=int(d.step or 1))
    return FloatDistribution(d.low, d.high, log=d.log, step=d.step)


def _draw(trial: Trial, dimension: Dimension) -> Value:
    match _distribution(dimension):
        case CategoricalDistribution(choices=values):
            return trial.suggest_categorical(dimension.key, values)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(dimension.key, low, high, step=step, log=log)
        case FloatDistribution(low=start, high=end, log=is_log, step=gap):
            return trial.suggest_float(dimension.key, start, end, step=gap, log=is_log)
        case other:
            raise NotImplementedError(type(other).__name__)


def _as_record(slot: int, attempts: Sequence[FrozenTrial]) -> SweepTrial:
    last = max(attempts, key=lambda trial: trial.number)
    known = last.user_attrs
    values = [v for v in last.intermediate_values.values() if math.isfinite(v)]
    dice = last.value if last.value is not None and last.state == State.COMPLETE else None
    return SweepTrial(
        number=slot,
        state=_STATES[last.state],
        params=dict(last.params),
        dice=max(values, default=math.nan) if dice is None else dice,
        history=tuple(Epoch(*row) for row in known.get(HISTORY, ())),
        seconds=known.get(SECONDS, 0.0),
        attempts=len(attempts),
        problem=known.get(PROBLEM, "") if last.state == State.FAIL else "",
    )


def importance(trials: Sequence[SweepTrial], space: Space) -> dict[str, float]:
    """Return the share of each setting in what makes trials good, the largest first.

    Trials that were given up count with the best Dice they had: leaving them out would leave out
    the bad ones.

    Reference:
        Watanabe et al. (2023), PED-ANOVA, https://arxiv.org/abs/2304.10255
    """
    ended = [t for t in trials if t.state in ("complete", "pruned") and math.isfinite(t.dice)]
    if len(ended) < MIN_FOR_IMPORTANCE:
        return {}
    distributions = {d.key: _distribution(d) for d in space.dimensions}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            create_trial(value=t.dice, params=dict(t.params), distributions=distributions)
            for t in ended
        ]
    )
    # the best quarter: a tenth of few trials would be one or two
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental parts
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: share for key, share in found.items() if math.isfinite(share)}


def _in_words(error: BaseException) -> str:
    if isinstance(error, CalcoError):
        return str(error.problems[0])
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

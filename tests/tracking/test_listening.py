"""What trackers are told of a run, and when."""

from __future__ import annotations

import errno
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tracking.fakes import Failing, Remembering

from calco.config import Config, TrackConfig, TrackerName
from calco.errors import Problem, StoppedError
from calco.pipeline import Listener, resume, run
from calco.records import Scores, SubsetSummary
from calco.runs import RunDir
from calco.tracking import audience, listening
from calco.tracking.listening import final_figures, tracked
from calco.tracking.tracker import Place, Tracker, TrackerRun
from calco.training.budget import Clock
from calco.training.progress import Watch


def following(config: Config, *trackers: TrackerName, folds: int | None = None) -> Config:
    """Settings with trackers."""
    split = config.split.model_copy(update={"folds": folds})
    return config.model_copy(update={"track": TrackConfig(to=trackers), "split": split})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Remembering]:
    """Every tracker that is opened, in order."""
    made: list[Remembering] = []

    def open_fake(name: TrackerName, place: Place, _: TrackConfig) -> Tracker:
        made.append(Failing(place) if name == "wandb" else Remembering(place))
        return made[-1]

    monkeypatch.setattr(audience, "open_tracker", open_fake)
    return made


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> RunDir:
    """A finished run that a test may change."""
    return RunDir(shutil.copytree(finished_run, tmp_path / "run"))


def summary_of(run: RunDir) -> SubsetSummary:
    """The test part's summary of a finished run."""
    from calco.stages.report import _subset_summary

    summary = _subset_summary(run.load_summary()["test"])
    assert summary is not None
    return summary


def test_a_run_is_told_in_order_and_a_failing_tracker_changes_no_byte(
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    opened: list[Remembering],
) -> None:
    config, folder = following(tiny_config, "wandb", "mlflow"), RunDir(tmp_path / "run")
    untracked = RunDir(tmp_path / "untracked")
    run(discs, tiny_config, untracked, Clock(), Listener())
    heard, warned = list[object](), list[object]()
    mine = Listener(heard.append, watch=Watch(on_advice=warned.append))
    with tracked(mine, config, folder) as listener:
        run(discs, config, folder, Clock(), listener)
    assert len(warned) == 1
    assert folder.weights.read_bytes() == untracked.weights.read_bytes()
    _, tracker = opened
    order = [name for name, _ in tracker.calls]
    assert order == ["parameters", *["metrics"] * 3, *["picture"] * 3, "artefact", "close"]
    (parameters,) = tracker.told("parameters")
    assert isinstance(parameters, dict)
    assert parameters["learning_rate"] == 0.01
    assert parameters["network.width"] == 4
    assert parameters["n_train"] == 14
    first, second, final = tracker.told("metrics")
    assert [first[1], second[1], final[1]] == [1, 2, 2]
    row = folder.load_history()[0]
    assert first[0]["validation/dice"] == pytest.approx(row.validation_dice, abs=1e-5)
    scored = folder.load_summary()["test"]["dice_mean"]
    assert final[0]["test/dice_mean"] == pytest.approx(scored)
    assert tracker.told("picture") == ["curves", "overlays/worst-1", "overlays/best-1"]
    assert tracker.told("artefact") == ["report.html"]
    assert tracker.told("close") == [True]
    assert isinstance(heard[-1], TrackerRun)


def test_folds_keep_their_epochs_apart(
    tiny_config: Config, finished_run: Path, tmp_path: Path, opened: list[Remembering]
) -> None:
    done = RunDir(finished_run)
    fitted = done.load_fit()
    config = following(tiny_config, "mlflow", folds=2)
    with tracked(Listener(), config, RunDir(tmp_path)) as listener:
        listener.on_record(done.load_plan())
        for _ in range(2):
            for epoch in fitted.history:
                listener.watch.on_epoch(epoch)
            listener.on_record(fitted)
    told = [(sorted(values)[-1], epoch) for values, epoch in opened[0].told("metrics")]
    assert told == [(f"fold{n}/validation/loss", epoch) for n in (0, 1) for epoch in (1, 2)]


def test_a_stopped_run_goes_on_in_the_same_tracker_run(
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    opened: list[Remembering],
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    config, folder = following(tiny_config, "tensorboard"), RunDir(tmp_path / "run")
    stopping = Listener(watch=stop_at(5, signal.SIGTERM))
    with pytest.raises(StoppedError), tracked(stopping, config, folder) as listener:
        run(discs, config, folder, Clock(), listener)
    with tracked(Listener(), config, folder) as listener:
        resume(folder, Clock(), listener)
    before, after = opened
    assert before.told("close") == [False]
    assert before.told("artefact") == ["report.html"]  # of what there is
    assert (before.place.run_id, after.place.run_id) == (None, "fresh")
    epochs = [epoch for tracker in opened for _, epoch in tracker.told("metrics")]
    assert epochs == [1, 2, 2]  # each once, then the scores
    assert after.told("close") == [True]


def test_nobody_is_told_unless_asked(
    tiny_config: Config, tmp_path: Path, opened: list[Remembering]
) -> None:
    mine = Listener()
    with tracked(mine, tiny_config, RunDir(tmp_path)) as listener:
        assert listener is mine
    assert not opened
    assert not list(tmp_path.iterdir())


def test_final_figures_leave_out_what_is_unknown(finished_run: Path) -> None:
    figures = final_figures({"test": summary_of(RunDir(finished_run))})
    assert figures["test/n_images"] == 3
    assert figures["test/dice_ci95_low"] <= figures["test/dice_mean"]
    assert all(math.isfinite(value) for value in figures.values())


def test_scores_after_a_resume_that_only_tuned_are_told_at_the_last_epoch(
    tiny_config: Config, finished_run: Path, tmp_path: Path, opened: list[Remembering]
) -> None:
    done, config = RunDir(finished_run), following(tiny_config, "mlflow")
    with tracked(Listener(), config, RunDir(tmp_path)) as listener:
        listener.on_record(done.load_plan())
        listener.on_record(done.load_fit())  # finished before: no epoch is told
        listener.on_record(Scores((), {"test": summary_of(done)}))
    assert [epoch for _, epoch in opened[0].told("metrics")] == [2]


def test_a_full_disk_leaves_no_tracker_open(
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Config,
    copied_run: RunDir,
    opened: list[Remembering],
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(listening, "write_atomic", full)
    with tracked(Listener(), following(tiny_config, "mlflow"), copied_run) as listener:
        listener.on_record(copied_run.load_plan())
    assert opened[0].told("picture") == ["curves"]
    assert opened[0].told("artefact") == ["report.html"]
    assert opened[0].told("close") == [True]


def test_whatever_goes_wrong_with_pictures_the_end_stays_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Config,
    copied_run: RunDir,
    opened: list[Remembering],
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("not a picture")

    def stop_after(listener: Listener, run: RunDir) -> None:
        listener.on_record(run.load_plan())
        raise StoppedError

    monkeypatch.setattr(listening, "trace_scored", broken)
    heard, warned = list[object](), list[Problem]()
    mine = Listener(heard.append, watch=Watch(on_advice=warned.append))
    config = following(tiny_config, "mlflow")
    with pytest.raises(StoppedError), tracked(mine, config, copied_run) as listener:
        stop_after(listener, copied_run)
    assert [(p.code, p.where) for p in warned] == [("TRACKER_FAILED", str(copied_run.path))]
    assert opened[0].told("close") == [False]
    assert isinstance(heard[-1], TrackerRun)

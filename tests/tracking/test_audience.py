"""One tracker that fails is named once and left out; the others go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.tracking.fakes import Failing, Remembering

from calco.config import TrackConfig, TrackerName
from calco.errors import Problem
from calco.tracking import audience
from calco.tracking.audience import Audience
from calco.tracking.tracker import Place, Tracker

Opener = Callable[[TrackerName, Place, TrackConfig], Tracker]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Remembering]:
    """Replace all trackers: wandb fails when told, mlflow already when opened."""
    made: dict[str, Remembering] = {}

    def open_fake(name: TrackerName, place: Place, _: TrackConfig) -> Tracker:
        if name == "mlflow":
            raise OSError("no room")
        made[name] = Failing(place) if name == "wandb" else Remembering(place)
        return made[name]

    monkeypatch.setattr(audience, "open_tracker", open_fake)
    return made


def tell_epoch(epoch: int, tracker: Tracker) -> None:
    tracker.metrics({"x": 1.0}, epoch)


def test_one_warning_then_silence(opened: dict[str, Remembering], tmp_path: Path) -> None:
    warned: list[Problem] = []
    config = TrackConfig(to=("mlflow", "wandb", "tensorboard"))
    heard = Audience(tmp_path / "tracking", "run1", config, warned.append)
    assert [(p.where, p.severity) for p in warned] == [("mlflow", "warning")]
    assert "OSError: no room" in str(warned[0])
    for epoch in (1, 2, 3):
        heard.tell(partial(tell_epoch, epoch))
    assert [p.where for p in warned] == ["mlflow", "wandb"]
    assert len(opened["wandb"].told("metrics")) == 1
    assert [what[1] for what in opened["tensorboard"].told("metrics")] == [1, 2, 3]


def test_a_signal_is_no_failure(opened: dict[str, Remembering], tmp_path: Path) -> None:
    heard = Audience(tmp_path, "run1", TrackConfig(to=("tensorboard",)), lambda _: None)

    def interrupted(_: Tracker) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heard.tell(interrupted)


def test_names_and_the_run_that_goes_on(opened: dict[str, Remembering], tmp_path: Path) -> None:
    config = TrackConfig(to=("tensorboard", "tensorboard"), project="cells")
    Audience(tmp_path, "run1", config, lambda _: None)
    assert opened["tensorboard"].place == Place(tmp_path, "cells", "run1", None)
    named = config.model_copy(update={"name": "mine"})
    Audience(tmp_path, "run1", named, lambda _: None)  # again, in the same folder
    assert opened["tensorboard"].place == Place(tmp_path, "cells", "mine", "fresh")


def test_a_tracker_that_did_not_answer_once_goes_on_in_its_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str | None] = []
    answers = iter((True, False, True))

    def open_fake(name: TrackerName, place: Place, _: TrackConfig) -> Tracker:
        seen.append(place.run_id)
        if not next(answers):
            raise ConnectionError("nobody there")
        return Remembering(place, name)

    monkeypatch.setattr(audience, "open_tracker", open_fake)
    warned: list[Problem] = []
    for _ in range(3):
        Audience(tmp_path, "run1", TrackConfig(to=("mlflow",)), warned.append)
    assert seen == [None, "fresh", "fresh"]
    assert [p.where for p in warned] == ["mlflow"]


@pytest.mark.parametrize("data", [b"[{}", b'[{"tracker": "tensorboard"}]', b"\xff"])
def test_damaged_ids_stop_nothing(
    opened: dict[str, Remembering], tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "runs.json"
    path.write_bytes(data)
    warned: list[Problem] = []
    heard = Audience(tmp_path, "run1", TrackConfig(to=("tensorboard",)), warned.append)
    assert [(p.code, p.where) for p in warned] == [("TRACKER_FAILED", str(path))]
    assert [run.run_id for run in heard.runs] == ["fresh"]
    assert '"fresh"' in path.read_text(encoding="utf-8")  # whole again


def test_without_a_place_for_files_trackers_are_told_all_the_same(
    opened: dict[str, Remembering], tmp_path: Path
) -> None:
    (tmp_path / "tracking").write_text("a file where the folder should be")
    warned: list[Problem] = []
    config = TrackConfig(to=("tensorboard",))
    heard = Audience(tmp_path / "tracking", "run1", config, warned.append)
    heard.tell(partial(tell_epoch, 1))
    assert len(opened["tensorboard"].told("metrics")) == 1
    assert [p.severity for p in warned] == ["warning"] * 2  # not read, not written
    assert {p.where for p in warned} == {str(tmp_path / "tracking" / "runs.json")}


@pytest.mark.parametrize("fails", [False, True])
def test_a_login_in_the_environment_is_used_and_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool
) -> None:
    uri = "https://me:secret@host:5000/mlflow"
    asked: list[str] = []

    class Client:
        """Notes where it is sent, and fails like MLflow's, with the address in its words."""

        def __init__(self, tracking_uri: str) -> None:
            asked.append(tracking_uri)

        def get_experiment_by_name(self, _: str) -> SimpleNamespace:
            if fails:
                raise OSError(f"{'x' * 175} {uri}/api")  # cut within the password
            return SimpleNamespace(experiment_id="1")

        def create_run(self, *_: str, **__: str) -> SimpleNamespace:
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    monkeypatch.setattr(os, "environ", {**os.environ, "MLFLOW_TRACKING_URI": uri})
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Client))
    warned: list[Problem] = []
    heard = Audience(tmp_path, "run1", TrackConfig(to=("mlflow",)), warned.append)
    assert asked == [uri]
    assert [run.look for run in heard.runs] == ([] if fails else ["https://host:5000/mlflow"])
    assert [p.where for p in warned] == (["mlflow"] if fails else [])
    written = (tmp_path / "runs.json").read_text(encoding="utf-8") + str(warned)
    assert "secr" not in written

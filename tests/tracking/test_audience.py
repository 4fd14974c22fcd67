"""One tracker that fails is named once and left out; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

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

"""What cannot be tracked is said in one line, before anything starts."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from calco.config import TrackConfig, load_config
from calco.errors import CalcoError
from calco.tracking import choose
from calco.tracking.choose import require_trackers


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        choose, "find_spec", lambda name: None if name == "wandb" else find_spec("os")
    )
    require_trackers(TrackConfig(to=("tensorboard",)))
    with pytest.raises(CalcoError) as caught:
        require_trackers(TrackConfig(to=("tensorboard", "wandb")))
    (problem,) = caught.value.problems
    assert problem.code == "TRACK_MISSING"
    assert "--track wandb" in str(problem)
    assert "pip install 'calco[track]'" in problem.do


def test_an_unknown_tracker_names_the_known_ones() -> None:
    with pytest.raises(CalcoError, match="'tensorboard', 'wandb' or 'mlflow'; got 'tensorbord'"):
        load_config(None, ("track.to=[tensorbord]",))


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("https://me:secret@host", True),
        ("postgresql://me:se/cret@host/runs", True),
        ("https://host/a@b", False),
        ("sqlite:///x@y.db", False),
    ],
)
def test_passwords_do_not_reach_the_run_folder(uri: str, refused: bool) -> None:
    config = TrackConfig(mlflow_uri=uri)
    if not refused:
        require_trackers(config)
        return
    with pytest.raises(CalcoError) as caught:
        require_trackers(config)
    assert caught.value.problems[0].code == "TRACK_SECRET"
    assert "cret" not in str(caught.value)

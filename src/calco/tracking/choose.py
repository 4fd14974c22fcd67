"""From the name of a tracker to the tracker; what is missing is said before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import assert_never

from calco.config import TrackConfig, TrackerName
from calco.errors import CalcoError, Problem
from calco.tracking.tracker import Place, Tracker
from calco.wording import without_login

NEEDS: dict[TrackerName, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}


def require_trackers(config: TrackConfig) -> None:
    """Refuse to begin a run that could not be tracked as asked.

    Raises:
        CalcoError: When a tracker is not installed, or an address holds a password.
    """
    problems = [
        Problem(
            "TRACK_MISSING",
            "the tracker is not installed",
            f"--track {name}",
            got=f"no package {', '.join(missing)}",
            do="pip install 'calco[track]', or leave it out",
        )
        for name in config.to
        if (missing := [package for package in NEEDS[name] if not _is_installed(package)])
    ]
    if config.mlflow_uri and without_login(config.mlflow_uri) != config.mlflow_uri:
        problems.append(
            Problem(
                "TRACK_SECRET",
                "the address would be written into the run folder with its password",
                "track.mlflow_uri",
                expected="an address without user and password",
                do="give user and password in the environment: MLFLOW_TRACKING_URI",
            )
        )
    if problems:
        raise CalcoError(*problems)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # loaded by hand, without a spec
        return True


def open_tracker(name: TrackerName, place: Place, config: TrackConfig) -> Tracker:
    """Begin a run of a tracker, or go on with it; heavy programs are loaded here.

    Raises:
        Exception: Whatever the tracker's program raises.
    """
    match name:
        case "tensorboard":
            from calco.tracking.tensorboard import TensorBoard

            return TensorBoard(place)
        case "wandb":
            from calco.tracking.wandb import WeightsAndBiases

            return WeightsAndBiases(place, config.wandb_mode)
        case "mlflow":
            from calco.tracking.mlflow import MLflow

            return MLflow(place, config.mlflow_uri)
        case _:
            assert_never(name)

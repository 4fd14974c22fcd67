"""The Python interface: train a folder, load a run, predict arrays or files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from calco.config import Config, validate_config
from calco.errors import CalcoError, Problem
from calco.inference.predictor import Predictor
from calco.pipeline import Listener, run
from calco.runs import RunDir
from calco.teamwork import require_none_started, team_of
from calco.tracking.choose import require_trackers
from calco.tracking.listening import tracked
from calco.training.budget import Clock


def train(
    data: str | Path,
    out: str | Path,
    budget_s: float | None = None,
    config: Config | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Audit, split, plan, fit, tune, test and report, as ``calco train`` does.

    Under torchrun it is refused: each process would do all the work.

    Args:
        data: Folder of images and masks.
        out: New run folder.
        budget_s: Wall-clock seconds for everything; wins over ``config.budget_s``.
        config: All other settings.
        listener: Hears of every record and step.

    Returns:
        The content of summary.json.

    Raises:
        CalcoError: Lists all faults of the data or the settings.
        StoppedError: After a signal.
    """
    require_none_started()
    tree = (config or Config()).model_dump(mode="json")
    if budget_s is not None:
        tree["budget_s"] = budget_s
    settings = validate_config(tree)
    folder = RunDir(Path(out))
    clock = Clock(settings.budget_s)
    require_trackers(settings.track)
    with (
        team_of(settings.devices, settings.device) as team,
        tracked(listener or Listener(), settings, folder) as heard,
    ):
        run(Path(data), settings, folder, clock, heard, team)
    return folder.load_summary()


def load(
    run: str | PathLike[str] | Sequence[str | PathLike[str]], device: str = "cpu"
) -> Predictor:
    """Open a finished run for prediction; loading never runs code from its files.

    Args:
        run: Run folder, or its best.safetensors, or a file that ``calco export`` wrote. Several
            runs predict together: the mean of what each says, with the threshold and the clean-up
            of the first.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        What traces images; see ``Predictor.predict`` and ``Predictor.prob``.

    Raises:
        CalcoError: When a model is missing, damaged or not calco's, or several do not match.
    """
    runs = [run] if isinstance(run, str | PathLike) else list(run)
    if not runs:
        raise CalcoError(Problem("RUN_MISSING", "no run was given", do="name at least one"))
    first, *more = map(Path, runs)
    return Predictor.from_run(first, device, more)

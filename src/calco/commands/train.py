"""The commands ``calco train`` and ``calco demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calco.errors import CalcoError, Problem
from calco.exits import speaking
from calco.invocation import (
    STARTED,
    is_helper,
    open_run,
    parse_duration,
    read_settings,
    run_folder,
    team_size,
)
from calco.options import AsJson, Budget, ConfigFile, Data, Device, Out, Quiet, Sets, Verbose

if TYPE_CHECKING:  # heavy modules are imported by the command that needs them
    from calco.config import Config
    from calco.pipeline import Listener
    from calco.runs import RunDir
    from calco.terminal import Terminal


def demo(
    out: Out = None,
    budget: Annotated[str, typer.Option(help="Wall-clock time for everything.")] = "2m",
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw a data set and run the whole pipeline on it."""
    from calco.images.toy import write_toy
    from calco.teamwork import require_none_started

    with speaking(verbose, quiet) as terminal:
        require_none_started()
        config = read_settings(None, None, budget_s=parse_duration(budget))
        folder = run_folder(out, "demo")
        data = folder.path.with_name(folder.path.name + "-data")
        write_toy(data)
        _train(data, config, folder, terminal)
        _finish(folder, terminal, as_json)


def train(
    data: Data,
    out: Out = None,
    config: ConfigFile = None,
    sets: Sets = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate; folds predict as one.")] = None,
    seed: Annotated[int | None, typer.Option(help="Weights, order, augmentation.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights of the encoder, .safetensors.")
    ] = None,
    device: Device = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes that train together, on this machine.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Run whose network is trained on, on these data.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="tensorboard, wandb or mlflow is told, too; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the stopped run in -o.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Audit, split, plan, fit, tune, test and report."""
    if is_helper():
        _assist()
        return
    with speaking(verbose, quiet) as terminal:
        given: dict[str, object] = {"fit.epochs": epochs, "split.folds": folds}
        given |= {"seed": seed, "device": device}
        given["model.weights"] = json.dumps(str(weights)) if weights else None  # quoted for YAML
        given["transfer.source"] = json.dumps(source) if source else None
        given["track.to"] = json.dumps(track) if track else None
        given["budget_s"] = parse_duration(budget) if budget else None
        n_devices = _n_devices(devices)
        if resume:
            changed = [k for k, v in given.items() if v is not None] + list(sets or [])
            changed += [str(config)] if config else []
            folder = _resume(out, changed, n_devices, terminal)
        else:
            settings = read_settings(config, sets, devices=n_devices, **given)
            folder = run_folder(out, "run")
            _train(data, settings, folder, terminal)
        _finish(folder, terminal, as_json)


def _train(data: Path, config: Config, folder: RunDir, terminal: Terminal) -> None:
    from calco.tracking.choose import require_trackers

    require_trackers(config.track)  # before torch is loaded: a typo costs no time

    from calco.pipeline import run
    from calco.teamwork import team_of
    from calco.tracking.listening import tracked
    from calco.training.budget import Clock

    clock = Clock(config.budget_s, STARTED)
    with (
        team_of(config.devices, config.device) as team,
        tracked(listener_of(terminal), config, folder) as listener,
    ):
        run(data, config, folder, clock, listener, team)


def _n_devices(given: int | None) -> int | None:
    """Return how many processes train together, as far as it was said.

    Raises:
        CalcoError: When torchrun has started another number.
    """
    started = team_size()
    if started == 1 or given in (None, started):
        return given if started == 1 else started
    do = "leave --devices out: torchrun says how many"
    what = "another number of processes was started"
    raise CalcoError(Problem("TEAM_SIZE", what, "--devices", str(given), str(started), do))


def _assist() -> None:
    """Do what the process asks for that torchrun has started first; only faults are said here."""
    from calco.teamwork import assist, join_from_outside
    from calco.training.team import leave_team

    with speaking(verbose=False, quiet=True):
        try:
            assist(join_from_outside())
        finally:
            leave_team()


def _release_helpers() -> None:
    """Tell the processes that torchrun has started that nothing is to be done; they wait for it."""
    if team_size() > 1:
        from calco.teamwork import team_of

        with team_of(team_size(), "cpu"):
            pass


def _resume(
    out: Path | None, changed: list[str], n_devices: int | None, terminal: Terminal
) -> RunDir:
    from calco.pipeline import resume
    from calco.teamwork import team_of
    from calco.tracking.choose import require_trackers
    from calco.tracking.listening import tracked
    from calco.training.budget import Clock

    if out is None or changed:
        raise CalcoError(
            Problem(
                "RESUME",
                "a run is resumed with the settings it began with",
                "--resume",
                got=", ".join(changed) or "no -o",
                expected="-o RUN and no settings",
            )
        )
    folder = open_run(out)
    if folder.summary_json.exists():
        terminal.say(f"{out} is finished already; nothing to resume")
        _release_helpers()
        return folder
    config = folder.load_config()
    require_trackers(config.track)
    clock = Clock(config.budget_s, STARTED)
    with (
        team_of(n_devices or config.devices, config.device) as team,
        tracked(listener_of(terminal), config, folder) as listener,
    ):
        resume(folder, clock, listener, team)
    return folder


def listener_of(terminal: Terminal) -> Listener:
    """Return what tells a terminal of the records and steps of a pipeline."""
    from calco.pipeline import Listener
    from calco.training.progress import Progress, Watch

    def on_step(p: Progress) -> None:
        note = f"epoch {p.epoch}  loss {p.loss:.3f}"
        note += f"  best Dice {p.best_dice:.4f}" if p.best_dice == p.best_dice else ""
        terminal.step("fit", p.fraction, 1.0, note)

    watch = Watch(on_step, terminal.epoch, terminal.problem)
    return Listener(terminal.record, lambda i, n: terminal.step("audit", i, n), watch)


def _finish(folder: RunDir, terminal: Terminal, as_json: bool) -> None:
    summary = folder.load_summary()
    terminal.say(f"report    {folder.report_html}")
    terminal.say(f"next      calco predict {folder.path} IMAGES -o traced/", "dim")
    if as_json:
        typer.echo(json.dumps(summary, indent=2))

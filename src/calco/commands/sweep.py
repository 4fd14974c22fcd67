"""The command ``calco sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from calco.errors import CalcoError, Problem
from calco.exits import speaking
from calco.files import without_nan
from calco.invocation import STARTED, parse_duration, read_settings, run_folder
from calco.options import AsJson, ConfigFile, Data, Device, Out, Quiet, Sets, Verbose

if TYPE_CHECKING:  # heavy modules are imported by the command that needs them
    from calco.records import Sweep, SweepTrial
    from calco.searching.folder import SweepDir
    from calco.sweeps import SweepListener
    from calco.terminal import Terminal


def sweep(
    data: Data,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all; without, 30 or the whole grid.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Wall-clock time of all trials together, e.g. 2h.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each trial, without --budget.")] = None,
    out: Out = None,
    space: Annotated[
        Path | None, typer.Option(help="YAML of what is searched; without, the usual.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="What workers share: sqlite:///FILE or postgresql://...")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the sweep in that storage.")] = None,
    pruner: Annotated[
        Literal["halving", "median", "hyperband", "none"] | None,
        typer.Option(help="How trials are given up; without, halving."),
    ] = None,
    lost_after: Annotated[
        str, typer.Option(help="Silence after which a worker counts as killed.")
    ] = "60s",
    config: ConfigFile = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws and the trainings.")] = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option(help="Go on with, or help, the sweep in -o.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Try many settings in short trainings and keep the best, by validation alone."""
    with speaking(verbose, quiet) as terminal:
        from calco.searching.folder import SweepDir
        from calco.sweeps import SweepOptions, begin_sweep, resume_sweep
        from calco.training.budget import Clock

        lost_after_s = parse_duration(lost_after, "--lost-after")
        budget_s = parse_duration(budget) if budget else None
        rule = pruner or "halving"
        options = SweepOptions(trials, budget_s, space, rule, storage, name, lost_after_s)
        if resume:
            given: dict[str, object] = {"--trials": trials, "--budget": budget, "--space": space}
            given |= {"--epochs": epochs, "--config": config, "--set": sets, "--seed": seed}
            given |= {"--pruner": pruner, "--name": name}
            folder = _resumed(out, [key for key, value in given.items() if value])
            found = resume_sweep(folder, options, device, _listener(terminal), data)
        else:
            settings = read_settings(
                config, sets, **{"fit.epochs": epochs, "seed": seed, "device": device}
            )
            folder = SweepDir(run_folder(out, "sweep").path)
            clock = Clock(budget_s, STARTED)
            found = begin_sweep(data, settings, options, folder, clock, _listener(terminal))
        _finish(found, folder, terminal, as_json)


def _resumed(out: Path | None, given: list[str]) -> SweepDir:
    """Return the folder of a sweep that goes on as it was begun.

    Raises:
        CalcoError: Without a folder, or with settings that were settled when it began.
    """
    from calco.searching.folder import SweepDir

    if out is None or given:
        raise CalcoError(
            Problem(
                "RESUME",
                "a sweep is resumed with the settings it began with",
                "--resume",
                got=", ".join(given) or "no -o",
                expected="-o FOLDER, and --storage where that was given",
            )
        )
    return SweepDir(out)


def _listener(terminal: Terminal) -> SweepListener:
    from calco.records.sweep import short_name
    from calco.sweeps import SweepListener
    from calco.training.progress import Progress, Watch

    def on_step(p: Progress) -> None:
        terminal.step("trial", p.fraction, 1.0, f"epoch {p.epoch}  best Dice {p.best_dice:.4f}")

    def on_trial(trial: SweepTrial) -> None:
        what = trial.problem or f"Dice {trial.dice:.4f}  {trial.seconds:.0f} s"
        state = {"pruned": "given up", "failed": "failed"}.get(trial.state, "")
        words = (f"{short_name(key)} {_short(value)}" for key, value in trial.params.items())
        terminal.say(f"trial {trial.number:>3}  {what}  {state:<8}  {', '.join(words)}")

    return SweepListener(
        terminal.record,
        lambda i, n: terminal.step("audit", i, n),
        Watch(on_step=on_step),
        on_trial,
    )


def _finish(found: Sweep, folder: SweepDir, terminal: Terminal, as_json: bool) -> None:
    ended = f"{found.count('complete')} complete, {found.count('pruned')} given up"
    ended += f", {found.count('failed')} failed" if found.count("failed") else ""
    terminal.say(f"trials    {ended}")
    if left := found.count("waiting", "running"):
        terminal.say(f"left      {left}: no time for them here; --resume goes on", "yellow")
    best = found.best
    if best is not None:
        terminal.say(f"best      trial {best.number}, validation Dice {best.dice:.4f}")
    terminal.say(f"page      {folder.page}")
    if best is not None:
        terminal.say(f"next      calco train DATA --config {folder.best_yaml} --budget 20m", "dim")
    if as_json:
        trials = [
            {"number": t.number, "state": t.state, "dice": t.dice, "seconds": t.seconds}
            | {"attempts": t.attempts, "params": dict(t.params), "problem": t.problem}
            for t in found.trials
        ]
        tree = {
            "best": best and {"trial": best.number, "dice": best.dice, "params": dict(best.params)},
            "importance": dict(found.importance),
            "trials": trials,
        }
        typer.echo(json.dumps(without_nan(tree), indent=2))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""The command ``calco evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from calco.errors import CalcoError, Problem
from calco.exits import speaking
from calco.invocation import open_run, read_settings
from calco.options import AsJson, Device, Quiet, Sets, Verbose


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Run folder.")] = None,
    data: Annotated[Path | None, typer.Argument(help="Another data set; else the run's.")] = None,
    subset: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    pred: Annotated[Path | None, typer.Option(help="Folder of predicted masks.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of true masks.")] = None,
    sets: Sets = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for scores.csv.")] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score a run on its own or other data, or any two folders of masks."""
    from calco.files import without_nan
    from calco.runs import RunDir

    with speaking(verbose, quiet) as terminal:
        if pred and truth and not run:
            from calco.stages.evaluate import evaluate_folders

            settings = read_settings(None, sets)
            scores = evaluate_folders(pred, truth, settings.evaluate, settings.data)
        elif run and not (pred or truth):
            from calco.scoring import score_run

            scores = score_run(open_run(run), data, subset, device or "auto")
        else:
            raise CalcoError(
                Problem("USAGE", "give a RUN, or both --pred and --truth", "calco evaluate")
            )
        if out:
            out.mkdir(parents=True, exist_ok=True)
            RunDir(out).save_scores(scores)
        terminal.scores(scores)
        if as_json:
            summaries = {name: asdict(summary) for name, summary in scores.summaries.items()}
            typer.echo(json.dumps(without_nan(summaries), indent=2))  # as in summary.json

"""The command ``calco report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from calco.commands.train import listener_of
from calco.exits import speaking
from calco.invocation import open_run
from calco.options import AsJson


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    show_leak: Annotated[
        bool, typer.Option(help="Train again on a random split; takes as long as the run did.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's report again, or compare several runs image by image."""
    from calco.files import to_json
    from calco.stages.compare import compare
    from calco.stages.report import write_report
    from calco.studies import headlines, measure_leak

    with speaking(verbose=False, quiet=False) as terminal:
        folders = [open_run(run) for run in runs]
        for folder in folders if show_leak else ():
            measure_leak(folder, listener_of(terminal))
        if len(folders) == 1:
            typer.echo(write_report(folders[0]))
            return
        rows, pairs = headlines(folders), compare(folders)
        for problem in (problem for pair in pairs for problem in pair.problems):
            terminal.problem(problem)
        if as_json:
            typer.echo(json.dumps({"runs": rows, "pairs": json.loads(to_json(pairs))}, indent=2))
            return
        terminal.table(rows)
        for pair in pairs:
            typer.echo(pair.sentence)

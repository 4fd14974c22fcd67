"""The command ``calco suggest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calco.exits import SOME_FAILED, speaking
from calco.invocation import existing_run
from calco.options import AsJson, Device, Quiet, Run, Verbose


def suggest(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Unlabelled files, folders or globs.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 20,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="CSV to write.")] = None,
    device: Device = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """List what to label next: images the model is least sure of, unlike each other."""
    from calco.files import to_json
    from calco.inference.predictor import Predictor
    from calco.stages.suggest import suggest as find
    from calco.stages.suggest import write_suggestions

    with speaking(verbose, quiet) as terminal:
        predictor = Predictor.from_run(existing_run(run), device or "auto")
        found, unreadable = find(
            predictor, images, count, lambda i, n: terminal.step("predict", i, n)
        )
        for problem in unreadable:
            terminal.problem(problem)
        if out:
            write_suggestions(found, out)
        if as_json:
            typer.echo(to_json(found))
        else:
            for s in found:
                typer.echo(f"{s.rank:>4}  estimated Dice {s.estimated_dice:.3f}  {s.source}")
        if unreadable:
            raise typer.Exit(SOME_FAILED)

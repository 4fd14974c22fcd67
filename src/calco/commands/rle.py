"""The commands ``calco rle encode`` and ``calco rle decode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from calco.errors import CalcoError, Problem
from calco.exits import speaking
from calco.invocation import dialect_of, parse_size
from calco.options import Objects, Quiet, Verbose
from calco.wording import counted

rle = typer.Typer(
    help="From masks to a table of run lengths and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Dialect = Annotated[str | None, typer.Option(help="RLE preset, e.g. tgs, airbus.")]


@rle.command()
def encode(
    masks: Annotated[list[str], typer.Argument(help="Files, folders or globs of 0 and 255.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV to write.")],
    dialect: Dialect = None,
    like: Annotated[Path | None, typer.Option(help="Sample submission to follow.")] = None,
    objects: Objects = "components",
    max_megapixels: Annotated[float, typer.Option(min=0, help="Largest mask read.")] = 100.0,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write masks as a table of run lengths, read back and compared before it gets its name."""
    from calco.formats.inputs import find_images
    from calco.stages.submission import write_submission

    with speaking(verbose, quiet) as terminal:
        chosen = dialect_of(dialect)
        files = {image.id: image.source for image in find_images(masks)}
        report = write_submission(files, out, chosen, like, max_megapixels, objects)
        counts = f"{counted(report.n_images, 'mask')}, {report.n_empty} empty"
        terminal.say(f"{out}: {counts}, {counted(report.n_rows, 'row')}; {report.note}")


@rle.command()
def decode(
    table: Annotated[Path, typer.Argument(help="CSV with a column of ids and one of runs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    size: Annotated[str | None, typer.Option(help="Height x width of all, e.g. 768x768.")] = None,
    dialect: Dialect = None,
    order: Annotated[
        Literal["column", "row"] | None, typer.Option(help="Of the pixels; else detected.")
    ] = None,
    base: Annotated[
        int | None, typer.Option(min=0, max=1, help="Number of the first pixel; else detected.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Draw the masks of a table: <id>.png, 0 and 255; nothing is written when a row is faulty."""
    from calco.config import load_config
    from calco.stages.rle_table import decode_table

    with speaking(verbose, quiet) as terminal:
        if (images is None) == (size is None):
            what = "give --images DIR or --size HxW: runs do not tell how large their image is"
            raise CalcoError(Problem("USAGE", what, "calco rle decode"))
        if dialect is not None and (order is not None or base is not None):
            what = "a preset has its own order and base: leave out --dialect, or --order and --base"
            raise CalcoError(Problem("USAGE", what, "calco rle decode"))
        given = {"data.rle_order": order, "data.rle_base": base}
        sets = tuple(f"{key}={value}" for key, value in given.items() if value is not None)
        frame = parse_size(size) if size else images or Path()
        report = decode_table(table, out, frame, dialect_of(dialect), load_config(None, sets).data)
        for problem in report.problems:
            terminal.problem(problem)
        terminal.say(
            f"{counted(report.n_masks, 'mask')} into {out}, {report.n_empty} empty; {report.note}"
        )

"""The command line: every command under its name; commands/ alone prints and exits."""

from __future__ import annotations

import signal

import typer

from calco import __version__
from calco.commands.audit import audit
from calco.commands.evaluate import evaluate
from calco.commands.export import export
from calco.commands.predict import predict
from calco.commands.report import report
from calco.commands.rle import rle
from calco.commands.suggest import suggest
from calco.commands.sweep import sweep
from calco.commands.train import demo, train
from calco.invocation import share_cores

app = typer.Typer(
    name="calco",
    help="From a folder of images and masks to a segmentation model you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, audit, train, sweep, evaluate, predict, export, report, suggest):
    app.command()(command)
app.add_typer(rle, name="rle")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; the entry point of the ``calco`` script."""
    share_cores()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left behind
    app()


if __name__ == "__main__":
    main()

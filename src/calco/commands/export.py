"""The command ``calco export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calco.exits import speaking
from calco.invocation import open_run, require_model_name
from calco.options import AsJson, Quiet, Run, Verbose


def export(
    run: Run,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, e.g. model.onnx.")],
    images: Annotated[
        list[str] | None, typer.Option(help="What to compare on; else the validation images.")
    ] = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a run as one ONNX file that predicts alike, with the proof beside it."""
    from calco.files import to_json
    from calco.stages.export import export_onnx

    with speaking(verbose, quiet) as terminal:
        require_model_name(out)
        certificate = export_onnx(open_run(run), out, images or ())
        parity = certificate.parity
        terminal.say(f"exported  {out}, sha256 {certificate.file_sha256[:12]}")
        terminal.say(
            f"compared  {parity.n_images} images, {parity.n_px} pixels: masks alike, "
            f"probabilities within {parity.max_error:.1g}"
        )
        if as_json:
            typer.echo(to_json(certificate))

"""The command ``calco export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calco.exits import speaking
from calco.invocation import model_format, open_run
from calco.options import AsJson, Quiet, Run, Verbose


def export(
    run: Run,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File to write: model.onnx, model.xml or model.pt2.")
    ],
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="onnx, openvino or torch; else by the file's ending."),
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="What to compare on; else the validation images.")
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="8-bit numbers, for OpenVINO; calibrated on training images."),
    ] = False,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Most validation Dice that --int8 may lose.")
    ] = 0.005,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a run as a file for other programs that predicts alike, with the proof beside it."""
    from calco.files import to_json
    from calco.stages.export import ExportOptions, export_run

    with speaking(verbose, quiet) as terminal:
        chosen = model_format(out, format_name, int8=int8)
        options = ExportOptions(chosen, images or (), int8, max_drop)
        certificate = export_run(open_run(run), out, options)
        parity = certificate.parity
        terminal.say(f"exported  {out}, sha256 {certificate.file_sha256[:12]}")
        likeness = f"{parity.n_unlike} of them unlike" if parity.n_unlike else "masks alike"
        terminal.say(
            f"compared  {parity.n_images} images, {parity.n_px} pixels: {likeness}, "
            f"probabilities within {parity.max_error:.1g}"
        )
        if tried := certificate.int8:
            terminal.say(
                f"int8      validation Dice {tried.dice_before:.4f} before, {tried.dice_after:.4f} "
                f"after, on {tried.n_scored} images; {tried.speed_ratio:.1f} times as fast"
            )
        if as_json:
            typer.echo(to_json(certificate))

"""The command ``calco predict``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from calco.exits import SOME_FAILED, speaking
from calco.invocation import dialect_of, existing_run
from calco.options import Annotation, AsJson, Device, Objects, Quiet, Run, Verbose


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    prob: Annotated[bool, typer.Option(help="Write probabilities too.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write pictures with contours too.")] = False,
    tile: Annotated[int | None, typer.Option(help="Side of the tiles of large images, px.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles, px.")] = None,
    level: Annotated[int, typer.Option(min=0, help="Level of pyramids, 0 the finest.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder of other files.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Kaggle-style CSV to write.")] = None,
    like: Annotated[Path | None, typer.Option(help="Sample submission to follow.")] = None,
    dialect: Annotated[str | None, typer.Option(help="RLE preset, e.g. tgs, airbus.")] = None,
    as_formats: Annotated[
        list[Annotation] | None,
        typer.Option("--as", help="Write objects for other programs too; repeatable."),
    ] = None,
    objects: Objects = "components",
    engine: Annotated[
        str, typer.Option(help="auto, torch, onnx or openvino; auto times those installed.")
    ] = "auto",
    device: Device = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trace images: masks at their exact size, a manifest, and other formats if asked."""
    from calco.files import sha256_of, to_json
    from calco.formats.inputs import find_images
    from calco.inference.choice import engine_name, open_predictor
    from calco.runs import RunDir
    from calco.stages.annotations import write_annotations
    from calco.stages.predict import PredictOptions, mask_files, predict_files
    from calco.stages.submission import write_submission

    with speaking(verbose, quiet) as terminal:
        chosen = dialect_of(dialect)  # a typo is said before an hour of work
        wanted = engine_name(engine)

        def sources() -> list[Path]:
            return [image.source for image in find_images(images, skip=out)]

        opened = open_predictor(existing_run(run), device or "auto", wanted, sources, terminal.say)
        predictor = opened.with_tiling(tile, overlap)
        model = RunDir(run).model_sha256() if run.is_dir() else sha256_of(run)
        options = PredictOptions(prob, overlay, overwrite, model, level=level)
        step = partial(terminal.step, "predict")
        done = predict_files(predictor, images, out, options, lambda i, n, _: step(i, n), step)
        failed = [p for p in done if p.status == "failed"]
        for item in failed:
            terminal.say(item.message, "red")
        terminal.say(f"predicted {len(done) - len(failed)} of {len(done)} images into {out}")
        files = mask_files(done, out)
        if submission:
            limit = predictor.spec.max_megapixels
            report = write_submission(files, submission, chosen, like, limit, objects)
            counts = f"{report.n_images} images, {report.n_rows} rows"
            terminal.say(f"submission {submission}: {counts}; {report.note}")
        if as_formats:
            traced = {p.id: (files[p.id], p.source) for p in done if p.id in files}
            limit = predictor.spec.max_megapixels
            formats = [f.value for f in as_formats]
            written = write_annotations(traced, out, formats, objects, limit)
            terminal.say(f"objects for {', '.join(formats)}: {len(written)} files in {out}")
        if as_json:
            typer.echo(to_json(done))
        if failed:
            raise typer.Exit(SOME_FAILED)

"""The command ``calco predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calco.errors import CalcoError, Problem
from calco.exits import SOME_FAILED, speaking
from calco.invocation import dialect_of, existing_run
from calco.options import (
    Annotation,
    As,
    AsJson,
    Cluster,
    Device,
    Engine,
    Objects,
    Quiet,
    Run,
    Verbose,
    With,
)
from calco.wording import N_NAMED

if TYPE_CHECKING:
    from calco.inference.predictor import Predictor
    from calco.records import RleDialect
    from calco.terminal import Terminal


def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder for the masks.")],
    more: With = None,
    prob: Annotated[bool, typer.Option(help="Write probabilities too.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write pictures with contours too.")] = False,
    tile: Annotated[int | None, typer.Option(help="Side of the tiles of large images, px.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles, px.")] = None,
    level: Annotated[int, typer.Option(min=0, help="Level of pyramids, 0 the finest.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder of other files.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Kaggle-style CSV to write.")] = None,
    like: Annotated[Path | None, typer.Option(help="Sample submission to follow.")] = None,
    dialect: Annotated[str | None, typer.Option(help="RLE preset, e.g. tgs, airbus.")] = None,
    as_formats: As = None,
    objects: Objects = "components",
    engine: Engine = "auto",
    cluster: Cluster = None,
    device: Device = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trace images: masks at their exact size, a manifest, and other formats if asked."""
    with speaking(verbose, quiet) as terminal:
        chosen = dialect_of(dialect)  # a typo is said before an hour of work
        runs = [existing_run(each) for each in (run, *(more or ()))]
        here: dict[str, object] = {"--prob": prob, "--overlay": overlay, "--overwrite": overwrite}
        here |= {"--submission": submission, "--like": like, "--as": as_formats, "--tile": tile}
        here |= {"--overlap": overlap, "--level": level, "--objects": objects != "components"}
        here |= {"--engine": engine not in ("auto", "torch")}
        if _is_for_cluster(cluster, [*images, out], [n for n, given in here.items() if given]):
            _predict_on_cluster(terminal, runs, images, out, (chosen, device, as_json))
            return
        from calco.files import to_json
        from calco.stages.predict import PredictOptions, mask_files, predict_files

        folder = Path(out)
        model = _open(runs, images, folder, (device, engine), terminal).with_tiling(tile, overlap)
        options = PredictOptions(prob, overlay, overwrite, _identity(runs), level=level)
        step = partial(terminal.step, "predict")
        done = predict_files(model, images, folder, options, lambda i, n, _: step(i, n), step)
        failed = [p for p in done if p.status == "failed"]
        for item in failed:
            terminal.say(item.message, "red")
        terminal.say(f"predicted {len(done) - len(failed)} of {len(done)} images into {out}")
        files, limit = mask_files(done, folder), model.spec.max_megapixels
        if submission:
            _submit(files, submission, (chosen, like, limit, objects), terminal)
        if as_formats:
            traced = {p.id: (files[p.id], p.source) for p in done if p.id in files}
            _annotate(traced, folder, as_formats, (objects, limit), terminal)
        if as_json:
            typer.echo(to_json(done))
        if failed:
            raise typer.Exit(SOME_FAILED)


def _open(
    runs: Sequence[Path],
    images: Sequence[str],
    out: Path,
    asked: tuple[str | None, str],
    terminal: Terminal,
) -> Predictor:
    """Load the runs on the engine asked for."""
    from calco.formats.inputs import find_images
    from calco.inference.choice import engine_name, open_predictor

    device, engine = asked
    wanted, (first, *more) = engine_name(engine), runs

    def sources() -> list[Path]:
        return [image.source for image in find_images(images, skip=out)]

    return open_predictor(first, device or "auto", wanted, sources, terminal.say, more)


def _submit(
    files: Mapping[str, Path],
    out: Path,
    asked: tuple[RleDialect | None, Path | None, float, Objects],
    terminal: Terminal,
) -> None:
    from calco.stages.submission import write_submission

    report = write_submission(files, out, *asked)
    counts = f"{report.n_images} images, {report.n_rows} rows"
    terminal.say(f"submission {out}: {counts}; {report.note}")


def _annotate(
    traced: Mapping[str, tuple[Path, Path]],
    out: Path,
    kinds: Sequence[Annotation],
    asked: tuple[Objects, float],
    terminal: Terminal,
) -> None:
    from calco.stages.annotations import write_annotations

    formats = [kind.value for kind in kinds]
    written = write_annotations(traced, out, formats, *asked)
    terminal.say(f"objects for {', '.join(formats)}: {len(written)} files in {out}")


def _is_for_cluster(cluster: str | None, places: Sequence[str], only_here: Sequence[str]) -> bool:
    """Tell where to predict; refuse what only goes elsewhere."""
    from calco.formats.urls import is_url

    if cluster is None:
        for place in places:
            if is_url(place):
                what, do = "URLs are read and written by a cluster", "add --cluster ray"
                raise CalcoError(Problem("URL", what, place, do=do))
        return False
    if cluster != "ray":
        what, do = "no such kind of cluster", "use --cluster ray"
        raise CalcoError(Problem("CLUSTER", what, "--cluster", cluster, "ray", do))
    if only_here:
        what, do = "a cluster writes Parquet with the runs of the masks alone", "leave it out"
        raise CalcoError(Problem("CLUSTER", what, only_here[0], do=do))
    return True


def _predict_on_cluster(
    terminal: Terminal,
    runs: Sequence[Path],
    images: Sequence[str],
    out: str,
    asked: tuple[RleDialect | None, str | None, bool],
) -> None:
    from calco.files import to_json
    from calco.records import RleDialect
    from calco.stages.cluster import FAILURES, ClusterOptions, predict_on_cluster

    dialect, device, as_json = asked
    options = ClusterOptions(dialect or RleDialect(), device or "auto", _identity(runs))
    terminal.say(f"predicting with Ray Data into {out}")
    report = predict_on_cluster(runs, images, out, options)
    for failure in report.failures[:N_NAMED]:
        terminal.say(failure.message, "red")
    n_failed = len(report.failures)
    if n_failed > N_NAMED:
        terminal.say(f"{n_failed - N_NAMED} more in {FAILURES}", "red")
    terminal.say(f"predicted {report.n_images - n_failed} of {report.n_images} images into {out}")
    if as_json:
        typer.echo(to_json(report))
    if n_failed:
        raise typer.Exit(SOME_FAILED)


def _identity(runs: Sequence[Path]) -> str:
    """Return a digest of all weights, by which a rerun knows its own masks."""
    from calco.files import sha256_of
    from calco.runs import RunDir

    digests = (RunDir(run).model_sha256() if run.is_dir() else sha256_of(run) for run in runs)
    return " ".join(digests)

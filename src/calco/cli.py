"""The command line: one thin function per command; the only place that prints and exits."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.exits import BAD_INPUT, SOME_FAILED, speaking
from calco.invocation import (
    dialect_of,
    existing_run,
    open_run,
    parse_duration,
    read_settings,
    require_model_name,
    require_report_name,
    run_folder,
    share_cores,
)
from calco.options import (
    AsJson,
    Budget,
    ConfigFile,
    Data,
    Device,
    Out,
    Quiet,
    Run,
    Sets,
    Verbose,
)
from calco.sweep_command import sweep

if TYPE_CHECKING:  # heavy modules are imported by the command that needs them
    from calco.config import Config
    from calco.pipeline import Listener
    from calco.runs import RunDir
    from calco.terminal import Terminal

STARTED = time.monotonic()  # a budget counts from here

app = typer.Typer(
    name="calco",
    help="From a folder of images and masks to a segmentation model you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(sweep)


@app.command()
def demo(
    out: Out = None,
    budget: Annotated[str, typer.Option(help="Wall-clock time for everything.")] = "2m",
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw a data set and run the whole pipeline on it."""
    from calco.images.toy import write_toy

    with speaking(verbose, quiet) as terminal:
        config = read_settings(None, None, budget_s=parse_duration(budget))
        folder = run_folder(out, "demo")
        data = folder.path.with_name(folder.path.name + "-data")
        write_toy(data)
        _train(data, config, folder, terminal)
        _finish(folder, terminal, as_json)


@app.command()
def audit(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Page (.html, with a .json beside it), or .json alone."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit 1 when there are warnings.")] = False,
    config: ConfigFile = None,
    sets: Sets = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Look for everything that ruins models, and say what to do about it."""
    from calco.files import to_json, write_atomic
    from calco.stages.audit import audit_samples
    from calco.stages.samples import index_samples

    with speaking(verbose, quiet) as terminal:
        settings = read_settings(config, sets)
        require_report_name(out)  # a typo is said before an hour of reading
        index = index_samples(data, settings.data)
        terminal.record(index)
        found = audit_samples(
            index, settings.data, settings.audit, lambda i, n: terminal.step("audit", i, n)
        )
        if out and out.suffix.lower() == ".html":
            from calco.stages.audit_page import write_audit_page

            write_audit_page(found, out)
        elif out:
            write_atomic(out, to_json(found))
        if as_json:
            typer.echo(to_json(found))
        terminal.problems(found.problems)
        if out:
            terminal.say(f"report    {out}")
        if found.errors:
            raise typer.Exit(BAD_INPUT)
        if strict and found.warnings:
            raise typer.Exit(1)


@app.command()
def train(
    data: Data,
    out: Out = None,
    config: ConfigFile = None,
    sets: Sets = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate; folds predict as one.")] = None,
    seed: Annotated[int | None, typer.Option(help="Weights, order, augmentation.")] = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option(help="Continue the stopped run in -o.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Audit, split, plan, fit, tune, test and report."""
    with speaking(verbose, quiet) as terminal:
        given: dict[str, object] = {"fit.epochs": epochs, "split.folds": folds}
        given |= {"seed": seed, "device": device}
        given["budget_s"] = parse_duration(budget) if budget else None
        if resume:
            changed = [k for k, v in given.items() if v is not None] + list(sets or [])
            folder = _resume(out, [*changed, *([str(config)] if config else [])], terminal)
        else:
            settings = read_settings(config, sets, **given)
            folder = run_folder(out, "run")
            _train(data, settings, folder, terminal)
        _finish(folder, terminal, as_json)


@app.command()
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
            from calco.pipeline import score_run

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


@app.command()
def predict(
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    prob: Annotated[bool, typer.Option(help="Write probabilities too.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write pictures with contours too.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder of other files.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Kaggle-style CSV to write.")] = None,
    like: Annotated[Path | None, typer.Option(help="Sample submission to follow.")] = None,
    dialect: Annotated[str | None, typer.Option(help="RLE preset, e.g. tgs, airbus.")] = None,
    device: Device = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trace images: masks at their exact size, a manifest, and a submission if asked."""
    from calco.files import sha256_of, to_json
    from calco.inference.predictor import Predictor
    from calco.runs import RunDir
    from calco.stages.predict import PredictOptions, mask_files, predict_files
    from calco.stages.submission import write_submission

    with speaking(verbose, quiet) as terminal:
        chosen = dialect_of(dialect)  # a typo is said before an hour of work
        predictor = Predictor.from_run(existing_run(run), device or "auto")
        model = RunDir(run).model_sha256() if run.is_dir() else sha256_of(run)
        options = PredictOptions(prob, overlay, overwrite, model)
        done = predict_files(
            predictor, images, out, options, lambda i, n, _: terminal.step("predict", i, n)
        )
        failed = [p for p in done if p.status == "failed"]
        for item in failed:
            terminal.say(item.message, "red")
        terminal.say(f"predicted {len(done) - len(failed)} of {len(done)} images into {out}")
        if submission:
            limit = predictor.spec.max_megapixels
            report = write_submission(mask_files(done, out), submission, chosen, like, limit)
            counts = f"{report.n_images} images, {report.n_rows} rows"
            terminal.say(f"submission {submission}: {counts}; {report.note}")
        if as_json:
            typer.echo(to_json(done))
        if failed:
            raise typer.Exit(SOME_FAILED)


@app.command()
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


@app.command()
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
            measure_leak(folder, _listener(terminal))
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


@app.command()
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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; the entry point of the ``calco`` script."""
    share_cores()
    app()


def _train(data: Path, config: Config, folder: RunDir, terminal: Terminal) -> None:
    from calco.pipeline import run
    from calco.training.budget import Clock

    run(data, config, folder, Clock(config.budget_s, STARTED), _listener(terminal))


def _resume(out: Path | None, changed: list[str], terminal: Terminal) -> RunDir:
    from calco.pipeline import resume
    from calco.training.budget import Clock

    if out is None or changed:
        raise CalcoError(
            Problem(
                "RESUME",
                "a run is resumed with the settings it began with",
                "--resume",
                got=", ".join(changed) or "no -o",
                expected="-o RUN and no settings",
            )
        )
    folder = open_run(out)
    if folder.summary_json.exists():
        terminal.say(f"{out} is finished already; nothing to resume")
        return folder
    resume(folder, Clock(folder.load_config().budget_s, STARTED), _listener(terminal))
    return folder


def _listener(terminal: Terminal) -> Listener:
    from calco.pipeline import Listener
    from calco.training.progress import Progress, Watch

    def on_step(p: Progress) -> None:
        note = f"epoch {p.epoch}  loss {p.loss:.3f}"
        note += f"  best Dice {p.best_dice:.4f}" if p.best_dice == p.best_dice else ""
        terminal.step("fit", p.fraction, 1.0, note)

    watch = Watch(on_step, terminal.epoch, terminal.problem)
    return Listener(terminal.record, lambda i, n: terminal.step("audit", i, n), watch)


def _finish(folder: RunDir, terminal: Terminal, as_json: bool) -> None:
    summary = folder.load_summary()
    terminal.say(f"report    {folder.report_html}")
    terminal.say(f"next      calco predict {folder.path} IMAGES -o traced/", "dim")
    if as_json:
        typer.echo(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()

"""Write the report: one self-contained page that says how good the model is and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from pydantic import TypeAdapter, ValidationError

from calco.config import Config
from calco.errors import CalcoError, Problem
from calco.files import write_atomic
from calco.formats.pictures import trace_scored
from calco.images.figures import Curve, draw_curve, draw_curves, draw_histogram
from calco.images.overlays import data_uri, encode
from calco.records import (
    SUBSETS,
    Audit,
    Epoch,
    FitResult,
    ImageScore,
    Plan,
    Postprocess,
    SampleIndex,
    Split,
    SubsetSummary,
)
from calco.runs import RunDir
from calco.wording import counted

T = TypeVar("T")

NBSP = "\u00a0"  # no line break between a number and its unit
N_WORST, N_OTHER = 4, 3  # examples shown: the failures teach most
CURVES: tuple[Curve, ...] = ("loss", "dice")
N_PLACES = 3  # files named per finding


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; None where a file is missing or unreadable.

    Attributes:
        missing: What is not there, in words.
    """

    config: Config | None
    manifest: Mapping[str, Any] | None
    audit: Audit | None
    split: Split | None
    plan: Plan | None
    history: tuple[Epoch, ...] | None
    fit: FitResult | None
    postprocess: Postprocess | None
    scores: tuple[ImageScore, ...] | None
    summary: Mapping[str, Any] | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Headline:
    """The scores on top of the page; ``otsu_dice_mean`` is NaN when it was not measured."""

    test: SubsetSummary | None
    validation: SubsetSummary | None
    otsu_dice_mean: float
    definition: str


@dataclass(frozen=True)
class Example:
    """A scored image; ``trouble`` says why there is no picture."""

    id: str
    dice: float
    uri: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Finding:
    """All problems of one code; the first stands for the rest."""

    first: Problem
    count: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """A part of fit's wall time."""

    name: str
    seconds: float
    fraction: float


def write_report(folder: RunDir) -> Path:
    """Write report.html and curves.png from what the run folder holds.

    Nothing is required: whatever an interrupted run did not leave is named on the page. Of the
    data set only the images shown are read.

    Args:
        folder: Of a finished or interrupted run.

    Returns:
        The page's path.
    """
    run = read_run(folder)
    best_epoch = _best_epoch(run)
    write_atomic(folder.curves_png, draw_curves(run.history or (), best_epoch))
    headline = _headline(run.summary or {})
    shown = "test" if any(s.subset == "test" for s in run.scores or ()) else "validation"
    scores = sorted((s for s in run.scores or () if s.subset == shown), key=lambda s: s.dice)
    page = _template().render(
        run=run,
        name=run.audit.index.root.name if run.audit else folder.path.resolve().name,
        headline=headline,
        curves=[
            data_uri(draw_curve(run.history, curve, best_epoch, paper="none"), "png")
            for curve in CURVES
            if run.history
        ],
        shown=shown,
        n_shown=len(scores),
        histogram=data_uri(draw_histogram([s.dice for s in scores], "none"), "png"),
        galleries=_galleries(run.audit, scores, folder),
        findings=_findings(run.audit.problems if run.audit else ()),
        parts=_parts(run.split),
        shares=_shares(run.fit),
    )
    write_atomic(folder.report_html, page)
    return folder.report_html


def read_run(folder: RunDir) -> RunFiles:
    """Read every file of a run that is there and whole."""
    missing: list[str] = []

    def read(load: Callable[[], T], name: str) -> T | None:
        try:
            return load()
        except (CalcoError, ValueError, KeyError, TypeError):  # absent, cut short or edited
            missing.append(name)
            return None

    return RunFiles(
        config=read(folder.load_config, "the settings"),
        manifest=read(folder.load_manifest, "versions and command"),
        audit=read(folder.load_audit, "the audit"),
        split=read(folder.load_split, "the split"),
        plan=read(folder.load_plan, "the plan"),
        history=read(folder.load_history, "the learning curves"),
        fit=read(folder.load_fit, "the end of training"),
        postprocess=read(folder.load_postprocess, "threshold and clean-up"),
        scores=read(folder.load_scores, "the scores of the images"),
        summary=read(folder.load_summary, "the headline"),
        missing=tuple(missing),
    )


# --- scores ------------------------------------------------------------------------------------


def _headline(summary: Mapping[str, Any]) -> Headline:
    baseline = summary.get("baseline")
    otsu = baseline.get("otsu_dice_mean") if isinstance(baseline, dict) else None
    return Headline(
        test=_subset_summary(summary.get("test")),
        validation=_subset_summary(summary.get("validation")),
        otsu_dice_mean=float(otsu) if isinstance(otsu, int | float) else math.nan,
        definition=str(summary.get("definition", "")),
    )


def _subset_summary(tree: object) -> SubsetSummary | None:
    """Rebuild a summary from summary.json, where NaN is null; None when there is nothing."""
    if not isinstance(tree, dict) or not tree.get("n_images"):
        return None
    values = {name: math.nan if value is None else value for name, value in tree.items()}
    interval = tree.get("dice_ci95")
    if isinstance(interval, list):
        values["dice_ci95"] = [math.nan if end is None else end for end in interval]
    try:
        return TypeAdapter(SubsetSummary).validate_python(values)
    except ValidationError:
        return None


def _best_epoch(run: RunFiles) -> int:
    """Return the epoch whose weights were kept; the best so far while fit goes on."""
    if run.fit:
        return run.fit.best_epoch
    validated = [e for e in run.history or () if math.isfinite(e.validation_dice)]
    return max(validated, key=lambda e: e.validation_dice).epoch if validated else 0


def _galleries(
    audit: Audit | None, scores: Sequence[ImageScore], folder: RunDir
) -> list[tuple[str, list[Example]]]:
    """Trace the best, median and worst images; every image at most once.

    Args:
        audit: Says how images are read; without it nothing is shown.
        scores: Sorted by Dice, ascending.
        folder: Holds the predicted masks.
    """
    if audit is None:
        return []
    n_worst = min(N_WORST, math.ceil(len(scores) / 3))
    n_best = min(N_OTHER, math.ceil((len(scores) - n_worst) / 2))
    worst, best = scores[:n_worst], scores[len(scores) - n_best :]
    between = scores[n_worst : len(scores) - n_best]
    start = max(0, (len(between) - N_OTHER) // 2)
    median = between[start : start + N_OTHER]
    picked = {"Best": best[::-1], "Median": median[::-1], "Worst": worst}
    return [
        (title, [_example(audit.index, score, folder) for score in group])
        for title, group in picked.items()
        if group
    ]


def _example(index: SampleIndex, score: ImageScore, folder: RunDir) -> Example:
    try:
        picture = trace_scored(index, score, folder.path / "predictions")
    except CalcoError as error:
        return Example(score.id, score.dice, trouble=error.problems[0].what)
    return Example(score.id, score.dice, uri=data_uri(encode(picture), "jpeg"))


# --- tables ------------------------------------------------------------------------------------


def _findings(problems: Sequence[Problem]) -> list[Finding]:
    """Gather problems by severity and code, in the order found."""
    by_code: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        by_code.setdefault((problem.severity, problem.code), []).append(problem)
    return [
        Finding(same[0], len(same), tuple(p.where for p in same if p.where)[:N_PLACES])
        for same in by_code.values()
    ]


def _parts(split: Split | None) -> list[tuple[str, int, int]]:
    """List (subset, images, groups)."""
    if split is None:
        return []
    return [(s, len(split.groups(s)), len(set(split.groups(s)))) for s in SUBSETS]


def _shares(fit: FitResult | None) -> list[Share]:
    if fit is None or fit.seconds <= 0:
        return []
    other = max(0.0, fit.seconds - fit.seconds_stepping - fit.seconds_validating)
    parts = {
        "forward, backward and step": fit.seconds_stepping,
        "validation": fit.seconds_validating,
        "loading, saving and the rest": other,
    }
    return [Share(name, seconds, seconds / fit.seconds) for name, seconds in parts.items()]


# --- text --------------------------------------------------------------------------------------


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # file names and settings are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "percent": _percent,
        "duration": _duration,
        "setting": _setting,
        "many": counted,
        "finite": math.isfinite,
    }
    return environment.get_template("report.html.jinja")


def _score(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}{NBSP}%" if math.isfinite(fraction) else "n/a"


def _duration(seconds: float) -> str:
    """Return seconds in the units people would use: ``754`` becomes ``12 min 34 s``."""
    whole = round(seconds)
    if whole < 60:
        text = f"{seconds:.1f} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60} min"
    return text.replace(" ", NBSP)


def _setting(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple() | list():
            return ", ".join(_setting(v) for v in value)
        case _:
            return str(value)

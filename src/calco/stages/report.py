"""Write the report: one self-contained page that says how good the model is and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from calco.errors import CalcoError, Problem
from calco.files import write_atomic
from calco.formats.pages import page_template
from calco.formats.pictures import trace_scored
from calco.formats.run_files import RunFiles, Training, read_run
from calco.images.figures import (
    Curve,
    draw_coverage,
    draw_curve,
    draw_curves,
    draw_histogram,
    draw_precision_recall,
    draw_reliability,
)
from calco.images.learning_figure import draw_learning
from calco.images.overlays import data_uri, encode
from calco.metrics.doubt import kept_means, rank_correlation
from calco.records import (
    SUBSETS,
    Audit,
    Calibration,
    FitResult,
    ImageScore,
    LabelSuspicion,
    Postprocess,
    SampleIndex,
    Split,
    SubsetSummary,
)
from calco.runs import RunDir
from calco.wording import NBSP, counted, duration

T = TypeVar("T")

N_WORST, N_OTHER = 4, 3  # examples shown: the failures teach most
CURVES: tuple[Curve, ...] = ("loss", "dice")
N_PLACES = 3  # files named per finding
N_SUSPECTS = 8  # masks shown that are probably wrong; the table has them all
SENT_TO_A_PERSON = 0.1  # share of images, as an example of what doubt is worth


@dataclass(frozen=True)
class Headline:
    """The scores on top of the page; what was not measured is NaN."""

    test: SubsetSummary | None
    validation: SubsetSummary | None
    otsu_dice_mean: float
    nested_dice_mean: float
    definition: str

    @property
    def measured(self) -> list[tuple[str, SubsetSummary]]:
        """Subsets whose outlines and objects were scored; older runs have none."""
        both = [("test", self.test), ("validation", self.validation)]
        return [(name, s) for name, s in both if s and math.isfinite(s.hd95_px_mean)]


@dataclass(frozen=True)
class Coverage:
    """What is gained when the images of the lowest estimated Dice go to a person.

    Attributes:
        correlation: Spearman's, of estimated with true Dice.
        n_sent: Images sent, a tenth.
        dice_all: Mean Dice of all images.
        dice_kept: Mean Dice of the others.
        limit: Highest estimated Dice among those sent.
        uri: Mean Dice against the share of images kept, drawn.
    """

    correlation: float
    n_sent: int
    dice_all: float
    dice_kept: float
    limit: float
    uri: str


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
    for training in run.trainings:
        curves = draw_curves(training.history, training.best_epoch)
        write_atomic(training.folder.curves_png, curves)
    headline = _headline(run.summary or {})
    shown = "test" if any(s.subset == "test" for s in run.scores or ()) else "validation"
    scores = sorted((s for s in run.scores or () if s.subset == shown), key=lambda s: s.dice)
    calibration = (run.calibrations or {}).get(shown)
    page = page_template("report.html.jinja", _FILTERS).render(
        run=run,
        folds=len(run.trainings),
        name=run.audit.index.root.name if run.audit else folder.path.resolve().name,
        headline=headline,
        curves=[_curves(training) for training in run.trainings if training.history],
        coverage=_coverage(scores),
        calibration=calibration,
        plots=_calibration_plots(calibration, run.postprocess),
        shown=shown,
        n_shown=len(scores),
        histogram=data_uri(draw_histogram([s.dice for s in scores], "none"), "png"),
        galleries=_galleries(run.audit, scores, folder),
        suspects=_suspects(run, folder),
        learning_plot=data_uri(draw_learning(run.learning, "none"), "png") if run.learning else "",
        findings=_findings(run.audit.problems if run.audit else ()),
        parts=_parts(run.split),
        shares=_shares([training.fit for training in run.trainings if training.fit]),
    )
    write_atomic(folder.report_html, page)
    return folder.report_html


# --- scores ------------------------------------------------------------------------------------


def _headline(summary: Mapping[str, Any]) -> Headline:
    return Headline(
        test=_subset_summary(summary.get("test")),
        validation=_subset_summary(summary.get("validation")),
        otsu_dice_mean=_number(summary, "baseline", "otsu_dice_mean"),
        nested_dice_mean=_number(summary, "tuning", "nested_dice_mean"),
        definition=str(summary.get("definition", "")),
    )


def _number(summary: Mapping[str, Any], section: str, key: str) -> float:
    """Return a figure of summary.json; NaN when it is not there."""
    tree = summary.get(section)
    value = tree.get(key) if isinstance(tree, dict) else None
    return float(value) if isinstance(value, int | float) else math.nan


def _subset_summary(tree: object) -> SubsetSummary | None:
    """Rebuild a summary from summary.json, where NaN is null; None when there is nothing."""
    if not isinstance(tree, dict) or not tree.get("n_images"):
        return None
    required = {f.name for f in fields(SubsetSummary) if f.default is MISSING}
    values = {
        name: math.nan if value is None else value
        for name, value in tree.items()
        if value is not None or name in required  # what was not measured has a default
    }
    for name, ends in tree.items():
        if name.endswith("_ci95") and isinstance(ends, list):
            values[name] = [math.nan if end is None else end for end in ends]
    try:
        return TypeAdapter(SubsetSummary).validate_python(values)
    except ValidationError:
        return None


def _calibration_plots(
    calibration: Calibration | None, postprocess: Postprocess | None
) -> list[tuple[str, str]]:
    """Return (text for those who cannot see it, picture) of each plot."""
    if calibration is None:
        return []
    threshold = postprocess.threshold if postprocess else math.nan
    reliability = draw_reliability(calibration, paper="none")
    precision = draw_precision_recall(calibration, threshold, paper="none")
    return [
        ("Share of foreground against predicted probability", data_uri(reliability, "png")),
        ("Precision against recall over all thresholds", data_uri(precision, "png")),
    ]


def _curves(training: Training) -> list[str]:
    return [
        data_uri(draw_curve(training.history, curve, training.best_epoch, paper="none"), "png")
        for curve in CURVES
    ]


def _coverage(scores: Sequence[ImageScore]) -> Coverage | None:
    """Say what is gained when a person looks at the least sure images; None where unknown."""
    estimated, dices = [s.estimated_dice for s in scores], [s.dice for s in scores]
    correlation = rank_correlation(estimated, dices)
    if math.isnan(correlation):
        return None
    kept = kept_means(estimated, dices)
    n_sent = max(1, round(len(scores) * SENT_TO_A_PERSON))
    return Coverage(
        correlation=correlation,
        n_sent=n_sent,
        dice_all=float(kept[-1]),
        dice_kept=float(kept[-1 - n_sent]),
        limit=sorted(estimated)[n_sent - 1],
        uri=data_uri(draw_coverage(kept, kept_means(dices, dices), paper="none"), "png"),
    )


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


def _suspects(run: RunFiles, folder: RunDir) -> list[tuple[LabelSuspicion, Example]]:
    """Trace the masks that are most probably wrong, beside what the model made of them."""
    scores = {score.id: score for score in run.scores or ()}
    if run.audit is None:
        return []
    return [
        (suspicion, _example(run.audit.index, scores[suspicion.id], folder))
        for suspicion in run.suspicions[:N_SUSPECTS]
        if suspicion.id in scores
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


def _shares(fits: Sequence[FitResult]) -> list[Share]:
    total = math.fsum(fit.seconds for fit in fits)
    if total <= 0:
        return []
    stepping = math.fsum(fit.seconds_stepping for fit in fits)
    validating = math.fsum(fit.seconds_validating for fit in fits)
    parts = {
        "forward, backward and step": stepping,
        "validation": validating,
        "loading, saving and the rest": max(0.0, total - stepping - validating),
    }
    return [Share(name, seconds, seconds / total) for name, seconds in parts.items()]


# --- text --------------------------------------------------------------------------------------


def _score(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def _pixels(distance: float) -> str:
    return f"{distance:.1f}{NBSP}px" if math.isfinite(distance) else "n/a"


def _interval(ends: tuple[float, float], digits: int = 3) -> str:
    """Return ``0.881 to 0.943``; nothing where there is no interval."""
    low, high = ends
    return "" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}{NBSP}%" if math.isfinite(fraction) else "n/a"


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


_FILTERS: dict[str, Callable[..., object]] = {
    "score": _score,
    "pixels": _pixels,
    "interval": _interval,
    "percent": _percent,
    "duration": duration,
    "setting": _setting,
    "many": counted,
    "finite": math.isfinite,
}

"""Turn what a pipeline tells its listener into what trackers keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from calco.config import Config
from calco.errors import CalcoError
from calco.files import write_atomic
from calco.formats.pictures import trace_scored
from calco.images.overlays import encode
from calco.pipeline import Listener
from calco.records import Epoch, FitResult, ImageScore, Plan, Scores, SubsetSummary
from calco.runs import RunDir
from calco.tracking.audience import Audience
from calco.tracking.tracker import Parameter, Tracker

FOLDER = "tracking"  # below the run folder: what trackers keep on this machine
N_OVERLAYS = 4  # of the worst images, and of the best


@contextmanager
def tracked(listener: Listener, config: Config, folder: RunDir) -> Iterator[Listener]:
    """Let the trackers that the settings name hear of what a listener hears of, too.

    Args:
        listener: Hears of everything first, and of trackers that fail.
        config: Says who is told; nobody by default.
        folder: Of the run; what it holds in the end is handed on.

    Yields:
        The listener for the pipeline.
    """
    if not config.track.to:
        yield listener
        return
    tracking = Tracking(listener, config, folder)
    finished = False
    try:
        watch = replace(listener.watch, on_epoch=tracking.on_epoch)
        yield replace(listener, on_record=tracking.on_record, watch=watch)
        finished = True
    finally:
        tracking.close(finished=finished)


class Tracking:
    """Follows one run from its plan to its report."""

    def __init__(self, listener: Listener, config: Config, folder: RunDir) -> None:
        self.listener, self.config, self.folder = listener, config, folder
        self.audience: Audience | None = None
        self.n_fits = 0
        self.last_epoch = 0

    def on_record(self, record: object) -> None:
        """Begin with the plan, count the trainings, and note the scores."""
        self.listener.on_record(record)
        match record:
            case Plan():
                self._begin(record)
            case FitResult():
                self.n_fits += 1
                if record.history:  # its epochs were told before a run was resumed
                    self.last_epoch = record.history[-1].epoch
            case Scores() if self.audience:
                values = final_figures(record.summaries)
                self.audience.tell(lambda t: t.metrics(values, self.last_epoch))

    def on_epoch(self, epoch: Epoch) -> None:
        """Note an epoch; with folds under the number of its training."""
        self.listener.watch.on_epoch(epoch)
        prefix = f"fold{self.n_fits}/" if self.config.split.folds else ""
        values = {prefix + name: value for name, value in figures_of(epoch).items()}
        self.last_epoch = epoch.epoch
        if self.audience:
            self.audience.tell(lambda t: t.metrics(values, epoch.epoch))

    def close(self, *, finished: bool) -> None:
        """Hand on curves, pictures and report, whatever of them there is, and end."""
        audience = self.audience
        if audience is None:
            return
        try:
            where = str(self.folder.path)
            audience.attempt(partial(self._hand_on, audience), where, "trackers lack its pictures")
        finally:  # whatever comes between: an open run would count as one that is still trained
            runs = audience.runs
            audience.tell(lambda t: t.close(finished=finished))
        for run in runs:
            self.listener.on_record(run)

    def _hand_on(self, audience: Audience) -> None:
        for name, path, caption in (*self._curves(), *self._overlays()):
            audience.tell(partial(_show, name, path, caption))
        if self.folder.report_html.exists():
            audience.tell(lambda t: t.artefact(self.folder.report_html))

    def _begin(self, plan: Plan) -> None:
        warn, path = self.listener.watch.on_advice, self.folder.path
        name = path.resolve().name
        self.audience = Audience(path / FOLDER, name, self.config.track, warn)
        values = parameters_of(plan, self.config)
        self.audience.tell(lambda t: t.parameters(values))

    def _curves(self) -> Iterator[tuple[str, Path, str]]:
        """Yield (name, file, caption) of the loss and Dice of each training."""
        for member in self.folder.members():
            fold = "" if member == self.folder else f"/fold{member.path.name}"
            if member.curves_png.exists():
                yield f"curves{fold}", member.curves_png, "loss and Dice by epoch"

    def _overlays(self) -> Iterator[tuple[str, Path, str]]:
        """Yield the images that the model does worst and best on, traced, of the part tested."""
        try:
            index, scores = self.folder.load_audit().index, _shown(self.folder.load_scores())
        except (CalcoError, OSError):  # stopped before the scores
            return
        n = min(N_OVERLAYS, len(scores) // 2)
        ends = {"worst": scores[:n], "best": scores[::-1][:n]}
        folder = self.folder.path / FOLDER / "overlays"
        for end, number, score in ((e, i, s) for e in ends for i, s in enumerate(ends[e], 1)):
            path = folder / f"{end}-{number}.jpg"
            try:
                picture = trace_scored(index, score, self.folder.path / "predictions")
                folder.mkdir(parents=True, exist_ok=True)
                write_atomic(path, encode(picture))
            except (CalcoError, OSError):  # an image was moved since, or the disk is full
                continue
            yield f"overlays/{path.stem}", path, f"{score.id}: Dice {score.dice:.3f}"


def parameters_of(plan: Plan, config: Config) -> dict[str, Parameter]:
    """Return what the run is made with, flat: the plan's settings and the seed.

    Args:
        plan: Of the run.
        config: Of the run.
    """
    values: dict[str, Parameter] = {"seed": config.seed, "folds": config.split.folds or 1}
    if plan.fingerprint:
        values["n_train"] = plan.fingerprint.n_images
    for name, value, _ in plan.settings():
        plain = isinstance(value, str | int | float | bool)
        values[name] = value if plain else str(value)  # type: ignore[assignment]
    return values


def figures_of(epoch: Epoch) -> dict[str, float]:
    """Return the figures of an epoch that are known, by the names that trackers group.

    Example:
        >>> nan = float("nan")
        >>> sorted(figures_of(Epoch(1, 8, 0.5, 0.25, nan, nan, 0.001, 2.0)))
        ['learning_rate', 'seconds', 'step', 'train/dice', 'train/loss']
    """
    values = {
        "train/loss": epoch.train_loss,
        "train/dice": epoch.train_dice,
        "validation/loss": epoch.validation_loss,
        "validation/dice": epoch.validation_dice,
        "learning_rate": epoch.learning_rate,
        "seconds": epoch.seconds,
        "step": float(epoch.step),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def final_figures(summaries: Mapping[str, SubsetSummary]) -> dict[str, float]:
    """Return every finite figure of the scores: ``test/dice_mean``, ``test/dice_ci95_low`` ...

    Args:
        summaries: By subset.
    """
    values: dict[str, float] = {}
    for subset, summary in summaries.items():
        for name, value in asdict(summary).items():
            match value:
                case int() | float():
                    values[f"{subset}/{name}"] = float(value)
                case (low, high):
                    values[f"{subset}/{name}_low"] = float(low)
                    values[f"{subset}/{name}_high"] = float(high)
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _show(name: str, path: Path, caption: str, tracker: Tracker) -> None:
    tracker.picture(name, path, caption)


def _shown(scores: tuple[ImageScore, ...]) -> list[ImageScore]:
    """Return the scores of the test part, or of validation without one, the worst first."""
    subset = "test" if any(s.subset == "test" for s in scores) else "validation"
    return sorted((s for s in scores if s.subset == subset), key=lambda s: s.dice)

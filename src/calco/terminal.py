"""What a run looks like in a terminal, a log or a notebook; part of the command line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from calco.errors import Problem
from calco.records import (
    SUBSETS,
    Audit,
    Epoch,
    FitResult,
    LearningCurve,
    Plan,
    Postprocess,
    SampleIndex,
    Scores,
    Split,
    SubsetSummary,
)
from calco.stages.audit import LINES_PER_KIND, report_lines
from calco.tracking.tracker import TrackerRun
from calco.wording import counted

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
PLACES_PER_KIND = 2  # of an audit's findings; calco audit and the report show more
LOG_EVERY_S = 30.0  # a log file gets a line now and then instead of a bar


class Terminal:
    """Prints records as they come and one bar while work goes on.

    Args:
        verbosity: -1 prints errors alone, 0 the essentials, 1 every reason and epoch.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            # a log file gets plain lines; Jupyter draws its own bar
            disable=verbosity < 0 or not (self.console.is_terminal or self.console.is_jupyter),
        )
        self.tasks: dict[str, TaskID] = {}
        self.logged_at = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def problems(self, found: Sequence[Problem], places: int = LINES_PER_KIND) -> None:
        """Print problems kind by kind; only errors when quiet.

        Args:
            found: Of an audit.
            places: Named of each kind.
        """
        told = [p for p in found if self.verbosity >= 0 or p.severity == "error"]
        for line in report_lines(told, places):
            self.console.print(Text(line, style=STYLES.get(line.partition("[")[0], "")))

    def say(self, line: str, style: str = "") -> None:
        """Print one line unless asked to be quiet; markup in it is shown, not obeyed."""
        if self.verbosity >= 0:
            self.console.print(Text(line, style=style))

    def problem(self, problem: Problem) -> None:
        """Print a problem; errors are printed even when quiet."""
        if self.verbosity >= 0 or problem.severity == "error":
            self.console.print(Text(str(problem), style=STYLES[problem.severity]))

    def step(self, name: str, done: float, total: float, note: str = "") -> None:
        """Move the bar of one piece of work; at its end the bar goes."""
        if self.bar.disable and time.monotonic() - self.logged_at > LOG_EVERY_S:
            self.logged_at = time.monotonic()
            self.say(f"{name:<9} {done / total:.0%}  {note}")
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(name, total=total, note=note)
        self.bar.update(self.tasks[name], completed=done, total=total, note=note)
        if done >= total:
            self.bar.remove_task(self.tasks.pop(name))

    def epoch(self, epoch: Epoch) -> None:
        """Print a validated epoch; every epoch when verbose."""
        validated = epoch.validation_dice == epoch.validation_dice
        if validated or self.verbosity > 0:
            dice = f"  val Dice {epoch.validation_dice:.4f}" if validated else ""
            self.say(
                f"epoch {epoch.epoch:>4}  step {epoch.step:>6}  loss {epoch.train_loss:.4f}"
                f"{dice}  {epoch.seconds:.0f} s"
            )

    def record(self, record: object) -> None:
        """Print what a finished stage found."""
        match record:
            case SampleIndex():
                self.say(f"data      {record.layout}")
                self.say(f"masks     {record.code.note}")
            case Audit():
                self._audit(record)
            case Split():
                self.say(f"split     {_parts(record)}; no group straddles")
            case Plan():
                self._plan(record)
            case LearningCurve():
                self.say(f"labels    {record.sentence}")
            case FitResult():
                share = record.seconds_stepping / max(record.seconds, 1e-9)
                self.say(
                    f"fit       {len(record.history)} epochs in {record.seconds:.0f} s:"
                    f" {record.stopped_because}; {share:.0%} of the time in steps"
                )
                if record.overflows:
                    left_out = counted(record.overflows, "step")
                    self.say(f"          {left_out} left out: loss or gradients were not finite")
            case Postprocess():
                self.say(f"tuned     {record.note}")
            case Scores():
                self.scores(record)
            case TrackerRun():
                self.say(f"tracked   {record.look}", "dim")

    def scores(self, scores: Scores) -> None:
        """Print the headline of every subset as a table, a score per row."""
        if self.verbosity < 0:
            return
        table = Table("", *(Column(Text(name)) for name in scores.summaries))
        for row in _score_rows(list(scores.summaries.values())):
            table.add_row(*row)
        self.console.print(table)
        self.say("Means over images (95 % intervals); Dice: both masks empty = 1", "dim")

    def table(self, rows: list[dict[str, object]]) -> None:
        """Print rows with the same keys as a table."""
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row.values()))
        self.console.print(table)

    def _audit(self, audit: Audit) -> None:
        shares = [f.foreground_fraction for f in audit.facts]
        empty = sum(share == 0 for share in shares)
        mean = sum(shares) / max(len(shares), 1)
        alike = sum(twins.kind != "series" for twins in audit.twins)
        blocks = sum(twins.n_blocks > 1 for twins in audit.twins)
        self.say(
            f"audit     {len(audit.facts)} usable samples, {mean:.1%} foreground, {empty} empty"
            f" masks, {counted(alike, 'group')} of look-alikes"
            f", {len(audit.twins) - alike - blocks} series"
            + (f", {blocks} blocks of a series that was cut" if blocks else "")
        )
        if not audit.errors:  # errors end the run and are printed as its message
            shown = [p for p in audit.problems if p.severity == "warning" or self.verbosity > 0]
            self.problems(shown, PLACES_PER_KIND)

    def _plan(self, plan: Plan) -> None:
        net = plan.network
        size = f"resized to {plan.resize_px}" if plan.resize_px else f"crops of {plan.crop_px}"
        kind = "ImageNet" if net.encoder.startswith("efficientnet-lite") else "trained"
        start = f"{kind if net.pretrained else 'random'} weights"
        start = f"weights of {plan.start.source}" if plan.start else start
        start += ", frozen" if net.freeze_encoder else ""
        name = "lean U-Net" if net.family == "lean" else "U-Net"
        what = f"width {net.width}"
        if net.family == "encoder_unet":
            name = "U-Net" if net.decoder == "light" else net.decoder
            what = net.encoder
        self.say(
            f"plan      {name} ({what}, {start}), {size} px, batch {plan.batch}, {plan.loss},"
            f" {plan.optimizer} {plan.learning_rate:g}"
        )
        if plan.start:
            self.say(f"start     {plan.start.sentence}; sha256 {plan.start.sha256[:12]}")
        if plan.machine:
            n_images = plan.machine.best.setup.batch  # in a team, the part of one process
            step_s = plan.machine.step_s(net, plan.resize_px or plan.crop_px, n_images)
            self.say(
                f"machine   {plan.machine.device}, {counted(plan.threads or 1, 'thread')}:"
                f" {1000 * step_s:.0f} ms a step, measured in {plan.machine.seconds:.1f} s"
            )
        if self.verbosity > 0:
            for name, value, reason in plan.settings():
                self.say(f"          {name} = {value}: {reason}", "dim")


def _parts(split: Split) -> str:
    """Say how many images each part has: ``70 train, 15 validation, 15 test``."""
    if split.n_folds > 1:
        pool = len(split.part("train")) + len(split.part("validation"))
        return f"{pool} in {split.n_folds} folds, {len(split.part('test'))} test"
    return ", ".join(f"{len(split.part(s))} {s}" for s in SUBSETS)


def _score_rows(summaries: Sequence[SubsetSummary]) -> Iterator[tuple[str, ...]]:
    """Yield (name, one cell per subset) of each score that was measured."""
    near = f"NSD, {summaries[0].nsd_tolerance_px:g} px"
    rows: list[tuple[str, list[tuple[float, tuple[float, float] | None]]]] = [
        ("Dice", [(s.dice_mean, s.dice_ci95) for s in summaries]),
        ("IoU", [(s.iou_mean, s.iou_ci95) for s in summaries]),
        ("Dice, pooled", [(s.dice_global, None) for s in summaries]),
        (near, [(s.nsd_mean, s.nsd_ci95) for s in summaries]),
        ("Boundary IoU", [(s.boundary_iou_mean, s.boundary_iou_ci95) for s in summaries]),
        ("Object F1", [(s.object_f1_50_mean, s.object_f1_50_ci95) for s in summaries]),
        ("ECE", [(s.ece, None) for s in summaries]),
        ("Doubt, correlation", [(s.estimate_correlation, None) for s in summaries]),
    ]
    for name, cells in rows:
        if any(math.isfinite(value) for value, _ in cells):
            yield name, *(_cell(value, ends) for value, ends in cells)
    yield "Images", *(f"{s.n_images}, {s.n_empty} empty" for s in summaries)


def _cell(value: float, ends: tuple[float, float] | None) -> str:
    """Write a score and its interval: ``0.9157  (0.9017 to 0.9287)``."""
    if not math.isfinite(value):
        return "n/a"
    if ends is None:
        return f"{value:.4f}"
    low, high = ends
    interval = f"{low:.4f} to {high:.4f}" if math.isfinite(low) else "one group: none"
    return f"{value:.4f}  ({interval})"

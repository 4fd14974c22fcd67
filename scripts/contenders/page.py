"""reports/benchmark.md and its figure, from the result files alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calco.files import from_json, write_atomic
from calco.records import Subset
from contenders.courses import FEW_SET, ROOT
from contenders.promises import LONG_S, MEMBRANES, promises
from contenders.records import Measured, Target
from contenders.results import ENTRANTS, OTHERS, PLAIN_CALCO, Cell, Entrant, Pair, Results

TRAINING = ROOT / "reports" / "training_benchmark.json"
NOTES = ROOT / "reports" / "benchmark_notes.md"
COLOURS = ("#0b6e4f", "#0b6e4f", "#9a9a9a", "#d1495b", "#edae49", "#3d5a98", "#8e5ea2")
TICKS_S = (6, 15, 30, 60, 120, 300, 600, 1200)
PARTS: tuple[tuple[Subset, str], ...] = (
    ("validation", "validation, on which weights were chosen"),
    ("test", "test, which nobody has seen"),
)

INTRODUCTION = """# The same time for all

Written by `scripts/benchmark.py` from `reports/benchmark/*.json`; `--write` alone writes this page.

- **Data.** calco's own division of each set, look-alikes kept together. Everyone trains on `train`,
  chooses weights on `validation` and is scored once on `test`. isbi2012's test part is the six
  slices that end its stack.
- **Time.** {threads} threads on as many processors, one run at a time, contenders in turn. calco's
  clock is that of its command, from start to finished report: audit, plan, its own validation,
  tuning and test are all inside. The others' clocks hold decoding, planning and training only; they
  stand still while the referee validates, and final predictions are free. In the figure validation
  is left out of everyone's time.
- **Schedules.** Every learning rate that anneals lands when time is up.
- **Weights.** The best of ten validations over the run; nnU-Net keeps its last, as it does.
- **Scores.** calco's metrics at original resolution: Dice per image, averaged (both masks empty
  = 1, one empty = 0), threshold 0.5, no clean-up. "As delivered" is calco with the threshold,
  clean-up and mirroring it tuned on validation; read that row on `test`.
- **Intervals.** 95 %, groups of images resampled after averaging the seeds per image; differences
  are paired by image. They do not hold the luck of other seeds: those are listed.
"""


def write_page(results: Results, page: Path, figure: Path, training: Path = TRAINING) -> None:
    """Write the page and the figure beside it; ``training`` holds the other script's figures."""
    figure.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(figure, draw(results))
    place = figure.relative_to(page.parent).as_posix()
    sections = [
        INTRODUCTION.format(threads=_threads(results)),
        f"![validation Dice against time]({place})\n",
        "## Promises\n\n" + promise_table(promises(results) + training_targets(training)),
        *(section(results, data) for data in _sets(results)),
        ran_on(results),
        NOTES.read_text(encoding="utf-8") if NOTES.exists() else "",
    ]
    write_atomic(page, "\n".join(s for s in sections if s))


def training_targets(report: Path) -> list[Target]:
    """Return the verdicts of ``scripts/benchmark_training.py``, if there are any."""
    if not report.exists():
        return []
    text = report.read_text(encoding="utf-8")
    return [row.target for row in from_json(dict[str, Measured], text, str(report)).values()]


def promise_table(targets: Iterable[Target]) -> str:
    """Return the promises as a table."""
    verdicts = {True: "yes", False: "**no**", None: ""}
    rows = [(t.measure, t.wanted, t.found, verdicts[t.met]) for t in targets]
    return _table(("measure", "target", "found", "met"), rows)


def section(results: Results, data: str) -> str:
    """Return all tables of one set."""
    lines = [f"## {data}\n"]
    parts = PARTS[1:] if data == FEW_SET else PARTS
    for part, words in parts:
        lines.append(f"Mean Dice on {words}: mean (95 % interval); each seed.\n")
        lines.append(_score_table(results, data, part))
    if data == MEMBRANES:
        lines.append("Dice of all pixels together, seeds averaged.\n")
        lines.append(_pooled_table(results, data))
    for part, _ in parts:
        if pairs := _pair_rows(results, data, part):
            lines.append(f"calco minus the other at 20 minutes, both at threshold 0.5, {part}.\n")
            lines.append(_table(("other", "difference", "95 % interval", "p"), pairs))
    return "\n".join(lines)


def _score_table(results: Results, data: str, part: Subset) -> str:
    budgets_s = results.budgets_s(data)
    rows = []
    for entrant in ENTRANTS:
        cells = [results.cell(entrant, data, budget_s, part) for budget_s in budgets_s]
        if any(cells):
            rows.append((entrant.label, *map(_shown, cells)))
    return _table(("contender", *map(_minutes, budgets_s)), rows)


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    seeds = ", ".join(f"{value:.4f}" for value in cell.seeds)
    return f"**{cell.mean:.4f}** ({_interval(cell, '.4f')}); {seeds}"


def _interval(found: Cell | Pair, number: str) -> str:
    """Return the interval; images of a single group say nothing about others."""
    if math.isnan(found.low):
        return "one group: no interval"
    return f"{found.low:{number}} to {found.high:{number}}"


def _pooled_table(results: Results, data: str) -> str:
    rows = []
    for entrant in ENTRANTS:
        for budget_s in results.budgets_s(data, entrant.contender):
            cells = [results.cell(entrant, data, budget_s, part) for part, _ in PARTS]
            values = [f"{fmean(cell.pooled):.4f}" for cell in cells if cell]
            rows.append((entrant.label, _minutes(budget_s), *values))
    return _table(("contender", "time", "validation", "test"), rows)


def _pair_rows(results: Results, data: str, part: Subset) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for other in OTHERS:
        pair = results.pair((PLAIN_CALCO, other), data, LONG_S, part)
        if pair:
            figures = (f"{pair.difference:+.4f}", _interval(pair, "+.4f"), f"{pair.p_value:.4f}")
            rows.append((other.label, *figures))
    return rows


def ran_on(results: Results) -> str:
    """Say what was trained, on what, and how much of it."""
    rows = []
    for entrant in ENTRANTS:
        if entrant.delivered:
            continue
        for data in _sets(results):
            for budget_s in results.budgets_s(data, entrant.contender):
                runs = results.of(entrant, data, budget_s)
                steps = " / ".join(str(run.outcome.steps) for run in runs)
                used = " / ".join(f"{run.outcome.seconds:.0f}" for run in runs)
                peak = f"{max(run.outcome.peak_mb for run in runs):.0f}"
                settings = "; ".join(dict.fromkeys(run.outcome.settings for run in runs))
                name = entrant.contender
                rows.append((name, data, _minutes(budget_s), steps, used, peak, settings))
    header = ("contender", "set", "time", "steps", "seconds used", "peak MiB", "settings")
    machines = dict.fromkeys(
        f"{run.machine.processor}, {run.machine.threads} threads, "
        + ", ".join(f"{name} {number}" for name, number in run.machine.versions.items())
        for run in results.runs
    )
    ran = "\n".join(f"- {machine}" for machine in machines)
    return f"## What ran\n\n{_table(header, rows)}\n{ran}\n"


def draw(results: Results) -> bytes:
    """Draw validation Dice against time, one panel per set; returns a PNG."""
    sets = [data for data in _sets(results) if data != FEW_SET] or [""]
    figure = Figure(figsize=(5.2 * len(sets), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, data in zip(panels, sets, strict=True):
        for entrant, colour in zip(ENTRANTS, COLOURS, strict=True):
            if not entrant.delivered:
                _draw_curves(axes, results, data, (entrant, colour))
        ends = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
        lowest = min((float(np.min(y)) for y in ends), default=0.5)
        axes.set(xscale="log", xlabel="minutes", title=data)
        axes.set_xticks(TICKS_S, [f"{s / 60:g}" for s in TICKS_S])
        axes.minorticks_off()
        axes.set(ylim=(max(0.0, lowest - 0.1), 1.0), ylabel="validation Dice, threshold 0.5")
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        panels[0].legend(handles, labels, fontsize=7, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_curves(axes: Axes, results: Results, data: str, drawn: tuple[Entrant, str]) -> None:
    """Draw the longest runs as lines, one per seed, and the end of every budget as a dot."""
    entrant, colour = drawn
    budgets_s = results.budgets_s(data, entrant.contender)
    for budget_s in budgets_s:
        runs = results.of(entrant, data, budget_s)
        cell = results.cell(entrant, data, budget_s, "validation")
        if cell is None:
            continue
        longest = budget_s == budgets_s[-1]
        label = entrant.label.removesuffix(", threshold 0.5") if longest else None
        axes.plot([budget_s], [cell.mean], "o", color=colour, markersize=5, label=label)
        for run in runs if longest else ():
            curve = run.outcome.curve
            seconds, dices = [p.seconds for p in curve], [p.dice for p in curve]
            axes.plot(seconds, dices, color=colour, alpha=0.6, linewidth=1)


def _sets(results: Results) -> list[str]:
    found = {run.job.data for run in results.runs}
    known = ["dsb2018", "isbi2012", FEW_SET, "toy"]
    return [data for data in known if data in found]


def _threads(results: Results) -> str:
    return " or ".join(sorted({str(run.machine.threads) for run in results.runs})) or "2"


def _minutes(budget_s: float) -> str:
    return f"{budget_s / 60:g} min" if budget_s >= 60 else f"{budget_s:g} s"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

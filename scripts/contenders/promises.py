"""The promises that the contest can decide, each with what was found."""

from __future__ import annotations

from statistics import fmean

from calco.records import Subset
from contenders.courses import FEW_SET
from contenders.records import Target
from contenders.results import CALCO, OTHERS, PLAIN_CALCO, SCRATCH, Entrant, Results

LONG_S = 1200.0
SHORT_S = 300.0
DICE_AT = {60.0: 0.905, 300.0: 0.92, 1200.0: 0.93}
MEMORY_MB = 3 * 1024
MANY = "dsb2018"
MEMBRANES = "isbi2012"


def promises(results: Results) -> list[Target]:
    """Judge every promise that the result files decide."""
    return [
        _dice(results, CALCO),
        _dice(results, PLAIN_CALCO),
        _passing(results, SCRATCH, "the best other contender from random weights", 2),
        _passing(results, OTHERS, "the best other contender, given the same ImageNet weights,", 10),
        _few(results),
        _membranes(results),
        _memory(results),
    ]


def _dice(results: Results, entrant: Entrant) -> Target:
    measure = f"dsb2018 validation Dice at 1, 5, 20 minutes, seeds averaged ({entrant.label})"
    wanted = ", ".join(f"≥ {value:g}" for value in DICE_AT.values())
    cells = [results.cell(entrant, MANY, budget_s, "validation") for budget_s in DICE_AT]
    if not all(cells):
        return Target(measure, wanted)
    means = [cell.mean for cell in cells if cell]
    met = all(mean >= value for mean, value in zip(means, DICE_AT.values(), strict=True))
    return Target(measure, wanted, ", ".join(f"{mean:.4f}" for mean in means), met)


def _passing(results: Results, others: tuple[Entrant, ...], whom: str, minutes: int) -> Target:
    """Say after which budget calco has what the best other has at 20 minutes."""
    measure, wanted = f"time to pass what {whom} has at 20 minutes", f"≤ {minutes} minutes"
    on_validation = _passed(results, others, "validation")
    if on_validation is None:
        return Target(measure, wanted)
    budget_s, words = on_validation
    if on_test := _passed(results, others, "test"):
        words = f"validation {words}; test {on_test[1]}"
    return Target(measure, wanted, words, budget_s is not None and budget_s <= 60 * minutes)


def _passed(
    results: Results, others: tuple[Entrant, ...], part: Subset
) -> tuple[float | None, str] | None:
    """Return the first budget whose score is as good as the best of the others', and words."""
    cells = [(e, results.cell(e, MANY, LONG_S, part)) for e in others]
    found = [(cell.mean, entrant.label) for entrant, cell in cells if cell]
    if not found:
        return None
    best, label = max(found)
    for budget_s in results.budgets_s(MANY, "calco"):
        cell = results.cell(PLAIN_CALCO, MANY, budget_s, part)
        if cell and cell.mean >= best:
            what = f"{budget_s / 60:g} minutes: {cell.mean:.4f} against {best:.4f} ({label})"
            return budget_s, what
    return None, f"not within 20 minutes: {best:.4f} ({label})"


def _few(results: Results) -> Target:
    measure = "20 labelled images only, 5 minutes: Dice on the rest of dsb2018"
    cell = results.cell(CALCO, FEW_SET, SHORT_S, "test")
    if cell is None:
        return Target(measure, "≥ 0.88")
    return Target(measure, "≥ 0.88", f"{cell.mean:.4f}", cell.mean >= 0.88)


def _membranes(results: Results) -> Target:
    """Compare the pixels of all images together, on both held-out parts."""
    measure = "isbi2012, 5 minutes: pooled Dice against every other at 20 minutes"
    wanted, words, met = "above all", [], True
    parts: tuple[Subset, ...] = ("validation", "test")
    for part in parts:
        ours = results.cell(PLAIN_CALCO, MEMBRANES, SHORT_S, part)
        cells = [(e, results.cell(e, MEMBRANES, LONG_S, part)) for e in OTHERS]
        found = [(fmean(cell.pooled), entrant.label) for entrant, cell in cells if cell]
        if ours is None or not found:
            return Target(measure, wanted)
        (best, label), mean = max(found), fmean(ours.pooled)
        words.append(f"{part} {mean:.4f} against {best:.4f} ({label})")
        met = met and mean > best
    return Target(measure, wanted, "; ".join(words), met)


def _memory(results: Results) -> Target:
    measure, wanted = "peak memory of a 5-minute dsb2018 run", "< 3 GiB"
    runs = results.of(CALCO, MANY, SHORT_S)
    if not runs:
        return Target(measure, wanted)
    peak_mb = max(run.outcome.peak_mb for run in runs)
    return Target(measure, wanted, f"{peak_mb / 1024:.2f} GiB", peak_mb < MEMORY_MB)

"""Measure reports/training_benchmark.json: what training itself promises, besides scores.

About an hour and a half on two cores, most of it for the budgets. Every figure is written as soon
as it is measured and not measured again: stop and go on as you like. ``--only fit_speed`` measures
one row, ``--again`` too where there are figures already, ``--quick OUT`` all of them in seconds on
a drawn set. ``scripts/benchmark.py --write`` puts the verdicts on its page.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from contenders.observed import (
    SIDE_PX,
    Observed,
    fit_speed,
    inference,
    observe,
    planning,
    prediction,
)
from contenders.records import THREADS, Figures, hold_to_threads
from contenders.rows import Row, fill

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "training_benchmark.json"
DSB2018 = ROOT.parent / "shared" / "data" / "dsb2018" / "train"
BUDGETS_S = (60.0, 120.0, 300.0, 1200.0)


@dataclass(frozen=True)
class Setting:
    """What everything is measured on.

    Attributes:
        data: Folder given to calco.
        budgets_s: Whose keeping is tried.
        long_s: Budget of the run that is looked into.
    """

    data: Path = DSB2018
    budgets_s: tuple[float, ...] = BUDGETS_S
    long_s: float = 300.0


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one row, e.g. fit_speed")
    parser.add_argument("--again", action="store_true", help="measure even what is there")
    parser.add_argument("--quick", type=Path, metavar="OUT", help="try all on a drawn set")
    arguments = parser.parse_args()
    hold_to_threads()
    with tempfile.TemporaryDirectory() as work:
        setting, report = Setting(), REPORT
        if arguments.quick:
            setting, report = toy(Path(work)), arguments.quick / REPORT.name
        for name, row in rows(setting, Path(work)).items():
            if arguments.only in (None, name):
                fill(report, name, row, again=arguments.again)


def toy(work: Path) -> Setting:
    """Draw a small set and shorten every budget."""
    from calco.images.toy import write_toy

    return Setting(write_toy(work / "toy", 32), (20.0,), 20.0)


def rows(setting: Setting, work: Path) -> dict[str, Row]:
    """Return all rows; runs that several of them look into are made once."""

    @cache
    def run(budget_s: float) -> Observed:
        return observe(setting.data, budget_s, work)

    def planning_of(budget_s: float) -> Figures:
        return planning(run(budget_s), budget_s)

    budgets = "finished / asked, " + ", ".join(f"{b / 60:g}" for b in setting.budgets_s)
    short_s = min(setting.budgets_s)
    return {
        "budget_idle": Row(
            f"budget kept: {budgets} minutes, idle",
            "0.85 to 1.02",
            {f"{b:g}s": partial(kept, setting.data, b) for b in setting.budgets_s},
            within_budget,
        ),
        "budget_busy": Row(
            f"budget kept: {budgets} minutes, one core taken by another process",
            "0.85 to 1.02",
            {f"{b:g}s": partial(kept_busy, setting.data, b) for b in setting.budgets_s},
            within_budget,
        ),
        "planning": Row(
            "fingerprint, probe and plan, share of the budget",
            "≤ 5 %",
            {f"{b:g}s": partial(planning_of, b) for b in sorted({short_s, setting.long_s})},
            small_share,
        ),
        "prediction": Row(
            "steps made within the budget / steps foretold by probe and plan",
            "within 10 %",
            {"ratio": lambda: prediction(run(setting.long_s))},
            lambda f: (f"{f['ratio']:.3f}", abs(f["ratio"] - 1) <= 0.1),
        ),
        "fit_speed": Row(
            "fit: samples per second / the same network's bare loop",
            "≥ 0.95",
            {"ratio": lambda: fit_speed(run(setting.long_s))},
            lambda f: (f"{f['ratio']:.3f}", f["ratio"] >= 0.95),
        ),
        "inference": Row(
            f"inference, {SIDE_PX} x {SIDE_PX} images per second / ResNet-34 U-Net's eager loop",
            "≥ 4",
            {"ratio": lambda: inference(run(setting.long_s).folder.path)},
            lambda f: (f"{f['ratio']:.2f} ({f['calco']:.1f} per second)", f["ratio"] >= 4),
        ),
    }


# --- budgets


def kept(data: Path, budget_s: float) -> Figures:
    """Let the command run and return finished / asked."""
    limits = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        command = [sys.executable, "-m", "calco", "train", str(data), "-o", out, "--quiet"]
        began = time.monotonic()
        environment = {**os.environ, **limits}
        subprocess.run([*command, "--budget", f"{budget_s:g}s"], env=environment, check=True)
    return {f"{budget_s:g}s": round((time.monotonic() - began) / budget_s, 4)}


def kept_busy(data: Path, budget_s: float) -> Figures:
    """Do the same while another process takes a core."""
    with busy_core():
        return kept(data, budget_s)


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def within_budget(figures: Figures) -> tuple[str, bool]:
    """Judge every budget."""
    ordered = [figures[name] for name in sorted(figures, key=lambda name: float(name[:-1]))]
    found = ", ".join(f"{value:.3f}" for value in ordered)
    return found, all(0.85 <= value <= 1.02 for value in ordered)


def small_share(figures: Figures) -> tuple[str, bool]:
    """Judge what planning took of every budget."""
    shares = {name: value for name, value in figures.items() if not name.startswith("probe")}
    found = ", ".join(f"{100 * value:.1f} % of {name}" for name, value in shares.items())
    return found, max(shares.values()) <= 0.05


if __name__ == "__main__":
    main()

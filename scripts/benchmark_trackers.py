"""Measure reports/trackers.json and reports/trackers.md: what each tracker costs a training.

    GOMP_SPINCOUNT=10000 python scripts/benchmark_trackers.py

The same small training, by turns with no tracker and with each; about three minutes. Two figures
are taken: the wall time that training waits inside a tracker's calls, and the length of epochs
beside those without a tracker, in which threads and helper processes show, too, but also whatever
else the machine does. Epochs are far shorter here than those of real data sets, so that shares of
an epoch are upper bounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import TypeVar

from calco.config import TrackConfig, TrackerName, load_config
from calco.files import write_atomic
from calco.images.toy import write_toy
from calco.pipeline import Listener, run
from calco.records import Plan
from calco.runs import RunDir
from calco.tracking.choose import require_trackers
from calco.tracking.listening import tracked
from calco.training.budget import Clock

ROOT = Path(__file__).resolve().parents[1]
REPORT, PAGE = ROOT / "reports" / "trackers.json", ROOT / "reports" / "trackers.md"
SETTINGS = ("model.family=lean", "fit.crop_px=64", "fit.preflight=false", "evaluate.bootstrap=100")
WAYS: tuple[TrackerName | None, ...] = (None, "tensorboard", "wandb", "mlflow")
TARGET = 0.02
T = TypeVar("T")


class Stopwatch:
    """Adds up the wall time of calls."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on(self, call: Callable[[T], None]) -> Callable[[T], None]:
        """Return the call, timed."""

        def timed(value: T) -> None:
            began = time.perf_counter()
            call(value)
            self.seconds.append(time.perf_counter() - began)

        return timed


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, default=80)
    given = parser.parse_args()
    require_trackers(TrackConfig(to=tuple(way for way in WAYS if way)))
    rows: dict[str, list[dict[str, float]]] = {way or "none": [] for way in WAYS}
    with TemporaryDirectory() as name:
        data = Path(name) / "data"
        write_toy(data, given.images)
        for number in range(-1, given.rounds):  # the first warms caches and is not counted
            for way in WAYS:
                folder = RunDir(Path(name) / f"{way}{number}")
                row = measure(data, way, folder, given.epochs if number >= 0 else 1)
                if number >= 0:
                    rows[way or "none"].append(row)
    report = summarise(rows) | {"epochs": given.epochs, "rounds": given.rounds}
    write_atomic(REPORT, json.dumps(report, indent=2) + "\n")
    write_atomic(PAGE, page(report))


def measure(data: Path, way: TrackerName | None, folder: RunDir, epochs: int) -> dict[str, float]:
    """Train once and return where the time went."""
    config = load_config(None, (*SETTINGS, f"fit.epochs={epochs}"))
    config = config.model_copy(update={"track": TrackConfig(to=(way,) if way else ())})
    on_epoch, on_plan = Stopwatch(), Stopwatch()
    with tracked(Listener(), config, folder) as heard:
        plan_heard = on_plan.on(heard.on_record)

        def on_record(record: object) -> None:
            (plan_heard if isinstance(record, Plan) else heard.on_record)(record)

        watch = replace(heard.watch, on_epoch=on_epoch.on(heard.watch.on_epoch))
        run(data, config, folder, Clock(), replace(heard, on_record=on_record, watch=watch))
        began = time.perf_counter()
    ends = [epoch.seconds for epoch in folder.load_history()]
    lengths = [after - before for before, after in pairwise(ends)]
    kept = folder.path / "tracking"
    return {
        "epoch_s": median(lengths) if lengths else 0.0,
        "calls_ms": 1000 * fmean(on_epoch.seconds),
        "calls_share": sum(on_epoch.seconds) / ends[-1],
        "begin_s": sum(on_plan.seconds),
        "end_s": time.perf_counter() - began,
        "kept_kib": sum(p.stat().st_size for p in kept.rglob("*") if p.is_file()) / 1024,
    }


def summarise(rows: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    """Return the median over rounds of every figure, and the epochs beside those of none."""
    ways = {
        way: {name: median(row[name] for row in some) for name in some[0]}
        for way, some in rows.items()
    }
    alone = ways["none"]["epoch_s"]
    for figures in ways.values():
        figures["longer_share"] = figures["epoch_s"] / alone - 1
    return {"trackers": {way: {k: round(v, 5) for k, v in f.items()} for way, f in ways.items()}}


def page(report: dict[str, object]) -> str:
    """Write the figures as a page."""
    ways = report["trackers"]
    assert isinstance(ways, dict)
    setting = f"{report['epochs']} epochs of {ways['none']['epoch_s']:.2f} s"
    lines = [
        "# What a tracker costs",
        "",
        "Written by `scripts/benchmark_trackers.py` from `trackers.json`: the lean network on"
        f" drawn images, {setting},",
        f"{report['rounds']} rounds by turns, medians. Epochs of real data sets are longer, and"
        " their share smaller.",
        "",
        "| tracker | calls per epoch | share of the epochs | epochs longer by | to begin | to end"
        " | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, figures in ways.items():
        lines.append(
            f"| {way} | {figures['calls_ms']:.1f} ms | {figures['calls_share']:.2%}"
            f" | {figures['longer_share']:+.1%} | {figures['begin_s']:.1f} s"
            f" | {figures['end_s']:.1f} s | {figures['kept_kib']:.0f} kB |"
        )
    lines += [
        "",
        f"The target is a share below {TARGET:.0%}. *Calls* is the time that training waits for the"
        " tracker; *longer* compares",
        "whole epochs, in which helper processes count and so does everything else that the machine"
        " does meanwhile.",
        "*To begin* includes loading the tracker's program, and for MLflow making the tables of its"
        " file; it and *to end*",
        "are paid once per run.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

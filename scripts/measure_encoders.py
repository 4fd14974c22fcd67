"""Measure what trained weights add, and what each encoder reaches in a minute.

It is written to reports/encoders.md, and as a table to docs/how-to/encoders.md.

Five minutes for each of twelve runs with and without trained weights, a minute for the encoders
beside, alone on two cores. A run that has its result in reports/encoders.json is not repeated,
``--list`` says which are missing, ``--one`` makes the first of them alone, ``--write`` only writes
the page.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from calco.files import write_atomic
from calco.metrics.intervals import mean_interval, sign_flip_p
from calco.records import Comparison
from calco.runs import RunDir
from calco.stages.compare import compare
from measure_choices import root_of

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "results" / "encoders"
RESULTS = ROOT / "reports" / "encoders.json"
PAGE = ROOT / "reports" / "encoders.md"
HOW_TO = ROOT / "docs" / "how-to" / "encoders.md"
BLOCK = re.compile(r"(<!-- encoders: .*? -->\n).*?(<!-- /encoders -->)", re.DOTALL)
DATA = ("dsb2018", "isbi2012")
BASE = "efficientnet-lite0"
PAIR_BUDGET, SURVEY_BUDGET = "5m", "1m"
SEEDS = range(3)  # of what is trained with and without trained weights
BOOTSTRAP, DRAWS = 2000, 10_000


@dataclass(frozen=True)
class Trial:
    """A whole run of one encoder with the light decoder."""

    data: str
    encoder: str
    pretrained: bool
    seed: int = 0
    budget: str = SURVEY_BUDGET

    @property
    def key(self) -> str:
        """Name of its folder and its result."""
        start = "pretrained" if self.pretrained else "scratch"
        return f"{self.data}-{self.encoder}-{start}-{self.budget}-seed{self.seed}"

    @property
    def settings(self) -> tuple[str, ...]:
        """What is given besides data and budget."""
        given = [f"model.encoder={self.encoder}", f"seed={self.seed}"]
        return (*given, *(() if self.pretrained else ("model.pretrained=false",)))


PAIRS = tuple(
    Trial(data, BASE, pretrained, seed, PAIR_BUDGET)
    for seed in SEEDS
    for data in DATA
    for pretrained in (True, False)
)
SURVEY = tuple(
    Trial(data, encoder, pretrained)
    for encoder, pretrained in (
        (BASE, True),
        (BASE, False),
        ("efficientnet-lite1", True),
        ("resnet34", False),
        ("tu-mobilenetv3_small_100", False),
        ("efficientnet-lite2", True),
    )
    for data in DATA
)
TRIALS = PAIRS + SURVEY


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say what is missing")
    parser.add_argument("--one", action="store_true", help="make the first missing run alone")
    parser.add_argument("--write", action="store_true", help="train nothing, write the page")
    arguments = parser.parse_args()
    missing = [trial for trial in TRIALS if trial.key not in read_results()]
    if arguments.list:
        print(*(f"missing {trial.key}" for trial in missing), sep="\n")
    elif not arguments.write:
        for trial in missing[: 1 if arguments.one else None]:
            run(trial)
    results, how_to = read_results(), HOW_TO.read_text(encoding="utf-8")
    write_atomic(PAGE, page(results))
    write_atomic(HOW_TO, BLOCK.sub(lambda m: m[1] + table(results) + m[2], how_to))


def run(trial: Trial) -> None:
    """Train and keep the scores, and the difference to the runs that it is compared with."""
    folder = RunDir(RUNS / trial.key)
    shutil.rmtree(folder.path, ignore_errors=True)  # what an interrupted run left
    settings = [word for setting in trial.settings for word in ("--set", setting)]
    data = str(root_of(trial.data))
    command = ("train", data, "-o", str(folder.path), "--budget", trial.budget, *settings)
    subprocess.run((sys.executable, "-m", "calco", *command), check=True)
    results = read_results()
    results[trial.key] = measured(folder)
    base = RunDir(RUNS / Trial(trial.data, BASE, True).key)
    if trial in SURVEY and base.path != folder.path and base.summary_json.exists():
        results[trial.key]["against_base"] = difference(compare([base, folder])[0])
    if trial in PAIRS and (gain := gained(trial.data, results)):
        results[f"{trial.data}-gain-{PAIR_BUDGET}"] = gain
    write_atomic(RESULTS, json.dumps(results, indent=1, sort_keys=True) + "\n")


def measured(folder: RunDir) -> dict[str, Any]:
    """Return what a finished run reached."""
    summary, plan = folder.load_summary(), folder.load_plan()
    members = [member.load_history()[-1] for member in folder.members()]
    steps = sum(last.step for last in members)
    return {
        "validation_dice": round(summary["validation"]["dice_mean"], 4),
        "test_dice": round(summary["test"]["dice_mean"], 4),
        "n_test": summary["test"]["n_images"],
        "steps": steps,
        "steps_per_minute": round(60 * steps / sum(last.seconds for last in members)),
        "crop_px": plan.crop_px,
        "seconds": round(summary["seconds_total"], 1),
        "model_mb": round(folder.weights.stat().st_size / 1e6, 1),
    }


def gained(data: str, results: dict[str, Any]) -> dict[str, Any] | None:
    """Return what trained weights add to the Dice of test images, seeds averaged image by image.

    Returns:
        The mean over images with its interval over groups of them, and the mean of each seed; None
        while a run is missing.
    """
    pairs = [t for t in PAIRS if t.data == data]
    if any(t.key not in results or not (RUNS / t.key).exists() for t in pairs):
        return None
    tested = {
        t: [s for s in RunDir(RUNS / t.key).load_scores() if s.subset == "test"] for t in pairs
    }
    gains = []
    for seed in SEEDS:
        trained, scratch = (tested[Trial(data, BASE, p, seed, PAIR_BUDGET)] for p in (True, False))
        before = {s.id: s.dice for s in scratch}
        gains.append({s.id: s.dice - before[s.id] for s in trained})
    differences = [fmean(gain[i] for gain in gains) for i in gains[0]]
    groups = [s.group for s in tested[pairs[0]]]
    low, high = mean_interval(differences, groups, BOOTSTRAP)
    return {
        "difference": round(fmean(differences), 4),
        "low": rounded(low),
        "high": rounded(high),
        "p_value": round(sign_flip_p(differences, groups, DRAWS), 4),
        "seeds": [round(fmean(gain.values()), 4) for gain in gains],
        "n_images": len(differences),
        "n_groups": len(set(groups)),
    }


def difference(found: Comparison) -> dict[str, Any]:
    """Return a paired difference of test Dice with its interval."""
    low, high = found.ci95
    values = {"difference": found.difference, "low": low, "high": high}
    return {key: rounded(value) for key, value in values.items()}


def rounded(value: float) -> float | None:
    """Return a figure for the results; None for an end of an interval that is not known."""
    return round(value, 4) if math.isfinite(value) else None


def read_results() -> dict[str, Any]:
    """Read what runs left."""
    if not RESULTS.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def page(results: dict[str, Any]) -> str:
    """Return the page: a section per data set."""
    missing = [trial.key for trial in TRIALS if trial.key not in results]
    parts = [INTRODUCTION, *(section(data, results) for data in DATA)]
    if missing:
        named = ", ".join(missing)
        parts.append(f"## Not run yet\n\n{len(missing)} of {len(TRIALS)} runs: {named}.\n")
    return "\n".join(parts)


def section(data: str, results: dict[str, Any]) -> str:
    """Return what was found on a data set."""
    gain = results.get(f"{data}-gain-{PAIR_BUDGET}")
    said = [f"## {data}\n"]
    if gain:
        seeds = ", ".join(f"{100 * seed:+.1f}" for seed in gain["seeds"])
        said.append(
            f"In {PAIR_BUDGET} trained weights add {points(gain)} points of Dice to `{BASE}` on "
            f"{gain['n_images']} test images in {gain['n_groups']} groups (seeds: {seeds}; "
            f"p = {gain['p_value']:.4f}).\n"
        )
    head = ("budget", "encoder", "weights", "seed", "crops", "steps a minute", "model")
    rows: list[Sequence[str]] = [(*head, "validation Dice", "test Dice", f"against {BASE}")]
    for trial in TRIALS:
        found = results.get(trial.key)
        if trial.data != data or found is None:
            continue
        weights = "trained" if trial.pretrained else "random"
        start = (trial.budget, f"`{trial.encoder}`", weights, str(trial.seed))
        size = (f"{found['crop_px']} px", str(found["steps_per_minute"]), f"{found['model_mb']} MB")
        dices = (f"{found['validation_dice']:.4f}", f"{found['test_dice']:.4f}")
        rows.append((*start, *size, *dices, points(found.get("against_base"))))
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    return "\n".join([*said, table])


def table(results: dict[str, Any]) -> str:
    """Return what each encoder reaches in a minute: a row per encoder, both data sets beside."""
    rows = [["encoder", "weights", "model"]]
    for data in DATA:
        rows[0] += [f"{data}: steps", f"{data}: test Dice", f"{data}: against `{BASE}`"]
    rows.append(["---"] * len(rows[0]))
    for first in (t for t in SURVEY if t.data == DATA[0]):
        there = [results.get(Trial(d, first.encoder, first.pretrained).key) for d in DATA]
        known = [found for found in there if found]
        if not known:
            continue
        weights = "trained" if first.pretrained else "random"
        row = [f"`{first.encoder}`", weights, f"{known[0]['model_mb']} MB"]
        for found in there:
            row += [str(found["steps"]), f"{found['test_dice']:.3f}"] if found else ["", ""]
            row.append(points(found.get("against_base")) if found else "")
        rows.append(row)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def points(found: dict[str, Any] | None) -> str:
    """Write a difference in Dice points with its interval; empty where there is none."""
    if found is None:
        return ""
    if found["low"] is None:
        return f"{100 * found['difference']:+.1f} (one group: no interval)"
    return "{difference:+.1f} [{low:+.1f}, {high:+.1f}]".format(
        **{key: 100 * found[key] for key in ("difference", "low", "high")}
    )


INTRODUCTION = f"""# What encoders and trained weights gain

Written by `scripts/measure_encoders.py` from `reports/encoders.json`: whole runs (`--budget`, audit
to report) alone on two processor cores, with the light decoder, tuned on validation, test read
once. Differences are of the test images' Dice, in points (hundredths), paired image by image with a
95 % interval over groups of images: it knows the luck of the images, and nothing of the luck of
another seed. `{BASE}` with and without trained weights has {len(SEEDS)} seeds, averaged before; the
others have one, and are told apart by more than a point at best. How to choose:
[docs](../docs/how-to/encoders.md).
"""


if __name__ == "__main__":
    main()

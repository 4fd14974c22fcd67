"""Measure reports/encoders.md: what each encoder reaches in a minute, and what its weights add.

A minute and some seconds a run, alone on two cores. A run that has its result in
reports/encoders.json is not repeated, ``--list`` says which are missing, ``--one`` makes the first
of them alone, ``--write`` only writes the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calco.files import write_atomic
from calco.records import Comparison
from calco.runs import RunDir
from calco.stages.compare import compare
from measure_choices import root_of

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "results" / "encoders"
RESULTS = ROOT / "reports" / "encoders.json"
PAGE = ROOT / "reports" / "encoders.md"
DATA = ("dsb2018", "isbi2012")
BASE = "efficientnet-lite0"
BUDGET = "1m"


@dataclass(frozen=True)
class Trial:
    """A whole run of one encoder with the light decoder."""

    data: str
    encoder: str
    pretrained: bool
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of its folder and its result."""
        start = "pretrained" if self.pretrained else "scratch"
        return f"{self.data}-{self.encoder}-{start}-{BUDGET}-seed{self.seed}"

    @property
    def settings(self) -> tuple[str, ...]:
        """What is given besides data and budget."""
        given = [f"model.encoder={self.encoder}", f"seed={self.seed}"]
        return (*given, *(() if self.pretrained else ("model.pretrained=false",)))


TRIALS = tuple(
    Trial(data, encoder, pretrained, seed)
    for seed in range(3)
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
    write_atomic(PAGE, page(read_results()))


def run(trial: Trial) -> None:
    """Train and keep the scores, and the difference to the runs that it is compared with."""
    folder = RunDir(RUNS / trial.key)
    shutil.rmtree(folder.path, ignore_errors=True)  # what an interrupted run left
    settings = [word for setting in trial.settings for word in ("--set", setting)]
    data = str(root_of(trial.data))
    command = ("train", data, "-o", str(folder.path), "--budget", BUDGET, *settings)
    subprocess.run((sys.executable, "-m", "calco", *command), check=True)
    results = read_results()
    results[trial.key] = measured(folder)
    for name, other in (
        ("against_base", Trial(trial.data, BASE, True, trial.seed)),
        ("against_scratch", Trial(trial.data, trial.encoder, False, trial.seed)),
    ):
        if other != trial and RunDir(RUNS / other.key).summary_json.exists():
            found = compare([RunDir(RUNS / other.key), folder])[0]
            results[trial.key][name] = difference(found)
    if trial == Trial(trial.data, BASE, False, trial.seed):  # it comes after the pretrained one
        trained = Trial(trial.data, BASE, True, trial.seed).key
        found = compare([folder, RunDir(RUNS / trained)])[0]
        results[trained]["against_scratch"] = difference(found)
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


def difference(found: Comparison) -> dict[str, Any]:
    """Return a paired difference of test Dice with its interval."""
    low, high = found.ci95
    values = {"difference": found.difference, "low": low, "high": high}
    return {key: round(value, 4) for key, value in values.items()}


def read_results() -> dict[str, Any]:
    """Read what runs left."""
    if not RESULTS.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def page(results: dict[str, Any]) -> str:
    """Return the page: a table per data set."""
    missing = [trial.key for trial in TRIALS if trial.key not in results]
    parts = [INTRODUCTION, *(section(data, results) for data in DATA)]
    if missing:
        parts.append(
            f"## Not run yet\n\n{len(missing)} of {len(TRIALS)} runs: {summary_of(missing)}.\n"
        )
    return "\n".join(parts)


def summary_of(missing: Sequence[str]) -> str:
    """Say which runs are missing, those of whole seeds together."""
    seeds = sorted({key.rpartition("-")[2] for key in missing})
    whole = [
        s
        for s in seeds
        if sum(t.key.endswith(s) for t in TRIALS) == sum(k.endswith(s) for k in missing)
    ]
    others = [key for key in missing if key.rpartition("-")[2] not in whole]
    return ", ".join([*(f"all of {seed}" for seed in whole), *others])


def section(data: str, results: dict[str, Any]) -> str:
    """Return the table of a data set."""
    head = ("encoder", "weights", "seed", "crops", "steps a minute", "model", "validation Dice")
    rows: list[Sequence[str]] = [
        (*head, "test Dice", f"against {BASE}", "what trained weights add")
    ]
    for trial in TRIALS:
        found = results.get(trial.key)
        if trial.data != data or found is None:
            continue
        weights = "trained" if trial.pretrained else "random"
        start = (f"`{trial.encoder}`", weights, str(trial.seed), f"{found['crop_px']} px")
        size = (str(found["steps_per_minute"]), f"{found['model_mb']:.0f} MB")
        dices = (f"{found['validation_dice']:.4f}", f"{found['test_dice']:.4f}")
        compared = (points(found.get(name)) for name in ("against_base", "against_scratch"))
        rows.append((*start, *size, *dices, *compared))
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    return f"## {data}\n\n{table}"


def points(found: dict[str, float] | None) -> str:
    """Write a difference in Dice points with its interval; empty where there is none."""
    if found is None:
        return ""
    return "{difference:+.1f} [{low:+.1f}, {high:+.1f}]".format(
        **{key: 100 * value for key, value in found.items()}
    )


INTRODUCTION = f"""# What an encoder gains in a minute

Written by `scripts/measure_encoders.py` from `reports/encoders.json`: whole runs of one minute
(`--budget {BUDGET}`, audit to report) alone on two processor cores, with the light decoder, tuned
on validation, test read once. Differences are of the test images' Dice, in points (hundredths),
paired image by image with a 95 % interval over groups: it knows the luck of the images, and nothing
of the luck of another seed. How to choose: [docs](../docs/how-to/encoders.md).
"""


if __name__ == "__main__":
    main()

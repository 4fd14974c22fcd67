"""Measure reports/results.md: both recipes on both real sets, from real runs.

About two hours on two cores. ``--only isbi2012/default`` makes one run, ``--write`` only writes
the page from the runs there are.

Runs land in results/reproduce/; a finished run is not repeated. Every figure of the page comes
from the files of its run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
RUNS = ROOT / "results" / "reproduce"
PAGE = ROOT / "reports" / "results.md"
NOTES = ROOT / "reports" / "results_notes.md"


@dataclass(frozen=True)
class Recipe:
    """One row of the page: a data set and the command's settings."""

    data: str
    name: str
    arguments: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name on the command line and below results/reproduce."""
        return f"{self.data}/{self.name}"

    @property
    def folder(self) -> Path:
        """Run folder."""
        return RUNS / self.data / re.sub(r"\W+", "-", self.name)

    def command(self) -> list[str]:
        """Return the calco command that makes the run."""
        root = DATA / ("dsb2018/train" if self.data == "dsb2018" else "isbi2012")
        return ["train", str(root), "-o", str(self.folder), *self.arguments]


CLASSIC = ("--config", str(ROOT / "configs/classic.yaml"), "--budget", "40m")
RECIPES = (
    Recipe("dsb2018", "default, 10 min", ("--budget", "10m")),
    Recipe("dsb2018", "default, 20 min", ("--budget", "20m")),
    Recipe("dsb2018", "classic", CLASSIC),
    Recipe("isbi2012", "default, 20 min", ("--budget", "20m")),
    Recipe("isbi2012", "classic", CLASSIC),
)
PLACES = (ROOT / "README.md", ROOT / "README.es.md", ROOT / "configs" / "README.md")
BLOCK = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- /results -->)", re.DOTALL)


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="data/recipe, e.g. dsb2018/default")
    parser.add_argument("--write", action="store_true", help="run nothing, write the page")
    arguments = parser.parse_args()
    for recipe in RECIPES:
        done = (recipe.folder / "summary.json").exists()
        if done or arguments.write or arguments.only not in (None, recipe.key):
            continue
        subprocess.run([sys.executable, "-m", "calco", *recipe.command()], check=True)
    table = results_table()
    PAGE.write_text(INTRODUCTION + table + "\n" + NOTES.read_text(), encoding="utf-8")
    for place in PLACES:
        text = place.read_text(encoding="utf-8")
        place.write_text(BLOCK.sub(lambda m: m[1] + table + m[2], text), encoding="utf-8")


def results_table() -> str:
    """Return a Markdown table of the runs that are there."""
    rows = [row(recipe) for recipe in RECIPES if (recipe.folder / "summary.json").exists()]
    header = (
        "data",
        "recipe",
        "best val Dice",
        "test Dice (95 % interval)",
        "pooled Dice",
        "Otsu",
        "epochs",
        "batch",
        "optimiser",
        "seconds",
        "stopped because",
    )
    table = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in table) + "\n"


def row(recipe: Recipe) -> tuple[str, ...]:
    """Return one run as cells; every figure from its files."""
    import yaml

    summary = json.loads((recipe.folder / "summary.json").read_text())
    plan = yaml.safe_load((recipe.folder / "plan.yaml").read_text())
    test, (low, high) = summary["test"], summary["test"]["dice_ci95"]
    return (
        recipe.data,
        recipe.name,
        f"{summary['validation']['dice_mean']:.4f}",
        f"{test['dice_mean']:.4f} ({low:.4f} to {high:.4f})",
        f"{test['dice_global']:.4f}",
        f"{summary['baseline']['otsu_dice_mean']:.4f}",
        str(summary["epochs"]),
        str(plan["batch"]),
        f"{plan['optimizer']} {plan['learning_rate']:g}",
        f"{summary['seconds_total']:.0f}",
        summary["stopped_because"],
    )


INTRODUCTION = """# Results on real images

Written by `scripts/reproduce_results.py` from the files of real runs on two processor cores
without a GPU.

- **dsb2018**: 546 labelled microscopy images of nuclei (Data Science Bowl 2018 stage 1,
  BBBC038v1); calco splits them 70/15/15 with look-alikes kept together.
- **isbi2012**: 30 slices of neuronal membranes (ISBI 2012); the last 6 slices are the test
  part, calco takes the validation part from the other 24.
- **default**: `calco train DATA --budget 20m` (or `10m`). **classic**: the settings of
  `configs/classic.yaml`, images resized to 128 x 128, at most 40 minutes.

Dice is per image at original resolution, then averaged (both masks empty = 1, one empty = 0);
the interval resamples groups of look-alikes. The best validation Dice was chosen on, so it is
optimistic; the test part was read once. "Otsu" is the test Dice of a global threshold, the
baseline to beat.

"""


if __name__ == "__main__":
    main()

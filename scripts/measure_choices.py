"""Measure reports/choices.md: whole runs behind the plan's rules, and what did not help.

Two hours on two cores for all of it; a run that has its result in reports/choices.json is not
repeated, ``--list`` says which are missing, ``--write`` only writes the page. Cracks come from
``scripts/trial_sets.py``, large nuclei are drawn here from dsb2018.
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

import cv2
import numpy as np

from calco.files import write_atomic
from calco.invocation import parse_duration
from calco.runs import RunDir
from trial_sets import SETS, write_set

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
RUNS = ROOT / "results" / "choices"
RESULTS = ROOT / "reports" / "choices.json"
PAGE = ROOT / "reports" / "choices.md"
N_DRAWN = 120  # pictures of a drawn set
LARGE_PX, N_LARGE = 1024, 100  # side and number of the enlarged nuclei


@dataclass(frozen=True)
class Trial:
    """A whole run: ``calco train SET --budget BUDGET --set ...``."""

    data: str
    budget: str
    settings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of its folder and its result."""
        words = (s.replace(".", "_").replace("=", "_") for s in self.settings)
        return "-".join((self.data, self.budget, *words))


@dataclass(frozen=True)
class Question:
    """Runs that are compared, and what was concluded."""

    title: str
    trials: tuple[Trial, ...]
    answer: str


def crops(budget: str, *sides_px: int) -> tuple[Trial, ...]:
    """Return a run on dsb2018 for each side of the crops."""
    return tuple(Trial("dsb2018", budget, (f"fit.crop_px={px}",)) for px in sides_px)


QUESTIONS = (
    Question(
        "Which crop",
        (
            *crops("1m", 64, 96, 128),
            *crops("3m", 64, 96),
            *crops("5m", 96, 128),
            Trial("dsb2018", "20m", ("fit.crop_px=192", "fit.augment=0.3")),
            *crops("20m", 128, 192),
        ),
        "The largest of which some 600 steps fit into the time.",
    ),
    Question(
        "Which scale",
        (
            Trial("cracks", "2m", ("model.scale=1",)),
            Trial("cracks", "2m", ("model.scale=2",)),
            Trial("isbi2012", "5m"),
            Trial("isbi2012", "5m", ("model.scale=2",)),
            Trial("dsb2018", "5m", ("model.scale=2", "fit.crop_px=64")),
            Trial("dsb2018", "20m", ("model.scale=2", "fit.crop_px=96")),
            Trial("large", "2m", ("model.scale=1",)),
            Trial("large", "2m", ("model.scale=0.5",)),
            Trial("large", "2m", ("model.scale=0.25",)),
        ),
        "Enlarging helps lines of one to three pixels, and neither membranes of five nor nuclei. "
        "Large structures gain by shrinking; a quarter is as good as a half and four times as fast "
        "in prediction.",
    ),
    Question(
        "Which network in half a minute",
        (
            Trial("dsb2018", "30s", ("model.family=encoder_unet",)),
            Trial("dsb2018", "30s", ("model.family=lean",)),
        ),
        "Of the pretrained network too few steps fit: below 50 the lean one is taken.",
    ),
    Question(
        "Which augmentation",
        (Trial("dsb2018", "5m"), Trial("dsb2018", "5m", ("fit.augment=0.2",))),
        "No difference that one run could show; 0.5 stays.",
    ),
)


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say what is missing")
    parser.add_argument("--write", action="store_true", help="train nothing, write the page")
    arguments = parser.parse_args()
    trials = [trial for question in QUESTIONS for trial in question.trials]
    for trial in trials:
        if trial.key in read_results():
            continue
        if arguments.list:
            print("missing", trial.key)
        elif not arguments.write:
            run(trial)
    write_atomic(PAGE, page())


def run(trial: Trial) -> None:
    """Train and keep the scores; a finished run that is still there is not repeated."""
    folder = RunDir(RUNS / trial.key)
    if not folder.summary_json.exists():
        shutil.rmtree(folder.path, ignore_errors=True)  # what an interrupted run left
        settings = [word for setting in trial.settings for word in ("--set", setting)]
        data = str(root_of(trial.data))
        command = ("train", data, "-o", str(folder.path), "--budget", trial.budget, *settings)
        subprocess.run((sys.executable, "-m", "calco", *command), check=True)
    summary, plan = folder.load_summary(), folder.load_plan()
    results = read_results()
    results[trial.key] = {
        "validation_dice": round(summary["validation"]["dice_mean"], 4),
        "test_dice": round(summary["test"]["dice_mean"], 4),
        "n_validation": summary["validation"]["n_images"],
        "n_test": summary["test"]["n_images"],
        "steps": sum(member.load_history()[-1].step for member in folder.members()),
        "seconds": round(summary["seconds_total"], 1),
        "crop_px": plan.crop_px,
        "scale": plan.network.scale,
        "mirrored": folder.load_postprocess().flips,
    }
    write_atomic(RESULTS, json.dumps(results, indent=1, sort_keys=True) + "\n")


def root_of(name: str) -> Path:
    """Return the folder of a set, drawn first where it is not a real one."""
    real = {"dsb2018": DATA / "dsb2018" / "train", "isbi2012": DATA / "isbi2012"}
    if name in real:
        return real[name]
    root = RUNS / "sets" / name
    if not root.exists():
        draft = root.with_name(name + ".part")
        shutil.rmtree(draft, ignore_errors=True)
        if name == "large":
            write_large(draft)
        else:
            write_set(draft, SETS[name], N_DRAWN)
        draft.rename(root)
    return root


def write_large(folder: Path) -> None:
    """Enlarge every third small picture of dsb2018, until there are enough."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    size = (LARGE_PX, LARGE_PX)
    n_written = 0
    for path in sorted((root_of("dsb2018") / "images").glob("*.png"))[::3]:
        image = np.asarray(cv2.imread(str(path)))  # (H, W, 3)
        if image.shape[:2] != (256, 256) or n_written == N_LARGE:
            continue
        truth = cv2.imread(str(path.parents[1] / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        mask = (np.asarray(truth) > 0).astype(np.float32)  # (H, W)
        smooth = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_CUBIC))
        enlarged = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / path.name), enlarged)
        cv2.imwrite(str(folder / "masks" / path.name), np.uint8(255) * (smooth > 0.5))
        n_written += 1


def read_results() -> dict[str, Any]:
    """Read what runs left."""
    if not RESULTS.exists():
        return {}
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def page() -> str:
    """Return the page."""
    results = read_results()
    return INTRODUCTION + "\n".join(section(question, results) for question in QUESTIONS)


def section(question: Question, results: dict[str, Any]) -> str:
    """Return a question's table and what was concluded."""
    rows: list[Sequence[str]] = [
        ("data", "budget", "given", "crops", "steps", "mirrored", "validation Dice", "test Dice")
    ]
    ordered = sorted(question.trials, key=lambda t: (t.data, parse_duration(t.budget)))
    for trial in ordered:
        found = results.get(trial.key)
        given = ", ".join(trial.settings) or "nothing"
        start = (trial.data, trial.budget, f"`{given}`" if trial.settings else given)
        if found is None:
            rows.append((*start, "not run yet", *[""] * 4))
            continue
        dices = (f"{found['validation_dice']:.4f}", f"{found['test_dice']:.4f}")
        yes = "yes" if found["mirrored"] else "no"
        rows.append((*start, f"{found['crop_px']} px", str(found["steps"]), yes, *dices))
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    return f"## {question.title}\n\n{question.answer}\n\n{table}"


INTRODUCTION = f"""# Runs behind the plan's rules

Written by `scripts/measure_choices.py` from `reports/choices.json`: whole runs of a budget on two
processor cores, one seed each, tuned on validation, test read once. Differences below 0.005 say
little. "large" are {N_LARGE} pictures of dsb2018 at four times their size, "cracks" are drawn by
`scripts/trial_sets.py`. How the rules follow: [docs](../docs/explanation/plan.md).

"""


if __name__ == "__main__":
    main()

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calco.files import write_atomic
from calco.invocation import parse_duration
from calco.runs import RunDir
from calco.wording import counted
from trial_sets import SETS, write_set

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
RUNS = ROOT / "results" / "choices"
RESULTS = ROOT / "reports" / "choices.json"
PAGE = ROOT / "reports" / "choices.md"
N_DRAWN = 120  # pictures of a drawn set
LITTLE = 0.005  # Dice that one run may have by luck
ENOUGH_STEPS = 600  # of the crops that the plan chooses
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


Runs = Sequence[tuple[Trial, dict[str, Any]]]


@dataclass(frozen=True)
class Claim:
    """What runs may show.

    Attributes:
        asked: What is said to be open where they do not.
        answer: What is said where they do.
        needs: Runs without which nothing is shown.
        holds: Whether their results say so.
    """

    asked: str
    answer: str
    needs: tuple[Trial, ...]
    holds: Callable[[Runs], bool]

    def said(self, results: dict[str, Any]) -> str:
        """Return the answer where all runs were made and agree with it, else that it is open."""
        runs = [(trial, results[trial.key]) for trial in self.needs if trial.key in results]
        shown = len(runs) == len(self.needs) and self.holds(runs)
        return self.answer if shown else f"{self.asked}: not shown by these runs."


@dataclass(frozen=True)
class Question:
    """Runs that are compared, and what they may show."""

    title: str
    trials: tuple[Trial, ...]
    claims: tuple[Claim, ...]


def gained(runs: Runs) -> list[float]:
    """Return by how much the second of each two runs is ahead of the first, in validation Dice."""
    dices = [found["validation_dice"] for _, found in runs]
    return [second - first for first, second in zip(dices[::2], dices[1::2], strict=True)]


def all_gain(runs: Runs) -> bool:
    """Whether the second of each two runs is ahead of the first."""
    return min(gained(runs)) > LITTLE


def none_gains(runs: Runs) -> bool:
    """Whether the second of no two runs is ahead of the first."""
    return max(gained(runs)) <= LITTLE


def all_alike(runs: Runs) -> bool:
    """Whether one run could not tell the two of any pair apart."""
    return max(map(abs, gained(runs))) <= LITTLE


def crops_follow_steps(runs: Runs) -> bool:
    """Whether no crop of a budget is ahead of the largest with enough steps, else the smallest."""
    for budget in {trial.budget for trial, _ in runs}:
        found = [f for trial, f in runs if trial.budget == budget]
        found.sort(key=lambda f: f["crop_px"])
        chosen = ([found[0]] + [f for f in found if f["steps"] >= ENOUGH_STEPS])[-1]
        if max(f["validation_dice"] for f in found) > chosen["validation_dice"] + LITTLE:
            return False
    return True


def crops(budget: str, *sides_px: int) -> tuple[Trial, ...]:
    """Return a run on dsb2018 for each side of the crops."""
    return tuple(Trial("dsb2018", budget, (f"fit.crop_px={px}",)) for px in sides_px)


CROPS = (
    *crops("1m", 64, 96, 128),
    *crops("3m", 64, 96),
    *crops("5m", 96, 128),
    *crops("20m", 128, 192),
)
CRACKS = tuple(Trial("cracks", "2m", (f"model.scale={scale}",)) for scale in (1, 2))
MEMBRANES = (Trial("isbi2012", "5m"), Trial("isbi2012", "5m", ("model.scale=2",)))
NUCLEI = Trial("dsb2018", "5m")
ENLARGED_NUCLEI = (
    Trial("dsb2018", "5m", ("model.scale=2", "fit.crop_px=64")),
    Trial("dsb2018", "20m", ("model.scale=2", "fit.crop_px=96")),
)
LARGE, HALF, QUARTER = (Trial("large", "2m", (f"model.scale={s}",)) for s in (1, 0.5, 0.25))
NETWORKS = tuple(
    Trial("dsb2018", "30s", (f"model.family={family}",)) for family in ("encoder_unet", "lean")
)
WEAKER = Trial("dsb2018", "5m", ("fit.augment=0.2",))

QUESTIONS = (
    Question(
        "Which crop",
        (*CROPS, Trial("dsb2018", "20m", ("fit.crop_px=192", "fit.augment=0.3"))),
        (
            Claim(
                f"Whether the largest crop of which some {ENOUGH_STEPS} steps fit is the best",
                f"The largest of which some {ENOUGH_STEPS} steps fit into the time.",
                CROPS,
                crops_follow_steps,
            ),
        ),
    ),
    Question(
        "Which scale",
        (*CRACKS, *MEMBRANES, *ENLARGED_NUCLEI, LARGE, HALF, QUARTER),
        (
            Claim(
                "Whether enlarging helps lines of one to three pixels",
                "Enlarging helps lines of one to three pixels.",
                CRACKS,
                all_gain,
            ),
            Claim(
                "Whether membranes of five pixels gain by it",
                "Membranes of five pixels do not gain by it.",
                MEMBRANES,
                none_gains,
            ),
            Claim(
                "Whether nuclei gain by it",
                "Nuclei do not gain by it.",
                (NUCLEI, ENLARGED_NUCLEI[0], CROPS[-1], ENLARGED_NUCLEI[1]),
                none_gains,
            ),
            Claim(
                "Whether large structures gain by shrinking",
                "Large structures gain by shrinking.",
                (LARGE, HALF, LARGE, QUARTER),
                all_gain,
            ),
            Claim(
                "Whether a quarter is as good as a half",
                "A quarter is as good as a half.",
                (HALF, QUARTER),
                all_alike,
            ),
        ),
    ),
    Question(
        "Which network in half a minute",
        NETWORKS,
        (
            Claim(
                "Which network is ahead",
                "Too few steps of the pretrained network fit: the lean one is ahead.",
                NETWORKS,
                all_gain,
            ),
        ),
    ),
    Question(
        "Which augmentation",
        (NUCLEI, WEAKER),
        (
            Claim(
                "Whether weaker augmentation makes a difference",
                "Weaker augmentation makes no difference that one run could show.",
                (NUCLEI, WEAKER),
                all_alike,
            ),
        ),
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
    """Return what a question's runs show, their table, and which were not made."""
    needed = [trial for claim in question.claims for trial in claim.needs]
    ordered = sorted(
        dict.fromkeys((*question.trials, *needed)), key=lambda t: (t.data, parse_duration(t.budget))
    )
    parts = [f"## {question.title}\n", " ".join(c.said(results) for c in question.claims) + "\n"]
    made = [trial for trial in ordered if trial in question.trials and trial.key in results]
    if made:
        parts.append(table(made, results))
    missing = [trial for trial in ordered if trial.key not in results]
    if missing:
        named = "; ".join(" ".join((t.data, t.budget, *given(t))) for t in missing)
        parts.append(f"{counted(len(missing), 'run')} not made: {named}.\n")
    return "\n".join(parts)


def table(trials: Sequence[Trial], results: dict[str, Any]) -> str:
    """Return a row for each run."""
    rows: list[Sequence[str]] = [
        ("data", "budget", "given", "crops", "steps", "mirrored", "validation Dice", "test Dice")
    ]
    rows.append(["---"] * len(rows[0]))
    for trial in trials:
        found = results[trial.key]
        start = (trial.data, trial.budget, *(given(trial) or ("nothing",)))
        dices = (f"{found['validation_dice']:.4f}", f"{found['test_dice']:.4f}")
        yes = "yes" if found["mirrored"] else "no"
        rows.append((*start, f"{found['crop_px']} px", str(found["steps"]), yes, *dices))
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def given(trial: Trial) -> tuple[str, ...]:
    """Return the settings of a run in one word; none where nothing was given."""
    return (f"`{', '.join(trial.settings)}`",) if trial.settings else ()


INTRODUCTION = f"""# Runs behind the plan's rules

Written by `scripts/measure_choices.py` from `reports/choices.json`: whole runs of a budget on two
processor cores, one seed each, tuned on validation, test read once. Differences below {LITTLE} say
little. A section concludes something only where all runs for it were made and their validation Dice
agrees. "large" are {N_LARGE} pictures of dsb2018 at four times their size, "cracks" are drawn by
`scripts/trial_sets.py`. How the rules follow: [docs](../docs/explanation/plan.md).

"""


if __name__ == "__main__":
    main()

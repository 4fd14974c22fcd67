"""calco's own command, its defaults or the classic recipe."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

from calco.files import read_csv
from calco.held_out import validation_maps
from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean
from calco.inference.predictor import Predictor
from calco.records import Postprocess
from calco.runs import RunDir
from contenders.courses import ROOT, Course
from contenders.records import Job, Outcome, Point, Tally
from contenders.scoring import PLAIN, mean_dice, score, tally


def compete(job: Job, course: Course, work: Path) -> Outcome:
    """Run ``calco train --budget`` and score what it left.

    Args:
        job: ``calco`` or ``classic``.
        course: Its root is what calco is given; calco divides it by itself.
        work: New folder for the run.
    """
    folder = RunDir(work / "run")
    began_s = time.time()
    status, seconds, peak_mb = _train(job, course, folder.path)
    if status:
        raise RuntimeError(f"calco ended with {status}; see {folder.path}.log")
    _require_same_split(folder, course)
    scores, delivered = _scores(folder, course)
    return Outcome(
        seconds=seconds,
        curve=(*_curve(folder, began_s), Point(seconds, mean_dice(scores["validation"]))),
        scores=scores,
        delivered=delivered,
        steps=sum(member.load_history()[-1].step for member in folder.members()),
        peak_mb=peak_mb,
        settings=_settings(folder),
    )


def command(job: Job, course: Course, out: Path) -> list[str]:
    """Return what a user would type."""
    classic = ["--config", str(ROOT / "configs" / "classic.yaml")]
    settings = [part for setting in course.settings for part in ("--set", setting)]
    return [
        *(sys.executable, "-m", "calco", "train", str(course.root), "-o", str(out)),
        *("--budget", f"{job.budget_s:g}s", "--seed", str(job.seed), "--device", "cpu"),
        *(classic if job.contender == "classic" else []),
        *settings,
    ]


def _train(job: Job, course: Course, out: Path) -> tuple[int, float, float]:
    """Return the exit status, the wall-clock seconds and the peak memory in MiB."""
    began = time.monotonic()
    with out.with_name(out.name + ".log").open("w") as log:
        process = subprocess.Popen(command(job, course, out), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began, usage.ru_maxrss / 1024


def _require_same_split(folder: RunDir, course: Course) -> None:
    """Refuse a run whose held-out images are not those of the others."""
    rows = read_csv(folder.path / "split.csv")
    tested = {row["id"] for row in rows if row["subset"] == "test"}
    trained = {row["id"] for row in rows} - tested
    if trained != course.ids("train") | course.ids("validation"):
        raise RuntimeError("calco divides the set otherwise than it did: remove the old division")


def _scores(folder: RunDir, course: Course) -> tuple[dict[str, dict[str, Tally]], ...]:
    """Score both held-out parts at threshold 0.5, and as calco delivers them."""
    split, predictor = folder.load_split(), Predictor.from_run(folder.path)
    params = predictor.params
    test = course.read("test")
    delivered = {
        "validation": _tallies(folder, params),
        "test": {i.id: tally(predictor.predict(i.image), i.true) for i in test},
    }
    predictor.params = PLAIN
    scores = {"validation": _tallies(folder, PLAIN), "test": score(predictor.prob, test)}
    assert split.n_folds > 1 or set(scores["validation"]) == course.ids("validation")
    return scores, delivered


def _tallies(folder: RunDir, params: Postprocess) -> dict[str, Tally]:
    """Count the pixels of validation, each image predicted by a training that has not seen it."""
    folds = validation_maps(folder.load_split(), folder, "cpu", params)
    maps: list[ProbMap] = [m for fold in folds for m in fold]
    return {m.id: tally(clean(m.levels, params), m.true) for m in maps}


def _curve(folder: RunDir, began_s: float) -> list[Point]:
    """Return calco's own validations, on the clock of its command; none of folds.

    Training began that long before its record was written, and every validation took alike.
    """
    members = folder.members()
    if len(members) > 1:
        return []
    fit = members[0].load_fit()
    offset_s = (members[0].path / "fit.json").stat().st_mtime - fit.seconds - began_s
    validated = [e for e in fit.history if not math.isnan(e.validation_dice)]
    each_s = fit.seconds_validating / max(1, len(validated))
    return [
        Point(offset_s + epoch.seconds - number * each_s, epoch.validation_dice)
        for number, epoch in enumerate(validated, start=1)
    ]


def _settings(folder: RunDir) -> str:
    plan = folder.load_plan()
    return (
        f"{plan.network.family}, {plan.loss}, {plan.optimizer} {plan.learning_rate:g},"
        f" {plan.schedule}, batch {plan.batch},"
        f" {f'resized to {plan.resize_px}' if plan.resize_px else f'crop {plan.crop_px}'}"
    )

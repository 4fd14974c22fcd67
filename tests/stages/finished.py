"""A run folder as a finished training leaves it, but weights and pages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.stages.pages import Page, write_png, write_set

from calco.config import Config
from calco.errors import Problem
from calco.metrics.calibration import calibrate, count_levels
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import (
    Assignment,
    Audit,
    Epoch,
    FitResult,
    ImageScore,
    NetworkPlan,
    Plan,
    Postprocess,
    Reference,
    Scores,
    Split,
    Subset,
    Twins,
)
from calco.runs import RunDir
from calco.stages.report import write_report

HOSTILE = "<img src=x onerror=alert(1)>"  # a legal file name
N_TRAIN, N_VALIDATION = 4, 5
SIZE = (48, 64)


def disc(seed: int, shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    center = 12 + seed % 20
    near: np.ndarray = (rows - center) ** 2 + (columns - center - shift) ** 2 < 8**2
    return near


def make_audit(root: Path, ids: list[str]) -> Audit:
    audit = write_set(root, {name: disc(number) for number, name in enumerate(ids)})
    what, do = "image is almost black", "check the exposure"
    problems = tuple(
        Problem("IMG_DARK", what, f"images/{i}.png", do=do, severity="warning") for i in range(5)
    )
    return replace(audit, twins=(Twins((ids[0], ids[1]), "near"),), problems=problems)


def make_plan() -> Plan:
    return Plan(
        network=NetworkPlan("unet", 1, (120.0,), (60.0,), width=16),
        crop_px=128,
        resize_px=None,
        batch=8,
        epochs=30,
        budget_s=60.0,
        loss="bce_dice",
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="cosine",
        ema=True,
        clip_norm=1.0,
        augment=0.5,
        precision="fp32",
        reasons={"crop_px": "many cheap steps", "batch": "small steps gained most"},
    )


def make_history(n: int = 9) -> tuple[Epoch, ...]:
    rows = []
    for epoch in range(1, n + 1):
        validated = epoch % 3 == 0
        dice = 1 - 0.8 * math.exp(-epoch / 4)
        rows.append(
            Epoch(
                epoch=epoch,
                step=10 * epoch,
                train_loss=math.exp(-epoch / 4),
                train_dice=dice,
                validation_loss=math.exp(-epoch / 5) if validated else math.nan,
                validation_dice=dice - 0.03 if validated else math.nan,
                learning_rate=1e-3,
                seconds=2.0 * epoch,
            )
        )
    return tuple(rows)


def make_scores(audit: Audit, split: Split, folder: Path) -> Scores:
    images: list[ImageScore] = []
    levels: dict[str, list[np.ndarray]] = {}
    for number, given in enumerate(split.assignments):
        if given.subset != "train":
            pred = disc(number, shift=number % 7)
            write_png(
                folder / "predictions" / given.subset / f"{given.id}.png",
                pred.astype(np.uint8) * 255,
            )
            pixels = score_image(given.id, given.group, given.subset, pred, disc(number))
            images.append(score_shapes(pixels, pred, disc(number), tolerance_px=2))
            soft = np.where(pred, 220, 30).astype(np.uint8)
            levels.setdefault(given.subset, []).append(count_levels(soft, disc(number)))
    parts = {s: [i for i in images if i.subset == s] for s in ("validation", "test")}
    summaries = {
        s: replace(summarise(part, bootstrap=100), nsd_tolerance_px=2.0)
        for s, part in parts.items()
        if part
    }
    calibrations = {s: calibrate(np.sum(part, axis=0)) for s, part in levels.items()}
    return Scores(tuple(images), summaries, calibrations)


def finish_run(folder: RunDir, root: Path, n_test: int = 12) -> RunDir:
    """Write all that a finished training leaves, but weights and pages."""
    folder.path.mkdir()
    sizes: dict[Subset, int] = {"train": N_TRAIN, "validation": N_VALIDATION, "test": n_test}
    subsets = [subset for subset, size in sizes.items() for _ in range(size)]
    ids = [f"cell{number:02d}" for number in range(len(subsets))]
    if n_test:
        ids[-1] = HOSTILE
    audit = make_audit(root, ids)
    given = tuple(Assignment(i, i, s) for i, s in zip(ids, subsets, strict=True))
    split = Split(audit.index, given)
    advice = Problem("LR_HIGH", "the loss jumped", do="lower fit.learning_rate", severity="warning")
    fit = FitResult(make_history(), 9, "the budget was used", 20.0, 15.0, 2.0, (advice,))
    scores = make_scores(audit, split, folder.path)
    folder.save_config(Config())
    folder.save_manifest({"calco": "0.1.0", "seed": 3, "command": "calco train data --seed 3"})
    folder.save_audit(audit)
    folder.save_split(split)
    folder.save_plan(make_plan())
    folder.save_history(fit.history)
    folder.save_fit(fit)
    folder.save_postprocess(Postprocess(0.45, 12, note="best of 19 thresholds on validation"))
    folder.save_scores(scores)
    folder.save_summary(scores, [fit], Reference(otsu_dice=0.321), seconds_total=31.0)
    return folder


def page_of(folder: RunDir) -> Page:
    """Write the report of a run and read it."""
    return Page(write_report(folder).read_text(encoding="utf-8"))

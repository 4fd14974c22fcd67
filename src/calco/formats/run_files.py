"""What a run folder holds, whole or not: an interrupted run has a report, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from calco.config import Config
from calco.errors import CalcoError
from calco.files import from_json
from calco.records import (
    Audit,
    Calibration,
    Epoch,
    FitResult,
    ImageScore,
    LabelSuspicion,
    Leak,
    LearningCurve,
    Plan,
    Postprocess,
    Split,
)
from calco.runs import RunDir

T = TypeVar("T")


@dataclass(frozen=True)
class Training:
    """What one training left; ``fit`` is None while it goes on."""

    folder: RunDir
    history: tuple[Epoch, ...]
    fit: FitResult | None

    @property
    def best_epoch(self) -> int:
        """Epoch whose weights were kept; the best so far while fit goes on."""
        if self.fit:
            return self.fit.best_epoch
        validated = [e for e in self.history if math.isfinite(e.validation_dice)]
        return max(validated, key=lambda e: e.validation_dice).epoch if validated else 0


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; None where a file is missing or unreadable.

    Attributes:
        trainings: One, or one per fold.
        missing: What is not there, in words.
    """

    config: Config | None
    manifest: Mapping[str, Any] | None
    audit: Audit | None
    split: Split | None
    plan: Plan | None
    trainings: tuple[Training, ...]
    postprocess: Postprocess | None
    scores: tuple[ImageScore, ...] | None
    calibrations: Mapping[str, Calibration] | None
    suspicions: tuple[LabelSuspicion, ...]
    leak: Leak | None
    learning: LearningCurve | None
    summary: Mapping[str, Any] | None
    missing: tuple[str, ...]


def read_run(folder: RunDir) -> RunFiles:
    """Read every file of a run that is there and whole."""
    missing: list[str] = []

    def read(load: Callable[[], T], name: str) -> T | None:
        try:
            return load()
        except (CalcoError, ValueError, KeyError, TypeError):  # absent, cut short or edited
            missing.append(name)
            return None

    return RunFiles(
        config=read(folder.load_config, "the settings"),
        manifest=read(folder.load_manifest, "versions and command"),
        audit=read(folder.load_audit, "the audit"),
        split=read(folder.load_split, "the split"),
        plan=read(folder.load_plan, "the plan"),
        trainings=tuple(
            Training(
                folder=member,
                history=read(member.load_history, "the learning curves") or (),
                fit=read(member.load_fit, "the end of training"),
            )
            for member in folder.members()
        ),
        postprocess=read(folder.load_postprocess, "threshold and clean-up"),
        scores=read(folder.load_scores, "the scores of the images"),
        calibrations=read(folder.load_calibrations, "what the probabilities are worth"),
        suspicions=read(folder.load_suspicions, "masks to check") or (),
        learning=read(folder.load_learning, "what more labels would give"),
        leak=read(lambda: _load_leak(folder), "what a random split scored"),
        summary=read(folder.load_summary, "the headline"),
        missing=tuple(dict.fromkeys(missing)),
    )


def _load_leak(folder: RunDir) -> Leak | None:
    path = folder.leak_json
    return from_json(Leak, path.read_text(encoding="utf-8"), str(path)) if path.exists() else None

"""What the leading process asks the others of its team to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calco.config import Config
from calco.records.data import SampleIndex, Split
from calco.records.scores import Postprocess
from calco.records.training import Plan


@dataclass(frozen=True)
class FitJob:
    """Train one network together.

    Attributes:
        split: What is learnt from.
        plan: What is built and how it is trained.
        config: All settings.
        fold: Which of the split's trainings.
        run: Folder of the run, where decoded pixels and states to resume from are.
        folder: Of this training: the run's own, or one of its folds.
    """

    split: Split
    plan: Plan
    config: Config
    fold: int
    run: Path
    folder: Path
    kind: Literal["fit"] = "fit"


@dataclass(frozen=True)
class PredictJob:
    """Predict images together, each by one process.

    Attributes:
        index: The images.
        run: Whose network predicts.
        device: ``auto``, ``cpu`` or ``cuda``.
        look: Which views are averaged, and how.
    """

    index: SampleIndex
    run: Path
    device: str
    look: Postprocess
    kind: Literal["predict"] = "predict"

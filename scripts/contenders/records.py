"""What a run of the benchmark is, and what it leaves behind."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from calco.files import from_json, to_json, write_atomic

THREADS = 2  # of every contender; it is also held to as many processors

Tally = tuple[int, int, int]
"""True positive, false positive and missed pixels of one image."""
Parts = Mapping[str, Mapping[str, Tally]]
"""Per part (``validation``, ``test``) and id."""

Figures = Mapping[str, float]
"""Measured numbers by name."""

PACKAGES = (
    "calco",
    "torch",
    "numpy",
    "segmentation-models-pytorch",
    "timm",
    "monai",
    "nnunetv2",
)


@dataclass(frozen=True)
class Job:
    """One run to make.

    Attributes:
        contender: Its name.
        data: Name of the set.
        seed: Of weights, order and augmentation.
        budget_s: Wall-clock seconds.
    """

    contender: str
    data: str
    seed: int
    budget_s: float

    @property
    def key(self) -> str:
        """Stem of the result file."""
        return f"{self.data}_{self.contender}_{self.budget_s:g}s_seed{self.seed}"


@dataclass(frozen=True)
class Point:
    """Mean validation Dice at threshold 0.5 after so many seconds, validation left out."""

    seconds: float
    dice: float


@dataclass(frozen=True)
class Outcome:
    """What a contender hands back.

    Attributes:
        seconds: Used of the budget; of calco all that its command took.
        curve: Validation during training.
        scores: Pixels of every image at threshold 0.5, without clean-up, original resolution.
        delivered: The same of the masks that calco delivers; empty for others, who have no tuning.
        steps: Optimiser steps.
        peak_mb: Largest resident memory of training, in MiB.
        settings: What was trained, in one line.
    """

    seconds: float
    curve: tuple[Point, ...]
    scores: Parts
    delivered: Parts
    steps: int
    peak_mb: float
    settings: str


@dataclass(frozen=True)
class Machine:
    """What it ran on."""

    processor: str
    threads: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """One result file.

    Attributes:
        job: What was asked for.
        outcome: What came of it.
        machine: What it ran on.
        split_sha256: Of the split; results of different splits are not compared.
    """

    job: Job
    outcome: Outcome
    machine: Machine
    split_sha256: str


@dataclass(frozen=True)
class Target:
    """One row of the table of promises.

    Attributes:
        measure: What was promised.
        wanted: How much.
        found: What was measured.
        met: None where it was not measured yet.
    """

    measure: str
    wanted: str
    found: str = "not measured"
    met: bool | None = None


@dataclass(frozen=True)
class Measured:
    """One row of reports/training_benchmark.json: the verdict and the figures behind it."""

    target: Target
    figures: Figures


def save_run(run: Run, folder: Path) -> Path:
    """Write ``<key>.json``, whole or not at all: a run whose file exists is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.job.key}.json"
    write_atomic(path, json.dumps(json.loads(to_json(run))) + "\n")  # one line: they are many
    return path


def load_runs(folder: Path) -> list[Run]:
    """Read every result file, in the order of their names."""
    paths = sorted(folder.glob("*.json"))
    return [from_json(Run, path.read_text(encoding="utf-8"), str(path)) for path in paths]


def this_machine() -> Machine:
    """Describe the processor and the packages; no host or user names."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # an optional contender
            continue
    return Machine(_processor(), THREADS, versions)


def hold_to_threads() -> None:
    """Keep this process and its children on as many processors as there are threads."""
    if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the threads' limit must do
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Measure reports/devices.json: what processes cost, and what half precision changes.

    GOMP_SPINCOUNT=10000 python scripts/benchmark_devices.py speed ../shared/data/dsb2018
    GOMP_SPINCOUNT=10000 python scripts/benchmark_devices.py precision ../shared/data/dsb2018

``speed`` trains alternately in one process with all cores and in two that share them, on the same
batches, and compares images per second over the steps after the first few. ``precision`` trains
the same epochs with the same seeds in fp32 and in bf16 and compares validation Dice. What the file
holds of other parts and families stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

import torch

from calco.config import Config, load_config
from calco.files import write_atomic
from calco.inference.device import usable_cores
from calco.pipeline import Listener, Task, prepare, train
from calco.records import FitResult, Split
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.teamwork import team_of
from calco.training.budget import Clock
from calco.training.progress import Progress, Watch

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "devices.json"
WARM_STEPS = 4  # of each epoch: kernels are set up, files are mapped


def main() -> None:
    """Measure one part and write it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("speed", "precision"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--masks", default="train/masks", help="below the data folder")
    parser.add_argument("--families", nargs="+", default=["lean", "encoder_unet"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    config = _config(given)
    audit = audit_samples(index_samples(given.data, config.data), config.data, config.audit)
    split = split_samples(audit, config.split)
    measured = {}
    for family in given.families:
        if given.part == "speed":
            measured[family] = speed(split, family, given)
        else:
            measured[family] = precision(split, family, given)
        print(family, json.dumps(measured[family]))
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    report |= {"torch": torch.__version__, "cores": usable_cores(), "data": given.data.name}
    report[given.part] = report.get(given.part, {}) | measured
    write_atomic(REPORT, json.dumps(report, indent=2) + "\n")


def speed(split: Split, family: str, given: argparse.Namespace) -> dict[str, object]:
    """Compare one process with several, in turn."""
    rates: dict[int, list[float]] = {1: [], given.processes: []}
    for _ in range(given.rounds):
        for size, found in rates.items():
            threads = usable_cores() // size
            sets = (f"model.family={family}", f"fit.threads={threads}", f"devices={size}")
            found.append(images_per_s(split, _config(given, *sets), size))
    one, several = (median(found) for found in rates.values())
    return {
        "images_per_s": {str(size): found for size, found in rates.items()},
        "ratio": several / one,
    }


def images_per_s(split: Split, config: Config, size: int) -> float:
    """Return images per second of the median step, loading and exchange included."""
    ends: list[tuple[int, float]] = []

    def on_step(p: Progress) -> None:
        ends.append((p.epoch, time.perf_counter()))

    with TemporaryDirectory() as name, team_of(size) as team:
        folder = RunDir(Path(name))
        task = prepare(split, config, folder, Clock(), team=team)
        train(task, folder, Clock(), Listener(watch=Watch(on_step=on_step)))
    pairs = list(itertools.pairwise(ends))
    steps_s = [t - s for (e, s), (f, t) in pairs if e == f][WARM_STEPS:]
    return task.plan.batch / median(steps_s)


def precision(split: Split, family: str, given: argparse.Namespace) -> dict[str, object]:
    """Compare the validation Dice of fp32 and bf16, seed by seed."""
    found: dict[str, list[FitResult]] = {"fp32": [], "bf16": []}
    for seed in range(given.seeds):
        for name, results in found.items():
            sets = (f"model.family={family}", f"fit.precision={name}", f"seed={seed}")
            results.append(_fitted(split, _config(given, *sets)))
    dices = {name: [r.history[-1].validation_dice for r in rs] for name, rs in found.items()}
    return {
        "epochs": given.epochs,
        "dice": dices,
        "difference": fmean(dices["bf16"]) - fmean(dices["fp32"]),
        "seconds": {name: [r.seconds for r in rs] for name, rs in found.items()},
        "overflows": {name: [r.overflows for r in rs] for name, rs in found.items()},
    }


def _fitted(split: Split, config: Config) -> FitResult:
    with TemporaryDirectory() as name:
        folder = RunDir(Path(name))
        task: Task = prepare(split, config, folder, Clock())
        return train(task, folder, Clock(), Listener())[0]


def _config(given: argparse.Namespace, *sets: str) -> Config:
    own = ("fit.preflight=false", f"fit.epochs={given.epochs}", f"data.masks={given.masks}")
    return load_config(None, (*own, *sets))


if __name__ == "__main__":
    main()

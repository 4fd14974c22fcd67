"""Measure reports/sweep.json and sweep.md: what giving up weak trials costs and saves.

    GOMP_SPINCOUNT=10000 python scripts/benchmark_sweep.py [DATA]

Twelve trials with pruning, then trials with the very same settings and seeds in full. They are
trained by epochs, so that a survivor's Dice is the same in both and only what was given up can
differ. A few minutes for the drawn set and the lean network, a quarter of an hour for 400 images of
dsb2018 and ``--family encoder_unet``. With ``--pruner none`` there is nothing to compare: the full
trials alone are kept, for ``replay_pruning.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from calco.config import load_config
from calco.files import write_atomic
from calco.images.toy import write_toy
from calco.records import Sweep
from calco.searching.folder import SweepDir
from calco.searching.pruning import FIRST_RUNG, KEEP_ONE_OF, N_STARTUP
from calco.stages.sweep import open_study
from calco.sweeps import OWN_NAME, SweepListener, SweepOptions, begin_sweep, resume_sweep
from calco.training.budget import Clock

ROOT = Path(__file__).resolve().parents[1]
REPORT, PAGE = ROOT / "reports" / "sweep.json", ROOT / "reports" / "sweep.md"
SPACE = """\
fit.learning_rate: {low: 3e-4, high: 1e-2, log: true}
fit.batch: [8, 16]
model.dropout: {low: 0.0, high: 0.4}
fit.augment: {low: 0.0, high: 1.0}
loss.name: [bce_dice, dice, focal, lovasz]
"""
SETTINGS = ("fit.crop_px=64", "fit.epochs=10")
LOST_AFTER_S = 60.0
MOST_LOST, MOST_TIME = 0.005, 0.5


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="with images/ and masks/; else drawn")
    parser.add_argument("--family", default="lean")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--images", type=int, default=80, help="taken evenly by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pruner", default="halving")
    parser.add_argument("--keep", type=Path, help="folder for the two sweeps, for a look at them")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        work = given.keep or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        data = take_some(given.data, work / "data", given.images)
        pruned, pruned_s = sweep_pruned(data, SweepDir(work / "pruned"), given)
        print(f"{given.pruner}: {pruned_s:.0f} s", flush=True)
        full, full_s = pruned, pruned_s
        if given.pruner != "none":
            full, full_s = repeat_in_full(SweepDir(work / "pruned"), SweepDir(work / "full"))
    result = compare(pruned, full) | {
        "data": f"{given.images} images "
        + ("of " + given.data.parent.name if given.data else "drawn"),
        "pruner": given.pruner,
        "seed": given.seed,
        "settings": [*SETTINGS, f"model.family={given.family}"],
        "space": SPACE,
        "wall_s": {"pruned": round(pruned_s, 1), "full": round(full_s, 1)},
    }
    rules = {
        "halving": f"halving from {FIRST_RUNG} tenths, best 1 of {KEEP_ONE_OF}",
        "median": f"median from {FIRST_RUNG} tenths, after {N_STARTUP} complete",
    }
    rule = rules.get(given.pruner, given.pruner)
    key = f"{result['data']}, {given.family}, {rule}, seed {given.seed}"
    known = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    known = {**known, key: result}
    write_atomic(REPORT, json.dumps(known, indent=2) + "\n")
    write_atomic(PAGE, page(known))
    print(key, json.dumps(result, indent=2))


def page(known: dict[str, Any]) -> str:
    """Write a row for every comparison of pruned with full trials."""
    lines = [
        "# What giving up weak trials costs and saves",
        "",
        "Written by `scripts/benchmark_sweep.py` from `sweep.json`: trials with pruning, then the"
        " same settings, seeds and numbers",
        "of epochs in full. Aimed at: at most 0.005 of validation Dice lost, in at most half of the"
        " time.",
        "",
        "| data, network, rule | trials | given up | best Dice, pruned | in full | lost | share of"
        " the time | of the epochs | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, found in known.items():
        if found["pruner"] == "none":
            continue
        best, lost, share = found["best_dice"], found["dice_lost"], found["time_share"]
        met = "yes" if lost <= MOST_LOST and share <= MOST_TIME else "**no**"
        lines.append(
            f"| {key} | {found['n_trials']} | {found['n_given_up']} | {best['pruned']:.4f}"
            f" | {best['full']:.4f} | {lost:.4f} | {share:.0%} | {found['epochs_share']:.0%}"
            f" | {met} |"
        )
    return "\n".join(lines) + "\n"


def take_some(data: Path | None, folder: Path, n_images: int) -> Path:
    """Copy images, evenly by name, with their masks; draw them where there is no folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if data is None:
        return write_toy(folder, n_images)
    paths = sorted((data / "images").iterdir())
    chosen = paths[:: max(1, len(paths) // n_images)][:n_images]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for path in chosen:
            shutil.copy(data / part / path.name, folder / part / path.name)
    return folder


def sweep_pruned(data: Path, folder: SweepDir, given: argparse.Namespace) -> tuple[Sweep, float]:
    """Sweep as a user would; return it with its seconds."""
    settings = (*SETTINGS, f"model.family={given.family}", f"seed={given.seed}")
    config = load_config(None, settings)
    space = data.with_name("space.yaml")
    space.write_text(SPACE, encoding="utf-8")
    options = SweepOptions(given.trials, None, space, given.pruner)
    began = time.monotonic()
    found = begin_sweep(data, config, options, folder, Clock(), listener())
    return found, time.monotonic() - began


def repeat_in_full(first: SweepDir, folder: SweepDir) -> tuple[Sweep, float]:
    """Train with the settings of another sweep's trials, none given up."""
    shutil.copytree(first.path, folder.path, ignore=shutil.ignore_patterns("study.db*", "cache"))
    asked = open_study(first.own_storage, OWN_NAME, LOST_AFTER_S)
    spec = asked.spec()
    assert spec is not None
    done = asked.trials()
    own = open_study(folder.own_storage, OWN_NAME, LOST_AFTER_S)
    own.found(replace(spec, pruner="none"), [trial.params for trial in done])
    began = time.monotonic()
    found = resume_sweep(folder, SweepOptions(), None, listener())
    return found, time.monotonic() - began


def listener() -> SweepListener:
    """Print each trial as it ends."""
    return SweepListener(
        on_trial=lambda t: print(
            f"{t.number:>3} {t.state:<9} {t.dice:.4f} {len(t.history)} epochs {t.seconds:.1f} s",
            flush=True,
        )
    )


def compare(pruned: Sweep, full: Sweep) -> dict[str, object]:
    """Return both sweeps' best Dice and time, and what was given up wrongly."""
    assert pruned.best is not None
    assert full.best is not None
    seconds = [math.fsum(t.seconds for t in s.trials) for s in (pruned, full)]
    n_epochs = [sum(len(t.history) for t in s.trials) for s in (pruned, full)]
    return {
        "n_trials": len(full.trials),
        "n_given_up": pruned.count("pruned"),
        "best_dice": {"pruned": pruned.best.dice, "full": full.best.dice},
        "dice_lost": full.best.dice - pruned.best.dice,
        "trials_s": {"pruned": round(seconds[0], 1), "full": round(seconds[1], 1)},
        "time_share": seconds[0] / seconds[1],
        "epochs_share": n_epochs[0] / n_epochs[1],
        "trials": [
            {
                "params": dict(one.params),
                "pruned": {"state": one.state, "dice": one.dice, "epochs": len(one.history)},
                "full": {
                    "dice": other.dice,
                    "epochs": len(other.history),
                    "validation_dice": [round(e.validation_dice, 4) for e in other.history],
                },
            }
            for one, other in zip(pruned.trials, full.trials, strict=True)
        ],
    }


if __name__ == "__main__":
    main()

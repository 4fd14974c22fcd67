"""All stages in order: the first file to read, after config.py and records.py."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from calco import __version__
from calco.config import Config
from calco.errors import CalcoError, Problem, StoppedError
from calco.inference.predictor import Predictor, predict_maps
from calco.records import SUBSETS, Plan, Scores, Split, Subset
from calco.runs import RunDir
from calco.stages.audit import audit_samples, require_unchanged
from calco.stages.evaluate import evaluate, otsu_baseline
from calco.stages.fit import Watch, fit
from calco.stages.loaders import build_loaders
from calco.stages.plan import make_plan
from calco.stages.report import write_report
from calco.stages.samples import index_samples
from calco.stages.split import split_samples
from calco.stages.tune import tune_postprocess
from calco.training.budget import Clock

TRAINING_ONLY = ("FEW_SAMPLES", "MASK_ALL_EMPTY", "MASK_ALL_FULL")  # still worth scoring


@dataclass
class Listener:
    """Who wants to hear of the run: each finished record, the audit and training as they go."""

    on_record: Callable[[object], None] = field(default=lambda _: None)
    on_audit: Callable[[int, int], None] = field(default=lambda done, total: None)
    watch: Watch = field(default_factory=Watch)


def run(data: Path, config: Config, folder: RunDir, clock: Clock, listener: Listener) -> Scores:
    """Run every stage; once the data are accepted each record is on disk before the next stage.

    Args:
        data: Folder of images and masks.
        config: All settings.
        folder: Where everything is left.
        clock: Started with the command.
        listener: Hears of every record.

    Raises:
        CalcoError: Lists all faults of the data or the settings.
        StoppedError: After a signal; ``resume`` goes on.
    """
    tell = listener.on_record
    folder.require_new()
    tell(index := index_samples(data, config.data))
    tell(audit := audit_samples(index, config.data, config.audit, listener.on_audit))
    if audit.errors:
        raise CalcoError(*audit.errors)  # bad data leaves no folder behind
    with folder.locked():
        folder.save_config(config)
        folder.save_manifest(describe_machine(config))
        folder.save_index(index)
        folder.save_audit(audit)
        tell(split := folder.save_split(split_samples(audit, config.split)))
        tell(plan := folder.save_plan(make_plan(audit, split, config)))
        return train_and_test(split, plan, config, folder, clock, listener)


def resume(folder: RunDir, clock: Clock, listener: Listener) -> Scores:
    """Go on with a stopped run, on the split and plan it left.

    Raises:
        CalcoError: When the folder holds no run, or its images or masks changed since.
        StoppedError: After another signal.
    """
    config = folder.load_config()
    require_unchanged(folder.load_audit())
    split, plan = folder.load_split(), folder.load_plan()
    listener.on_record(plan)
    with folder.locked():
        return train_and_test(split, plan, config, folder, clock, listener)


def train_and_test(
    split: Split, plan: Plan, config: Config, folder: RunDir, clock: Clock, listener: Listener
) -> Scores:
    """Fit, tune on validation, test once, report.

    Raises:
        StoppedError: After a signal; a report of what there is has been written.
    """
    tell = listener.on_record
    try:
        loaders = build_loaders(split, plan, config)
        tell(result := fit(loaders, plan, config, folder, clock, listener.watch))
    except StoppedError:
        write_report(folder)
        raise
    predictor = Predictor.from_run(folder.path, config.device)
    maps = {"validation": predict_maps(predictor, *split.part_and_groups("validation"))}
    tell(params := folder.save_postprocess(tune_postprocess(maps["validation"], config.tune)))
    maps["test"] = predict_maps(predictor, *split.part_and_groups("test"))  # read here, once
    tell(scores := folder.save_scores(evaluate(maps, params, config.evaluate, folder)))
    baseline = otsu_baseline(split.part("train"), split.part("test"))
    folder.save_summary(scores, result, baseline, clock.elapsed_s)
    write_report(folder)
    folder.save_summary(scores, result, baseline, clock.elapsed_s)  # now with the report's time
    return scores


def describe_machine(config: Config) -> dict[str, object]:
    """Return what a reader needs to reproduce the run; no host or user names."""
    packages = ("torch", "numpy", "timm", "segmentation-models-pytorch", "opencv-python-headless")
    return {
        "calco": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in packages},
        "device": config.device,
        "seed": config.seed,
        "command": _command(),
    }


def _command() -> str:
    """Return what was typed; empty when calco runs inside another program."""
    is_calco = Path(sys.argv[0]).stem in ("calco", "__main__")
    return shlex.join(["calco", *sys.argv[1:]]) if is_calco else ""


def score_run(folder: RunDir, data: Path | None, subset: str, device: str = "auto") -> Scores:
    """Score a finished run on a part of its own data, or on all of another data set.

    Args:
        folder: A finished run.
        data: Another data set; None takes the run's own.
        subset: ``train``, ``validation`` or ``test`` of the run's own data.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CalcoError: Lists all faults of the run or the data.
    """
    config = folder.load_config()
    predictor = Predictor.from_run(folder.path, device)
    if data is None:
        part, groups = folder.load_split().part_and_groups(_subset(subset))
    else:
        audit = audit_samples(index_samples(data, config.data), config.data, config.audit)
        errors = [p for p in audit.errors if p.code not in TRAINING_ONLY]
        if errors:
            raise CalcoError(*errors)
        part, subset = audit.index, data.resolve().name
        groups = tuple(s.group or s.id for s in part)
    if not len(part):
        raise CalcoError(
            Problem("SUBSET", "this part has no images", subset, do="choose another --subset")
        )
    maps = {subset: predict_maps(predictor, part, groups)}
    return evaluate(maps, predictor.params, config.evaluate)


def _subset(name: str) -> Subset:
    for subset in SUBSETS:
        if subset == name:
            return subset
    raise CalcoError(Problem("SUBSET", "no such part", "--subset", name, " | ".join(SUBSETS)))


def compare_runs(folders: Sequence[RunDir]) -> list[dict[str, object]]:
    """Return the headline of several finished runs, one row each.

    Raises:
        CalcoError: When one of them has no summary.json.
    """
    rows: list[dict[str, object]] = []
    for folder in folders:
        summary = folder.load_summary()
        test = summary.get("test") or summary["validation"]
        low, high = test["dice_ci95"]
        rows.append(
            {
                "run": folder.path.name,
                "test Dice": f"{test['dice_mean']:.4f}",
                "95 % interval": f"{low:.4f} to {high:.4f}" if low is not None else "none",
                "IoU": f"{test['iou_mean']:.4f}",
                "validation Dice": f"{summary['validation']['dice_mean']:.4f}",
                "images": test["n_images"],
                "epochs": summary["epochs"],
                "seconds": round(summary["seconds_total"]),
            }
        )
    return rows

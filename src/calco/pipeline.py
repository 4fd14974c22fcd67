"""All stages in order: the first file to read, after config.py and records.py."""

from __future__ import annotations

import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from calco import __version__
from calco.config import Config
from calco.errors import CalcoError, Problem, StoppedError
from calco.files import to_json, write_atomic
from calco.inference.maps import ProbMap, save_levels
from calco.inference.predictor import Predictor, predict_maps
from calco.records import (
    SUBSETS,
    FitResult,
    Leak,
    Plan,
    Postprocess,
    Reference,
    Scores,
    Split,
    Subset,
)
from calco.runs import RunDir
from calco.stages.audit import audit_samples, require_unchanged
from calco.stages.evaluate import evaluate, otsu_baseline
from calco.stages.fit import Watch, fit
from calco.stages.label_errors import find_label_errors, write_suspicions
from calco.stages.loaders import build_loaders, read_samples
from calco.stages.plan import make_plan
from calco.stages.report import write_report
from calco.stages.samples import index_samples
from calco.stages.split import split_samples, ungrouped
from calco.stages.tune import nested_dice, tune_mirrored, tune_postprocess
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
        fits = train(split, plan, config, folder, clock, listener)
    except StoppedError:
        write_report(folder)
        raise
    folds, params = tune(split, config, folder, clock)
    tell(folder.save_postprocess(params))
    maps = {"validation": _joined(folds)}
    if split.n_folds > 1:
        save_levels(maps["validation"], folder.out_of_fold)
    predictor = Predictor.from_run(folder.path, config.device)
    maps["test"] = predict_maps(predictor, *split.part_and_groups("test"))  # read here, once
    tell(scores := folder.save_scores(evaluate(maps, params, config.evaluate, folder)))
    suspicions = find_label_errors(maps["validation"] + maps["test"], params)
    write_suspicions(suspicions, folder.suspicions_csv)
    otsu_dice = otsu_baseline(split.part("train"), split.part("test"))
    reference = Reference(otsu_dice, nested_dice(folds, config.tune))
    folder.save_summary(scores, fits, reference, clock.elapsed_s)
    write_report(folder)
    folder.save_summary(scores, fits, reference, clock.elapsed_s)  # now with the report's time
    return scores


def train(
    split: Split, plan: Plan, config: Config, folder: RunDir, clock: Clock, listener: Listener
) -> list[FitResult]:
    """Fit once, or once per fold; trainings that a stopped run had finished are not repeated.

    Raises:
        StoppedError: After a signal.
    """
    samples = read_samples(split)
    results = []
    for number in range(split.n_folds):
        own = folder.fold(number, split.n_folds)
        result = own.finished_fit()
        if result:
            clock.earlier_s += result.seconds
        else:
            own.path.mkdir(parents=True, exist_ok=True)
            clock.begin_fold(split.n_folds - number)
            loaders = build_loaders(samples, split, plan, config, number)
            result = fit(loaders, plan, config, own, clock, listener.watch)
        listener.on_record(result)
        results.append(result)
    return results


def tune(
    split: Split, config: Config, folder: RunDir, clock: Clock
) -> tuple[list[list[ProbMap]], Postprocess]:
    """Choose the settings after the network; return them with the maps that they are made for."""
    plain = validation_maps(split, folder, config.device)
    if not (config.tune.enabled and config.tune.flips and clock.mirrors):
        return plain, tune_postprocess(_joined(plain), config.tune)
    mirrored = validation_maps(split, folder, config.device, flips=True)
    params = tune_mirrored(_joined(plain), _joined(mirrored), config.tune)
    return mirrored if params.flips else plain, params


def validation_maps(
    split: Split, folder: RunDir, device: str, *, flips: bool = False
) -> list[list[ProbMap]]:
    """Predict every validation image by the training that has not seen it, fold by fold."""
    folds = []
    for number, division in enumerate(split.divisions()):
        predictor = Predictor.from_run(folder.fold(number, split.n_folds).path, device)
        predictor.params = Postprocess(flips=flips)  # what a map depends on; the rest comes later
        folds.append(predict_maps(predictor, division.validation, division.validation_groups))
    return folds


def measure_leak(folder: RunDir, listener: Listener) -> Leak:
    """Train once more on a random split, in the same time, and note what its test part scores.

    Raises:
        CalcoError: When the run has no test scores or nothing is grouped, or its data changed.
        StoppedError: After a signal.
    """
    config, audit, split = folder.load_config(), folder.load_audit(), folder.load_split()
    require_unchanged(audit)
    sizes = Counter(a.group for a in split.assignments)
    n_together = sum(size for size in sizes.values() if size > 1)
    if not n_together or not len(split.part("test")):
        what, do = "there is nothing to show", "look at split.csv"
        expected = "a test part, and images that belong together"
        raise CalcoError(Problem("LEAK_NONE", what, str(folder.path), expected=expected, do=do))
    careless = split_samples(ungrouped(audit), config.split)
    own, clock = RunDir(folder.path / "random_split"), Clock(config.budget_s)
    with own.locked():
        train(careless, make_plan(audit, careless, config), config, own, clock, listener)
        own.save_postprocess(tune(careless, config, own, clock)[1])
    predictor = Predictor.from_run(own.path, config.device)
    maps = {"test": predict_maps(predictor, *careless.part_and_groups("test"))}
    random = evaluate(maps, predictor.params, config.evaluate).summaries["test"]
    leak = Leak(n_together, folder.load_summary()["test"]["dice_mean"], random.dice_mean)
    write_atomic(folder.leak_json, to_json(leak))
    write_report(folder)
    return leak


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
        maps = _own_maps(folder, _subset(subset), predictor)
    else:
        audit = audit_samples(index_samples(data, config.data), config.data, config.audit)
        errors = [p for p in audit.errors if p.code not in TRAINING_ONLY]
        if errors:
            raise CalcoError(*errors)
        subset = data.resolve().name
        groups = tuple(s.group or s.id for s in audit.index)
        maps = predict_maps(predictor, audit.index, groups)
    if not maps:
        raise CalcoError(
            Problem("SUBSET", "this part has no images", subset, do="choose another --subset")
        )
    return evaluate({subset: maps}, predictor.params, config.evaluate)


def _own_maps(folder: RunDir, subset: Subset, predictor: Predictor) -> list[ProbMap]:
    split = folder.load_split()
    if subset == "validation":
        flips = predictor.params.flips
        return _joined(validation_maps(split, folder, str(predictor.device), flips=flips))
    return predict_maps(predictor, *split.part_and_groups(subset))


def _joined(folds: Iterable[Iterable[ProbMap]]) -> list[ProbMap]:
    return [m for fold in folds for m in fold]


def _subset(name: str) -> Subset:
    for subset in SUBSETS:
        if subset == name:
            return subset
    raise CalcoError(Problem("SUBSET", "no such part", "--subset", name, " | ".join(SUBSETS)))


def headlines(folders: Sequence[RunDir]) -> list[dict[str, object]]:
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

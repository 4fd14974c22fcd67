"""What can be learnt from finished runs: the worth of their split, and how they compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from calco.errors import CalcoError, Problem
from calco.files import to_json, write_atomic
from calco.inference.predictor import Predictor, predict_maps
from calco.pipeline import Listener, prepare, train, tune
from calco.records import Leak
from calco.runs import RunDir
from calco.stages.audit import require_unchanged
from calco.stages.evaluate import evaluate
from calco.stages.report import write_report
from calco.stages.split import split_samples, ungrouped
from calco.stages.transfer import open_source
from calco.training.budget import Clock


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
        task = prepare(careless, config, own, clock, open_source(config))
        train(task, own, clock, listener)
        own.save_postprocess(tune(task, own, clock)[1])
    predictor = Predictor.from_run(own.path, config.device)
    maps = {"test": predict_maps(predictor, *careless.part_and_groups("test"))}
    random = evaluate(maps, predictor.params, config.evaluate).summaries["test"]
    leak = Leak(n_together, folder.load_summary()["test"]["dice_mean"], random.dice_mean)
    write_atomic(folder.leak_json, to_json(leak))
    write_report(folder)
    return leak


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

"""Score a finished run: on a part of its own data, or on all of another data set."""

from __future__ import annotations

from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.held_out import joined, validation_maps
from calco.inference.maps import ProbMap
from calco.inference.predictor import Predictor, predict_maps
from calco.records import SUBSETS, Scores, Subset
from calco.runs import RunDir
from calco.stages.audit import audit_samples
from calco.stages.evaluate import evaluate
from calco.stages.samples import index_samples

TRAINING_ONLY = ("FEW_SAMPLES", "MASK_ALL_EMPTY", "MASK_ALL_FULL")  # still worth scoring


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
        maps = _own_maps(folder, _subset(subset), predictor, device)
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


def _own_maps(folder: RunDir, subset: Subset, predictor: Predictor, device: str) -> list[ProbMap]:
    split = folder.load_split()
    if subset == "validation":
        return joined(validation_maps(split, folder, device, predictor.params))
    return predict_maps(predictor, *split.part_and_groups(subset))


def _subset(name: str) -> Subset:
    for subset in SUBSETS:
        if subset == name:
            return subset
    raise CalcoError(Problem("SUBSET", "no such part", "--subset", name, " | ".join(SUBSETS)))

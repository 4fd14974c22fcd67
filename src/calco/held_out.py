"""What trainings say of the validation images that they have not learnt from, fold by fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from calco.inference.maps import ProbMap
from calco.inference.predictor import Predictor, predict_viewed
from calco.inference.views import views_of
from calco.records import MEANS, Mean, Postprocess, PredictJob, Split
from calco.runs import RunDir
from calco.teamwork import predict_together
from calco.training.team import ALONE, Team


def validation_maps(
    split: Split,
    folder: RunDir,
    device: str,
    look: Postprocess | None = None,
    known: Mapping[str, NDArray[np.uint8]] | None = None,
    team: Team = ALONE,
) -> list[list[ProbMap]]:
    """Predict every validation image by the training that has not seen it, fold by fold.

    Args:
        split: Says which images those are.
        folder: Of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
        look: Which views are averaged; None takes the image as it is.
        known: (H, W) levels by id, of images that have been predicted so before.
        team: Processes that share the images.
    """
    folds = []
    for number, division in enumerate(split.divisions()):
        path = folder.fold(number, split.n_folds).path.resolve()
        predictor = Predictor.from_run(path, device)
        predictor.params = (look or Postprocess()).look  # the rest is chosen later
        job = PredictJob(division.validation, path, device, predictor.params)
        folds.append(predict_together(team, predictor, job, division.validation_groups, known))
    return folds


def viewed_maps(
    split: Split, folder: RunDir, device: str, look: Postprocess, team: Team = ALONE
) -> dict[Mean, list[list[ProbMap]]]:
    """Predict as ``validation_maps``; the views are predicted once and averaged in every way.

    A team shares the images and tries the mean of probabilities alone.
    """
    if team.size > 1:
        return {"prob": validation_maps(split, folder, device, look, team=team)}
    folds: dict[Mean, list[list[ProbMap]]] = {mean: [] for mean in MEANS}
    for number, division in enumerate(split.divisions()):
        predictor = Predictor.from_run(folder.fold(number, split.n_folds).path, device)
        validation = division.validation, division.validation_groups
        for mean, maps in predict_viewed(predictor, *validation, views_of(look)).items():
            folds[mean].append(maps)
    return folds


def joined(folds: Iterable[Iterable[ProbMap]]) -> list[ProbMap]:
    """Put the maps of all folds behind each other."""
    return [m for fold in folds for m in fold]

"""Evaluate stage: score predictions against the truth, image by image."""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calco.config import DataConfig, EvaluateConfig
from calco.errors import CalcoError, Problem
from calco.formats.pairs import MaskPair, pair_masks
from calco.formats.truth import read_sample, read_truth
from calco.images.masks import detect_code
from calco.images.otsu import otsu_mask
from calco.inference.maps import ProbMap, save_grey
from calco.inference.postprocess import clean
from calco.inference.quality import estimate_dice
from calco.metrics.calibration import calibrate, count_levels
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import (
    Calibration,
    FileMask,
    ImageScore,
    MaskCode,
    Postprocess,
    SampleIndex,
    Scores,
)
from calco.runs import RunDir

FOLDERS = "all"  # subset name of two scored folders, which know of no split
POLARITY_IMAGES = 40  # enough to tell bright objects from dark ones
SCORABLE = ("MASK_ALL_EMPTY", "MASK_ALL_FULL")  # nothing to learn from, yet fair to score

_logger = logging.getLogger(__name__)


def evaluate(
    maps: Mapping[str, Sequence[ProbMap]],
    params: Postprocess,
    config: EvaluateConfig,
    folder: RunDir | None = None,
) -> Scores:
    """Score every map; leave its mask in ``predictions/<subset>/<id>.png``, uint8 {0, 255}.

    Args:
        maps: Per subset; a subset without maps is left out of the summaries.
        params: Clean-up, chosen on the validation part.
        config: How masks are scored and scores summarised.
        folder: Where the masks go; None writes none.

    Raises:
        CalcoError: When an id would leave the folder.
    """
    images = []
    for subset, part in maps.items():
        for m in part:
            pred = clean(m.levels, params)
            if folder:
                levels = pred.view(np.uint8) * np.uint8(255)
                save_grey(levels, folder.path / "predictions" / subset, m.id)
            pixels = score_image(m.id, m.group, subset, pred, m.true)
            shapes = score_shapes(pixels, pred, m.true, config.tolerance_px)
            images.append(replace(shapes, estimated_dice=estimate_dice(m.levels, pred)))
    calibrations = {subset: _calibration(part) for subset, part in maps.items() if part}
    return _scores(images, config, calibrations)


def otsu_baseline(train: SampleIndex, test: SampleIndex) -> float:
    """Score Otsu's threshold, the method without learning that the network has to beat.

    Args:
        train: Tells whether the objects are the brighter or the darker class; at most
            ``POLARITY_IMAGES`` of its samples are read.
        test: Scored; samples without a mask are left out.

    Returns:
        Mean per-image Dice under the usual policy; NaN when the test part has no masks.
    """
    labelled = [s for s in train if s.mask is not None]
    step = max(1, -(-len(labelled) // POLARITY_IMAGES))  # rounded up
    seen = train.only(s.id for s in labelled[::step])
    bright = not _otsu_dice(seen, bright=False) > _otsu_dice(seen, bright=True)
    return _otsu_dice(test, bright)


def evaluate_folders(pred: Path, truth: Path, config: EvaluateConfig, data: DataConfig) -> Scores:
    """Score any two folders of masks; no model, no run.

    The truth says what is scored. Predictions without a truth are left out with a logged warning;
    a truth without a prediction is an error, since leaving it out would flatter the score.

    Args:
        pred: Folder of predicted masks.
        truth: Folder of true masks.
        config: How masks are scored and scores summarised.
        data: How to read the true masks; predictions are read by their own detected code, and as
            the truth where detection alone cannot tell. ``group`` is matched on the truth's name.

    Returns:
        Scores of one subset, ``"all"``, without calibration, for masks hold no probabilities; ids
        are the truth's names.

    Raises:
        CalcoError: Lists every missing, unreadable, doubled or wrongly sized file.
    """
    pairs, found = pair_masks(pred, truth)
    problems = _errors(found)
    if not pairs:
        raise CalcoError(*problems)
    try:
        pred_code, true_code = _codes(pairs, pred, truth, data)
    except CalcoError as error:
        raise CalcoError(*problems, *error.problems) from None
    images: list[ImageScore] = []
    for pair in pairs:
        try:
            group = _group(pair.id, data.group)
            pred_mask, true_mask = (
                read_truth(FileMask(path), code, max_megapixels=data.max_megapixels)
                for path, code in ((pair.pred, pred_code), (pair.true, true_code))
            )
            _require_same_size(pair.id, pred_mask, true_mask)
        except CalcoError as error:
            problems += error.problems
            continue
        pixels = score_image(pair.id, group, FOLDERS, pred_mask, true_mask)
        images.append(score_shapes(pixels, pred_mask, true_mask, config.tolerance_px))
    if problems:
        raise CalcoError(*problems)
    return _scores(images, config, {})


def _calibration(part: Sequence[ProbMap]) -> Calibration:
    """Count the levels of all images, as they were predicted: clean-up knows no probabilities."""
    return calibrate(np.sum([count_levels(m.levels, m.true) for m in part], axis=0))


def _scores(
    images: Sequence[ImageScore],
    config: EvaluateConfig,
    calibrations: Mapping[str, Calibration],
) -> Scores:
    by_subset: dict[str, list[ImageScore]] = defaultdict(list)
    for image in images:
        by_subset[image.subset].append(image)
    summaries = {}
    for name, part in by_subset.items():
        summary = summarise(part, config.bootstrap)
        known = calibrations.get(name)
        summaries[name] = replace(
            summary,
            nsd_tolerance_px=config.tolerance_px,
            ece=known.ece if known else math.nan,
            average_precision=known.average_precision if known else math.nan,
        )
    return Scores(tuple(images), summaries, calibrations)


def _otsu_dice(index: SampleIndex, bright: bool) -> float:
    scores = []
    for sample in index:
        if sample.mask is not None:
            image, true = read_sample(sample, index)  # (H, W, C), (H, W)
            pred = otsu_mask(image, bright)
            scores.append(score_image(sample.id, sample.id, "otsu", pred, true).dice)
    return math.fsum(scores) / len(scores) if scores else math.nan


def _codes(
    pairs: Sequence[MaskPair], pred: Path, truth: Path, data: DataConfig
) -> tuple[MaskCode, MaskCode]:
    """Detect how predictions and truths are written, each for itself."""
    true_code = _code([pair.true for pair in pairs], truth, data)
    preds = [pair.pred for pair in pairs]
    try:
        pred_code = _code(preds, pred, DataConfig(max_megapixels=data.max_megapixels))
    except CalcoError:  # e.g. several classes: the user's word on the truth holds for both
        pred_code = _code(preds, pred, data)
    return pred_code, true_code


def _code(paths: Sequence[Path], root: Path, data: DataConfig) -> MaskCode:
    code, problems = detect_code([FileMask(path) for path in paths], data, root)
    if errors := _errors([p for p in problems if p.code not in SCORABLE]):
        raise CalcoError(*errors)
    return code


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    """Return the errors; the rest is logged, since scores have no place for it."""
    for problem in problems:
        if problem.severity != "error":
            _logger.warning("%s", problem)
    return [problem for problem in problems if problem.severity == "error"]


def _require_same_size(name: str, pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    if pred.shape != true.shape:
        raise CalcoError(
            Problem(
                "MASK_SIZE",
                "prediction and truth differ in size (H x W)",
                name,
                got=f"{pred.shape[0]} x {pred.shape[1]}",
                expected=f"{true.shape[0]} x {true.shape[1]}",
                do="predict at the original resolution",
            )
        )


def _group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    try:
        match = re.search(pattern, name)
    except re.error as error:
        what = f"data.group is no regular expression: {error}"
        raise CalcoError(Problem("CONFIG_VALUE", what, got=pattern, do="correct it")) from None
    if match is None or not match.groups():
        raise CalcoError(
            Problem(
                "GROUP_MISSING",
                "data.group finds no group in the name",
                name,
                got=pattern,
                expected=r"a group in parentheses that fits, such as ^(s\d+)_",
                do="correct data.group",
            )
        )
    return match.group(1)

"""Suggest stage: which unlabelled images to label next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.files import write_csv
from calco.formats.inputs import InputImage, find_images
from calco.images.duplicates import signature
from calco.images.io import read_image
from calco.inference.postprocess import clean, to_levels
from calco.inference.predictor import Predictor
from calco.inference.quality import estimate_dice
from calco.records import Suggestion

SUGGESTIONS_CSV = ("rank", "id", "source", "estimated_dice", "likeness")
Signatures = NDArray[np.float32]


def suggest(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    n: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Suggestion, ...], tuple[Problem, ...]]:
    """Rank images that the model is least sure of and that do not repeat each other.

    The first is the one with the lowest estimated Dice. Each further one has the largest product
    of expected error and distance from all chosen before, so that twenty pictures of one
    difficult scene are not asked for.

    Args:
        predictor: A trained model.
        inputs: Files, folders and patterns of unlabelled images.
        n: How many to suggest; fewer when there are fewer.
        on_progress: Called with (images done, images in all).

    Returns:
        Suggestions, most useful first, and the images that could not be read.

    Raises:
        CalcoError: When the inputs are wrong or none of them can be read.
    """
    images = find_images(inputs)
    readable: list[InputImage] = []
    estimates: list[float] = []
    signatures: list[NDArray[np.float32]] = []
    problems: list[Problem] = []
    for done, image in enumerate(images, start=1):
        try:
            pixels = read_image(image.source, predictor.spec)  # (H, W, C) uint8
        except CalcoError as error:
            problems += error.problems
        else:
            levels = to_levels(predictor.prob(pixels))
            readable.append(image)
            estimates.append(estimate_dice(levels, clean(levels, predictor.params)))
            signatures.append(signature(pixels))
        if on_progress:
            on_progress(done, len(images))
    if not readable:
        raise CalcoError(*problems)
    chosen = choose_diverse(np.array(estimates), np.stack(signatures), n)
    suggestions = tuple(
        Suggestion(rank, readable[i].id, readable[i].source, estimates[i], likeness)
        for rank, (i, likeness) in enumerate(chosen, start=1)
    )
    return suggestions, tuple(problems)


def choose_diverse(
    estimates: NDArray[np.float64], signatures: Signatures, n: int
) -> list[tuple[int, float]]:
    """Choose doubtful images that are unlike each other, greedily.

    Args:
        estimates: (images,) estimated Dice.
        signatures: (images, D) float32, rows of length 1 or 0.
        n: How many.

    Returns:
        Number of each chosen image and its correlation with the most alike chosen before, in
        [0, 1]; equal ones are taken in their order.

    Reference:
        Batches that are uncertain and diverse: Brinker (2003), ICML; farthest-first traversal:
        Gonzalez (1985), https://doi.org/10.1016/0304-3975(85)90224-5
    """
    errors = 1 - estimates
    likeness = np.zeros(len(estimates))  # with the most alike image chosen so far
    left = np.ones(len(estimates), bool)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(n, len(estimates))):
        # a little for sure images too: when all doubt is gone, variety decides
        worth = np.where(left, (errors + 0.01) * (1 - likeness), -1.0)
        best = int(np.argmax(worth))
        chosen.append((best, float(likeness[best])))
        left[best] = False
        likeness = np.maximum(likeness, np.clip(signatures @ signatures[best], 0.0, 1.0))
    return chosen


def write_suggestions(suggestions: Sequence[Suggestion], path: Path) -> None:
    """Write the suggestions as a table, one row each."""
    rows = [(s.rank, s.id, str(s.source), s.estimated_dice, s.likeness) for s in suggestions]
    write_csv(path, SUGGESTIONS_CSV, rows)

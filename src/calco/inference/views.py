"""An image seen in several ways, mirrored, turned or scaled, and the mean of what is predicted.

Sums are kept instead of maps, so that memory does not grow with the number of views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from calco.images.augment import rescaled
from calco.records import MEANS, Mean, Postprocess
from calco.records.network import scaled_px

CERTAIN = np.float32(1e-6)
"""How near a probability may come to 0 or 1 in a mean of logits: no view outvotes all others."""

Image = NDArray[np.uint8]
FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One way to see an image.

    Attributes:
        quarter_turns: Counter-clockwise, after mirroring.
        mirrored: Left and right exchanged.
        scale: Of both sides.
    """

    quarter_turns: int = 0
    mirrored: bool = False
    scale: float = 1.0

    def of(self, image: Image) -> Image:
        """Return (H, W, C) as it is seen: contiguous, turned and scaled."""
        seen = image[:, ::-1] if self.mirrored else image
        seen = np.ascontiguousarray(np.rot90(seen, self.quarter_turns))
        if self.scale == 1:
            return seen
        size = (scaled_px(seen.shape[0], self.scale), scaled_px(seen.shape[1], self.scale))
        return rescaled(seen, size)

    def back(self, prob: FloatMap, size: tuple[int, int]) -> FloatMap:
        """Return a map of what was seen as a map of the image, whose (height, width) is given."""
        height, width = size if self.quarter_turns % 2 == 0 else size[::-1]
        if prob.shape != (height, width):
            prob = np.asarray(cv2.resize(prob, (width, height), interpolation=cv2.INTER_LINEAR))
        turned = np.rot90(prob, -self.quarter_turns)
        return turned[:, ::-1] if self.mirrored else turned


def views_of(params: Postprocess) -> tuple[View, ...]:
    """Return the views that a prediction is the mean of; the image as it is comes first.

    Example:
        >>> len(views_of(Postprocess())), len(views_of(Postprocess(flips=True, turns=True)))
        (1, 8)
    """
    quarters = (0, 1, 2, 3) if params.turns else (0, 2) if params.flips else (0,)
    sides = (False, True) if params.flips else (False,)
    return tuple(
        View(quarter, mirrored, scale)
        for scale in (1.0, *params.scales)
        for quarter in quarters
        for mirrored in sides
    )


def cost_of(params: Postprocess) -> float:
    """Return how many plain predictions of an image its views cost."""
    return sum(view.scale**2 for view in views_of(params))


def mean_over(
    image: Image,
    views: Sequence[View],
    predict: Callable[[Image], FloatMap],
    means: Sequence[Mean] = MEANS,
) -> dict[Mean, FloatMap]:
    """Predict all views one after the other and average, in one or several ways at once.

    Args:
        image: (H, W, C) uint8.
        views: At least one.
        predict: From (h, w, C) uint8 to (h, w) float32 in [0, 1].
        means: ``prob`` averages probabilities, ``logit`` their logits.

    Returns:
        (H, W) float32 in [0, 1] by mean.
    """
    size = (image.shape[0], image.shape[1])
    totals = {mean: np.zeros(size, np.float32) for mean in means}
    for view in views:
        prob = view.back(predict(view.of(image)), size)
        for mean, total in totals.items():
            total += prob if mean == "prob" else logit(np.clip(prob, CERTAIN, 1 - CERTAIN))
    found: dict[Mean, FloatMap] = {}
    for mean, total in totals.items():
        total /= np.float32(len(views))
        found[mean] = total if mean == "prob" else np.asarray(expit(total), np.float32)
    return found

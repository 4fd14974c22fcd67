"""One evaluation for all: calco's, at original resolution, threshold 0.5, no clean-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calco.inference.postprocess import clean
from calco.metrics import overlap
from calco.metrics.counts import count
from calco.records import Counts, Postprocess
from contenders.courses import Labelled
from contenders.records import Tally

Prob = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Image (H, W, C) uint8 to the probability of foreground (H, W) float32."""
PLAIN = Postprocess()  # threshold 0.5 and nothing else


def score(prob: Prob, images: Sequence[Labelled]) -> dict[str, Tally]:
    """Count the pixels of every image at threshold 0.5."""
    return {i.id: tally(clean(prob(i.image), PLAIN), i.true) for i in images}


def tally(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> Tally:
    """Count the pixels of one predicted mask, (H, W) bool, against its truth."""
    counts = count(pred, true)
    return counts.tp, counts.fp, counts.fn


def dice(counted: Tally) -> float:
    """Return the Dice of one image under calco's policy: 1 when both masks are empty.

    Example:
        >>> dice((2, 1, 1)), dice((0, 0, 0)), dice((0, 5, 0))
        (0.6666666666666666, 1.0, 0.0)
    """
    value = overlap.dice(Counts(*counted))
    return 1.0 if math.isnan(value) else value


def mean_dice(images: Mapping[str, Tally]) -> float:
    """Return the mean per-image Dice."""
    return math.fsum(map(dice, images.values())) / len(images)


def pooled_dice(images: Iterable[Tally]) -> float:
    """Return the Dice of the pixels of all images together."""
    return dice(tuple(map(sum, zip(*images, strict=True))))  # type: ignore[arg-type]

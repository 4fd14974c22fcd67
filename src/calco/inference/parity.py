"""How alike two engines predict the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calco.inference.engines import Engine, Images

MARGIN = 0.01  # of a logit: nearer to the threshold, rounding may decide
LARGEST_LOGIT = 30.0  # beyond it a probability is 0 or 1 in float32


@dataclass(frozen=True)
class Parity:
    """How alike two engines predict.

    Attributes:
        engine: What was tried.
        reference: What is believed.
        n_images: Real images that both predicted.
        n_px: Their pixels.
        max_error: Largest difference of two probabilities.
        n_unlike: Pixels on different sides of the threshold, though both logits are further than
            ``margin`` from it.
        n_near: Pixels on different sides of it, a logit being that near.
        margin: As above.
    """

    engine: str
    reference: str
    n_images: int
    n_px: int
    max_error: float
    n_unlike: int
    n_near: int
    margin: float = MARGIN


def compare(
    reference: Engine, engine: Engine, images: Sequence[Images], threshold: float
) -> Parity:
    """Let two engines predict the same images and count where they part.

    Args:
        reference: What is believed.
        engine: What is tried.
        images: (H, W, C) uint8 each.
        threshold: Probability above which a pixel is foreground, in (0, 1).
    """
    cut = float(np.log(threshold) - np.log1p(-threshold))  # the logit of the threshold
    max_error, n_px, n_unlike, n_near = 0.0, 0, 0, 0
    for image in images:
        wanted, found = _logits(reference, image), _logits(engine, image)  # (H, W)
        differ = (wanted > cut) != (found > cut)
        near = np.minimum(np.abs(wanted - cut), np.abs(found - cut)) <= MARGIN
        n_px += wanted.size
        n_unlike += int(np.count_nonzero(differ & ~near))
        n_near += int(np.count_nonzero(differ & near))
        max_error = max(max_error, float(np.abs(_prob(wanted) - _prob(found)).max()))
    return Parity(engine.name, reference.name, len(images), n_px, max_error, n_unlike, n_near)


def _logits(engine: Engine, image: Images) -> NDArray[np.float64]:
    # several networks that are all certain have a mean probability of 1, whose logit is infinite
    logits = engine.logits(image[None])[0].astype(np.float64)  # (H, W)
    finite: NDArray[np.float64] = np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    return finite


def _prob(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    prob: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return prob

"""How good a mask probably is, without its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def estimate_dice(levels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Estimate the Dice that a mask would get, from the probabilities it was made of.

    Where probabilities mean what they say, the pixels that a mask shares with the unknown truth
    are expected to be the probability inside the mask, and the truth's area the probability
    everywhere. The ratio of the expectations stands for the expected ratio. Networks tend to be
    too sure of themselves, so that it tells good masks from bad ones better than how good they are.

    Args:
        levels: (H, W) uint8, ``rint(255 * prob)``.
        mask: (H, W) bool, made of them.

    Returns:
        In [0, 1]. For an empty mask the chance that nothing is there, 1 - largest probability.

    Example:
        >>> levels = np.array([[255, 255, 0, 51]], np.uint8)
        >>> estimate_dice(levels, levels > 127)  # 2 * 2 / (2 + 2.2)
        0.9523809523809523
    """
    return DiceEstimate().plus(levels, mask).dice


@dataclass(frozen=True)
class DiceEstimate:
    """The sums of ``estimate_dice``, of images that are seen part by part.

    Attributes:
        n_pred: Pixels of the mask.
        inside: Sum of levels inside the mask.
        everywhere: Sum of all levels.
        highest: The highest level.
    """

    n_pred: int = 0
    inside: int = 0
    everywhere: int = 0
    highest: int = 0

    def plus(self, levels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> DiceEstimate:
        """Return the sums with a part added: (h, W) uint8 levels and bool mask."""
        return DiceEstimate(
            self.n_pred + int(np.count_nonzero(mask)),
            self.inside + int(levels[mask].sum(dtype=np.int64)),
            self.everywhere + int(levels.sum(dtype=np.int64)),
            max(self.highest, int(levels.max())),
        )

    @property
    def dice(self) -> float:
        """The estimate, in [0, 1]."""
        if not self.n_pred:
            return 1 - self.highest / 255
        return 2 * self.inside / (255 * self.n_pred + self.everywhere)

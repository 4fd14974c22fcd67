"""What quick trainings on parts of the training images foretell of more labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from calco.records.tables import html_table


@dataclass(frozen=True)
class LearningPoint:
    """Quick trainings on one number of images.

    Attributes:
        n_images: Training images.
        dices: Mean validation Dice in [0, 1] of each training.
        fitted_dice: What the fitted curve says there.
    """

    n_images: int
    dices: tuple[float, ...]
    fitted_dice: float

    @property
    def dice_mean(self) -> float:
        """Mean over the trainings."""
        return fmean(self.dices)


@dataclass(frozen=True)
class LearningCurve:
    """How validation Dice grew with the number of training images, and where that leads.

    Attributes:
        points: By number of images, ascending; the last has all of them.
        gain: Validation Dice that twice as many images would add, on average.
        ci95: Its 95 % band; NaN with fewer than two validation groups.
        n_validation: Images that every training was validated on.
        seconds_each: Time that each training was given.
    """

    points: tuple[LearningPoint, ...]
    gain: float
    ci95: tuple[float, float]
    n_validation: int
    seconds_each: float

    @property
    def n_images(self) -> int:
        """Training images there are."""
        return self.points[-1].n_images

    @property
    def forecast_dice(self) -> float:
        """Expected validation Dice of a quick training on twice as many images."""
        return self.points[-1].fitted_dice + self.gain

    @property
    def shown(self) -> bool:
        """Whether the band leaves no doubt that more labels help."""
        return self.ci95[0] > 0

    @property
    def sentence(self) -> str:
        """Say it in one sentence, in Dice points (hundredths)."""
        low, high = self.ci95
        start = f"twice as many labels ({2 * self.n_images} instead of {self.n_images})"
        start += f": {_points(self.gain, '+')} Dice points"
        if math.isnan(low):
            return f"{start}, validated on one group: not shown"
        verdict = "shown" if self.shown else "not shown"
        return f"{start}, 95 % band {_points(low)} to {_points(high)}: {verdict}"

    def _repr_html_(self) -> str:
        rows = [
            (p.n_images, ", ".join(f"{dice:.4f}" for dice in p.dices), f"{p.fitted_dice:.4f}")
            for p in self.points
        ]
        table = html_table(rows, header=("training images", "validation Dice", "fitted"))
        return f"{table}<p>{self.sentence}</p>"


def _points(dice: float, sign: str = "") -> str:
    text = f"{100 * dice:{sign}.1f}"
    return "0.0" if text in ("0.0", "+0.0", "-0.0") else text

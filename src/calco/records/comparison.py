"""How two runs compare."""

from __future__ import annotations

from dataclasses import dataclass

from calco.errors import Problem


@dataclass(frozen=True)
class Comparison:
    """How much better one run is than another on the images that both were tested on.

    Attributes:
        first: Name of the run compared with.
        second: Name of the run compared.
        n_images: Images that both were tested on.
        n_groups: Groups of these.
        difference: Mean per-image Dice of the second minus that of the first; NaN without images.
        ci95: Its 95 % interval, groups resampled; NaN with fewer than two groups.
        p_value: How often chance alone makes so large a difference; signs of groups flipped.
        problems: What keeps the comparison from being fair.
    """

    first: str
    second: str
    n_images: int
    n_groups: int
    difference: float
    ci95: tuple[float, float]
    p_value: float
    problems: tuple[Problem, ...] = ()

    @property
    def shown(self) -> bool:
        """Whether the interval leaves no doubt which run is better."""
        low, high = self.ci95
        return low > 0 or high < 0

    @property
    def sentence(self) -> str:
        """Say it in one sentence, in Dice points (hundredths)."""
        pair = f"{self.second} against {self.first}"
        if not self.n_images:
            return f"{pair}: no image was tested in both"
        low, high = self.ci95
        points = f"{pair}: {_points(self.difference)} Dice points"
        if low != low:
            return f"{points} on {self.n_images} images of one group: not shown"
        verdict = "shown" if self.shown else "not shown"
        return f"{points}, 95 % interval {_points(low)} to {_points(high)}: {verdict}"


def _points(dice: float) -> str:
    text = f"{100 * dice:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text

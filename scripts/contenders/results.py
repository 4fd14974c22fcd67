"""Result files put together: seeds averaged per image, groups resampled, contenders paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from calco.files import read_csv
from calco.metrics.intervals import mean_interval, sign_flip_p
from calco.records import Subset
from contenders.records import Run, load_runs
from contenders.scoring import dice, mean_dice, pooled_dice

BOOTSTRAP = 2000
DRAWS = 10_000


@dataclass(frozen=True)
class Entrant:
    """One row of a table: a contender, and whether its own clean-up is applied."""

    contender: str
    label: str
    delivered: bool = False


ENTRANTS = (
    Entrant("calco", "calco, threshold 0.5"),
    Entrant("calco", "calco, as delivered", delivered=True),
    Entrant("classic", "classic recipe"),
    Entrant("smp-scratch", "SMP: ResNet-34 U-Net, from scratch"),
    Entrant("smp-imagenet", "SMP: EfficientNet-lite0 U-Net, ImageNet"),
    Entrant("monai", "MONAI UNet"),
    Entrant("nnunet", "nnU-Net 2"),
)
PLAIN_CALCO, CALCO = ENTRANTS[:2]
SCRATCH = tuple(e for e in ENTRANTS if e.contender not in ("calco", "smp-imagenet"))
OTHERS = tuple(e for e in ENTRANTS if e.contender != "calco")


@dataclass(frozen=True)
class Cell:
    """The figure of one entrant on one part.

    Attributes:
        seeds: Mean per-image Dice of each seed.
        mean: Over the seeds.
        low: Of the 95 % interval over groups of images, seeds averaged first.
        high: Its other end.
        pooled: Dice of all pixels together, per seed.
    """

    seeds: tuple[float, ...]
    mean: float
    low: float
    high: float
    pooled: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """First minus second, on the same images."""

    difference: float
    low: float
    high: float
    p_value: float


class Results:
    """All finished runs of one folder.

    Args:
        folder: With the result files, and the divisions in ``splits/<set>.csv``.

    Raises:
        RuntimeError: When runs of one set were made on different divisions.
    """

    def __init__(self, folder: Path) -> None:
        self.runs = load_runs(folder)
        self.groups: dict[str, dict[str, str]] = {}
        for path in sorted((folder / "splits").glob("*.csv")):
            self.groups[path.stem] = {row["id"]: row["group"] for row in read_csv(path)}
        for data in {run.job.data for run in self.runs}:
            if len({run.split_sha256 for run in self.runs if run.job.data == data}) > 1:
                raise RuntimeError(f"{data}: results of different divisions lie side by side")

    def of(self, entrant: Entrant, data: str, budget_s: float) -> list[Run]:
        """Return the runs of one contender, seed by seed."""
        found = [
            run
            for run in self.runs
            if (run.job.contender, run.job.data, run.job.budget_s)
            == (entrant.contender, data, budget_s)
        ]
        return sorted(found, key=lambda run: run.job.seed)

    def budgets_s(self, data: str, contender: str = "") -> list[float]:
        """Return the budgets that a set, or a contender on it, was run with, shortest first."""
        jobs = [run.job for run in self.runs if run.job.data == data]
        return sorted({j.budget_s for j in jobs if contender in ("", j.contender)})

    def cell(self, entrant: Entrant, data: str, budget_s: float, part: Subset) -> Cell | None:
        """Return one figure; None when there is no run."""
        runs = self.of(entrant, data, budget_s)
        if not runs:
            return None
        tallies = [_tallies(run, entrant, part) for run in runs]
        averaged = self._averaged(entrant, data, budget_s, part)
        low, high = mean_interval(list(averaged.values()), self._groups(data, averaged), BOOTSTRAP)
        seeds = tuple(mean_dice(images) for images in tallies)
        pooled = tuple(pooled_dice(images.values()) for images in tallies)
        return Cell(seeds, fmean(seeds), low, high, pooled)

    def pair(
        self, entrants: tuple[Entrant, Entrant], data: str, budget_s: float, part: Subset
    ) -> Pair | None:
        """Compare two entrants image by image; None unless both have runs."""
        first, second = (self._averaged(e, data, budget_s, part) for e in entrants)
        both = sorted(first.keys() & second.keys())
        if not both:
            return None
        differences = [first[i] - second[i] for i in both]
        groups = self._groups(data, both)
        low, high = mean_interval(differences, groups, BOOTSTRAP)
        p_value = sign_flip_p(differences, groups, DRAWS)
        return Pair(math.fsum(differences) / len(both), low, high, p_value)

    def _averaged(
        self, entrant: Entrant, data: str, budget_s: float, part: Subset
    ) -> dict[str, float]:
        """Average every image's Dice over the seeds that scored it."""
        seeds = [_tallies(run, entrant, part) for run in self.of(entrant, data, budget_s)]
        ids = sorted({i for images in seeds for i in images})
        return {i: fmean(dice(images[i]) for images in seeds if i in images) for i in ids}

    def _groups(self, data: str, ids: Sequence[str] | Mapping[str, float]) -> list[str]:
        group_of = self.groups.get(data, self.groups.get(data.rpartition("-")[0], {}))
        return [group_of.get(i, i) for i in ids]


def _tallies(run: Run, entrant: Entrant, part: Subset) -> Mapping[str, tuple[int, int, int]]:
    parts = run.outcome.delivered if entrant.delivered else run.outcome.scores
    return parts.get(part) or run.outcome.scores[part]  # the others deliver what is scored

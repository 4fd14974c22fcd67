"""The learning curve, against curves whose future is known; nothing is trained here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.records import (
    Assignment,
    Counts,
    FileMask,
    ImageScore,
    ImageSpec,
    LearningCurve,
    MaskCode,
    Sample,
    SampleIndex,
    Split,
    Subset,
)
from calco.stages.learning_curve import (
    MIN_IMAGES,
    measure_learning,
    worth_measuring,
)

Share = NDArray[np.float64]
NAN = math.nan


def split_of(train: Sequence[int], n_validation: int = 6, n_folds: int = 1) -> Split:
    """Make a split of training groups of the sizes given, validation and two test images.

    With folds, validation joins training and images are dealt out one by one.
    """
    sizes = enumerate(train)
    rows = [Assignment(f"train{g}_{i}", f"group{g}", "train") for g, n in sizes for i in range(n)]
    part: Subset = "train" if n_folds > 1 else "validation"
    rows += [Assignment(f"validation{i}", f"validation{i}", part) for i in range(n_validation)]
    rows = [replace(row, fold=number % n_folds) for number, row in enumerate(rows)]
    rows += [Assignment(f"test{i}", f"test{i}", "test") for i in range(2)]
    rows.sort(key=lambda row: row.id)
    place = Path("data")
    files = [(place / f"{row.id}.png", FileMask(place / f"{row.id}_mask.png")) for row in rows]
    samples = tuple(Sample(row.id, *pair) for row, pair in zip(rows, files, strict=True))
    index = SampleIndex(place, "", samples, ImageSpec(), MaskCode("values", (255,)))
    return Split(index, tuple(rows))


def scores_of(split: Split, dice: float) -> list[ImageScore]:
    validation, groups = split.part_and_groups("validation")
    return [
        ImageScore(s.id, group, "validation", Counts(1, 1, 1), dice, NAN, NAN, NAN)
        for s, group in zip(validation, groups, strict=True)
    ]


class Trainer:
    """Stands for training: the error follows a curve of the number of images."""

    def __init__(
        self, error: Callable[[int], float] = lambda n: n**-0.5, cost_s: float = 1.0
    ) -> None:
        self.error = error
        self.cost_s = cost_s  # seconds that training takes per second that it is given
        self.calls: list[tuple[Split, float, int]] = []
        self.clock_s = 0.0

    def __call__(self, split: Split, allowance_s: float, seed: int) -> list[ImageScore]:
        self.calls.append((split, allowance_s, seed))
        self.clock_s += self.cost_s * allowance_s
        return scores_of(split, 1 - self.error(len(split.part("train"))))

    def measure(
        self, split: Split, allowance_s: float = 100.0, seed: int = 0
    ) -> LearningCurve | None:
        return measure_learning(self, split, allowance_s, seed, now=lambda: self.clock_s)

    @property
    def sizes(self) -> list[int]:
        return [len(split.part("train")) for split, _, _ in self.calls]


# --- what is trained on ------------------------------------------------------------------------


def test_parts_are_nested_halves_of_equal_time() -> None:
    trainer = Trainer()
    curve = trainer.measure(split_of([1] * 48), allowance_s=100.0)
    assert trainer.sizes == [48, 24, 12, 6]
    assert {each for _, each, _ in trainer.calls} == {25.0}
    parts = [{s.id for s in split.part("train")} for split, _, _ in trainer.calls]
    assert all(smaller < larger for larger, smaller in itertools.pairwise(parts))
    assert curve is not None
    assert [point.n_images for point in curve.points] == [6, 12, 24, 48]
    assert [point.dice_mean for point in curve.points] == pytest.approx(
        [1 - n**-0.5 for n in (6, 12, 24, 48)]
    )


def test_groups_stay_whole_and_validation_the_same() -> None:
    whole = split_of([4] * 10 + [1] * 8)
    trainer = Trainer()
    trainer.measure(whole)
    sizes = {a.group: sum(b.group == a.group for b in whole.assignments) for a in whole.assignments}
    for split, _, _ in trainer.calls:
        assert [s.id for s in split.part("validation")] == [s.id for s in whole.part("validation")]
        assert not len(split.part("test"))
        groups = split.groups("train")
        assert {g: groups.count(g) for g in groups} == {g: sizes[g] for g in groups}
    assert len(trainer.calls) >= 3


def test_no_part_has_fewer_than_five_images() -> None:
    trainer = Trainer()
    trainer.measure(split_of([1] * 20))
    assert trainer.sizes == [20, 10, 5]
    assert min(trainer.sizes) == MIN_IMAGES


@pytest.mark.parametrize("train", [[1] * 7, [40], [20, 1, 1, 1]])
def test_too_few_groups_give_no_curve(train: list[int]) -> None:
    assert Trainer().measure(split_of(train)) is None


def test_a_large_group_is_either_in_or_out() -> None:
    trainer = Trainer()
    trainer.measure(split_of([20] + [1] * 20))
    assert trainer.sizes[0] == 40
    # 20 of 40 is the half, alone or as all the others; no part comes close to a larger one
    assert all(b <= 0.75 * a for a, b in itertools.pairwise(trainer.sizes))


def test_with_folds_the_first_division_is_halved() -> None:
    split = split_of([1] * 40, n_folds=4)
    trainer = Trainer()
    trainer.measure(split)
    first = split.divisions()[0]
    part = trainer.calls[0][0]
    assert part.n_folds == 1
    assert part.part("train") == first.train
    assert part.part("validation") == first.validation


def test_little_time_leaves_out_the_smallest_parts_and_plenty_repeats_them() -> None:
    short, none, long = Trainer(), Trainer(), Trainer()
    short.measure(split_of([1] * 80), allowance_s=60.0)
    assert short.sizes == [80, 40, 20]
    assert none.measure(split_of([1] * 80), allowance_s=30.0) is None
    assert not none.calls
    curve = long.measure(split_of([1] * 80), allowance_s=600.0)
    assert long.sizes == [80, 40, 20, 10] * 2
    assert [seed for _, _, seed in long.calls] == [0] * 4 + [1] * 4
    assert curve is not None
    assert [len(point.dices) for point in curve.points] == [2, 2, 2, 2]
    smallest = [{s.id for s in split.part("train")} for split, _, _ in long.calls[3::4]]
    assert smallest[0] != smallest[1]


def test_trainings_that_take_too_long_are_not_followed_by_more() -> None:
    trainer = Trainer(cost_s=1.3)
    curve = trainer.measure(split_of([1] * 80), allowance_s=100.0)
    assert trainer.sizes == [80, 40, 20]  # 97.5 s; a fourth would end far beyond 110 s
    assert curve is not None
    slow = Trainer(cost_s=4.0)
    assert slow.measure(split_of([1] * 80), allowance_s=100.0) is None
    assert slow.sizes == [80]


def test_the_same_seed_gives_the_same_curve() -> None:
    split = split_of([1] * 48)
    assert Trainer().measure(split, seed=3) == Trainer().measure(split, seed=3)
    drawn = [Trainer(), Trainer()]
    for seed, trainer in enumerate(drawn):
        trainer.measure(split, seed=seed)
    assert drawn[0].calls[-1][0] != drawn[1].calls[-1][0]


@pytest.mark.parametrize(
    ("n_train", "budget_s", "expected"),
    [
        (24, 600.0, True),
        (100, 3600.0, True),
        (101, 3600.0, False),  # only on request
        (24, 599.0, False),
        (9, 3600.0, False),  # no two sizes
        (24, None, False),
    ],
)
def test_when_it_is_worth_measuring(n_train: int, budget_s: float | None, expected: bool) -> None:
    assert worth_measuring(n_train, budget_s) is expected

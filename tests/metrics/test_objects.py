from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.metrics.counts import count
from calco.metrics.objects import dsb2018, match_objects, object_f1, tgs
from calco.records import OBJECT_IOU_PERCENT, Counts, ObjectCounts

Mask = NDArray[np.bool_]
NAN = math.nan


def grid(*rows: str) -> Mask:
    return np.array([[cell == "#" for cell in row] for row in rows])


def passing(limits: int, matches: int = 1) -> tuple[int, ...]:
    """Counts of true positives when ``matches`` pass the first ``limits`` of the ten limits."""
    return (matches,) * limits + (0,) * (10 - limits)


@pytest.mark.parametrize(
    # expected: objects predicted and true, matches, F1 at 0.50 and 0.75, DSB 2018, TGS
    ("pred", "true", "n_pred", "n_true", "tp", "ratios"),
    [
        ("...", "...", 0, 0, passing(0), (NAN, NAN, 1, 1)),  # nothing there, nothing found
        ("#..", "...", 1, 0, passing(0), (0, 0, 0, 0)),
        ("...", "#..", 0, 1, passing(0), (0, 0, 0, 0)),
        ("##.", "##.", 1, 1, passing(10), (1, 1, 1, 1)),
        ("#..", "..#", 1, 1, passing(0), (0, 0, 0, 0)),  # beside the object
        ("#.", "##", 1, 1, passing(0), (0, 0, 0, 0)),  # IoU exactly 0.50: no match
        ("##.", "###", 1, 1, passing(4), (1, 0, 0.4, 0.4)),  # IoU 2/3: 0.50 to 0.65
        ("###.", "####", 1, 1, passing(5), (1, 0, 0.5, 0.5)),  # IoU exactly 0.75
        ("####.", "#####", 1, 1, passing(6), (1, 1, 0.6, 0.6)),  # IoU exactly 0.80
        ("#" * 19 + ".", "#" * 20, 1, 1, passing(9), (1, 1, 0.9, 0.9)),  # IoU exactly 0.95
        ("#" * 20 + ".", "#" * 21, 1, 1, passing(10), (1, 1, 1, 1)),  # IoU 20/21
        # halves of 2 and 1 pixels: IoU 2/4 and 1/4; the image's is 3/4
        ("##.#", "####", 2, 1, passing(0), (0, 0, 0, 0.5)),
        # joined: IoU 2/5 with either; the image's is 4/5
        ("#####", "##.##", 1, 2, passing(0), (0, 0, 0, 0.6)),
        # both found and one more: F1 4/5, 2 of 3 objects, IoU of the image 2/3
        ("#.#.#", "#.#..", 3, 2, passing(10, 2), (0.8, 0.8, 2 / 3, 0.4)),
        # one perfect, one with IoU 2/3: (4 * 2/2 + 6 * 1/3) / 10; IoU of the image 3/4
        ("#.##.", "#.###", 2, 2, (2, 2, 2, 2, 1, 1, 1, 1, 1, 1), (1, 0.5, 0.6, 0.5)),
    ],
)
def test_golden_pairs(
    pred: str, true: str, n_pred: int, n_true: int, tp: tuple[int, ...], ratios: tuple[float, ...]
) -> None:
    objects = match_objects(grid(pred), grid(true))
    assert objects == ObjectCounts(n_pred, n_true, tp)
    found = (
        object_f1(objects, 50),
        object_f1(objects, 75),
        dsb2018(objects),
        tgs(count(grid(pred), grid(true))),
    )
    assert found == pytest.approx(ratios, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize(
    ("mask", "n_objects"),
    [
        (grid("#.", ".#"), 1),  # touching at a corner
        (grid("#..", "..#"), 2),
        (grid("#####", "#...#", "#.#.#", "#...#", "#####"), 2),  # a dot in a ring
        (grid("#.#", ".#.", "#.#"), 1),
        (grid(*["#." * 10, "." * 20] * 10), 100),
    ],
)
def test_objects_are_8_connected(mask: Mask, n_objects: int) -> None:
    assert match_objects(mask, mask) == ObjectCounts(n_objects, n_objects, (n_objects,) * 10)


def flood(mask: Mask) -> list[set[tuple[int, int]]]:
    """Gather the objects pixel by pixel."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    found = []
    while left:
        todo, seen = [left.pop()], set()
        while todo:
            row, col = todo.pop()
            seen.add((row, col))
            near = {(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(seen)
    return found


def by_hand(pred: Mask, true: Mask) -> ObjectCounts:
    """Compare every pair of objects with fractions."""
    preds, trues = flood(pred), flood(true)
    ious = [Fraction(len(p & t), len(p | t)) for p in preds for t in trues]
    tp = [sum(iou > Fraction(percent, 100) for iou in ious) for percent in range(50, 100, 5)]
    return ObjectCounts(len(preds), len(trues), tuple(tp))


def test_agrees_with_comparing_every_pair_on_500_random_masks() -> None:
    rng = np.random.default_rng(0)
    n_matches = 0
    for _ in range(500):
        size = rng.integers(1, 18, 2)
        true = rng.random(size) < rng.choice([0, 0.1, 0.3, 0.6, 1])
        flipped = rng.random(size) < rng.choice([0, 0.02, 0.1, 0.5])
        pred = true ^ flipped  # alike, so that there is something to match
        objects = match_objects(pred, true)
        assert objects == by_hand(pred, true)
        n_matches += sum(objects.tp)
    assert n_matches > 1000  # the negative control: the masks do hold matches


@pytest.mark.parametrize("seed", range(5))
def test_turning_and_swapping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random((30, 20)) < 0.2
    pred = true ^ (rng.random((30, 20)) < 0.05)
    objects = match_objects(pred, true)
    assert match_objects(pred[::-1, ::-1], true[::-1, ::-1]) == objects
    assert match_objects(pred.T, true.T) == objects
    back = match_objects(true, pred)
    assert (back.n_pred, back.n_true, back.tp) == (objects.n_true, objects.n_pred, objects.tp)


def test_matches_are_one_to_one_and_fewer_at_higher_limits() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        true = rng.random((40, 40)) < 0.3
        objects = match_objects(true ^ (rng.random((40, 40)) < 0.05), true)
        assert max(objects.tp) <= min(objects.n_pred, objects.n_true)
        assert list(objects.tp) == sorted(objects.tp, reverse=True)


def test_more_objects_than_a_byte_or_a_short_can_number() -> None:
    mask = np.zeros((600, 600), bool)
    mask[::2, ::2] = True
    assert match_objects(mask, mask).tp[-1] == 90_000


def test_objects_of_images_add_up() -> None:
    found = ObjectCounts(2, 3, passing(4, 2))
    missed = ObjectCounts(0, 5, passing(0))
    assert found + missed == ObjectCounts(2, 8, passing(4, 2))
    assert object_f1(found + missed) == pytest.approx(2 * 2 / 10)  # pooled, no mean of F1


def test_there_is_no_f1_between_the_limits() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        object_f1(ObjectCounts(1, 1, passing(10)), 51)


@pytest.mark.parametrize("percent", OBJECT_IOU_PERCENT)
def test_an_image_at_a_limit_does_not_exceed_it(percent: int) -> None:
    at, above = Counts(percent, 100 - percent, 0), Counts(10 * percent + 1, 0, 999 - 10 * percent)
    n_below = OBJECT_IOU_PERCENT.index(percent)
    assert tgs(at) == n_below / 10
    assert tgs(above) == (n_below + 1) / 10


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(CalcoError, match="MASK_SIZE"):
        match_objects(np.zeros((4, 5), bool), np.zeros((5, 4), bool))

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.metrics.counts import count
from calco.records import Counts


def grid(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def by_hand(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> Counts:
    """Count pixel by pixel, independently of NumPy's counting."""
    cells = [(bool(p), bool(t)) for p, t in zip(pred.flat, true.flat, strict=True)]
    return Counts(
        tp=sum(p and t for p, t in cells),
        fp=sum(p and not t for p, t in cells),
        fn=sum(t and not p for p, t in cells),
        tn=sum(not p and not t for p, t in cells),
    )


def test_counts_a_typed_pair() -> None:
    pred = grid("##..", "##..", "....")
    true = grid(".##.", ".##.", "...#")
    assert count(pred, true) == Counts(tp=2, fp=2, fn=3, tn=5)


def test_agrees_with_counting_pixel_by_pixel_on_500_random_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(1, 24, size=2)
        # densities 0 and 1 occur too: empty and full masks
        pred = rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
        true = rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
        counts = count(pred, true)
        assert counts == by_hand(pred, true)
        assert counts.tp + counts.fp + counts.fn + counts.tn == height * width


def test_does_not_depend_on_memory_layout_or_flips() -> None:
    rng = np.random.default_rng(1)
    pred, true = rng.random((2, 31, 17)) < 0.4
    expected = count(pred, true)
    assert count(np.asfortranarray(pred), true) == expected
    assert count(pred[::-1, ::-1], true[::-1, ::-1]) == expected
    assert count(pred.T, true.T) == expected


def test_swapping_the_masks_swaps_false_positives_and_negatives() -> None:
    rng = np.random.default_rng(2)
    pred, true = rng.random((2, 9, 9)) < 0.4
    there, back = count(pred, true), count(true, pred)
    assert (there.fp, there.fn) == (back.fn, back.fp)
    assert (there.tp, there.tn) == (back.tp, back.tn)


def test_counts_are_python_integers() -> None:
    counts = count(np.ones((2, 2), bool), np.ones((2, 2), bool))
    assert [type(n) for n in (counts.tp, counts.fp, counts.fn, counts.tn)] == [int] * 4


def test_shapes_that_differ_are_quoted() -> None:
    with pytest.raises(CalcoError, match=r"predicted \(4, 5\) and true \(5, 4\)"):
        count(np.zeros((4, 5), bool), np.zeros((5, 4), bool))


def test_broadcastable_shapes_are_refused_too() -> None:
    with pytest.raises(CalcoError, match="MASK_SIZE"):
        count(np.zeros((4, 1), bool), np.zeros((4, 5), bool))


def test_masks_of_0_and_255_are_refused() -> None:
    with pytest.raises(CalcoError, match="predicted uint8 and true bool"):
        count(np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool))

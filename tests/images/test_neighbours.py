from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.images import neighbours
from calco.images.neighbours import NEAREST, find_candidates, standardised, turned

Thumbnails = NDArray[np.float32]


def fields(count: int, seed: int = 0) -> Thumbnails:
    """Smooth random thumbnails (count, 64, 64) of which no two are alike."""
    noise = np.random.default_rng(seed).standard_normal((count, 64, 64), np.float32)
    return np.stack([cv2.GaussianBlur(field, (0, 0), 2) for field in noise])


def candidates(thumbnails: Thumbnails) -> list[tuple[int, ...]]:
    found = find_candidates(len(thumbnails), lambda i: np.asarray(thumbnails[i]))
    return [tuple(row) for row in found.tolist()]


@pytest.mark.parametrize("turn", range(8))
def test_turned_copies_are_turned_back(turn: int) -> None:
    originals = fields(3)
    copies = turned(originals, turn)
    for thumbnails, first in (
        (np.concatenate([originals, copies]), originals),
        (np.concatenate([copies, originals]), copies),
    ):
        found = candidates(thumbnails)
        assert [pair[:2] for pair in found] == [(0, 3), (1, 4), (2, 5)]
        for one, other, back in found:
            assert np.array_equal(turned(thumbnails[other], back), first[one])


def test_crops_are_found_upright() -> None:
    originals = fields(4)
    crops = np.stack([cv2.resize(field[:61, 3:], (64, 64)) for field in originals])
    assert candidates(np.concatenate([originals, crops])) == [(i, i + 4, 0) for i in range(4)]


@pytest.mark.parametrize("window", [(0, 0, 64), (1, 1, 61), (0, 3, 61), (7, 0, 57)])
def test_windows_are_averaged_as_opencv_does(window: tuple[int, int, int]) -> None:
    thumbnails = fields(3) + np.float32(0.5)
    row, col, side_px = window
    inner = thumbnails[:, row : row + side_px, col : col + side_px]
    expected = np.stack([cv2.resize(v, (16, 16), interpolation=cv2.INTER_AREA) for v in inner])
    assert np.allclose(
        neighbours._cropped(thumbnails, window), standardised(expected.reshape(3, -1)), atol=1e-6
    )


def test_unrelated_thumbnails_are_no_candidates() -> None:
    assert candidates(fields(60)) == []


def test_cells_lose_none_of_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = fields(360)
    noise = fields(40, seed=1)
    thumbnails = np.concatenate([originals, originals[:40] + 0.5 * noise])  # correlated by 0.89
    found = candidates(thumbnails)
    assert found == [(i, i + 360, 0) for i in range(40)]
    monkeypatch.setattr(neighbours, "PROBES", 20)  # all cells of 400 images
    assert candidates(thumbnails) == found
    monkeypatch.setattr(neighbours, "PROBES", 1)  # the control: cells do decide what is compared
    assert len(candidates(thumbnails)) < 40


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = fields(70)
    thumbnails[40:] += 0.8 * thumbnails[:30]
    whole = candidates(thumbnails)
    assert len(whole) == 30
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    monkeypatch.setattr(neighbours, "MAX_SCORES", 100)
    assert candidates(thumbnails) == whole


def test_a_set_that_looks_alike_gives_a_bounded_number() -> None:
    alike = fields(1) + 0.2 * fields(200, seed=1)
    found = candidates(alike)
    assert 200 < len(found) <= 200 * NEAREST


def test_the_nearest_are_kept() -> None:
    model, others = fields(1)[0], fields(40, seed=1)
    nearness = np.linspace(0.3, 1.0, 40, dtype=np.float32)  # the more noise, the less alike
    thumbnails = np.concatenate([model[None], model + nearness[:, None, None] * others])
    found = {pair[1] for pair in candidates(thumbnails) if pair[0] == 0}
    assert found >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("count", [0, 1])
def test_few_thumbnails(count: int) -> None:
    assert find_candidates(count, lambda _: np.zeros((64, 64), np.float32)).shape == (0, 3)


def test_blank_thumbnails_resemble_nothing() -> None:
    assert candidates(np.zeros((30, 64, 64), np.float32)) == []


def test_rows_without_contrast_become_zero() -> None:
    rows = standardised(np.array([[1, 1, 1, 1], [0, 0, 0, 2]], np.float32))
    assert rows[0].tolist() == [0, 0, 0, 0]
    # minus the mean of 0.5: -0.5 three times and 1.5, of length sqrt(3)
    assert rows[1] == pytest.approx(np.array([-0.5, -0.5, -0.5, 1.5]) / np.sqrt(3))

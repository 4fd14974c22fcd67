from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.errors import CalcoError
from calco.metrics import boundary
from calco.metrics.boundary import score_boundary
from calco.records import BoundaryScore

Mask = NDArray[np.bool_]


def grid(*rows: str) -> Mask:
    return np.array([[cell == "#" for cell in row] for row in rows])


def draw(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Mask:
    """Fill boxes of (top, left, height, width)."""
    mask = np.zeros(size, bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


NONE = draw((3, 4))
ALL = draw((3, 4), (0, 0, 3, 4))
DOT = draw((3, 4), (1, 1, 1, 1))
ROOT2 = 1.4142135623730951

# expected: HD95, ASSD, NSD at a tolerance of 1 px, boundary IoU; images below 50 px across the
# diagonal have a band of 1 px, so that shapes at most 2 px thick are all band
GOLDEN = {
    "both empty": (NONE, NONE, (0, 0, 1, 1)),
    "a dot on an empty image": (DOT, NONE, (5, 5, 0, 0)),  # 3 x 4: the diagonal is 5
    "a dot missed": (NONE, DOT, (5, 5, 0, 0)),
    "a full image on an empty one": (ALL, NONE, (5, 5, 0, 0)),
    "one pixel, empty": (draw((1, 1), (0, 0, 1, 1)), draw((1, 1)), (ROOT2, ROOT2, 0, 0)),
    "one pixel, full": (draw((1, 1), (0, 0, 1, 1)), draw((1, 1), (0, 0, 1, 1)), (0, 0, 1, 1)),
    "the same dot": (DOT, DOT, (0, 0, 1, 1)),
    "the same full image": (ALL, ALL, (0, 0, 1, 1)),
    "dots side by side": (grid("#..."), grid(".#.."), (1, 1, 1, 0)),
    "dots two apart": (grid("#..."), grid("..#."), (2, 2, 0, 0)),
    "dots at a corner": (grid("#.", ".."), grid("..", ".#"), (ROOT2, ROOT2, 0, 0)),
    "dots 3 down and 4 across": (
        draw((4, 5), (0, 0, 1, 1)),
        draw((4, 5), (3, 4, 1, 1)),
        (5, 5, 0, 0),
    ),
    # distances 1 0 0 and 0 0 1; the 95 % percentile of 0 0 1 lies at 1.9 of 2 steps: 0.9
    "a line shifted along itself": (grid("###."), grid(".###"), (0.9, 2 / 6, 1, 2 / 4)),
    "the same upright": (grid("###.").T, grid(".###").T, (0.9, 2 / 6, 1, 2 / 4)),
    "a line shifted aside": (grid("###", "..."), grid("...", "###"), (1, 1, 1, 0)),
    # distances 2 1 0 1 2 and 0; three of five pixels and the dot are within 1
    "a line on a dot": (grid("#####"), grid("..#.."), (2, 6 / 6, 4 / 6, 1 / 5)),
    # distances 2 1 and 1 2: 95 % of the step from 1 to 2
    "halves of a strip": (grid("##.."), grid("..##"), (1.95, 1.5, 2 / 4, 0)),
    # every pixel is outline: columns 0 and 1 are 2 and 1 away from the other half
    "halves of an image": (
        draw((4, 4), (0, 0, 4, 2)),
        draw((4, 4), (0, 2, 4, 2)),
        (2, 1.5, 8 / 16, 0),
    ),
    # outline of the full image: its 12 border pixels, 6 on the half, 2 at 1, 4 at 2; of the half:
    # all 8 pixels, 6 on the border, 2 at 1. Bands: 12 and 8 pixels, 6 in common
    "all for one half": (
        draw((4, 4), (0, 0, 4, 4)),
        draw((4, 4), (0, 0, 4, 2)),
        (2, (2 * 1 + 4 * 2 + 2 * 1) / 20, 16 / 20, 6 / 14),
    ),
    # the pixels around a hole of one pixel are the outline with and without it
    "a hole filled": (grid("###", "###", "###"), grid("###", "#.#", "###"), (0, 0, 1, 1)),
    # outlines of 16 and 8 pixels: 12 at 1, the corners at the root of 2, and all 8 at 1 back
    "twice too large": (
        draw((7, 7), (1, 1, 5, 5)),
        draw((7, 7), (2, 2, 3, 3)),
        (ROOT2, (12 + 4 * ROOT2 + 8) / 24, 20 / 24, 0),
    ),
    # 1 stray pixel in 41 is beyond the 95 % percentile, which lies at 38 of 40 steps
    "a stray pixel, 10 away": (
        draw((12, 40), (0, 0, 1, 40), (10, 20, 1, 1)),
        draw((12, 40), (0, 0, 1, 40)),
        (0, 10 / 81, 80 / 81, 40 / 41),
    ),
    # distances 0, and 0 10 back: 95 % of the step from 0 to 10
    "one of two dots missed": (
        grid("#.........."),
        grid("#.........#"),
        (9.5, 10 / 3, 2 / 3, 1 / 2),
    ),
    # distances 0 ten times and 1 to 10: at 18.05 of 19 steps. Pooled with the 10 zeros of the way
    # back it would be 8.55: the larger of two percentiles is not the percentile of both
    "an L on its foot": (
        draw((11, 10), (0, 0, 1, 10), (1, 0, 10, 1)),
        draw((11, 10), (0, 0, 1, 10)),
        (9.05, 55 / 30, 21 / 30, 10 / 20),
    ),
    # the diagonal is 100, so the band 2: 100 - 36 pixels each. In common: 10 x 9 pixels of both
    # squares less the 6 x 7 inside either band. Outlines of 36 pixels, half of them 1 apart
    "a square shifted by 1": (
        draw((60, 80), (20, 31, 10, 10)),
        draw((60, 80), (20, 30, 10, 10)),
        (1, 0.5, 1, 48 / 80),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_pairs(name: str) -> None:
    pred, true, expected = GOLDEN[name]
    assert astuple(score_boundary(pred, true, 1)) == pytest.approx(expected, abs=1e-12)


def outline(mask: Mask) -> NDArray[np.int64]:
    """List the outline pixel by pixel, independently of OpenCV."""
    height, width = mask.shape
    found = []
    for row, col in np.argwhere(mask):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            r, c = row + down, col + right
            if not (0 <= r < height and 0 <= c < width and mask[r, c]):
                found.append((row, col))
                break
    return np.array(found, np.int64).reshape(-1, 2)


def band(mask: Mask, width_px: int) -> Mask:
    """Keep the pixels with background, or the outside, at most ``width_px`` rows or columns off."""
    height, width = mask.shape
    padded = np.pad(mask, width_px)
    inside = np.ones_like(mask)
    for down in range(2 * width_px + 1):
        for right in range(2 * width_px + 1):
            inside &= padded[down : down + height, right : right + width]
    return mask & ~inside


def percentile95(values: NDArray[np.float64]) -> float:
    ordered = sorted(values.tolist())
    place = 0.95 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def by_hand(pred: Mask, true: Mask, tolerance_px: float) -> tuple[float, float, float, float]:
    """Measure every pair of outline pixels."""
    diagonal = math.sqrt(pred.shape[0] ** 2 + pred.shape[1] ** 2)
    pred_edge, true_edge = outline(pred), outline(true)
    if not len(pred_edge) and not len(true_edge):
        return 0, 0, 1, 1
    if not len(pred_edge) or not len(true_edge):
        return diagonal, diagonal, 0, 0
    steps = pred_edge[:, None] - true_edge[None]  # (pred, true, 2)
    every = np.sqrt((steps**2).sum(axis=2))
    there, back = every.min(axis=1), every.min(axis=0)
    both = [*there.tolist(), *back.tolist()]
    width_px = max(1, round(0.02 * diagonal))
    bands = band(pred, width_px), band(true, width_px)
    return (
        max(percentile95(there), percentile95(back)),
        sum(both) / len(both),
        sum(d <= tolerance_px for d in both) / len(both),
        int((bands[0] & bands[1]).sum()) / int((bands[0] | bands[1]).sum()),
    )


def random_mask(rng: np.random.Generator, size: tuple[int, int]) -> Mask:
    """Draw noise, a dot, a box that may touch the border, nothing or everything."""
    match rng.integers(5):
        case 0:
            noise: Mask = rng.random(size) < float(rng.choice([0.03, 0.2, 0.5, 0.9]))
            return noise
        case 1:
            return draw(size, (int(rng.integers(size[0])), int(rng.integers(size[1])), 1, 1))
        case 2:
            top, left = (int(rng.integers(side)) for side in size)
            height, width = (int(n) for n in rng.integers(1, 12, 2))
            return draw(size, (top, left, height, width))
        case 3:
            return draw(size)
        case _:
            return draw(size, (0, 0, *size))


def test_agrees_with_measuring_every_pair_on_500_random_masks() -> None:
    rng = np.random.default_rng(0)
    for number in range(500):
        # every tenth is large enough for a band of 2 px and more
        low, high = (60, 90) if number % 10 == 0 else (1, 20)
        height, width = (int(n) for n in rng.integers(low, high, 2))
        pred, true = random_mask(rng, (height, width)), random_mask(rng, (height, width))
        tolerance = float(rng.choice([0, 1, ROOT2, 2, 3.5]))
        score = score_boundary(pred, true, tolerance)
        assert astuple(score) == pytest.approx(by_hand(pred, true, tolerance), abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("cost", [0, 10**9])  # all searched, all looked up in a map
def test_search_and_map_find_the_same_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, cost: int
) -> None:
    rng = np.random.default_rng(1)
    pairs = [(random_mask(rng, (30, 40)), random_mask(rng, (30, 40))) for _ in range(100)]
    expected = [score_boundary(pred, true, 2) for pred, true in pairs]
    monkeypatch.setattr(boundary, "MAP_PER_SEARCH", cost)
    assert [score_boundary(pred, true, 2) for pred, true in pairs] == expected


def test_the_comparison_would_see_a_pooled_percentile() -> None:
    """The negative control: the other definition of HD95 differs by far more than 1e-9."""
    pred, true, (hd95, *_) = GOLDEN["an L on its foot"]
    pooled = [*range(1, 11), *[0] * 20]
    assert percentile95(np.array(pooled, float)) == pytest.approx(8.55)
    assert by_hand(pred, true, 1)[0] == pytest.approx(hd95)


def some_pair(seed: int = 0) -> tuple[Mask, Mask]:
    rng = np.random.default_rng(seed)
    boxes = [tuple(int(n) for n in rng.integers(2, 20, 4)) for _ in range(4)]
    return draw((40, 50), *boxes[:2]), draw((40, 50), *boxes[2:])  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_turning_and_swapping_change_no_bit(seed: int) -> None:
    pred, true = some_pair(seed)
    score = score_boundary(pred, true, 2)
    assert score_boundary(true, pred, 2) == score
    assert score_boundary(pred.T, true.T, 2) == score
    assert score_boundary(pred[::-1, ::-1], true[::-1, ::-1], 2) == score
    assert score_boundary(np.asfortranarray(pred), true, 2) == score


@pytest.mark.parametrize("seed", range(5))
def test_empty_space_around_changes_no_distance(seed: int) -> None:
    """Masks are cut to a box inside: a wrong cut would lose or invent outline."""
    pred, true = some_pair(seed)
    score = score_boundary(pred, true, 2)
    room = ((7, 0), (300, 11))
    wider = score_boundary(np.pad(pred, room), np.pad(true, room), 2)
    assert astuple(wider)[:3] == astuple(score)[:3]


@pytest.mark.parametrize("cost", [0, 10**9])
def test_far_distances_are_exact(monkeypatch: pytest.MonkeyPatch, cost: int) -> None:
    monkeypatch.setattr(boundary, "MAP_PER_SEARCH", cost)
    pred, true = draw((1200, 1600), (0, 0, 1, 1)), draw((1200, 1600), (1199, 1599, 1, 1))
    assert score_boundary(pred, true, 2).hd95_px == math.sqrt(1199**2 + 1599**2)


def test_a_band_wider_than_the_objects_is_all_of_them() -> None:
    pred, true = draw((1000, 1500), (700, 900, 3, 9)), draw((1000, 1500), (700, 903, 3, 9))
    assert score_boundary(pred, true, 2).boundary_iou == 18 / 36  # the band would be 36 px


@pytest.mark.parametrize(("tolerance", "nsd"), [(0, 0.0), (1.4, 0.0), (ROOT2, 1.0), (9, 1.0)])
def test_a_distance_equal_to_the_tolerance_is_right(tolerance: float, nsd: float) -> None:
    pred, true, _ = GOLDEN["dots at a corner"]
    assert score_boundary(pred, true, tolerance).nsd == nsd


def test_missing_more_never_improves() -> None:
    """An image missed entirely is worse than the same image with half of it found."""
    true = draw((30, 40), (2, 2, 5, 5), (20, 25, 5, 5))
    half = score_boundary(draw((30, 40), (2, 2, 5, 5)), true, 2)
    none = score_boundary(draw((30, 40)), true, 2)
    assert none.hd95_px > half.hd95_px > 0
    assert none.assd_px > half.assd_px > 0
    assert none.nsd < half.nsd < 1
    assert none.boundary_iou < half.boundary_iou < 1


def test_scores_are_python_floats() -> None:
    score = score_boundary(*some_pair(), 2)
    assert [type(value) for value in astuple(score)] == [float] * 4
    assert isinstance(score, BoundaryScore)


@pytest.mark.parametrize("shape", [(4, 1), (5, 4)])
def test_shapes_that_differ_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(CalcoError, match="MASK_SIZE"):
        score_boundary(np.zeros(shape, bool), np.zeros((4, 5), bool), 2)


def test_masks_of_0_and_255_are_refused() -> None:
    with pytest.raises(CalcoError, match="MASK_DTYPE"):
        score_boundary(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), 2)

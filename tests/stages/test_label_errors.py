"""Planted label errors are found, named and ranked above right masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calco.files import read_csv
from calco.inference.maps import ProbMap
from calco.records import Box, Postprocess
from calco.stages.label_errors import find_label_errors, write_suspicions

Mask = NDArray[np.bool_]
SIZE = (120, 150)
ADDED = Box(90, 5, 20, 20)


def discs(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return (row, col, radius) of discs that do not touch, the lower left corner left free."""
    found: list[tuple[int, int, int]] = []
    while len(found) < 6:
        row, col, radius = rng.integers(14, 106), rng.integers(14, 136), rng.integers(6, 11)
        far = all((row - r) ** 2 + (col - c) ** 2 > (radius + q + 4) ** 2 for r, c, q in found)
        if far and not (row > 70 and col < 45):
            found.append((int(row), int(col), int(radius)))
    return found


def drawn(circles: list[tuple[int, int, int]]) -> Mask:
    mask = np.zeros(SIZE, np.uint8)
    for row, col, radius in circles:
        cv2.circle(mask, (col, row), radius, 1, -1)
    return np.asarray(mask, bool)


def predicted(mask: Mask, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A model that is right, with soft edges and a little noise."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    prob = (soft * rng.normal(0.96, 0.02, SIZE)).clip(0, 1)
    return np.asarray(np.rint(255 * prob), np.uint8)


def right_maps(n: int = 40, seed: int = 0) -> list[ProbMap]:
    rng = np.random.default_rng(seed)
    masks = [drawn(discs(rng)) for _ in range(n)]
    return [ProbMap(f"{i:02d}", f"{i}", predicted(m, rng), m) for i, m in enumerate(masks)]


def without_one(mask: Mask) -> Mask:
    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    return np.asarray(mask & (labels != 3))


def with_one_more(mask: Mask) -> Mask:
    more = mask.copy()
    more[ADDED.row : ADDED.row + ADDED.height, ADDED.col : ADDED.col + ADDED.width] = True
    return more


def moved(mask: Mask) -> Mask:
    return np.roll(mask, (7, -5), (0, 1))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(without_one, "missed object"), (with_one_more, "extra object"), (moved, "shifted")],
)
def test_a_spoilt_mask_comes_first_with_its_kind(spoil: Callable[[Mask], Mask], kind: str) -> None:
    maps = right_maps()
    maps[7] = replace(maps[7], true=spoil(maps[7].true))
    first = find_label_errors(maps, Postprocess())[0]
    assert (first.id, first.kind) == ("07", kind)


def test_the_place_is_told() -> None:
    maps = right_maps()
    maps[7] = replace(maps[7], true=with_one_more(maps[7].true))
    maps[9] = replace(maps[9], true=moved(maps[9].true))
    found = {s.id: s for s in find_label_errors(maps, Postprocess())}
    assert found["07"].box == ADDED
    assert found["09"].box is None
    assert found["09"].detail == "fits better moved by -7 rows, +5 columns"


def test_two_swapped_masks_are_told_with_their_owners() -> None:
    maps = right_maps()
    maps[3], maps[8] = (
        replace(maps[3], true=maps[8].true),
        replace(maps[8], true=maps[3].true),
    )
    found = {s.id: s for s in find_label_errors(maps, Postprocess())[:2]}
    assert {i: s.kind for i, s in found.items()} == {"03": "swapped", "08": "swapped"}
    assert "08" in found["03"].detail


def test_right_masks_are_left_alone() -> None:
    """Negative control."""
    assert find_label_errors(right_maps(), Postprocess()) == ()


def test_a_model_that_errs_everywhere_accuses_nobody() -> None:
    # it sees an object too many in every image: that is its way, not the labels' fault
    maps = []
    for m in right_maps():
        levels = m.levels.copy()
        levels[92:106, 8:22] = 250
        maps.append(replace(m, levels=levels))
    assert find_label_errors(maps, Postprocess()) == ()


def test_doubt_of_the_model_weighs_less() -> None:
    maps = right_maps()
    for i, level in ((4, 250), (5, 140)):
        levels = maps[i].levels.copy()
        levels[92:106, 8:22] = level
        maps[i] = replace(maps[i], levels=levels)
    found = find_label_errors(maps, Postprocess())
    assert [s.id for s in found][:1] == ["04"]
    scores = {s.id: s.score for s in found}
    assert scores.get("05", 0.0) < 0.3 * scores["04"]


def test_the_order_of_images_changes_nothing() -> None:
    maps = right_maps()
    maps[7] = replace(maps[7], true=without_one(maps[7].true))
    maps[9] = replace(maps[9], true=moved(maps[9].true))
    found = find_label_errors(maps, Postprocess())
    assert find_label_errors(maps[::-1], Postprocess()) == found


def test_empty_sets_and_empty_masks_are_no_trouble(tmp_path: Path) -> None:
    assert find_label_errors([], Postprocess()) == ()
    blank = ProbMap("a", "a", np.zeros((9, 8), np.uint8), np.zeros((9, 8), bool))
    assert find_label_errors([blank] * 5, Postprocess()) == ()
    write_suspicions((), tmp_path / "none.csv")
    assert read_csv(tmp_path / "none.csv") == []


def test_the_table_has_one_row_each(tmp_path: Path) -> None:
    maps = right_maps()
    maps[7] = replace(maps[7], true=with_one_more(maps[7].true))
    maps[9] = replace(maps[9], true=moved(maps[9].true))
    found = find_label_errors(maps, Postprocess())
    write_suspicions(found, tmp_path / "found.csv")
    rows = read_csv(tmp_path / "found.csv")
    assert [row["id"] for row in rows] == [s.id for s in found]
    by_id = {row["id"]: row for row in rows}
    assert [by_id["07"][k] for k in ("row", "col", "height", "width")] == ["90", "5", "20", "20"]
    assert by_id["09"]["row"] == ""

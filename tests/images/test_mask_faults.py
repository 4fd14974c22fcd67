"""What is said of masks that do not tell what is foreground."""

from __future__ import annotations

from pathlib import Path

import pytest

from calco.errors import Problem
from calco.images import mask_faults as faults
from calco.images.mask_tallies import Tally

ROOT = Path("data")
BLACK, RED, GREEN = 0, 0xFF0000, 0x00FF00


def grey(name: str, **counts: int) -> Tally:
    values: dict[float, int] = {int(key[1:]): n for key, n in counts.items()}
    return Tally(ROOT / name, 0, sum(values.values()), values)


def coloured(name: str, colors: dict[int, int], values: dict[float, int] | None = None) -> Tally:
    return Tally(ROOT / name, 0, sum(colors.values()), values, colors)


def test_a_stray_colour_is_sent_to_its_file() -> None:
    tallies = [grey("a.png", v0=90, v255=10), coloured("b.png", {BLACK: 98, RED: 2})]
    counts = {BLACK: 188, 0xFFFFFF: 10, RED: 2}
    problem = faults.many_colors(counts, tallies, ROOT)
    assert problem.where == "b.png"
    assert problem.got == (
        "(0, 0, 0) 94 %, (255, 255, 255) 5 %, (255, 0, 0) 1 %"
        "; (255, 0, 0) is in 1 of 2 files looked at"
    )
    assert problem.do == "set data.foreground_color, e.g. [255, 255, 255]"  # grey has no indices


def test_indices_are_shown_of_palettes_alone() -> None:
    counts = {BLACK: 80, RED: 15, GREEN: 5}
    problem = faults.many_colors(counts, [coloured("a.png", counts, {0: 80, 3: 15, 7: 5})], ROOT)
    assert problem.got.endswith("(0, 255, 0) 5 %; palette indices 0, 3, 7")
    assert problem.do.endswith("or data.foreground to the indices that count")


def test_files_of_two_codes_are_told_apart() -> None:
    tallies = [grey("a.png", v0=9, v1=1), grey("b.png", v0=9, v255=1), grey("c.png", v0=9, v255=1)]
    problem = faults.classes({0: 27, 1: 1, 255: 2}, tallies, ROOT)
    assert problem.where == "a.png"
    assert problem.got.endswith("; single files hold {0, 255} in 2, {0, 1} in 1")


@pytest.mark.parametrize(
    ("counts", "histogram"),
    [
        ({0: 60, 100: 30, 255: 10}, "from 0 60 %, from 32 0 %, from 64 0 %, from 96 30 %"),
        ({0.0: 50, 1.0: 50}, "from 0 50 %, from 0.125 0 %"),
    ],
)
def test_values_are_shown_as_shares_of_their_range(
    counts: dict[float, int], histogram: str
) -> None:
    assert histogram in faults.many_values(counts, "a.png").got


@pytest.mark.parametrize(
    "problem",
    [
        faults.no_zero(1, 2, "a.png"),
        faults.white_ground(RED, "a.png"),
        faults.smeared(4, {0: 90, 255: 10}, "a.png"),
        faults.many_values({0: 1, 9: 1}, "a.png"),
        faults.photos(200, "values", "a.png"),
        faults.alpha_unclear("a.png"),
        faults.all_empty(3, "a.png"),
        faults.all_full(3, "a.png"),
    ],
    ids=lambda problem: problem.what[:30],
)
def test_every_fault_names_a_file_and_a_setting(problem: Problem) -> None:
    assert problem.where == "a.png"
    assert "data." in problem.do

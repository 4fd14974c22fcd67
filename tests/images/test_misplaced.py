from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.images.facts import sound

from calco.errors import Problem
from calco.images.alignment import Edges
from calco.images.misplaced import suspect_places
from calco.records import Alignment, SampleFacts

WELL = Alignment(score=0.7, shift_score=0.7)
SHIFTED = Alignment(0.1, (10, -3), 0.6, rival=0.2, turn="mirrored", turn_score=0.05)
TURNED = Alignment(0.02, (9, 9), 0.11, rival=0.1, turn="upside_down", turn_score=0.6)
NOWHERE = Alignment(0.02, (9, 9), 0.11, rival=0.1, turn="half_turn", turn_score=0.05)


def facts_of(alignments: Mapping[str, Alignment | None]) -> list[SampleFacts]:
    """Samples alike in all but how their masks lie."""
    return [
        sound(name, mean=90 + i % 5, contrast=20 + i % 3, alignment=alignment)
        for i, (name, alignment) in enumerate(alignments.items())
    ]


def among(n: int, **odd: Alignment) -> dict[str, Alignment]:
    """Name n masks that lie well, and some that do not."""
    return {f"s{i:02d}": WELL for i in range(n)} | odd


def found(alignments: Mapping[str, Alignment | None]) -> list[Problem]:
    return suspect_places(facts_of(alignments), {})


def test_masks_that_lie_well_raise_no_suspicion() -> None:
    assert found(among(20)) == []
    assert found({}) == []
    assert found(dict.fromkeys("abcdefghij")) == []  # without edges


def test_a_shifted_mask() -> None:
    (problem,) = found(among(20, odd=SHIFTED))
    assert (problem.code, problem.where, problem.severity) == ("MASK_SHIFTED", "odd", "warning")
    assert problem.got == "edges fit 0.60 when moved 10 px down and 3 px left, 0.10 as it is"


def test_a_turned_mask() -> None:
    (problem,) = found(among(20, odd=TURNED))
    assert (problem.code, problem.where) == ("MASK_TURNED", "odd")
    assert "0.60 when flipped upside down, 0.02 as it is" in problem.got
    assert "save it flipped upside down" in problem.do


@pytest.mark.parametrize(
    "harmless",
    [
        NOWHERE,
        Alignment(0.1, (10, -3), 0.6, rival=0.4),  # may be a pattern
        Alignment(0.1, (10, -3), 0.5, rival=0.1),  # the others fit 0.7
        Alignment(0.58, (10, -3), 0.6, rival=0.1),  # hardly better
        Alignment(0.3, (2, 0), 0.6, rival=0.1),  # two people would differ as much
        Alignment(0.3, (5, 5), 0.6, rival=0.1, step_px=6),  # below the resolution
        Alignment(0.5, (9, 9), 0.5, rival=0.4, turn="half_turn", turn_score=0.6),  # symmetric
    ],
)
def test_what_proves_nothing_is_not_said(harmless: Alignment) -> None:
    assert found(among(20, odd=harmless)) == []


def test_few_masks_prove_nothing() -> None:
    assert found(among(6, odd=SHIFTED)) == []
    assert len(found(among(9, odd=SHIFTED))) == 1


def test_a_set_whose_truth_has_no_edges() -> None:
    assert found({f"s{i}": NOWHERE for i in range(20)} | {"odd": SHIFTED}) == []


def test_in_a_careless_set_no_single_mask_is_to_blame() -> None:
    rng = np.random.default_rng(0)
    careless = {
        f"s{i:02d}": Alignment(0.4, (int(down), int(right)), 0.6, rival=0.1)
        for i, (down, right) in enumerate(np.rint(rng.normal(0, 6, (40, 2))))
    }
    assert found(careless) == []
    far = Alignment(0.0, (60, 0), 0.6, rival=0.1)
    assert [p.where for p in found(careless | {"far": far})] == ["far"]


def test_all_masks_shifted_alike_are_one_finding() -> None:
    masks = {f"s{i}": Alignment(0.1, (0, 10 + i % 2), 0.6, rival=0.1) for i in range(12)}
    (problem,) = found(masks | {"empty": None, "well": WELL})
    assert (problem.code, problem.where) == ("MASKS_SHIFTED", "")
    assert problem.got == "12 of 13 fit when moved 10 px right"
    assert len(problem.ids) == 12


def test_all_masks_turned_alike_are_one_finding() -> None:
    upside_down = {f"s{i}": TURNED for i in range(12)}
    (problem,) = found(upside_down)
    assert problem.code == "MASKS_TURNED"
    assert problem.got == "12 of 12 fit when flipped upside down"
    assert "data.rle_order" not in problem.do
    transposed = Alignment(0.02, (9, 9), 0.11, rival=0.1, turn="transposed", turn_score=0.6)
    (problem,) = found({f"s{i}": transposed for i in range(12)})
    assert "data.rle_order" in problem.do  # the usual cause in run-length tables


def test_masks_shifted_each_its_own_way_are_not_one_finding() -> None:
    ways = [(math.sin(i), math.cos(i)) for i in range(20)]
    masks = {
        f"s{i}": Alignment(0.1, (round(15 * a), round(15 * b)), 0.6, rival=0.1)
        for i, (a, b) in enumerate(ways)
    }
    assert found(masks) == []


# --- exchanged masks


def edges(seed: int, mask_of: int | None = None) -> Edges:
    """Random edges of an image, with those of a mask that fits it or another one."""

    def plane(seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        drawn = np.random.default_rng(seed).standard_normal((30, 40)).astype(np.float32)
        return np.asarray(drawn / np.linalg.norm(drawn), np.float32)

    return Edges(plane(seed), plane(seed if mask_of is None else mask_of), 1)


def test_exchanged_masks_are_found_among_those_that_fit_nowhere() -> None:
    facts = facts_of(among(20, a=NOWHERE, b=NOWHERE, c=NOWHERE))
    poor = {"a": edges(1, mask_of=2), "b": edges(2, mask_of=1), "c": edges(3, mask_of=4)}
    problems = suspect_places(facts, poor)
    assert [(p.code, p.where) for p in problems] == [("MASK_SWAPPED", "a"), ("MASK_SWAPPED", "b")]
    assert problems[0].got == "edges fit 1.00 on b, 0.02 on its own image"


def test_a_whole_set_of_wrong_names_is_seen() -> None:
    names = [f"s{i:02d}" for i in range(12)]
    poor = {name: edges(i, mask_of=(i + 1) % 12) for i, name in enumerate(names)}
    problems = suspect_places(facts_of(dict.fromkeys(names, NOWHERE)), poor)
    assert [p.code for p in problems] == ["MASK_SWAPPED"] * 12
    assert " on s01," in problems[0].got


def test_masks_of_other_sizes_are_not_exchanged() -> None:
    other = edges(2, mask_of=1)
    cut = Edges(other.image[:-1], other.mask[:-1], 1)
    facts = facts_of(among(20, a=NOWHERE, b=NOWHERE))
    assert suspect_places(facts, {"a": edges(1, mask_of=2), "b": cut}) == []


def test_a_mask_that_fits_several_images_belongs_to_none() -> None:
    facts = facts_of(among(20, a=NOWHERE, b=NOWHERE, c=NOWHERE))
    poor = {"a": edges(1, mask_of=2), "b": edges(2, mask_of=7), "c": edges(2, mask_of=8)}
    assert suspect_places(facts, poor) == []


# --- inverted masks


def stained(n: int, score: float, share: float, mean: float, name: str) -> list[SampleFacts]:
    """Images of one look with masks of one kind."""
    rng = np.random.default_rng(len(name))
    return [
        sound(
            f"{name}{i:02d}",
            mean=mean * rng.uniform(0.9, 1.1),
            foreground_fraction=share * rng.uniform(0.8, 1.1),
            contrast=mean / 4,
            alignment=Alignment(score, shift_score=score),
        )
        for i in range(n)
    ]


GLOW = stained(30, 0.6, 0.1, 20, "glow")
STAIN = stained(15, -0.5, 0.2, 180, "stain")


def test_an_inverted_mask() -> None:
    inverted = stained(1, -0.6, 0.88, 20, "inverted")
    (problem,) = suspect_places(GLOW + STAIN + inverted, {})
    assert (problem.code, problem.where) == ("MASK_OPPOSITE", "inverted00")
    assert "darker than what lies around it; usual are 9" in problem.got


def test_stains_and_glow_are_not_inverted_to_each_other() -> None:
    assert suspect_places(GLOW + STAIN, {}) == []


def test_neither_share_nor_sign_alone_is_believed() -> None:
    crowded = stained(1, 0.6, 0.8, 20, "crowded")
    another_stain = stained(1, -0.6, 0.12, 20, "another")
    assert suspect_places(GLOW + STAIN + crowded + another_stain, {}) == []


def test_equal_looks_do_not_vote_for_themselves() -> None:
    same = [replace(f, mean=20, contrast=5) for f in GLOW]
    inverted = replace(same[0], id="x", foreground_fraction=0.9, alignment=Alignment(-0.6))
    assert [p.where for p in suspect_places([*same, inverted], {})] == ["x"]

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calco.images.outliers import odd_images, odd_masks
from calco.records import SampleFacts


def usual(n: int = 40) -> list[SampleFacts]:
    """Samples that vary by a fifth or so in all figures."""
    rng = np.random.default_rng(0)
    return [
        SampleFacts(
            id=f"s{i:02d}",
            height=100,
            width=100,
            channels=3,
            dtype="uint8",
            low=0,
            high=250,
            mean=60 * rng.uniform(0.8, 1.2),
            foreground_fraction=0.1 * rng.uniform(0.8, 1.2),
            n_objects=int(rng.integers(8, 13)),
            image_sha256=f"{i}",
            contrast=20 * rng.uniform(0.8, 1.2),
        )
        for i in range(n)
    ]


def test_usual_samples_are_not_odd() -> None:
    assert odd_images(usual()) == []
    assert odd_masks(usual()) == []


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("IMG_BRIGHTNESS_OUTLIER", {"mean": 250.0}),
        ("IMG_BRIGHTNESS_OUTLIER", {"mean": 2.0}),
        ("IMG_CONTRAST_OUTLIER", {"contrast": 1.0}),
        ("MASK_SHARE_OUTLIER", {"foreground_fraction": 0.9, "n_objects": 90}),
        ("MASK_COUNT_OUTLIER", {"n_objects": 400, "foreground_fraction": 0.3}),
        ("MASK_OBJECT_SIZE_OUTLIER", {"height": 1200, "width": 1200}),
    ],
)
def test_an_odd_sample_is_named(code: str, change: dict[str, float]) -> None:
    facts = usual()
    facts[7] = replace(facts[7], **change)  # type: ignore[arg-type]
    problems = {p.code: p for p in odd_images(facts) + odd_masks(facts)}
    assert code in problems
    assert problems[code].ids == ("s07",)
    assert problems[code].severity == "note"
    assert problems[code].got.startswith("s07 (")


def test_the_oddest_come_first() -> None:
    facts = usual(80)
    for i, mean in enumerate((1.0, 250.0, 0.1)):
        facts[i] = replace(facts[i], mean=mean)
    (problem,) = odd_images(facts)
    assert problem.ids == ("s02", "s00", "s01")
    assert problem.got == "s02 (0.1), s00 (1), s01 (250)"
    low, high = problem.expected.split(",")[0].split(" to ")
    assert 45 < float(low) < 55 < 65 < float(high) < 75


def test_a_tenth_of_the_set_is_another_kind_and_not_odd() -> None:
    facts = usual()
    for i in range(4):
        facts[i] = replace(facts[i], mean=250)
    assert odd_images(facts) == []


def test_an_even_set_makes_nothing_odd_that_nobody_sees() -> None:
    facts = [replace(f, mean=60.0, contrast=20.0) for f in usual()]
    assert odd_images([*facts[1:], replace(facts[0], mean=70)]) == []


def test_few_samples_and_those_without_figure_are_passed_over() -> None:
    few = usual(19)
    few[0] = replace(few[0], mean=250)
    assert odd_images(few) == []
    facts = usual()
    facts[0] = replace(facts[0], foreground_fraction=0.0, n_objects=0)
    facts[1] = replace(facts[1], foreground_fraction=1.0, n_objects=10)
    facts[2] = replace(facts[2], mean=0, contrast=0, low=0, high=0)  # IMG_BLANK says it
    assert odd_masks(facts)[0].code == "MASK_OBJECT_SIZE_OUTLIER"
    assert odd_images(facts) == []

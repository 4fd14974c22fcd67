from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.images.facts import sound

from calco.config import AuditConfig
from calco.errors import Problem
from calco.images.suspicions import suspect_images, suspect_masks, suspect_twins
from calco.records import FileMask, Sample, SampleFacts, Subset, Twins

CONFIG = AuditConfig()


def facts_of(*shares: float) -> list[SampleFacts]:
    """Sound samples with these foreground shares; NaN stands for 0.2."""
    return [
        sound(f"s{i:02d}", foreground_fraction=0.2 if math.isnan(share) else share)
        for i, share in enumerate(shares)
    ]


SOUND = facts_of(*[0.2] * 9)


def suspect_facts(facts: list[SampleFacts], config: AuditConfig) -> list[Problem]:
    return suspect_masks(facts, config) + suspect_images(facts)


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_a_sound_set_raises_no_suspicion() -> None:
    assert suspect_facts(SOUND, CONFIG) == []


@pytest.mark.parametrize(
    ("count", "severity"), [(0, "error"), (1, "error"), (2, "warning"), (7, "warning")]
)
def test_small_sets(count: int, severity: str) -> None:
    problem = only(suspect_facts(SOUND[:count], CONFIG))
    assert (problem.code, problem.severity) == ("FEW_SAMPLES", severity)
    assert problem.expected == ("at least 2" if severity == "error" else "at least 8")


def test_all_empty_and_all_full_stop_training() -> None:
    for share, code in [(0.0, "MASK_ALL_EMPTY"), (1.0, "MASK_ALL_FULL")]:
        problem = only(suspect_facts(facts_of(*[share] * 8), CONFIG))
        assert (problem.code, problem.severity) == (code, "error")


def test_mostly_foreground_is_suspected_to_be_inverted() -> None:
    problem = only(suspect_facts(facts_of(*[0.95] * 8), CONFIG))
    assert (problem.code, problem.severity) == ("MASK_INVERTED", "warning")
    assert problem.got == "95.0% foreground on average"
    assert "data.invert: true" in problem.do
    assert suspect_facts(facts_of(*[0.9] * 8), CONFIG) == []  # at the limit, not above it
    relaxed = AuditConfig(max_foreground_fraction=0.97)
    assert suspect_facts(facts_of(*[0.95] * 8), relaxed) == []


def test_some_empty_masks_are_noted_and_some_full_ones_warned_of() -> None:
    empty, full = suspect_facts(facts_of(0, 0, 1, *[0.3] * 6), CONFIG)
    assert (empty.code, empty.severity, empty.got) == ("MASK_EMPTY", "note", "s00, s01")
    assert (full.code, full.severity, full.got) == ("MASK_FULL", "warning", "s02")
    assert (empty.ids, full.ids) == (("s00", "s01"), ("s02",))


def test_blank_images_are_named() -> None:
    problem = only(suspect_facts([replace(SOUND[0], low=7, high=7), *SOUND[1:]], CONFIG))
    assert (problem.code, problem.got) == ("IMG_BLANK", "s00")


def test_sizes_are_noted_and_far_ones_named() -> None:
    twice = replace(SOUND[0], height=200)
    problem = only(suspect_facts([twice, *SOUND[1:]], CONFIG))
    assert problem.what == "images have 2 sizes, 100 x 80 to 200 x 80 (H x W)"
    tiny = replace(SOUND[0], height=10)  # a tenth of the usual area
    sizes, odd = suspect_facts([tiny, *SOUND[1:]], CONFIG)
    assert (sizes.code, odd.code, odd.got) == ("IMG_SIZES", "IMG_SIZE_OUTLIER", "s00")
    assert {sizes.severity, odd.severity} == {"note"}


def test_the_oddest_sizes_come_first() -> None:
    far = [replace(SOUND[0], height=1000), replace(SOUND[1], height=5), *SOUND[2:]]
    assert suspect_images(far)[1].ids == ("s01", "s00")  # a twentieth, and ten times


def test_images_that_look_like_masks() -> None:
    one = [replace(SOUND[0], two_valued=True), *SOUND[1:]]
    problem = only(suspect_images(one))
    assert (problem.code, problem.severity, problem.got) == ("IMG_TWO_VALUED", "warning", "s00")
    assert "masks lie among the images" in problem.do
    problem = only(suspect_images([replace(f, two_valued=True) for f in SOUND]))
    assert "data.images and data.masks" in problem.do


def test_mixed_depths_and_channels() -> None:
    other = replace(SOUND[0], dtype="uint16", channels=1)
    depths, channels = suspect_facts([other, *SOUND[1:]], CONFIG)
    assert (depths.code, depths.got, depths.severity) == (
        "IMG_DEPTHS",
        "1 uint16 (s00), 8 uint8",
        "warning",
    )
    assert (channels.code, channels.got) == ("IMG_CHANNEL_MIX", "1 with 1 (s00), 8 with 3")
    assert depths.ids == channels.ids == ("s00",)


def test_depths_that_are_equally_frequent_are_only_counted() -> None:
    half = [replace(f, dtype="uint16") if i < 3 else f for i, f in enumerate(SOUND[:6])]
    depths = next(p for p in suspect_images(half) if p.code == "IMG_DEPTHS")
    assert depths.got == "3 uint16, 3 uint8"


def test_odd_figures_are_listed() -> None:
    facts = facts_of(*[0.2 + 0.001 * i for i in range(30)])
    facts[3] = replace(facts[3], n_objects=900, mean=4)
    codes = [p.code for p in suspect_facts(facts, CONFIG)]
    assert codes == ["MASK_COUNT_OUTLIER", "MASK_OBJECT_SIZE_OUTLIER", "IMG_BRIGHTNESS_OUTLIER"]


def samples_of(**subsets: Subset | None) -> list[Sample]:
    return [Sample(i, Path(i), FileMask(Path(i)), subset=s) for i, s in subsets.items()]


def test_twins_are_listed_with_their_kind() -> None:
    samples = samples_of(a=None, b=None, c=None, d=None, e=None, f=None)
    twins = [Twins(("a", "b"), "exact"), Twins(("c", "d"), "near")]
    exact, near = suspect_twins(samples, twins, {"a": "1", "b": "1"})
    assert (exact.code, exact.got) == ("TWINS_EXACT", "a, b")
    assert (near.code, near.got) == ("TWINS_NEAR", "c, d")


def test_series_are_noted_beside_the_twins_in_them() -> None:
    samples = samples_of(a="train", b="train", c="test", d=None)
    twins = [Twins(("a", "b"), "near"), Twins(("a", "b", "c"), "series")]
    near, series, leak = suspect_twins(samples, twins, {})
    assert (near.code, near.severity) == ("TWINS_NEAR", "warning")
    assert (series.code, series.severity, series.got) == ("SERIES", "note", "a, b, c")
    assert series.what == "several pictures of one thing"
    assert leak.what.startswith("several pictures of one thing across the given parts")


def test_a_series_that_was_cut_is_not_said_to_stay_together() -> None:
    samples = samples_of(**dict.fromkeys("abcdefgh"))
    whole = Twins(("a", "b"), "series")
    blocks = [Twins(("c", "d"), "series", 4), Twins(("e", "f"), "series", 4)]
    kept, *cut = suspect_twins(samples, [whole, *blocks], {})
    assert kept.do == "nothing: the split keeps them together"
    assert [p.code for p in cut] == ["SERIES", "SERIES"]
    assert {p.what for p in cut} == {"one of 4 blocks of a series too long to stay together"}
    assert all("other places in the same series" in p.do for p in cut)


def test_identical_images_with_different_masks() -> None:
    samples = samples_of(a=None, b=None, c=None, d=None)
    twins = [Twins(("a", "b"), "exact"), Twins(("c", "d"), "near")]
    digests = {"a": "1", "b": "2", "c": "3", "d": "4"}  # masks of near copies differ anyway
    codes = [p.code for p in suspect_twins(samples, twins, digests)]
    assert codes == ["TWINS_EXACT", "TWINS_NEAR", "TWIN_MASKS"]


def test_twins_across_given_parts_are_a_leak() -> None:
    samples = samples_of(a="train", b="test", c="train", d="train")
    twins = [Twins(("a", "b"), "near"), Twins(("c", "d"), "near")]
    leak = only([p for p in suspect_twins(samples, twins, {}) if p.code == "LEAK"])
    assert leak.severity == "warning"
    assert leak.got == "a (train), b (test)"


def test_a_declared_group_across_given_parts_is_a_leak() -> None:
    parts: list[Subset] = ["train", "train", "validation"]
    samples = [Sample(f"s{i}", Path("x"), group="slide 1", subset=p) for i, p in enumerate(parts)]
    leak = only(suspect_twins(samples, [], {}))
    assert leak.what.startswith("group 'slide 1' across the given parts")
    assert suspect_twins(samples[:2], [], {}) == []


def test_a_group_of_most_images_is_warned_of() -> None:
    samples = samples_of(a=None, b=None, c=None, d=None, e=None)
    codes = [p.code for p in suspect_twins(samples, [Twins(("a", "b", "c"), "near")], {})]
    assert codes == ["TWINS_NEAR", "TWINS_DOMINATE"]
    codes = [p.code for p in suspect_twins(samples, [Twins(("a", "b"), "near")], {})]
    assert codes == ["TWINS_NEAR"]


def test_every_code_is_explained() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/reference/audit.md").read_text(encoding="utf-8")
    for name in ("suspicions", "misplaced", "outliers"):
        source = (root / f"src/calco/images/{name}.py").read_text(encoding="utf-8")
        codes = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+|LEAK|SERIES)"', source))
        assert codes
        assert [code for code in codes if f"`{code}`" not in page] == []

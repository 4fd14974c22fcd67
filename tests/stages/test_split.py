from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stages.audits import audit_of, many, parts, sample, singles, sizes

from calco.config import SplitConfig
from calco.errors import CalcoError
from calco.records import SUBSETS, Audit, Twins
from calco.stages.split import split_samples

# --- sizes


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (3, [1, 1, 1]),
        (4, [2, 1, 1]),
        (10, [6, 2, 2]),
        (20, [14, 3, 3]),
        (100, [70, 15, 15]),
        (1000, [700, 150, 150]),
    ],
)
def test_parts_have_the_asked_sizes(count: int, expected: list[int]) -> None:
    split = split_samples(many(count), SplitConfig())
    assert sizes(split) == expected
    assert {a.fold for a in split.assignments} == {0}


def test_shares_can_be_asked_for() -> None:
    config = SplitConfig(validation=0.3, test=0.5)
    assert sizes(split_samples(many(200), config)) == [40, 60, 100]
    assert sizes(split_samples(many(200), SplitConfig(test=0))) == [170, 30, 0]


def test_two_groups_make_train_and_validation() -> None:
    twins = Twins(("b", "c"), "near")
    split = split_samples(singles("abc", twins), SplitConfig())
    assert parts(split) == {"a": "validation", "b": "train", "c": "train"}  # the larger one trains


def test_one_group_is_refused_with_the_minimum() -> None:
    with pytest.raises(CalcoError) as caught:
        split_samples(singles("ab", Twins(("a", "b"), "near")), SplitConfig())
    (problem,) = caught.value.problems
    assert (problem.code, problem.got, problem.expected) == ("SPLIT_GROUPS", "1", "at least 2")
    assert "audit.twins: false" in problem.do
    with pytest.raises(CalcoError, match="SPLIT_GROUPS"):
        split_samples(singles(""), SplitConfig())


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(CalcoError, match=r"SPLIT_SHARES.* got 0.6 \+ 0.4"):
        split_samples(many(20), SplitConfig(validation=0.6, test=0.4))


def test_no_part_is_empty_under_extreme_shares() -> None:
    for validation, test in [(0.01, 0.98), (0.98, 0.01), (0.01, 0.01), (0.49, 0.5)]:
        config = SplitConfig(validation=validation, test=test)
        for count in (3, 4, 7, 30):
            assert min(sizes(split_samples(many(count), config))) >= 1


def test_a_giant_group_trains_and_the_rest_is_divided() -> None:
    samples = [sample(f"v{i}", group="video") for i in range(80)]
    samples += [sample(f"s{i}") for i in range(20)]
    split = split_samples(audit_of(samples, shares={s.id: 0.1 for s in samples}), SplitConfig())
    assert {a.subset for a in split.assignments if a.group == "video"} == {"train"}
    assert sizes(split) == [94, 3, 3]  # 15 % of the twenty others


def test_unlabelled_samples_are_not_divided() -> None:
    audit = many(20)
    samples = (replace(audit.index.samples[0], mask=None), *audit.index.samples[1:])
    split = split_samples(
        replace(audit, index=replace(audit.index, samples=samples)), SplitConfig()
    )
    assert len(split.index) == len(split.assignments) == 19


# --- groups


def test_groups_are_named_by_declaration_or_smallest_id() -> None:
    samples = [sample("b", "slide"), sample("c", "slide"), *(sample(n) for n in "adef")]
    audit = audit_of(
        samples,
        Twins(("a", "c"), "exact"),
        Twins(("d", "f"), "near"),
        shares=dict.fromkeys("abcdef", 0.2),
    )
    split = split_samples(audit, SplitConfig())
    assert {a.id: a.group for a in split.assignments} == {
        "a": "slide",  # a twin of c, which is declared
        "b": "slide",
        "c": "slide",
        "d": "d",
        "e": "e",
        "f": "d",
    }


def test_twins_join_two_declared_groups() -> None:
    samples = [sample("a", "y"), sample("b", "x"), sample("c"), sample("d")]
    audit = audit_of(samples, Twins(("a", "b"), "near"), shares=dict.fromkeys("abcd", 0.2))
    groups = {a.id: a.group for a in split_samples(audit, SplitConfig()).assignments}
    assert groups == {"a": "x", "b": "x", "c": "c", "d": "d"}


def test_an_id_that_equals_a_declared_group_is_not_mistaken_for_it() -> None:
    samples = [sample("a"), sample("b", "a"), sample("c", "a"), sample("d")]
    split = split_samples(audit_of(samples, shares=dict.fromkeys("abcd", 0.2)), SplitConfig())
    groups = {a.id: a.group for a in split.assignments}
    assert groups["b"] == groups["c"] == "a" != groups["a"]


@st.composite
def audits(draw: st.DrawFn) -> Audit:
    """Sets of 3 to 60 samples with declared groups, twins and any foreground."""
    names = draw(st.lists(st.text(min_size=1, max_size=4), min_size=3, max_size=60, unique=True))
    declared = st.one_of(st.none(), st.none(), st.sampled_from(["p", "q", "r", "s"]))
    samples = [sample(n, draw(declared)) for n in sorted(names)]
    pairs = draw(st.lists(st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True)))
    shares = {n: draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0])) for n in names}
    return audit_of(
        samples, *(Twins(tuple(sorted(pair)), "near") for pair in pairs[:8]), shares=shares
    )


def n_groups_of(audit: Audit) -> int:
    """Count groups by joining labels until nothing changes."""
    label = {s.id: s.group or f"id {s.id}" for s in audit.index}
    changed = True
    while changed:
        changed = False
        for twins in audit.twins:
            names = {label[i] for i in twins.ids}
            if len(names) > 1:
                label = {i: min(names) if name in names else name for i, name in label.items()}
                changed = True
    return len(set(label.values()))


@settings(max_examples=60)
@given(audits(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_groups_never_straddle_and_order_never_matters(
    audit: Audit, seed: int, random: Random
) -> None:
    config = SplitConfig(seed=seed)
    if n_groups_of(audit) < 2:
        with pytest.raises(CalcoError, match="SPLIT_GROUPS"):
            split_samples(audit, config)
        return
    split = split_samples(audit, config)
    part = parts(split)
    group = {a.id: a.group for a in split.assignments}
    declared = {a.id: a.group for a in audit.index if a.group is not None}
    together = [twins.ids for twins in audit.twins]
    together += [tuple(i for i in declared if declared[i] == g) for g in declared.values()]
    together += [tuple(i for i in group if group[i] == g) for g in group.values()]
    assert all(len({part[i] for i in ids}) == len({group[i] for i in ids}) == 1 for ids in together)
    assert len(set(group.values())) == n_groups_of(audit)
    assert set(part.values()) == set(SUBSETS if n_groups_of(audit) > 2 else SUBSETS[:2])
    order = list(range(len(audit.index)))
    random.shuffle(order)
    shuffled = replace(
        audit,
        index=replace(audit.index, samples=tuple(audit.index.samples[i] for i in order)),
        facts=tuple(audit.facts[i] for i in order),
        twins=tuple(reversed(audit.twins)),
    )
    assert parts(split_samples(shuffled, config)) == part


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=30, max_size=80), st.integers(0, 9))
def test_sizes_stay_near_with_groups_of_several(lengths: list[int], seed: int) -> None:
    samples = [
        sample(f"g{g}_{i}", group=f"g{g}")
        for g, length in enumerate(lengths)
        for i in range(length)
    ]
    audit = audit_of(samples, shares={s.id: 0.1 for s in samples})
    n = len(samples)
    _, validation, test = sizes(split_samples(audit, SplitConfig(seed=seed)))
    # half of the largest group is the most a part may miss or overshoot
    assert abs(test - 0.15 * n) <= 3
    assert abs(validation - 0.15 * n) <= 3


# --- strata


def test_shares_of_foreground_match_better_than_at_random() -> None:
    gaps, random_gaps = [], []
    for seed in range(12):
        audit = many(300, seed)
        share = {f.id: f.foreground_fraction for f in audit.facts}
        part = parts(split_samples(audit, SplitConfig(seed=seed)))
        shuffled = np.random.default_rng(seed).permutation(list(part.values()))
        for subset in SUBSETS[1:]:
            whole = fmean(share.values())
            ours = fmean(share[i] for i, s in part.items() if s == subset)
            drawn = fmean(share[i] for i, s in zip(part, shuffled, strict=True) if s == subset)
            gaps.append(abs(ours - whole))
            random_gaps.append(abs(drawn - whole))
    assert fmean(gaps) < 0.65 * fmean(random_gaps)


def test_empty_masks_are_in_every_part() -> None:
    audit = many(100)
    empty = {f.id for f in audit.facts if f.foreground_fraction == 0}
    counts = Counter(s for i, s in parts(split_samples(audit, SplitConfig())).items() if i in empty)
    for subset, share in zip(SUBSETS, (0.7, 0.15, 0.15), strict=True):
        assert counts[subset] == pytest.approx(share * len(empty), abs=2)


# --- stability


@pytest.mark.parametrize(("count", "most"), [(100, 0.15), (500, 0.06)])
def test_added_files_move_few_others(count: int, most: float) -> None:
    moved = []
    for seed in range(8):
        audit = many(round(1.1 * count), seed)
        kept = {f"image {i}" for i in range(count)}  # the last tenth is new
        smaller = replace(audit, index=audit.index.only(kept))
        before = parts(split_samples(smaller, SplitConfig()))
        after = parts(split_samples(audit, SplitConfig()))
        moved.append(fmean(before[i] != after[i] for i in before))
    assert fmean(moved) < most  # dividing anew moves 46 %


def test_another_seed_divides_anew() -> None:
    audit = many(100)
    first, other = (parts(split_samples(audit, SplitConfig(seed=seed))) for seed in (0, 1))
    assert 0.3 < fmean(first[i] != other[i] for i in first) < 0.6
    assert first == parts(split_samples(audit, SplitConfig(seed=0)))

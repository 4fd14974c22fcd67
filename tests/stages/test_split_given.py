"""Parts that the user gives by sub-folders."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.stages.audits import audit_of, parts, sample, sizes

from calco.config import SplitConfig
from calco.errors import CalcoError
from calco.records import SUBSETS, Audit, Twins
from calco.stages.split import split_samples


def given_parts(**counts: int) -> Audit:
    samples = [
        sample(f"{subset}{i:02d}", subset=subset)
        for subset in SUBSETS
        for i in range(counts.get(subset, 0))
    ]
    samples += [sample(f"free{i:02d}") for i in range(counts.get("free", 0))]
    return audit_of(samples, shares={s.id: 0.2 for s in samples})


def test_three_given_parts_are_kept() -> None:
    split = split_samples(given_parts(train=5, validation=1, test=9), SplitConfig())
    assert all(i.startswith(s) for i, s in parts(split).items())


def test_missing_validation_is_taken_from_train() -> None:
    split = split_samples(given_parts(train=40, test=10), SplitConfig())
    assert sizes(split) == [34, 6, 10]
    assert {i for i, s in parts(split).items() if s == "test"} == {
        f"test{i:02d}" for i in range(10)
    }


def test_missing_test_is_taken_from_train_unless_unwanted() -> None:
    audit = given_parts(train=40, validation=10)
    assert sizes(split_samples(audit, SplitConfig())) == [34, 10, 6]
    assert sizes(split_samples(audit, SplitConfig(test=0))) == [40, 10, 0]


def test_samples_outside_the_given_parts_train() -> None:
    split = split_samples(given_parts(validation=4, test=4, free=12), SplitConfig())
    assert sizes(split) == [12, 4, 4]


def test_a_free_twin_follows_the_given_part_of_its_group() -> None:
    audit = given_parts(train=10, validation=3, test=3, free=1)
    audit = replace(audit, twins=(Twins(("free00", "test01"), "near"),))
    assert parts(split_samples(audit, SplitConfig()))["free00"] == "test"


def test_given_parts_win_over_twins_and_new_parts_avoid_them() -> None:
    audit = given_parts(train=12, test=4)
    leaks = tuple(Twins((f"test{i:02d}", f"train{i:02d}"), "near") for i in range(4))
    part = parts(split_samples(replace(audit, twins=leaks), SplitConfig(validation=0.5)))
    assert all(part[f"test{i:02d}"] == "test" for i in range(4))
    assert all(part[f"train{i:02d}"] == "train" for i in range(4))
    assert Counter(part.values()) == {"train": 8, "validation": 4, "test": 4}


def test_given_parts_without_training_are_refused() -> None:
    with pytest.raises(CalcoError, match="SPLIT_GROUPS"):
        split_samples(given_parts(validation=4, test=4), SplitConfig())
    with pytest.raises(CalcoError, match="SPLIT_GROUPS"):
        split_samples(given_parts(train=1, test=4), SplitConfig())

"""Division into folds."""

from __future__ import annotations

from statistics import fmean

import pytest
from tests.stages.audits import audit_of, many, sample, singles, sizes

from calco.config import SplitConfig
from calco.errors import CalcoError
from calco.records import Audit, Split, Subset, Twins
from calco.stages.split import split_samples


def folded(audit: Audit, n_folds: int) -> Split:
    return split_samples(audit, SplitConfig(folds=n_folds))


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_every_image_that_is_not_test_validates_one_training(n_folds: int) -> None:
    split = folded(many(200), n_folds)
    divisions = split.divisions()
    assert len(divisions) == split.n_folds == n_folds
    pool = sorted(s.id for s in split.part("train"))
    assert sorted(s.id for d in divisions for s in d.validation) == pool
    test = {s.id for s in split.part("test")}
    for division in divisions:
        train, validation = ({s.id for s in part} for part in (division.train, division.validation))
        assert train | validation == set(pool)
        assert not train & validation
        assert not (train | validation) & test
        assert len(validation) == pytest.approx(len(pool) / n_folds, abs=1)


def test_folds_leave_the_test_part_as_it_is() -> None:
    audit = many(200)
    assert folded(audit, 5).part("test") == split_samples(audit, SplitConfig()).part("test")


def test_folds_are_alike_in_foreground() -> None:
    audit = many(400)
    share = {f.id: f.foreground_fraction for f in audit.facts}
    means = [fmean(share[s.id] for s in d.validation) for d in folded(audit, 5).divisions()]
    assert max(means) < 1.35 * min(means)  # dealt out by chance alone they differ up to twofold


def test_no_group_straddles_two_folds() -> None:
    names = [f"{i:03d}" for i in range(90)]
    samples = [sample(name, group=f"patient {i // 9}") for i, name in enumerate(names[:60])]
    samples += [sample(name) for name in names[60:]]
    twins = Twins(("061", "075"), "near")
    split = folded(audit_of(samples, twins, shares=dict.fromkeys(names, 0.2)), 4)
    folds_of: dict[str, set[tuple[str, int]]] = {}
    for assignment in split.assignments:
        where = (assignment.subset, assignment.fold)
        folds_of.setdefault(assignment.group, set()).add(where)
    assert all(len(where) == 1 for where in folds_of.values())
    fold = {a.id: (a.subset, a.fold) for a in split.assignments}
    assert fold["061"] == fold["075"]


def test_a_given_validation_folder_is_divided_anew() -> None:
    given: list[Subset] = ["train", "validation", "test"]
    samples = [sample(f"{i:02d}", subset=given[i % 3]) for i in range(30)]
    split = folded(audit_of(samples, shares={s.id: 0.1 for s in samples}), 5)
    assert sizes(split) == [20, 0, 10]
    assert {len(d.validation) for d in split.divisions()} == {4}


def test_folds_need_groups() -> None:
    with pytest.raises(CalcoError, match="SPLIT_GROUPS"):
        folded(singles(["a", "b", "c", "d"]), 4)  # one of them is the test part


def test_without_folds_there_is_one_training() -> None:
    split = split_samples(many(40), SplitConfig())
    [division] = split.divisions()
    assert division.train == split.part("train")
    assert (division.validation, division.validation_groups) == split.part_and_groups("validation")

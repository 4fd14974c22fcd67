"""Two runs, image by image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calco.records import Comparison, ImageScore, Scores
from calco.runs import RunDir
from calco.stages.compare import compare

Change = Callable[[ImageScore, int], ImageScore]


def changed(run: Path, folder: Path, change: Change) -> RunDir:
    """Copy a run, its test images scored otherwise."""
    shutil.copytree(run, folder)
    copy = RunDir(folder)
    scores = copy.load_scores()
    tested = iter(range(len(scores)))
    rows = [change(s, next(tested)) if s.subset == "test" else s for s in scores]
    copy.save_scores(Scores(tuple(rows), {}))
    return copy


def better_by(points: float) -> Change:
    return lambda score, _: replace(score, dice=score.dice + points / 100)


def test_a_run_equals_itself(finished_run: Path, tmp_path: Path) -> None:
    copy = changed(finished_run, tmp_path / "copy", better_by(0.0))
    [pair] = compare([RunDir(finished_run), copy])
    assert (pair.difference, pair.ci95, pair.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert pair.problems == ()
    assert pair.sentence == (
        "copy against discs: 0.0 Dice points, 95 % interval 0.0 to 0.0: not shown"
    )


def test_a_constant_gain_is_shown(finished_run: Path, tmp_path: Path) -> None:
    copy = changed(finished_run, tmp_path / "copy", better_by(2.0))
    [pair] = compare([RunDir(finished_run), copy])
    assert pair.difference == pytest.approx(0.02, abs=1e-5)
    assert pair.shown
    assert pair.sentence.endswith("+2.0 Dice points, 95 % interval +2.0 to +2.0: shown")


def test_gains_and_losses_are_not_shown(finished_run: Path, tmp_path: Path) -> None:
    def mixed(score: ImageScore, number: int) -> ImageScore:
        return replace(score, dice=score.dice + (0.02, -0.01, 0.0)[number % 3])

    [pair] = compare([RunDir(finished_run), changed(finished_run, tmp_path / "copy", mixed)])
    assert pair.difference == pytest.approx(0.01 / 3, abs=1e-5)
    assert not pair.shown
    assert pair.p_value > 0.05


def test_each_further_run_is_compared_with_the_first(finished_run: Path, tmp_path: Path) -> None:
    runs = [changed(finished_run, tmp_path / f"{n}", better_by(n)) for n in (0, 1, 3)]
    assert [pair.difference for pair in compare(runs)] == pytest.approx([0.01, 0.03], abs=1e-5)


def test_runs_of_one_name_are_told_apart_by_their_place(finished_run: Path, tmp_path: Path) -> None:
    runs = [changed(finished_run, tmp_path / n / "run", better_by(0)) for n in ("a", "b")]
    [pair] = compare(runs)
    assert {pair.first, pair.second} == {str(run.path) for run in runs}


def test_other_test_images_are_said_aloud(finished_run: Path, tmp_path: Path) -> None:
    copy = changed(finished_run, tmp_path / "copy", better_by(1.0))
    scores = copy.load_scores()
    gone = next(score for score in scores if score.subset == "test")
    copy.save_scores(Scores(tuple(s for s in scores if s is not gone), {}))
    [pair] = compare([RunDir(finished_run), copy])
    assert pair.n_images == 2
    [problem] = pair.problems
    assert problem.code == "COMPARE_IMAGES"
    assert "1 only in discs, 0 only in copy" in problem.got


def test_another_picture_of_the_same_name_is_another_picture(
    finished_run: Path, tmp_path: Path
) -> None:
    copy = changed(finished_run, tmp_path / "copy", better_by(1.0))
    audit = copy.load_audit()
    copy.save_audit(
        replace(audit, facts=tuple(replace(f, image_sha256="0" * 64) for f in audit.facts))
    )
    [pair] = compare([RunDir(finished_run), copy])
    assert pair.n_images == 0
    assert pair.sentence == "copy against discs: no image was tested in both"
    assert [problem.code for problem in pair.problems] == ["COMPARE_IMAGES"]


def test_without_a_test_part_validation_is_compared_with_a_warning(
    finished_run: Path, tmp_path: Path
) -> None:
    runs = []
    for name in ("a", "b"):
        copy = changed(finished_run, tmp_path / name, better_by(0.0))
        kept = tuple(s for s in copy.load_scores() if s.subset == "validation")
        copy.save_scores(Scores(kept, {}))
        runs.append(copy)
    [pair] = compare(runs)
    assert pair.n_images == 3
    assert [problem.code for problem in pair.problems] == ["COMPARE_TUNED"]


def test_one_group_gives_no_interval() -> None:
    nan = float("nan")
    pair = Comparison("a", "b", 4, 1, 0.0123, (nan, nan), 1.0)
    assert pair.sentence == "b against a: +1.2 Dice points on 4 images of one group: not shown"

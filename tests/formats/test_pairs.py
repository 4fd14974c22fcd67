from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from calco.errors import CalcoError, Problem
from calco.formats.pairs import pair_masks


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def paired(tmp_path: Path) -> dict[str, str]:
    pairs, problems = pair_masks(tmp_path / "pred", tmp_path / "true")
    assert not [p for p in problems if p.severity == "error"]
    return {pair.id: pair.pred.relative_to(tmp_path / "pred").as_posix() for pair in pairs}


def faults(tmp_path: Path) -> tuple[Problem, ...]:
    return pair_masks(tmp_path / "pred", tmp_path / "true")[1]


def test_same_names_belong_together_whatever_the_format(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png", "s/b.tif")
    touch(tmp_path / "true", "a.bmp", "s/b.png")
    assert paired(tmp_path) == {"a": "a.png", "s/b": "s/b.tif"}


@pytest.mark.parametrize(
    ("pred", "true"),
    [("a", "a_mask"), ("a_pred", "a"), ("a-prediction", "a_GT"), ("s/a", "s/a.seg")],
)
def test_usual_endings_are_looked_through(tmp_path: Path, pred: str, true: str) -> None:
    touch(tmp_path / "pred", f"{pred}.png")
    touch(tmp_path / "true", f"{true}.png")
    assert paired(tmp_path) == {true: f"{pred}.png"}


def test_the_exact_name_wins_over_an_ending(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png", "a_mask.png")
    touch(tmp_path / "true", "a.png", "a_mask.png")
    assert paired(tmp_path) == {"a": "a.png", "a_mask": "a_mask.png"}


def test_names_composed_differently_are_the_same(tmp_path: Path) -> None:
    touch(tmp_path / "pred", unicodedata.normalize("NFD", "célula.png"))
    touch(tmp_path / "true", unicodedata.normalize("NFC", "célula.png"))
    assert list(paired(tmp_path)) == [unicodedata.normalize("NFC", "célula")]


def test_dots_and_brackets_in_names_are_plain_characters(tmp_path: Path) -> None:
    names = ["v1.2 [3].png", "v1.3 [3].png", "*.png"]
    touch(tmp_path / "pred", *names)
    touch(tmp_path / "true", *names)
    assert sorted(paired(tmp_path).values()) == sorted(names)


def test_litter_and_other_files_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png", "manifest.csv", "._a.png", "notes.txt")
    touch(tmp_path / "true", "a.png", ".DS_Store")
    assert paired(tmp_path) == {"a": "a.png"}
    assert faults(tmp_path) == ()


def test_every_missing_prediction_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png")
    touch(tmp_path / "true", "a.png", "b.png", "c/d.png")
    assert [(p.code, p.where) for p in faults(tmp_path)] == [
        ("PRED_MISSING", "b"),
        ("PRED_MISSING", "c/d"),
    ]


def test_predictions_without_truth_are_one_warning(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png", "y.png", "x.png")
    touch(tmp_path / "true", "a.png")
    (problem,) = faults(tmp_path)
    assert (problem.code, problem.severity, problem.got) == (
        "PRED_EXTRA",
        "warning",
        "2, first x.png",
    )


def test_several_predictions_of_one_truth_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a_pred.png", "a_seg.png")
    touch(tmp_path / "true", "a_mask.png")
    problem = faults(tmp_path)[0]
    assert (problem.code, problem.got) == ("DUP_ID", "a_pred.png, a_seg.png")


def test_one_prediction_for_two_truths_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png")
    touch(tmp_path / "true", "a_gt.png", "a_mask.png")
    problem = faults(tmp_path)[0]
    assert (problem.code, problem.got) == ("DUP_ID", "a_gt.png, a_mask.png")


def test_one_name_in_two_formats_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path / "pred", "a.png")
    touch(tmp_path / "true", "a.png", "a.tif", "b.png", "b.bmp")
    with pytest.raises(CalcoError) as caught:
        pair_masks(tmp_path / "pred", tmp_path / "true")
    assert [p.got for p in caught.value.problems] == ["a.png, a.tif", "b.bmp, b.png"]


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_masks_is_an_error(tmp_path: Path, make: bool) -> None:
    touch(tmp_path / "true", "a.png")
    if make:
        (tmp_path / "pred").mkdir()
    with pytest.raises(CalcoError, match="no mask in the folder" if make else "no such folder"):
        pair_masks(tmp_path / "pred", tmp_path / "true")

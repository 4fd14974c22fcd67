"""A submission holds exactly the masks, or it does not exist."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import calco.stages.submission as submission
from calco.errors import CalcoError
from calco.formats import rle
from calco.formats.dialects import PRESETS, dialect
from calco.formats.rle import decode
from calco.records import RleDialect
from calco.stages.submission import write_submission

Mask = NDArray[np.bool_]

#   . # .        down the columns: 1 2 | 3 4 | 5 6
#   # # .   ->   pixels 2 and 3 4
CORNER: Mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
EMPTY: Mask = np.zeros((2, 3), bool)
FULL: Mask = np.ones((2, 3), bool)
#   # . #   two objects: pixel 1; pixels 5 and 6
#   . . #
TWO: Mask = np.array([[1, 0, 1], [0, 0, 1]], bool)


def masks_in(folder: Path, **masks: Mask) -> dict[str, Path]:
    return written(folder, masks)


def written(folder: Path, masks: dict[str, Mask]) -> dict[str, Path]:
    paths = {}
    for number, (name, mask) in enumerate(masks.items()):
        path = folder / f"m{number}.png"
        cv2.imwrite(str(path), mask.astype(np.uint8) * np.uint8(255))
        paths[name] = path
    return paths


def template(folder: Path, text: str) -> Path:
    path = folder / "sample_submission.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_without_a_template_rows_follow_the_ids(tmp_path: Path) -> None:
    report = write_submission(
        masks_in(tmp_path, b=CORNER, a=EMPTY, c=FULL), tmp_path / "out" / "s.csv"
    )
    assert report.path.read_bytes() == b"id,rle_mask\na,\nb,2 3\nc,1 6\n"
    assert (report.n_images, report.n_empty, report.n_rows) == (3, 1, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reads_back(tmp_path: Path, name: str) -> None:
    rule = dialect(name)
    masks = {"a": CORNER, "b": EMPTY, "c": TWO, "d": FULL}
    report = write_submission(written(tmp_path, masks), tmp_path / "s.csv", rule)
    header, *rows = rows_of(report.path)
    assert tuple(header) == rule.columns
    for key, true in masks.items():
        cells = [row[1] for row in rows if row[0] == key]
        parts = [decode(cell, true.shape, rule, "") for cell in cells]
        assert np.array_equal(np.any(parts, axis=0), true)
        assert len(cells) == (2 if rule.per_object and key == "c" else 1)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    masks=st.lists(
        npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=9)), min_size=1
    ),
    name=st.sampled_from(sorted(PRESETS)),
)
def test_any_masks_survive(
    tmp_path_factory: pytest.TempPathFactory, masks: list[Mask], name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    given_masks = {str(i): mask for i, mask in enumerate(masks)}
    report = write_submission(written(folder, given_masks), folder / "s.csv", dialect(name))
    for key, true in given_masks.items():
        cells = [row[1] for row in rows_of(report.path)[1:] if row[0] == key]
        parts = [decode(cell, true.shape, dialect(name), "") for cell in cells]
        assert np.array_equal(np.any(parts, axis=0), true)


# --- the template decides ----------------------------------------------------------------------


def test_the_template_gives_columns_order_and_id_form(tmp_path: Path) -> None:
    like = template(tmp_path, "img,rle_mask\n0002.jpg,1 1\n0001.jpg,1 1\n")
    masks = written(tmp_path, {"0001": EMPTY, "0002": CORNER})
    report = write_submission(masks, tmp_path / "s.csv", like=like)
    # carvana: along the rows 1 2 3 | 4 5 6 -> 2 and 4 5
    assert rows_of(report.path) == [["img", "rle_mask"], ["0002.jpg", "2 1 4 2"], ["0001.jpg", ""]]
    assert "carvana" in report.note


def test_a_given_dialect_wins_over_the_template_but_for_the_columns(tmp_path: Path) -> None:
    like = template(tmp_path, "img,rle_mask\na,1 1\n")
    masks = masks_in(tmp_path, a=CORNER)
    report = write_submission(masks, tmp_path / "s.csv", RleDialect(base=0), like)
    assert rows_of(report.path) == [["img", "rle_mask"], ["a", "1 3"]]


def test_masks_are_found_by_file_name_below_folders(tmp_path: Path) -> None:
    like = template(tmp_path, "ImageId,EncodedPixels\nabc,\n")
    masks = written(tmp_path, {"stage1_test/abc/images/abc": CORNER})
    report = write_submission(masks, tmp_path / "s.csv", like=like)
    assert rows_of(report.path)[1:] == [["abc", "2 3"]]


def test_ids_are_compared_in_one_normal_form_but_written_unchanged(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    like = template(tmp_path, f"id,rle_mask\n{decomposed},1 1\n")
    report = write_submission(masks_in(tmp_path, é=CORNER), tmp_path / "s.csv", like=like)
    assert rows_of(report.path)[1][0] == decomposed


@pytest.mark.parametrize("name", ["0001", "NA", "1e5", "true", "a,b", 'say "x"', "scan_1.5"])
def test_ids_are_never_touched(tmp_path: Path, name: str) -> None:
    like = tmp_path / "like.csv"
    with like.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "rle_mask"], [name, "1 1"]])
    report = write_submission(written(tmp_path, {name: CORNER}), tmp_path / "s.csv", like=like)
    assert rows_of(report.path)[1] == [name, "2 3"]


def test_objects_take_the_place_of_their_image(tmp_path: Path) -> None:
    like = template(tmp_path, "name,answer\nb,1 1\nb,1 1\nb,1 1\na,1 1\n")
    report = write_submission(masks_in(tmp_path, a=EMPTY, b=TWO), tmp_path / "s.csv", like=like)
    assert rows_of(report.path)[1:] == [["b", "1 1"], ["b", "5 2"], ["a", ""]]
    assert report.n_rows == 3


def test_other_columns_are_copied_and_classes_name_the_masks(tmp_path: Path) -> None:
    like = template(tmp_path, "id,class,predicted\n1,bowel,\n1,stomach,\n2,bowel,\n")
    masks = written(tmp_path, {"1_bowel": CORNER, "1_stomach": EMPTY, "2_bowel": FULL})
    report = write_submission(masks, tmp_path / "s.csv", dialect("uwmadison"), like)
    assert rows_of(report.path)[1:] == [
        ["1", "bowel", "2 1 4 2"],
        ["1", "stomach", ""],
        ["2", "bowel", "1 6"],
    ]


def test_missing_ids_are_listed_and_counted(tmp_path: Path) -> None:
    like = template(tmp_path, "id,rle_mask\n" + "".join(f"x{i:02},1 1\n" for i in range(12)))
    with pytest.raises(CalcoError) as caught:
        write_submission(masks_in(tmp_path, x00=CORNER), tmp_path / "s.csv", like=like)
    message = str(caught.value)
    assert "SUBMISSION_MISSING" in message
    assert "ids of the template without a mask: 11" in message
    assert "x01, x02" in message
    assert "x10 and 1 more" in message
    assert not (tmp_path / "s.csv").exists()


def test_missing_and_extra_are_told_together(tmp_path: Path) -> None:
    like = template(tmp_path, "id,rle_mask\na,1 1\n")
    with pytest.raises(CalcoError) as caught:
        write_submission(masks_in(tmp_path, b=CORNER), tmp_path / "s.csv", like=like)
    assert [p.code for p in caught.value.problems] == ["SUBMISSION_MISSING", "SUBMISSION_EXTRA"]


def test_masks_that_are_not_asked_for_are_an_error(tmp_path: Path) -> None:
    like = template(tmp_path, "id,rle_mask\na,1 1\n")
    with pytest.raises(
        CalcoError, match=r"SUBMISSION_EXTRA.*masks that are not in the template: 1; got b"
    ):
        write_submission(masks_in(tmp_path, a=CORNER, b=CORNER), tmp_path / "s.csv", like=like)


def test_a_file_name_in_two_folders_is_ambiguous(tmp_path: Path) -> None:
    like = template(tmp_path, "id,rle_mask\na,1 1\n")
    masks = written(tmp_path, {"x/a": CORNER, "y/a": CORNER})
    with pytest.raises(CalcoError, match="SUBMISSION_AMBIGUOUS"):
        write_submission(masks, tmp_path / "s.csv", like=like)


def test_repeated_ids_need_a_dialect_of_objects(tmp_path: Path) -> None:
    like = template(tmp_path, "id,rle_mask\na,1 1\na,2 1\n")
    with pytest.raises(CalcoError, match="TEMPLATE_REPEATED"):
        write_submission(masks_in(tmp_path, a=CORNER), tmp_path / "s.csv", RleDialect(), like)


# --- what is refused ---------------------------------------------------------------------------


def test_no_masks_no_file(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="SUBMISSION_EMPTY"):
        write_submission({}, tmp_path / "s.csv")


@pytest.mark.parametrize("name", ["=1+1", "+a", "@a", "-a", "\tb"])
def test_formula_ids_are_refused_unless_the_template_has_them(tmp_path: Path, name: str) -> None:
    masks = written(tmp_path, {name: CORNER})
    with pytest.raises(CalcoError, match="SUBMISSION_FORMULA"):
        write_submission(masks, tmp_path / "s.csv")
    like = template(tmp_path, f"id,rle_mask\n{name},1 1\n")
    report = write_submission(masks, tmp_path / "s.csv", like=like)
    assert rows_of(report.path)[1][0] == name


def test_grey_masks_are_refused_with_their_values(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.array([[0, 7, 255]], np.uint8))
    with pytest.raises(CalcoError, match=r"MASK_VALUES.*grey\.png.*\[0, 7, 255\]"):
        write_submission({"a": path}, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    masks = masks_in(tmp_path, a=CORNER)
    for out in (tmp_path, tmp_path / "m0.png" / "s.csv"):
        with pytest.raises(CalcoError, match="SUBMISSION_WRITE"):
            write_submission(masks, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m0.png"]


def test_an_older_submission_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    out.write_text("precious")
    with pytest.raises(CalcoError):
        write_submission({"a": tmp_path / "gone.png"}, out)
    assert out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv"]


# --- the proof ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        lambda mask, rule: "",  # loses everything
        lambda mask, rule: "1 1",  # another pixel
        lambda mask, rule: "2 2",  # loses a corner, as a widely copied encoder does
        lambda mask, rule: "2 4",  # one pixel too many
        lambda mask, rule: "2 99",  # leaves the image
        lambda mask, rule: "2 x",  # no number
        lambda mask, rule: "2 3\nb,1 1",  # one line too many
    ],
)
def test_a_wrong_encoder_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: object
) -> None:
    monkeypatch.setattr(submission, "encode", broken)
    masks = masks_in(tmp_path, a=CORNER)
    with pytest.raises(CalcoError):
        write_submission(masks, tmp_path / "s.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m0.png"]


def test_objects_that_overlap_are_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "encode_objects", lambda labels, rule: ["1 1 5 2", "5 1"])
    masks = masks_in(tmp_path, a=TWO)
    with pytest.raises(CalcoError, match="SUBMISSION_MISMATCH"):
        write_submission(masks, tmp_path / "s.csv", dialect("dsb2018"))


def test_masks_that_change_meanwhile_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = masks_in(tmp_path, a=CORNER)

    def encode_then_change(mask: Mask, rule: RleDialect) -> str:
        written(tmp_path, {"a": FULL})
        return rle.encode(mask, rule)

    monkeypatch.setattr(submission, "encode", encode_then_change)
    with pytest.raises(CalcoError, match="SUBMISSION_MISMATCH"):
        write_submission(masks, tmp_path / "s.csv")


def test_a_cell_longer_than_csv_allows_by_default(tmp_path: Path) -> None:
    stripes = np.zeros((400, 400), bool)
    stripes[::2] = True  # 80,000 runs: a cell of about 600,000 characters
    report = write_submission(written(tmp_path, {"a": stripes}), tmp_path / "s.csv")
    assert report.path.stat().st_size > 131_072 * 2

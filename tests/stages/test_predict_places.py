"""Where predictions may go, and what they must not replace."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stages.identity import ALL, Identity, gray, save, save_ten

from calco.errors import CalcoError
from calco.runs import RunDir
from calco.stages.predict import PredictOptions, predict_files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_ten(tmp_path / "in")


def test_the_input_folder_is_no_output(images: Path) -> None:
    for out in (images, images / "sub" / ".."):
        with pytest.raises(CalcoError, match="OUT_IS_INPUT"):
            predict_files(Identity(), [images], out)


def test_no_prediction_replaces_an_input_even_when_overwriting(tmp_path: Path) -> None:
    save(tmp_path / "a.png", gray(4, 4))
    before = (tmp_path / "a.png").read_bytes()
    options = PredictOptions(overwrite=True)
    with pytest.raises(CalcoError, match="OUT_IS_INPUT"):
        predict_files(Identity(), [tmp_path / "a.png"], tmp_path, options)
    assert (tmp_path / "a.png").read_bytes() == before


def test_an_output_below_the_input_is_fine_and_stable(images: Path) -> None:
    for _ in range(2):
        predictions = predict_files(Identity(), [images], images / "traced", ALL)
        assert len(predictions) == 10


def test_a_folder_with_other_files_is_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(CalcoError, match=r"OUT_NOT_EMPTY.*thesis\.txt"):
        predict_files(Identity(), [images], out)
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    predict_files(Identity(), [images], out, PredictOptions(overwrite=True))
    assert (out / "thesis.txt").read_text() == "precious"


def test_a_file_is_no_folder(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(CalcoError, match="OUT_IS_FILE"):
        predict_files(Identity(), [images], tmp_path / "out")


def test_a_folder_that_takes_no_file_is_named_before_work(images: Path) -> None:
    tracer = Identity()
    with pytest.raises(CalcoError, match="OUT_WRITE"):
        predict_files(tracer, [images], images / "0000.png" / "out")
    assert tracer.n_asked == 0


def test_a_linked_sub_folder_leads_nowhere_else(images: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    save(images / "sub/deep/x.png", gray(3, 3))
    with pytest.raises(CalcoError, match="OUT_ESCAPES"):
        predict_files(Identity(), [images], out, PredictOptions(overwrite=True))
    assert not list(elsewhere.iterdir())


def test_two_predictions_into_one_folder_exclude_each_other(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with RunDir(out).locked(), pytest.raises(CalcoError, match="RUN_LOCKED"):
        predict_files(Identity(), [images], out)
    assert predict_files(Identity(), [images], out)


def test_an_id_below_prob_does_not_meet_a_probability(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", gray(4, 4))
    save(tmp_path / "in/prob/a.png", gray(4, 4))
    with pytest.raises(CalcoError, match="DUP_ID"):
        predict_files(Identity(), [tmp_path / "in"], tmp_path / "out", ALL)


def test_nothing_is_created_when_inputs_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="INPUT_MISSING"):
        predict_files(Identity(), [tmp_path / "gone"], tmp_path / "out")
    assert not (tmp_path / "out").exists()

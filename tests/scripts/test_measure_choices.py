"""The page of choices is written from results, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import measure_choices
from calco.config import load_config
from measure_choices import PAGE, QUESTIONS, Question, Trial, page, read_results, section

TRIALS = [trial for question in QUESTIONS for trial in question.trials]


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_trial_has_a_name_of_its_own_and_settings_that_exist() -> None:
    assert len({trial.key for trial in TRIALS}) == len(TRIALS)
    assert set(read_results()) <= {trial.key for trial in TRIALS}
    for trial in TRIALS:
        load_config(None, trial.settings)


def test_what_was_not_run_is_said() -> None:
    run, missing = Trial("dsb2018", "1m"), Trial("dsb2018", "30s", ("model.scale=2",))
    found = {"crop_px": 64, "steps": 150, "mirrored": False, "validation_dice": 0.9, "test_dice": 1}
    text = section(Question("Which", (run, missing), "None."), {run.key: found})
    shorter, longer = text.splitlines()[-2:]  # by budget
    assert shorter.startswith("| dsb2018 | 30s | `model.scale=2` | not run yet |")
    assert longer == "| dsb2018 | 1m | nothing | 64 px | 150 | no | 0.9000 | 1.0000 |"


def test_large_nuclei_are_enlarged_with_their_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    for part in ("images", "masks"):
        (source / part).mkdir(parents=True)
    mask = np.zeros((256, 256), np.uint8)
    mask[64:128, 32:96] = 255
    for number in range(4):  # the fourth is the next third one
        cv2.imwrite(str(source / "images" / f"{number}.png"), np.dstack([mask] * 3))
        cv2.imwrite(str(source / "masks" / f"{number}.png"), mask)
    monkeypatch.setattr(measure_choices, "root_of", lambda _: source)
    measure_choices.write_large(tmp_path / "large")
    names = sorted(path.name for path in (tmp_path / "large" / "masks").iterdir())
    assert names == ["0.png", "3.png"]
    enlarged = np.asarray(cv2.imread(str(tmp_path / "large" / "masks" / "0.png"), 0)) > 0
    assert enlarged.shape == (1024, 1024)
    assert enlarged[260:508, 132:380].all()
    assert enlarged.sum() == pytest.approx(16 * 64 * 64, rel=0.02)

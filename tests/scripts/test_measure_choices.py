"""The page of choices is written from results, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import measure_choices
from calco.config import load_config
from measure_choices import (
    PAGE,
    QUESTIONS,
    Claim,
    Question,
    Trial,
    all_alike,
    all_gain,
    crops_follow_steps,
    none_gains,
    page,
    read_results,
    section,
)

TRIALS = [trial for question in QUESTIONS for trial in question.trials]


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_trial_has_a_name_of_its_own_and_settings_that_exist() -> None:
    assert len({trial.key for trial in TRIALS}) == len(TRIALS)
    assert set(read_results()) <= {trial.key for trial in TRIALS}
    for trial in TRIALS:
        load_config(None, trial.settings)


def test_what_a_claim_needs_is_run() -> None:
    claims = [claim for question in QUESTIONS for claim in question.claims]
    assert {trial for claim in claims for trial in claim.needs} <= set(TRIALS)


def result(dice: float, steps: int = 150, crop_px: int = 64) -> dict[str, object]:
    figures = {"validation_dice": dice, "test_dice": 1, "steps": steps, "crop_px": crop_px}
    return {**figures, "mirrored": False}


ONE, OTHER = Trial("dsb2018", "1m"), Trial("dsb2018", "30s", ("model.scale=2",))
WINS = Claim("Whether it helps", "It helps.", (ONE, OTHER), all_gain)
ASKED = Question("Which", (ONE, OTHER), (WINS,))


def test_what_was_not_run_is_no_row_and_shows_nothing() -> None:
    lines = section(ASKED, {ONE.key: result(0.9)}).splitlines()
    assert lines[2] == "Whether it helps: not shown by these runs."
    rows = [line for line in lines if line.startswith("|")]
    assert rows[2:] == ["| dsb2018 | 1m | nothing | 64 px | 150 | no | 0.9000 | 1.0000 |"]
    assert lines[-1] == "1 run not made: dsb2018 30s `model.scale=2`."
    lines = section(ASKED, {}).splitlines()
    assert lines[3:] == ["", "2 runs not made: dsb2018 30s `model.scale=2`; dsb2018 1m."]


def test_runs_that_a_conclusion_lacks_elsewhere_are_named() -> None:
    text = section(Question("Which", (OTHER,), (WINS,)), {OTHER.key: result(0.9)})
    assert "not shown" in text
    assert text.endswith("1 run not made: dsb2018 1m.\n")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (0.90, 0.91, "It helps."),
        (0.90, 0.904, "Whether it helps: not shown by these runs."),  # it may be luck
        (0.91, 0.90, "Whether it helps: not shown by these runs."),
    ],
)
def test_a_claim_is_made_only_where_its_runs_agree(one: float, other: float, said: str) -> None:
    text = section(ASKED, {ONE.key: result(one), OTHER.key: result(other)})
    assert text.splitlines()[2] == said
    assert "not made" not in text


def test_runs_are_compared_two_by_two() -> None:
    def compared(*dices: float) -> tuple[bool, bool, bool]:
        runs = [(ONE, result(dice)) for dice in dices]
        return all_gain(runs), none_gains(runs), all_alike(runs)

    assert compared(0.8, 0.9, 0.7, 0.8) == (True, False, False)
    assert compared(0.8, 0.9, 0.8, 0.8) == (False, False, False)
    assert compared(0.9, 0.8, 0.8, 0.8) == (False, True, False)
    assert compared(0.8, 0.803, 0.8, 0.797) == (False, True, True)


@pytest.mark.parametrize(
    ("steps", "dices", "holds"),
    [
        ((900, 700, 400), (0.88, 0.91, 0.90), True),  # 96 px are the largest with 600 steps
        ((900, 700, 400), (0.88, 0.90, 0.91), False),
        ((900, 700, 400), (0.91, 0.90, 0.88), False),
        ((500, 300, 200), (0.91, 0.90, 0.88), True),  # none has 600: the smallest
        ((900, 700, 650), (0.88, 0.90, 0.898), True),  # as good as any, but for luck
    ],
)
def test_the_rule_of_crops_is_judged_by_the_steps_made(
    steps: tuple[int, ...], dices: tuple[float, ...], holds: bool
) -> None:
    figures = zip(steps, dices, (64, 96, 128), strict=True)
    assert crops_follow_steps([(ONE, result(d, n, px)) for n, d, px in figures]) is holds


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

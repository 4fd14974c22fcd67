"""What a person reads: every record has its line, nothing in a file name is obeyed as markup."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from tests.stages.audits import audit_of

from calco.errors import Problem
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import Epoch, ImageScore, LearningCurve, LearningPoint, Scores, Twins
from calco.terminal import Terminal

EMPTY = np.zeros((2, 4, 4), bool)


def spoken(terminal: Terminal) -> str:
    """Return what was printed so far."""
    buffer = terminal.console.file
    assert isinstance(buffer, io.StringIO)
    return buffer.getvalue()


def quiet_console(verbosity: int = 0) -> Terminal:
    terminal = Terminal(verbosity)
    terminal.console = Console(file=io.StringIO(), width=100, soft_wrap=True)
    return terminal


def test_markup_in_names_is_shown_not_obeyed() -> None:
    terminal = quiet_console()
    terminal.problem(Problem("X", "[bold]name[/bold].png is bad"))
    assert "[bold]name[/bold].png" in spoken(terminal)


def test_quiet_prints_errors_only() -> None:
    terminal = quiet_console(-1)
    terminal.say("hello")
    terminal.problem(Problem("W", "a warning", severity="warning"))
    terminal.problem(Problem("E", "an error"))
    assert spoken(terminal).strip() == "error[E]: an error"


def score(number: int) -> ImageScore:
    """A strip of 16 pixels in a row, of which the first ``number`` are found."""
    pred, true = np.zeros((2, 8, 16), bool)
    pred[2, :number], true[2] = True, True
    pixels = score_image(f"i{number}", f"g{number}", "test", pred, true)
    return replace(score_shapes(pixels, pred, true, 2), estimated_dice=number / 16)


def test_the_table_has_a_row_per_score_and_a_column_per_subset() -> None:
    terminal = quiet_console()
    summary = summarise([score(n) for n in (4, 8, 16)], bootstrap=200)
    measured = replace(summary, nsd_tolerance_px=2.0, ece=0.01234)
    other = replace(summary, dice_ci95=(math.nan, math.nan), n_empty=2)
    terminal.scores(Scores((), {"[bold]a[/bold]": measured, "b": other}))
    rows = [line.split("│")[1:-1] for line in spoken(terminal).splitlines() if "│" in line]
    cells = {name.strip(): [cell.strip() for cell in rest] for name, *rest in rows}
    assert list(cells) == [
        *("Dice", "IoU", "Dice, pooled", "NSD, 2 px", "Boundary IoU", "Object F1"),
        *("ECE", "Doubt, correlation", "Images"),
    ]
    dices = 8 / 20, 16 / 24, 1.0
    assert cells["Dice"] == [
        f"{sum(dices) / 3:.4f}  (0.4000 to 1.0000)",
        "0.6889  (one group: none)",
    ]
    assert cells["Dice, pooled"] == [f"{2 * 28 / (28 + 48):.4f}"] * 2
    assert cells["ECE"] == ["0.0123", "n/a"]
    assert cells["Doubt, correlation"] == ["1.0000", "1.0000"]
    assert cells["Images"] == ["3, 0 empty", "3, 2 empty"]
    assert "[bold]a[/bold]" in spoken(terminal)
    assert max(map(len, spoken(terminal).splitlines())) <= 80


def test_what_more_labels_would_give_is_told() -> None:
    terminal = quiet_console()
    points = (LearningPoint(10, (0.7,), 0.7), LearningPoint(20, (0.8,), 0.8))
    terminal.record(LearningCurve(points, 0.05, (0.02, 0.08), 12, 20.0))
    assert "40 instead of 20" in spoken(terminal)
    assert "+5.0 Dice points" in spoken(terminal)


def test_what_no_subset_has_takes_no_row() -> None:
    terminal = quiet_console()
    terminal.scores(Scores((), {"all": summarise([score_image("a", "a", "all", *EMPTY)], 100)}))
    told = spoken(terminal)
    assert "Dice" in told
    for name in ("NSD", "Boundary", "Object", "ECE", "Doubt", "pooled"):
        assert name not in told


def test_blocks_of_a_series_are_told_from_whole_ones() -> None:
    terminal = quiet_console()
    terminal.record(audit_of([], Twins(("a", "b"), "series"), shares={}))
    terminal.record(audit_of([], *[Twins(("a", "b"), "series", 4)] * 4, shares={}))
    whole, cut = spoken(terminal).splitlines()
    assert whole.endswith("0 groups of look-alikes, 1 series")
    assert cut.endswith("0 series, 4 blocks of a series that was cut")


@pytest.mark.parametrize(("verbosity", "lines"), [(0, 1), (1, 2)])
def test_epochs_without_validation_are_told_when_verbose(verbosity: int, lines: int) -> None:
    terminal = quiet_console(verbosity)
    terminal.epoch(Epoch(1, 10, 0.5, 0.5, math.nan, math.nan, 1e-3, 3.0))
    terminal.epoch(Epoch(2, 20, 0.4, 0.6, 0.5, 0.7, 1e-3, 6.0))
    told = spoken(terminal).strip().splitlines()
    assert len(told) == lines
    assert "val Dice 0.7000" in told[-1]


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = quiet_console()
    terminal.step("fit", 0.1, 1.0, "early")
    assert spoken(terminal) == ""
    monkeypatch.setattr("calco.terminal.LOG_EVERY_S", -1.0)
    terminal.step("fit", 0.25, 1.0, "loss 0.3")
    assert "25%  loss 0.3" in spoken(terminal)

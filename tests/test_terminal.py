"""What a person reads: every record has its line, nothing in a file name is obeyed as markup."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from calco.errors import Problem
from calco.records import Epoch
from calco.terminal import Terminal


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

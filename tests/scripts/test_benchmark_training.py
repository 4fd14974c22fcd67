from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark_training
from benchmark_training import Setting, busy_core, rows, small_share, within_budget
from contenders.records import Figures
from contenders.rows import Row, fill


def test_the_rows_are_those_of_the_promises(tmp_path: Path) -> None:
    names = {"budget_idle", "budget_busy", "planning", "prediction", "fit_speed", "inference"}
    made = rows(Setting(), tmp_path)
    assert set(made) == names
    assert list(made["budget_busy"].pieces) == ["60s", "120s", "300s", "1200s"]


def test_each_piece_is_measured_once_and_kept_at_once(tmp_path: Path) -> None:
    report, called = tmp_path / "report.json", []

    def piece(name: str, value: float) -> Figures:
        called.append(name)
        if value < 0:
            raise KeyboardInterrupt
        return {name: value}

    def row(second: float) -> Row:
        pieces = {"a": lambda: piece("a", 1.0), "b": lambda: piece("b", second)}
        return Row("measure", "2", pieces, lambda f: (f"{f['a'] + f['b']:g}", f["b"] > 1))

    with pytest.raises(KeyboardInterrupt):
        fill(report, "row", row(-1), again=False)
    kept = json.loads(report.read_text())["row"]
    assert kept["figures"] == {"a": 1.0}
    assert kept["target"]["met"] is None
    fill(report, "row", row(2.0), again=False)
    assert called == ["a", "b", "b"]
    kept = json.loads(report.read_text())["row"]
    assert (kept["target"]["found"], kept["target"]["met"]) == ("3", True)
    fill(report, "row", row(1.0), again=True)
    assert json.loads(report.read_text())["row"]["target"]["met"] is False


def test_a_core_is_busy_until_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen(command))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)

    def interrupted() -> None:
        with busy_core():
            assert started[0].poll() is None
            raise ValueError("interrupted")

    with pytest.raises(ValueError, match="interrupted"):
        interrupted()
    assert started[0].poll() is not None


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        ({"60s": 0.85, "120s": 1.02}, True),
        ({"60s": 0.84}, False),
        ({"60s": 0.9, "120s": 1.03}, False),
    ],
)
def test_a_budget_is_neither_wasted_nor_overdrawn(figures: Figures, met: bool) -> None:
    assert within_budget(figures)[1] is met


def test_budgets_are_told_from_the_shortest_to_the_longest() -> None:
    told, _ = within_budget({"1200s": 0.9, "60s": 1.0, "300s": 0.95})
    assert told == "1.000, 0.950, 0.900"


def test_the_largest_share_of_planning_counts() -> None:
    assert small_share({"60s": 0.05, "probe of 60": 3.1}) == ("5.0 % of 60s", True)
    assert small_share({"60s": 0.051, "300s": 0.01})[1] is False


@pytest.mark.slow
def test_a_row_is_measured_on_a_drawn_set(tmp_path: Path) -> None:
    command = [sys.executable, benchmark_training.__file__, "--quick", str(tmp_path)]
    subprocess.run([*command, "--only", "inference"], check=True)
    report = json.loads((tmp_path / "training_benchmark.json").read_text())
    assert report["inference"]["target"]["met"] is not None
    assert report["inference"]["figures"]["calco"] > 0

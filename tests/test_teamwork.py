"""The command line with several processes: same scores, one voice, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.conftest import TINY

from calco.files import from_json, to_json, without_nan
from calco.records import FitJob, Postprocess, PredictJob
from calco.runs import RunDir
from calco.scoring import score_run
from calco.teamwork import Job

ROOT = Path(__file__).resolve().parents[1]


def start(data: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "calco", "train", str(data), "-o", str(folder), *more],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )


def settings(epochs: int) -> list[str]:
    return [word for s in (*TINY, f"fit.epochs={epochs}") for word in ("--set", s)]


def helper_of(leader: subprocess.Popen[str], folder: Path) -> int:
    """Wait for the first epoch and return the id of the other process."""
    until = time.monotonic() + 100
    while not (folder / "history.csv").exists():
        assert leader.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(Path(f"/proc/{leader.pid}/task/{leader.pid}/children").read_text().split()[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the other process in /proc")
def test_a_signal_to_any_process_stops_all_and_the_run_goes_on(discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    leader = start(discs, folder, "--devices", "2", *settings(12))
    os.kill(helper_of(leader, folder), signal.SIGTERM)
    _, said = leader.communicate(timeout=60)
    assert leader.returncode == 75
    assert said.count("stopped by SIGTERM") == 1
    assert not (folder / "scratch").exists()
    assert len(RunDir(folder).load_history()) < 12

    resumed = start(discs, folder, "--resume", "--devices", "2")
    _, said = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, said
    assert said.count("report    ") == 1  # one voice
    assert [e.epoch for e in RunDir(folder).load_history()] == list(range(1, 13))
    for subset in ("validation", "test"):
        alone = asdict(score_run(RunDir(folder), None, subset, "cpu").summaries[subset])
        together = RunDir(folder).load_summary()[subset]
        assert json.loads(json.dumps(without_nan(alone))) == together


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the other process in /proc")
def test_a_process_that_is_killed_ends_all_with_one_line(discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    leader = start(discs, folder, "--devices", "2", "-q", *settings(1000))
    os.kill(helper_of(leader, folder), signal.SIGKILL)
    began = time.monotonic()
    _, said = leader.communicate(timeout=60)
    assert leader.returncode == 2
    assert time.monotonic() - began < 30
    lines = [line for line in said.splitlines() if line]
    assert len(lines) == 1
    assert "error[TEAM_LOST] process 1 of 0 to 1" in lines[0]
    assert "SIGKILL" in lines[0]


def test_jobs_survive_their_way(finished_run: Path) -> None:
    folder = RunDir(finished_run)
    split, config = folder.load_split(), folder.load_config()
    jobs: list[Job] = [
        FitJob(split, folder.load_plan(), config, 0, finished_run, finished_run),
        PredictJob(split.part("test"), finished_run, "cpu", Postprocess(flips=True)),
    ]
    for job in jobs:
        text = to_json(job)
        arrived: Job = from_json(Job, text, "test")  # type: ignore[arg-type]
        assert type(arrived) is type(job)
        assert to_json(arrived) == text  # the records hold NaN, which never equals itself

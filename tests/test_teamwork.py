"""The command line with several processes: same scores, one voice, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY
from typer.testing import CliRunner

from calco import teamwork
from calco.cli import app
from calco.config import load_config
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json, without_nan
from calco.records import FitJob, Postprocess, PredictJob
from calco.runs import RunDir
from calco.scoring import score_run
from calco.stages.samples import index_samples
from calco.teamwork import Job, ask, assist, team_of
from calco.training.team import ALONE, Team

ROOT = Path(__file__).resolve().parents[1]


PYTHON = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
}
TORCHRUN = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1")


def start(data: Path, folder: Path, *more: str, by: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    line = [sys.executable, *(word for part in (by, ("calco",)) if part for word in ("-m", *part))]
    return subprocess.Popen(
        [*line, "train", str(data), "-o", str(folder), *more],
        env=PYTHON | ({"GLOO_SOCKET_IFNAME": "lo"} if by and sys.platform == "linux" else {}),
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


# --- under torchrun ------------------------------------------------------------------------------


@pytest.mark.slow
def test_torchrun_trains_resumes_and_ends_when_nothing_is_left(discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    two = (*TORCHRUN, "--nproc-per-node", "2")
    began = start(discs, folder, *settings(2), by=two)
    _, said = began.communicate(timeout=100)
    assert began.returncode == 0, said
    assert said.count("report    ") == 1  # one voice
    assert RunDir(folder).load_config().devices == 2
    alone = asdict(score_run(RunDir(folder), None, "test", "cpu").summaries["test"])
    assert json.loads(json.dumps(without_nan(alone))) == RunDir(folder).load_summary()["test"]

    again = start(discs, folder, "--resume", by=two)  # as a queue does that was not told
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert said.count("is finished already") == 1


def test_a_process_of_torchrun_says_itself_what_it_died_of(
    discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(team: Team) -> None:
        raise CalcoError(Problem("MASK_GONE", "a mask is gone", "masks/3.png"))

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(teamwork, "join_from_outside", lambda: ALONE)
    monkeypatch.setattr(teamwork, "assist", fail)
    done = CliRunner().invoke(app, ["train", str(discs)])
    assert done.exit_code == 2
    assert done.output.splitlines() == ["error[MASK_GONE] masks/3.png: a mask is gone"]


# --- faults of one process -----------------------------------------------------------------------


class Slate:
    """What processes write on before they end."""

    def __init__(self) -> None:
        self.words: dict[str, bytes] = {}

    def set(self, key: str, text: str) -> None:
        self.words[key] = text.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.words for key in keys)

    def get(self, key: str) -> bytes:
        return self.words[key]


@pytest.mark.slow
def test_what_a_helper_died_of_is_what_the_first_process_says(discs: Path, tmp_path: Path) -> None:
    index = index_samples(discs, load_config(None).data)
    job = PredictJob(index, tmp_path / "nowhere", "cpu", Postprocess())

    def ask_and_wait() -> None:
        with team_of(2, "cpu") as team:
            ask(team, job)
            team.meet()

    with pytest.raises(CalcoError, match="nowhere") as caught:
        ask_and_wait()
    assert [p.code for p in caught.value.problems] == ["CKPT_READ"]


@pytest.mark.parametrize(
    ("fault", "raised", "told"),
    [
        (MemoryError(), CalcoError, "got MemoryError --"),
        (OSError(28, "No space left"), CalcoError, r"got OSError: \[Errno 28\] No space left --"),
        (ZeroDivisionError("by zero"), ZeroDivisionError, "got ZeroDivisionError: by zero --"),
    ],
)
def test_whatever_a_helper_dies_of_is_left_for_the_first_process(
    fault: Exception, raised: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    team = Team(rank=1, size=3, store=Slate())  # type: ignore[arg-type]
    monkeypatch.setattr(Team, "told", lambda _: "{}")
    monkeypatch.setattr(teamwork, "from_json", fail)
    with pytest.raises(raised):
        assist(team)
    heard = replace(team, rank=0).fault()
    with pytest.raises(CalcoError, match=rf"TEAM_FAILED\] process 1 of 0 to 2: .*{told}"):
        raise heard or fault


def test_a_process_that_waits_for_ever_ends_when_another_was_lost() -> None:
    """As between GPUs; Gloo's exchanges fail by themselves."""
    script = """
import subprocess, sys, time, torch
from calco import teamwork
teamwork.NOTICE_S = 0.2
torch.cuda.is_available = lambda: True
others = [subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({s}); 1 / {s}"])
    for s in (0, 100)]
with teamwork._watched(teamwork.ALONE, others):
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=PYTHON, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "error[TEAM_LOST] process 1 of 0 to 2" in line
    assert "exit code 1" in line


def test_too_few_gpus_are_noticed_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(teamwork, "_start", lambda *_: pytest.fail("a process was started"))
    with (
        pytest.raises(CalcoError, match=r"a GPU of its own; got 3; expected at most 2"),
        team_of(3),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the interface has another name")
def test_processes_of_one_machine_are_not_heard_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    place = teamwork._place(1, 2)
    assert place["GLOO_SOCKET_IFNAME"] == place["NCCL_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")  # asked for
    assert teamwork._place(1, 2)["NCCL_SOCKET_IFNAME"] == "ib0"


@pytest.mark.slow
def test_two_processes_train_with_divided_weights(discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = start(discs, folder, "--devices", "2", *settings(1), "--set", "fit.fsdp=true")
    _, said = line.communicate(timeout=100)
    assert line.returncode == 0, said
    alone = asdict(score_run(RunDir(folder), None, "test", "cpu").summaries["test"])
    assert json.loads(json.dumps(without_nan(alone))) == RunDir(folder).load_summary()["test"]

"""What a team does together: who starts it, what the others do, and how its end is told.

The first process runs the pipeline as if it were alone and asks the others for help with two
things: training, step by step, and predicting many images. Between two jobs they wait.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed import FileStore, rendezvous  # type: ignore[attr-defined]

from calco.errors import CalcoError, Problem, StoppedError
from calco.files import from_json, to_json
from calco.formats.truth import read_sample
from calco.inference.maps import ProbMap
from calco.inference.postprocess import to_levels
from calco.inference.predictor import Predictor, predict_maps
from calco.inference.streams import ALL, Streams, abreast
from calco.records import FitJob, PredictJob, Sample, SampleIndex
from calco.runs import RunDir
from calco.stages.fit import fit
from calco.stages.loaders import build_loaders, read_samples
from calco.training.budget import Clock
from calco.training.device import require_devices, take_own_device
from calco.training.progress import Watch
from calco.training.team import ALONE, Team, is_broken, join_team, leave_team

BEGIN_S = 120.0  # in which all processes have loaded torch
END_S = 10.0  # for a process to end by itself
NOTICE_S = 30.0  # in which a process notices by itself that another has ended
FAULT_CODE = 2  # with which a process ends that could not go on

# whose one line says enough; anything else is a fault of calco, and its traceback is wanted
FORESEEN = (CalcoError, OSError, MemoryError, torch.OutOfMemoryError)

Levels = NDArray[np.uint8]
Job = FitJob | PredictJob


def ask(team: Team, job: Job) -> None:
    """Tell the others what to do now, together with this process."""
    if team.size > 1:
        team.told(to_json(job))


def assist(team: Team) -> None:
    """Do what the leading process asks for, until it needs no more help or has ended.

    Raises:
        CalcoError: What went wrong here; the leading process has heard of it, as of any fault.
    """
    try:
        while text := team.told():
            job: Job = from_json(Job, text, "the leading process")  # type: ignore[arg-type]
            match job:
                case FitJob():
                    _fit(job, team)
                case PredictJob():
                    _predict_share(job, team)
    except Exception as error:
        if isinstance(error, RuntimeError) and is_broken(error):
            return  # the leading process says why, or whoever ended it
        told = error if isinstance(error, CalcoError) else CalcoError(_failed(error, team))
        team.report(told)
        if isinstance(error, FORESEEN):
            raise told from None
        raise


def predict_together(
    team: Team,
    predictor: Predictor,
    job: PredictJob,
    groups: Sequence[str],
    known: Mapping[str, Levels] | None = None,
) -> list[ProbMap]:
    """Predict labelled samples, each in one process, and put their truth beside.

    Args:
        team: Processes that share the images.
        predictor: Of the job.
        job: What is predicted.
        groups: Group of each sample, in the index's order.
        known: (H, W) levels by id, of samples that this predictor has predicted before.

    Returns:
        One map per sample, in the index's order, whatever the number of processes.

    Raises:
        CalcoError: Lists every sample without a truth or with files that cannot be read.
    """
    levels = dict(known or {})
    unknown = [sample.id for sample in job.index if sample.id not in levels]
    if team.size > 1 and unknown:
        asked = PredictJob(job.index.only(unknown), job.run, job.device, job.look)
        ask(team, asked)
        found = team.collected(_levels_of_share(predictor, asked.index, team))
        levels |= {s.id: level for s, level in zip(asked.index, found, strict=True)}
    return predict_maps(predictor, job.index, groups, levels)


def _levels_of_share(predictor: Predictor, index: SampleIndex, team: Team) -> list[Levels]:
    def one(streams: Streams, sample: Sample) -> Levels:
        return to_levels(streams.prob(read_sample(sample, index, predictor.spec)[0]))

    return list(abreast(predictor, team.share(index.samples), one, ahead=ALL))


# --- what the other processes do -----------------------------------------------------------------


def _fit(job: FitJob, team: Team) -> None:
    """Make the steps that the leading process makes; the clock and the files are its own."""
    samples = read_samples(job.split, RunDir(job.run).scratch, team)
    loaders = build_loaders(samples, job.split, job.plan, job.config, job.fold, team)
    team.meet()
    loaders = replace(loaders, start=RunDir(job.run).start if job.plan.start else None)
    try:
        fit(loaders, job.plan, job.config, RunDir(job.folder), Clock(), Watch())
    except StoppedError:
        return  # the leading process tells


def _predict_share(job: PredictJob, team: Team) -> None:
    take_own_device(job.device, team)  # training may have ended before this process began
    predictor = Predictor.from_run(job.run, job.device)
    predictor.params = job.look
    team.collected(_levels_of_share(predictor, job.index, team))


# --- beginning and end ---------------------------------------------------------------------------


def require_none_started() -> None:
    """Refuse to begin where torchrun has started several processes: each would do all the work.

    Raises:
        CalcoError: With the two ways to train in several processes.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1:
        what = "each of several processes would do all the work"
        do = "leave torchrun out and set devices, or start torchrun with -m calco train DATA"
        raise CalcoError(Problem("TEAM_STARTED", what, "torchrun", f"{started} processes", do=do))


def join_from_outside() -> Team:
    """Meet the processes that torchrun has started beside this one."""
    store, rank, size = next(rendezvous("env://"))
    return join_team(store, rank, size)


@contextmanager
def team_of(size: int, device: str = "auto") -> Iterator[Team]:
    """Gather so many processes; at the end, or when one fails, all of them end.

    Args:
        size: Processes; 1 is this one alone.
        device: On which they train; ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CalcoError: What another process said before it ended, or that it was killed; before any
            begins, that there are too few GPUs.
    """
    if size > 1:
        require_devices(device, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    if size == 1:
        yield ALONE
    elif "RANK" in os.environ:
        team = join_from_outside()
        with _led(team, ()):
            yield team
    else:
        with TemporaryDirectory(prefix="calco-team-") as folder:
            before = dict(os.environ)
            store = Path(folder) / "store"
            processes = [_start(rank, size, store) for rank in range(1, size)]
            patience_s = 0.0  # after a fault nobody has anything left to do
            try:
                os.environ |= _place(0, size)
                team = _meet(store, size, processes)
                with _watched(team, processes), _led(team, processes):
                    yield team
                patience_s = END_S
            finally:
                _end(processes, patience_s)
                os.environ.clear()
                os.environ |= before


@contextmanager
def _led(team: Team, processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
        team.told("")  # no more work
    except RuntimeError as error:
        if not is_broken(error):
            raise
        raise team.fault() or CalcoError(_lost(processes)) from None
    finally:
        leave_team()


@contextmanager
def _watched(team: Team, processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End all when another process has failed and this one does not notice."""

    def end() -> None:
        sys.stderr.write(f"{team.fault() or _lost(processes)}\n")
        for process in processes:
            process.kill()

    with _ending(lambda: any(p.poll() for p in processes), end):
        yield


@contextmanager
def _ending(is_lost: Callable[[], bool], before: Callable[[], None]) -> Iterator[None]:
    """End this process when another is lost and the exchange with it does not fail.

    Through Gloo it fails at once; between GPUs this process waits where nothing interrupts it.

    Args:
        is_lost: Whether another process has ended that should not have.
        before: What is done last.
    """
    over = Event()

    def watch() -> None:
        while not over.wait(1.0):
            if is_lost() and not over.wait(NOTICE_S):
                before()
                os._exit(FAULT_CODE)

    if torch.cuda.is_available():
        Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _place(rank: int, size: int) -> dict[str, str]:
    """Return what torchrun would tell a process of its place; for one machine."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    words = {name: str(value) for name, value in place.items()}
    if sys.platform == "linux":
        words["GLOO_SOCKET_IFNAME"] = "lo"  # nobody on the network may join
        words["NCCL_SOCKET_IFNAME"] = os.environ.get("NCCL_SOCKET_IFNAME", "lo")
    return words


def _start(rank: int, size: int, store: Path) -> subprocess.Popen[bytes]:
    """Start another process; Fabric's own launcher would kill this one when that one fails."""
    command = [sys.executable, "-m", "calco.teamwork", str(store)]
    return subprocess.Popen(command, env=os.environ | _place(rank, size))  # noqa: S603


def _meet(path: Path, size: int, processes: Sequence[subprocess.Popen[bytes]]) -> Team:
    store, until = FileStore(str(path), size), time.monotonic() + BEGIN_S
    while not store.check([f"here/{rank}" for rank in range(1, size)]):
        if any(p.poll() is not None for p in processes) or time.monotonic() > until:
            raise CalcoError(_lost(processes))
        time.sleep(0.05)
    return join_team(store, 0, size)


def _end(processes: Sequence[subprocess.Popen[bytes]], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _lost(processes: Sequence[subprocess.Popen[bytes]]) -> Problem:
    """Say which process has ended, as far as it is known."""
    until = time.monotonic() + 1.0
    while processes and time.monotonic() < until and all(p.poll() is None for p in processes):
        time.sleep(0.02)
    ended = [(r, p.returncode) for r, p in enumerate(processes, 1) if p.returncode is not None]
    ended.sort(key=lambda one: one[1] == 0)  # those that only noticed come last
    rank, code = ended[0] if ended else (0, 0)
    how = f"by {Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return Problem(
        "TEAM_LOST",
        "a process of the team has ended",
        where=f"process {rank} of 0 to {len(processes)}" if ended else "",
        got=f"its end {how}" if ended else "no answer",
        do="look for its message and for memory that ran out, then go on with --resume",
    )


def _failed(error: Exception, team: Team) -> Problem:
    """Say in one line what a process died of that nobody had foreseen."""
    said = next(iter(str(error).splitlines()), "")
    return Problem(
        "TEAM_FAILED",
        "a process of the team has failed",
        where=f"process {team.rank} of 0 to {team.size - 1}",
        got=f"{type(error).__name__}: {said}" if said else type(error).__name__,
        do="mend that, then go on with --resume",
    )


def main() -> None:
    """Be another process of a team that ``team_of`` gathers."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = FileStore(sys.argv[1], size)
    store.set(f"here/{rank}", "")
    leader = os.getppid()
    try:
        with _ending(lambda: os.getppid() != leader, lambda: None):
            assist(join_team(store, rank, size))
    except (CalcoError, KeyboardInterrupt):
        raise SystemExit(FAULT_CODE) from None  # the leading process says why
    finally:
        leave_team()


if __name__ == "__main__":
    main()

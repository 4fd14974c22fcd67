"""A study that workers share: nothing asked for is lost, nothing is done twice."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest

from calco.config import Config
from calco.errors import CalcoError, Problem, StoppedError
from calco.records import Epoch, Sweep, SweepTrial
from calco.searching.space import Params, parse_space
from calco.searching.storage import engine_url, open_storage, shown_url
from calco.searching.study import Job, Report, SharedStudy, importance

from .workers import SPACE, open_at, spec_of

WORKER = Path(__file__).with_name("workers.py")
THE_SPACE = parse_space(SPACE, Config())


def epoch(number: int, dice: float) -> Epoch:
    return Epoch(number, number, 1.0, dice, 1.0, dice, 0.1, float(number))


def founded(folder: Path, n_trials: int, pruner: str = "none") -> SharedStudy:
    study = open_at(f"sqlite:///{folder / 'study.db'}")
    spec = spec_of(n_trials, pruner)
    study.found(spec, [{} for _ in range(n_trials)])
    return study


def swept(study: SharedStudy, train_on: Callable[[Params, Report], float]) -> Sweep:
    spec = study.spec()
    assert spec is not None
    study.work(THE_SPACE, spec, Job(train_on))
    return study.read(spec, THE_SPACE)


def by_rate(params: Params, report: Report) -> float:
    dice = 1 - 50 * abs(float(params["fit.learning_rate"]) - 1e-3)  # type: ignore[arg-type]
    report(1.0, epoch(1, dice))
    return dice


def steadily(dice: float, report: Report) -> float:
    """Come nearer to a Dice by a tenth of it in each tenth of the trial."""
    for tenth in range(1, 11):
        report(tenth / 10, epoch(tenth, dice * tenth / 10))
    return dice


def test_every_trial_asked_for_is_done_once(tmp_path: Path) -> None:
    found = swept(founded(tmp_path, 3), by_rate)
    assert [t.number for t in found.trials] == list(range(3))
    assert {t.state for t in found.trials} == {"complete"}
    assert all(len(t.history) == 1 and t.attempts == 1 for t in found.trials)
    assert found.best is max(found.trials, key=lambda t: t.dice)


def test_draws_depend_on_the_seed_and_not_on_a_break(tmp_path: Path) -> None:
    whole = swept(founded(tmp_path, 5), by_rate)
    (tmp_path / "b").mkdir()
    broken, spec = founded(tmp_path / "b", 5), spec_of(5)
    left = iter([True, True, False])
    broken.work(THE_SPACE, spec, Job(by_rate, lambda: next(left)))
    assert broken.read(spec, THE_SPACE).count("complete") == 2
    again = swept(open_at(f"sqlite:///{tmp_path / 'b' / 'study.db'}"), by_rate)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]
    assert len({t.params["fit.learning_rate"] for t in whole.trials}) == 5


def test_weak_trials_are_given_up(tmp_path: Path) -> None:
    dices = iter([0.9, 0.5, 0.95])
    found = swept(founded(tmp_path, 3, "halving"), lambda _, report: steadily(next(dices), report))
    # after two tenths the first had 0.18: 0.10 is given up there, and not before; 0.19 goes on
    assert [t.state for t in found.trials] == ["complete", "pruned", "complete"]
    assert len(found.trials[1].history) == 2
    assert found.trials[1].dice == pytest.approx(0.1)
    assert found.best is found.trials[2]


def test_the_median_is_asked_once_two_trials_are_complete(tmp_path: Path) -> None:
    dices = iter([0.9, 0.7, 0.75, 0.85])
    found = swept(founded(tmp_path, 4, "median"), lambda _, report: steadily(next(dices), report))
    # the median of the first two is that of 0.8
    assert [t.state for t in found.trials] == ["complete", "complete", "pruned", "complete"]
    assert len(found.trials[2].history) == 2


@pytest.mark.slow
def test_hyperband_gives_up_the_weaker_half_of_a_bracket(tmp_path: Path) -> None:
    def train_on(params: Params, report: Report) -> float:
        return steadily(by_rate(params, lambda *_: None), report)

    found = swept(founded(tmp_path, 12, "hyperband"), train_on)
    complete = [t.dice for t in found.trials if t.state == "complete"]
    assert found.count("complete") + found.count("pruned") == 12
    assert 0 < found.count("pruned") < 12
    assert max(complete) >= max(t.dice for t in found.trials)


def test_at_a_tenth_without_validation_the_last_one_stands(tmp_path: Path) -> None:
    plans = iter([[0.1, 0.2, 1.0], [0.1, 0.2, 1.0], [0.35, 1.0]])
    dices = iter([0.8, 0.8, 0.7])

    def train_on(params: Params, report: Report) -> float:
        dice = next(dices)
        for number, fraction in enumerate(next(plans), start=1):
            report(fraction, epoch(number, dice))
        return dice

    found = swept(founded(tmp_path, 3, "halving"), train_on)
    # the third is validated first at 0.35, where the others are known by their 0.2
    assert found.trials[2].state == "pruned"
    assert len(found.trials[2].history) == 1


def test_a_fault_fails_its_trial_alone(tmp_path: Path) -> None:
    faults = iter([CalcoError(Problem("OOM", "no room", do="less")), RuntimeError("cuda"), None])

    def train_on(params: Params, report: Report) -> float:
        if fault := next(faults):
            raise fault
        return 0.5

    found = swept(founded(tmp_path, 3), train_on)
    assert [t.state for t in found.trials] == ["failed", "failed", "complete"]
    assert found.trials[0].problem == "error[OOM]: no room -- less"
    assert found.trials[1].problem == "RuntimeError: cuda"


@pytest.mark.parametrize("fault", [ValueError("one value"), KeyError("name"), MemoryError()])
def test_any_fault_of_a_trial_is_its_own(tmp_path: Path, fault: Exception) -> None:
    faults = iter([fault, None])

    def train_on(params: Params, report: Report) -> float:
        if found := next(faults):
            raise found
        return 0.5

    found = swept(founded(tmp_path, 2), train_on)
    assert [t.state for t in found.trials] == ["failed", "complete"]
    assert found.trials[0].problem.startswith(type(fault).__name__)


def test_a_full_disk_ends_the_worker_and_not_the_trial(tmp_path: Path) -> None:
    def train_on(params: Params, report: Report) -> float:
        raise OSError(28, "No space left on device")

    study = founded(tmp_path, 2)
    with pytest.raises(OSError, match="No space"):
        swept(study, train_on)
    found = swept(study, by_rate)
    assert [t.state for t in found.trials] == ["complete", "complete"]
    assert found.trials[0].attempts == 2


@pytest.mark.parametrize("is_told", [True, False], ids=["in an epoch", "at the end"])
def test_a_worker_that_was_silent_for_too_long_goes_on_with_the_next(
    tmp_path: Path, is_told: bool
) -> None:
    study, tried = founded(tmp_path, 2), 0

    def train_on(params: Params, report: Report) -> float:
        nonlocal tried
        tried += 1
        if tried == 1:  # another worker takes this one for killed
            other = open_at(study.place.url)
            trials = other._load().get_trials(deepcopy=False)
            (running,) = [t for t in trials if t.state.name == "RUNNING"]
            other._load().tell(running.number, state=optuna.trial.TrialState.FAIL)
            other._queue_again(other._load(), running.number)
            if is_told:
                report(0.5, epoch(1, 0.4))
        return by_rate(params, report)

    found = swept(study, train_on)
    assert [t.state for t in found.trials] == ["complete", "complete"]
    assert [t.attempts for t in found.trials] == [2, 1]
    assert tried == 3


def test_a_stop_counts_also_where_the_trial_was_taken_over(tmp_path: Path) -> None:
    study = founded(tmp_path, 2)

    def train_on(params: Params, report: Report) -> float:
        other = open_at(study.place.url)
        other._load().tell(0, state=optuna.trial.TrialState.FAIL)
        other._queue_again(other._load(), 0)
        raise StoppedError("stopped by SIGTERM")

    with pytest.raises(StoppedError):
        swept(study, train_on)
    assert [t.attempts for t in study.trials()] == [2, 1]  # queued again by one of them alone


def test_a_patient_worker_gives_signs_of_life_for_others(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}", lost_after_s=600)
    assert storage.heartbeat_interval == 5


def test_a_trial_that_is_not_a_number_is_never_best(tmp_path: Path) -> None:
    dices = iter([math.nan, 0.1])
    found = swept(founded(tmp_path, 2), lambda params, report: next(dices))
    assert [t.state for t in found.trials] == ["failed", "complete"]
    assert found.best is found.trials[1]


@pytest.mark.parametrize("end", [StoppedError, KeyboardInterrupt])
def test_a_trial_that_was_stopped_waits_again_with_its_settings(
    tmp_path: Path, end: type[BaseException]
) -> None:
    tried: list[Params] = []

    def train_on(params: Params, report: Report) -> float:
        tried.append(params)
        if len(tried) == 2:
            raise end
        return 0.5

    study = founded(tmp_path, 3)
    with pytest.raises(end):
        swept(study, train_on)
    states = [t.state for t in study.trials()]
    assert states == ["complete", "waiting", "waiting"]
    found = swept(study, train_on)
    assert [t.state for t in found.trials] == ["complete"] * 3
    assert found.trials[1].attempts == 2
    assert tried[1] in tried[2:]


def test_who_comes_second_finds_what_the_first_has_founded(tmp_path: Path) -> None:
    first = founded(tmp_path, 2)
    second = open_at(first.place.url)
    assert second.found(spec_of(5), [{}] * 5) == spec_of(2)
    assert len(second.trials()) == 2


def test_what_decides_is_important_and_too_few_trials_say_nothing() -> None:
    rates = [1e-4 * 1.4**i for i in range(12)]
    trials = [
        SweepTrial(
            i, "complete", {"fit.learning_rate": rate, "fit.batch": (8, 16)[i % 2]}, 1 - 50 * rate
        )
        for i, rate in enumerate(rates)
    ]
    shares = importance(trials, THE_SPACE)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["fit.learning_rate"] > 5 * shares["fit.batch"]  # which changes nothing
    assert importance(trials[:7], THE_SPACE) == {}


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "results/a.db", "sqlite:///"])
def test_only_storages_that_workers_can_share_are_taken(url: str) -> None:
    with pytest.raises(CalcoError, match="SWEEP_STORAGE"):
        engine_url(url)


def test_a_storage_that_is_not_there_is_named_without_its_password() -> None:
    url = "postgresql://me:secret@127.0.0.1:9/none"
    with pytest.raises(CalcoError, match="cannot open the storage") as caught:
        open_at(url)
    assert "secret" not in str(caught.value)
    assert shown_url(url) == "postgresql://me:***@127.0.0.1:9/none"


def test_a_storage_that_goes_away_is_said(tmp_path: Path) -> None:
    def train_on(params: Params, report: Report) -> float:
        (tmp_path / "study.db").unlink()
        return 0.5

    with pytest.raises(CalcoError, match=r"the storage was lost.*--resume"):
        swept(founded(tmp_path, 2), train_on)


# --- killed workers ----------------------------------------------------------------------------


def three_workers_and_a_kill(url: str, n_trials: int, seconds: float) -> SharedStudy:
    """Let three processes work, kill one in the middle of a trial, wait for the others."""
    call = [sys.executable, str(WORKER), url, str(n_trials), str(seconds)]
    workers = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    victim = workers[0]
    assert victim.stdout is not None
    victim.stdout.readline()  # it has begun a trial
    time.sleep(seconds / 2)
    victim.send_signal(signal.SIGKILL)
    begun = [victim.wait() and 1]
    for worker in workers[1:]:
        out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        begun.append(out.count("begun"))
    study = open_at(url)
    trials = study.trials()
    assert [t.number for t in trials] == list(range(n_trials))
    assert {t.state for t in trials} == {"complete"}
    assert sorted(t.attempts for t in trials) == [1] * (n_trials - 1) + [2]
    assert sum(begun) == n_trials + 1  # no trial was done twice but the one that was cut off
    return study


@pytest.mark.slow
def test_a_killed_workers_trial_is_done_by_another(tmp_path: Path) -> None:
    three_workers_and_a_kill(f"sqlite:///{tmp_path / 'study.db'}", 6, 0.6)


def postgres_folder() -> Path | None:
    """Return where PostgreSQL's programs are; None without."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    own = shutil.which("initdb")
    return (Path(own) if own else found[-1]).resolve().parent if own or found else None


@contextmanager
def private_postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server on loopback alone, and give the URL of its database."""
    import os
    import pwd
    import socket

    programs = postgres_folder()
    assert programs is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    as_user: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to be root
        user = next((u for u in ("postgres", "nobody") if _is_user(u)), "nobody")
        as_user = {"user": pwd.getpwnam(user).pw_uid, "group": pwd.getpwnam(user).pw_gid}
        as_user |= {"extra_groups": []}
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o011)
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = folder / "db"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": folder, **as_user}
    init = [str(programs / "initdb"), "-D", str(data), "-U", "calco", "-A", "trust", "--no-sync"]
    subprocess.run(init, check=True, **quiet)  # type: ignore[call-overload]
    options = [f"-p{port}", "-h127.0.0.1", f"-k{folder}", "-Ffsync=off"]
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(data), *options],
        **(quiet | {"stderr": subprocess.DEVNULL}),  # type: ignore[call-overload]
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql://calco@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(timeout=30)


def _is_user(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(postgres_folder() is None, reason="PostgreSQL's programs are not installed")
def test_three_workers_share_postgresql_and_one_is_killed(tmp_path: Path) -> None:
    with private_postgres(tmp_path) as url:
        study = three_workers_and_a_kill(url, 6, 0.6)
        study.storage.engine.dispose()

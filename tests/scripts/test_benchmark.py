"""The campaign, its tables and its page; the contenders themselves run in the slow test."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

import benchmark
from contenders.page import write_page
from contenders.promises import promises
from contenders.records import (
    Job,
    Machine,
    Outcome,
    Point,
    Run,
    Tally,
    Target,
    load_runs,
    save_run,
)
from contenders.results import CALCO, ENTRANTS, OTHERS, PLAIN_CALCO, Results

HALF: Tally = (1, 1, 1)  # Dice 2 / 4
WHOLE: Tally = (2, 0, 0)
NOTHING: Tally = (0, 3, 0)


def a_run(job: Job, *tallies: Tally, split: str = "s") -> Run:
    images = {f"i{n}": counted for n, counted in enumerate(tallies)}
    scores = {"validation": images, "test": images}
    outcome = Outcome(job.budget_s, (Point(job.budget_s, 0.6),), scores, {}, 7, 900.0, "as ever")
    return Run(job, outcome, Machine("a processor", 2, {"python": "3"}), split)


def saved(folder: Path, *runs: Run) -> Results:
    for run in runs:
        save_run(run, folder)
    (folder / "splits").mkdir(exist_ok=True)
    rows = "".join(f"i{n},g{n},test,0\n" for n in range(9))
    (folder / "splits" / "dsb2018.csv").write_text(f"id,group,subset,fold\n{rows}")
    return Results(folder)


# --- what is run


def test_the_campaign_holds_every_run_once_and_what_each_promise_needs() -> None:
    jobs = benchmark.campaign()
    assert len(set(jobs)) == len(jobs)
    for seed in benchmark.SEEDS:
        for name in benchmark.CONTENDERS:
            for data, budget_s in (("dsb2018", 1200), ("dsb2018", 60), ("isbi2012", 1200)):
                assert Job(name, data, seed, budget_s) in jobs
        assert Job("calco", "dsb2018-20", seed, 300) in jobs
        assert Job("calco", "isbi2012", seed, 300) in jobs
        assert Job("calco", "dsb2018", seed, 120) in jobs


def test_contenders_take_turns_in_going_first() -> None:
    jobs = [j for j in benchmark.campaign() if j.budget_s == 1200]
    firsts = [jobs[i].contender for i in range(0, len(jobs), len(benchmark.CONTENDERS))]
    assert max(Counter(firsts).values()) == 1


def test_every_contender_has_a_row_and_every_row_a_contender() -> None:
    assert {e.contender for e in ENTRANTS} == set(benchmark.CONTENDERS)


def asked(**given: object) -> Namespace:
    nothing = dict.fromkeys(("contender", "data", "seed", "budget", "quick"))
    return Namespace(**nothing | given)


def test_options_choose_from_the_campaign() -> None:
    chosen = benchmark.wanted(asked(contender="monai", data="dsb2018", budget=60.0))
    assert [j.key for j in chosen] == [f"dsb2018_monai_60s_seed{n}" for n in (0, 1, 2)]
    own = benchmark.wanted(asked(contender="monai", data="dsb2018", budget=90.0, seed=8))
    assert [j.key for j in own] == ["dsb2018_monai_90s_seed8"]  # all four: any run one likes


def test_a_missing_contender_is_left_out_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert benchmark.run(Job("nnunet", "toy", 0, 5), tmp_path / "r", tmp_path / "w")
    assert "[benchmark]" in capsys.readouterr().out
    assert not (tmp_path / "r").exists()


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    run = a_run(Job("monai", "dsb2018", 0, 60), HALF, WHOLE)
    path = save_run(run, tmp_path)
    assert path.name == "dsb2018_monai_60s_seed0.json"
    assert load_runs(tmp_path) == [run]


def runs(pid: str) -> bool:
    """Tell whether a process is alive; a dead one may wait to be collected."""
    try:
        state = (Path("/proc") / pid / "stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked up in /proc")
def test_a_run_that_is_stopped_takes_its_processes_along(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def began(*_: object) -> None:
        ready = note.exists() and note.read_text()
        signal.signal(signal.SIGALRM, stop if ready else began)
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    began()
    with pytest.raises(KeyboardInterrupt), (tmp_path / "log").open("w") as log:
        benchmark.wait_for([sys.executable, "-c", outer], log)
    signal.setitimer(signal.ITIMER_REAL, 0)
    deadline = time.monotonic() + 20  # a busy machine takes its time to end a process
    while runs(note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(note.read_text())


# --- tables


def test_seeds_are_averaged_and_listed(tmp_path: Path) -> None:
    first = a_run(Job("monai", "dsb2018", 0, 60), HALF, WHOLE)  # 0.5, 1: mean 0.75
    second = a_run(Job("monai", "dsb2018", 1, 60), HALF, NOTHING)  # 0.5, 0: mean 0.25
    results = saved(tmp_path, second, first)
    cell = results.cell(ENTRANTS[5], "dsb2018", 60, "test")
    assert cell is not None
    assert (cell.seeds, cell.mean) == ((0.75, 0.25), 0.5)
    assert (cell.low, cell.high) == (0.5, 0.5)  # both images average 0.5
    assert cell.pooled == (2 * 3 / (2 * 3 + 2), 2 * 1 / (2 * 1 + 5))
    assert results.cell(ENTRANTS[5], "dsb2018", 300, "test") is None


def test_contenders_are_paired_image_by_image(tmp_path: Path) -> None:
    ours = a_run(Job("calco", "dsb2018", 0, 1200), *[WHOLE] * 6)
    theirs = a_run(Job("monai", "dsb2018", 0, 1200), *[HALF] * 6)
    results = saved(tmp_path, ours, theirs)
    pair = results.pair((PLAIN_CALCO, ENTRANTS[5]), "dsb2018", 1200, "test")
    assert pair is not None
    assert (pair.difference, pair.low, pair.high) == (0.5, 0.5, 0.5)
    assert pair.p_value == 2 / 2**6  # of all signs of six groups, all plus and all minus
    assert results.pair((PLAIN_CALCO, ENTRANTS[6]), "dsb2018", 1200, "test") is None


def test_results_of_two_divisions_are_not_mixed(tmp_path: Path) -> None:
    save_run(a_run(Job("monai", "dsb2018", 0, 60), HALF, split="a"), tmp_path)
    save_run(a_run(Job("monai", "dsb2018", 1, 60), HALF, split="b"), tmp_path)
    with pytest.raises(RuntimeError, match="different divisions"):
        Results(tmp_path)


# --- promises


def verdicts(results: Results) -> dict[str, Target]:
    return {target.measure: target for target in promises(results)}


def test_nothing_is_promised_of_what_was_not_measured(tmp_path: Path) -> None:
    assert {(t.found, t.met) for t in promises(saved(tmp_path))} == {("not measured", None)}


def test_the_shortest_budget_that_passes_the_best_other_counts(tmp_path: Path) -> None:
    runs = [a_run(Job("monai", "dsb2018", 0, 1200), HALF)]
    runs += [a_run(Job("smp-imagenet", "dsb2018", 0, 1200), WHOLE)]
    runs += [a_run(Job("calco", "dsb2018", 0, 60), NOTHING)]
    runs += [a_run(Job("calco", "dsb2018", 0, 300), HALF)]
    found = verdicts(saved(tmp_path, *runs))
    (scratch,) = [t for name, t in found.items() if "random weights" in name]
    assert scratch.found.startswith("validation 5 minutes: 0.5000 against 0.5000 (MONAI")
    assert scratch.met is False  # two were promised
    (same,) = [t for name, t in found.items() if "same ImageNet" in name]
    assert (same.found.partition(":")[0], same.met) == ("validation not within 20 minutes", False)


def test_membranes_are_judged_by_pooled_pixels_against_all_others(tmp_path: Path) -> None:
    runs = [a_run(Job("calco", "isbi2012", 0, 300), (8, 1, 1), (8, 1, 1))]
    for other in OTHERS:
        runs.append(a_run(Job(other.contender, "isbi2012", 0, 1200), (8, 1, 1), (7, 2, 2)))
    (target,) = [t for t in promises(saved(tmp_path, *runs)) if "isbi2012" in t.measure]
    assert target.found.startswith("validation 0.8889 against 0.8333")  # 32 / 36, 30 / 36
    assert target.met


def test_what_calco_delivers_counts_for_its_own_row_alone(tmp_path: Path) -> None:
    run = a_run(Job("calco", "dsb2018", 0, 60), HALF)
    parts = {"validation": {"i0": WHOLE}, "test": {"i0": WHOLE}}
    outcome = Outcome(**{**vars(run.outcome), "delivered": parts})
    results = saved(tmp_path, Run(run.job, outcome, run.machine, run.split_sha256))
    means = [results.cell(e, "dsb2018", 60, "test") for e in (PLAIN_CALCO, CALCO)]
    assert [cell.mean for cell in means if cell] == [0.5, 1.0]


# --- page


def test_the_page_and_its_figure_come_from_the_files_alone(tmp_path: Path) -> None:
    runs = [
        a_run(Job(name, data, seed, 1200.0), HALF, WHOLE)
        for name in benchmark.CONTENDERS
        for data in ("dsb2018", "isbi2012")
        for seed in (0, 1)
    ]
    page, figure = tmp_path / "page.md", tmp_path / "figures" / "page.png"
    write_page(saved(tmp_path / "runs", *runs), page, figure)
    text = page.read_text(encoding="utf-8")
    assert "**0.7500** (0.5000 to 1.0000); 0.7500, 0.7500" in text
    assert "(figures/page.png)" in text
    assert "a processor, 2 threads" in text
    for entrant in ENTRANTS:
        assert entrant.label in text
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.stat().st_size < 200_000


def test_an_empty_folder_makes_a_page_that_claims_nothing(tmp_path: Path) -> None:
    page, figure = tmp_path / "page.md", tmp_path / "page.png"
    write_page(saved(tmp_path), page, figure, training=tmp_path / "training.json")
    assert "| yes |" not in page.read_text(encoding="utf-8")


# --- the contenders, for seconds


@pytest.mark.slow
@pytest.mark.parametrize("contender", ["calco", "smp-imagenet", "nnunet"])
def test_a_contender_runs_end_to_end(contender: str, tmp_path: Path) -> None:
    if contender == "nnunet":
        pytest.importorskip("nnunetv2", reason="the benchmark extra is not installed")
    command = [sys.executable, benchmark.__file__, "--quick", str(tmp_path)]
    options = ["--contender", contender, "--budget", "8s"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    logs = [log.read_text() for log in tmp_path.rglob("*log*") if log.is_file()]
    assert done.returncode == 0, done.stdout + done.stderr + "\n".join(logs)[-3000:]
    (run,) = load_runs(tmp_path / "benchmark")
    assert set(run.outcome.scores) == {"validation", "test"}
    if contender != "nnunet":  # whose preparation alone takes longer
        assert run.outcome.steps > 0
        assert run.outcome.curve
    assert (tmp_path / "benchmark.md").exists()
    again = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "..." not in again.stdout  # a finished run is not repeated

"""Measure reports/benchmark.md: calco beside its peers, the same time for all.

Without arguments every run of the campaign that has no result file yet is made, contenders in
turn; about fifteen hours on two cores, in as many sittings as one likes. A run that is interrupted
is lost, finished ones stay. The other uses:

- ``--set dsb2018 --contender smp-imagenet --seed 0 --budget 20m`` makes one run; with fewer of
  these options, what the campaign holds of them;
- ``--list`` says what is done and what is missing;
- ``--write`` only writes the page and the figure from the result files;
- ``--quick OUT`` runs everybody for seconds on a drawn set, to see that nothing broke.

nnU-Net is an optional contender: ``pip install -e ".[benchmark]"``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from calco.invocation import parse_duration
from contenders.records import THREADS, Job, Run, hold_to_threads, save_run, this_machine

if TYPE_CHECKING:  # heavy, and the pool of a contender imports this file again
    from contenders.courses import Course
    from contenders.records import Outcome

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "reports" / "benchmark"
PAGE = ROOT / "reports" / "benchmark.md"
FIGURE = ROOT / "reports" / "figures" / "benchmark.png"
WORK = ROOT / "results" / "benchmark"  # divisions and drawn sets; not in the repository

CONTENDERS = ("calco", "classic", "smp-scratch", "smp-imagenet", "monai", "nnunet")
SEEDS = (0, 1, 2)
MATCHES = (("dsb2018", 1200.0), ("isbi2012", 1200.0), ("dsb2018", 300.0), ("dsb2018", 60.0))
EXTRAS = (  # what single promises need
    ("calco", "isbi2012", 300.0),
    ("calco", "dsb2018", 120.0),
    ("calco", "dsb2018-20", 300.0),
    ("smp-imagenet", "dsb2018-20", 300.0),
)
QUICK_S = 20.0


def main() -> int:
    """Run what was asked for; return the exit status."""
    arguments = parse()
    if arguments.compete:
        contender, data, seed, budget, *folders = arguments.compete
        job = Job(contender, data, int(seed), float(budget))
        compete(job, *map(Path, folders))
        return 0
    results, work = RESULTS, WORK
    jobs = wanted(arguments)
    if arguments.quick:
        results, work = arguments.quick / "benchmark", arguments.quick / "work"
    missing = [job for job in jobs if not (results / f"{job.key}.json").exists()]
    if arguments.list:
        listing(jobs, missing)
        return 0
    failed = 0 if arguments.write else sum(not run(job, results, work) for job in missing)
    from contenders.page import write_page
    from contenders.results import Results

    page = arguments.quick / "benchmark.md" if arguments.quick else PAGE
    figure = arguments.quick / "benchmark.png" if arguments.quick else FIGURE
    write_page(Results(results), page, figure)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", dest="data", choices=("dsb2018", "isbi2012", "dsb2018-20"))
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--budget", type=parse_duration, help="e.g. 20m")
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    parser.add_argument("--write", action="store_true", help="run nothing, write the page")
    parser.add_argument("--quick", type=Path, metavar="OUT", help="try everybody on a drawn set")
    parser.add_argument("--compete", nargs=6, help=argparse.SUPPRESS)  # one run, in here
    return parser.parse_args()


def wanted(arguments: argparse.Namespace) -> list[Job]:
    """Return the runs asked for, in the order they are made in."""
    if arguments.quick:
        budget_s = arguments.budget or QUICK_S
        return [
            Job(name, "toy", arguments.seed or 0, budget_s)
            for name in CONTENDERS
            if arguments.contender in (None, name)
        ]
    asked = (arguments.contender, arguments.data, arguments.seed, arguments.budget)
    if None not in asked:
        return [Job(*asked)]
    return [
        job
        for job in campaign()
        if all(
            want in (None, has)
            for want, has in zip(
                asked, (job.contender, job.data, job.seed, job.budget_s), strict=True
            )
        )
    ]


def campaign() -> list[Job]:
    """Return every run: seed by seed, so that the tables fill early; contenders in turn."""
    jobs = []
    for seed in SEEDS:
        for turn, (data, budget_s) in enumerate(MATCHES):
            first = (turn * len(SEEDS) + seed) % len(CONTENDERS)  # of a set, another with each seed
            for name in (*CONTENDERS[first:], *CONTENDERS[:first]):
                jobs.append(Job(name, data, seed, budget_s))
        jobs += [Job(name, data, seed, budget_s) for name, data, budget_s in EXTRAS]
    return jobs


def listing(jobs: list[Job], missing: list[Job]) -> None:
    """Print what is done and what is missing."""
    for job in jobs:
        print(f"{'missing' if job in missing else 'done   '}  {job.key}")
    hours = sum(job.budget_s for job in missing) / 3600
    print(f"{len(missing)} of {len(jobs)} runs are missing: {hours:.1f} h, scoring left out")


def run(job: Job, results: Path, work: Path) -> bool:
    """Make one run in a fresh process; say whether it finished."""
    if job.contender == "nnunet" and importlib.util.find_spec("nnunetv2") is None:
        print(f'{job.key}: left out, nnU-Net is not installed: pip install -e ".[benchmark]"')
        return True
    own = work / "runs" / job.key
    shutil.rmtree(own, ignore_errors=True)  # what an interrupted run left
    own.mkdir(parents=True)
    words = (job.contender, job.data, str(job.seed), f"{job.budget_s!r}", str(results), str(work))
    command = [sys.executable, __file__, "--compete", *words]
    print(f"{job.key} ...", flush=True)
    with (own / "log.txt").open("w") as log:
        status = wait_for(command, log)
    if status:
        print(f"{job.key}: failed with {status}, see {own / 'log.txt'}")
        return False
    shutil.rmtree(own)
    return True


def wait_for(command: list[str], log: IO[str]) -> int:
    """Run a command and return its status; all it started ends with it when this is stopped."""
    process = subprocess.Popen(
        command, env=environment(), stdout=log, stderr=log, start_new_session=True
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment() -> dict[str, str]:
    """Return the environment of every contender: two threads, whatever starts them."""
    names = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS")]
    names += ["nnUNet_def_n_proc", "nnUNet_n_proc_DA"]
    return {**os.environ, **dict.fromkeys(names, str(THREADS))}


def compete(job: Job, results: Path, work: Path) -> None:
    """Make one run in this process and write its file."""
    hold_to_threads()
    import cv2
    import torch

    from contenders.courses import open_course

    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    course = open_course(job.data, job.seed, work)
    outcome = enter(job, course, work / "runs" / job.key)
    keep_split(course, results / "splits")
    path = save_run(Run(job, outcome, this_machine(), course.split_sha256), results)
    print(f"wrote {path}")


def enter(job: Job, course: Course, own: Path) -> Outcome:
    """Let a contender run; each one's packages are imported by its module alone."""
    match job.contender:
        case "calco" | "classic":
            from contenders import calco_run

            return calco_run.compete(job, course, own)
        case "smp-scratch" | "smp-imagenet":
            from contenders import smp_unet

            return smp_unet.compete(job, course)
        case "monai":
            from contenders import monai_unet

            return monai_unet.compete(job, course)
        case "nnunet":
            from contenders import nnunet

            return nnunet.compete(job, course, own)
        case _:
            raise ValueError(f"no such contender: {job.contender}")


def keep_split(course: Course, folder: Path) -> None:
    """Leave the division beside the results: intervals resample its groups."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(course.split_csv, folder / f"{course.split_csv.parent.name}.csv")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: through the finally above
    sys.exit(main())

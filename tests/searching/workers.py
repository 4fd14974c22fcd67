"""A worker of a sweep whose trainings take a moment and need no network; run as a program.

python workers.py URL TRIALS SECONDS: each trial writes its number when it begins and ends.
"""

from __future__ import annotations

import os
import sys
import time

from calco.config import Config
from calco.records import Epoch, SweepSpec
from calco.searching.space import Params, parse_space
from calco.searching.study import Job, Place, Report, SharedStudy

NAME = "test"
SPACE = "fit.learning_rate: {low: 1e-4, high: 1e-2, log: true}\nfit.batch: [8, 16]"
LOST_AFTER_S = 2.0


def spec_of(n_trials: int, pruner: str = "none") -> SweepSpec:
    return SweepSpec("", SPACE, {}, n_trials, None, pruner, 0, "")  # type: ignore[arg-type]


def open_at(url: str) -> SharedStudy:
    return SharedStudy(Place(url, NAME, LOST_AFTER_S))


def main(url: str, n_trials: int, seconds: float) -> None:
    study, spec = open_at(url), spec_of(n_trials)
    study.found(spec, [{} for _ in range(n_trials)])

    def train_on(params: Params, report: Report) -> float:
        sys.stdout.write(f"begun {os.getpid()}\n")
        sys.stdout.flush()
        time.sleep(seconds)
        report(1.0, Epoch(1, 1, 1.0, 0.5, 1.0, 0.5, 0.1, seconds))
        rate = params["fit.learning_rate"]
        return 1 - float(rate)  # type: ignore[arg-type]

    study.work(parse_space(SPACE, Config()), spec, Job(train_on))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

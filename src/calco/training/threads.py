"""How many threads a training step should use, while other programs come and go.

A step ends when its last thread does. On an idle machine more threads are faster; where another
program holds a core, the thread that shares it is late every time, all others wait for it, and one
thread fewer can be several times faster. Nothing tells beforehand, so the steps themselves are
watched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch

from calco.config import Config
from calco.inference.device import usable_cores
from calco.records import Plan
from calco.training.probe import fewer_threads

RECENT = 5  # steps whose median is the present speed: one slow step is no news
SLOW = 1.6  # times the usual: something else runs
TRIAL_STEPS = 4  # with another count
HOPELESS = 1.5  # times the present: given up after one step
GAIN = 0.1  # share of a step's time to be saved before the count is changed
TRIAL_SHARE = 0.03  # of the time, at most, for steps that are slower because something is tried
FIRST_WAIT_S = 20.0  # before more threads are tried again
LONGEST_WAIT_S = 320.0


class ThreadGovernor:
    """Chooses the threads of the next step from how long the last steps took.

    When steps become slow, the next smaller count is tried; while there are fewer threads than
    there could be, the next larger one every now and then, as nothing else tells that the machine
    is idle again. Trials that change nothing become rarer.

    Args:
        options: Counts that may be used.
        threads: The one to begin with, one of them.
        usual_s: Seconds of a step with it.
    """

    def __init__(self, options: Sequence[int], threads: int, usual_s: float) -> None:
        self.options = sorted({*options, threads})
        self.threads = threads
        self.usual_s = usual_s
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.trial: int | None = None  # the count that is tried just now
        self.tried_s: list[float] = []
        self.since_trial_s = 0.0
        self.wait_s = FIRST_WAIT_S  # before more threads are tried
        self.rest_s = 0.0  # before anything is tried

    def after(self, step_s: float) -> int:
        """Take in how long a step took and return the number of threads for the next.

        Args:
            step_s: Seconds of the step that was made with the count returned last.
        """
        if self.trial is None:
            self.recent.append(step_s)
            self.since_trial_s += step_s
            if len(self.recent) == RECENT:
                self.trial, self.tried_s = self._worth_trying(), []
        else:
            self.tried_s.append(step_s)
            # the first may be slow because kernels are set up; the median does not mind it
            hopeless = len(self.tried_s) > 1 and step_s > HOPELESS * median(self.recent)
            if hopeless or len(self.tried_s) == TRIAL_STEPS:
                self._decide(self.trial)
        return self.threads if self.trial is None else self.trial

    def _worth_trying(self) -> int | None:
        """Return the next smaller count when steps are slow, the next larger when that is due."""
        now_s = median(self.recent)
        slow = now_s > SLOW * self.usual_s
        self.usual_s = min(self.usual_s, now_s)
        here = self.options.index(self.threads)
        if self.since_trial_s < self.rest_s:
            return None
        if slow and here > 0:
            return self.options[here - 1]
        due = self.since_trial_s > self.wait_s and here + 1 < len(self.options)
        return self.options[here + 1] if due else None

    def _decide(self, trial: int) -> None:
        """Keep the faster count, and let the time until the next trial pay for this one."""
        now_s, found_s = median(self.recent), median(self.tried_s)
        better = found_s < (1 - GAIN) * now_s
        self.usual_s = found_s if better else now_s
        lost_s = sum(self.tried_s) - len(self.tried_s) * self.usual_s
        self.rest_s = max(lost_s, 0.0) / TRIAL_SHARE
        self.wait_s = FIRST_WAIT_S if better else min(2 * self.wait_s, LONGEST_WAIT_S)
        self.since_trial_s, self.trial = 0.0, None
        if better:
            self.threads = trial
            self.recent.clear()


def make_governor(plan: Plan, config: Config) -> ThreadGovernor | None:
    """Watch the threads of a training, unless the user chose them or nothing was timed.

    Args:
        plan: What a step should take, and with how many threads.
        config: What the user decided.
    """
    machine = plan.machine
    if machine is None or machine.device != "cpu" or plan.threads is None or config.fit.threads:
        return None
    cores = usable_cores()
    usual_s = machine.step_s(plan.network, plan.resize_px or plan.crop_px, plan.batch)
    return ThreadGovernor([cores, *fewer_threads(cores)], plan.threads, usual_s)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Give a caller that goes on, as a notebook does, its number of threads back."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)

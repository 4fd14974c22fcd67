"""The governor on simulated machines: idle, crowded and idle again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from calco.training import threads as module
from calco.training.threads import ThreadGovernor

Cost = Callable[[int], float]  # seconds of a step with so many threads

IDLE = {1: 0.6, 2: 0.35}
CROWDED = {1: 0.65, 2: 1.8}  # one of two cores taken


@dataclass
class Training:
    """Steps made under a governor on a machine whose costs are known."""

    governor: ThreadGovernor
    threads: int = field(init=False)
    used: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.threads = self.governor.threads

    def go(self, seconds: float, cost: Cost) -> list[int]:
        """Step for a while and return the thread counts used in it."""
        until, begin = self.seconds + seconds, len(self.used)
        while self.seconds < until:
            step_s = cost(self.threads)
            self.used.append(self.threads)
            self.seconds += step_s
            self.threads = self.governor.after(step_s)
        return self.used[begin:]


def two_cores() -> Training:
    return Training(ThreadGovernor([2, 1], threads=2, usual_s=IDLE[2]))


def test_an_idle_machine_is_left_alone() -> None:
    assert set(two_cores().go(600, IDLE.__getitem__)) == {2}


def test_a_crowded_core_is_avoided_within_a_few_steps() -> None:
    training = two_cores()
    training.go(60, IDLE.__getitem__)
    used = training.go(60, CROWDED.__getitem__)
    # three slow steps make the median of five slow; from then on one thread, trials left out
    assert used[:3] == [2, 2, 2]
    assert set(used[3:20]) == {1}


def test_all_threads_come_back_when_the_machine_is_idle_again() -> None:
    training = two_cores()
    training.go(60, IDLE.__getitem__)
    training.go(60, CROWDED.__getitem__)
    used = training.go(400, IDLE.__getitem__)
    assert used[0] == 1
    back = used.index(2)
    assert sum(IDLE[1] for _ in used[:back]) < module.LONGEST_WAIT_S
    assert set(used[back:]) == {2}


def test_trials_cost_little_on_a_machine_that_stays_crowded() -> None:
    training = two_cores()
    training.go(30, CROWDED.__getitem__)
    used = training.go(3000, CROWDED.__getitem__)
    lost_s = used.count(2) * (CROWDED[2] - CROWDED[1])
    assert used.count(2) > 0  # it does look
    assert lost_s < module.TRIAL_SHARE * 3000


def test_one_slow_step_is_no_news() -> None:
    training = two_cores()
    for _ in range(20):
        training.go(10, IDLE.__getitem__)
        assert training.go(0.1, lambda _: 5.0) == [2]
    assert set(training.used) == {2}


def test_noise_alone_changes_nothing() -> None:
    rng = random.Random(0)
    used = two_cores().go(600, lambda threads: IDLE[threads] * rng.uniform(0.85, 1.3))
    assert set(used) == {2}


def test_a_machine_that_is_slow_anyhow_is_accepted_after_one_trial() -> None:
    slower = {1: 6.0, 2: 3.5}  # it runs hot, say: nothing is gained by fewer threads
    used = two_cores().go(2000, slower.__getitem__)
    assert used.count(1) == 2  # one left out, one that showed it
    assert used[-1] == 2


def test_a_network_too_small_for_two_threads_is_tried_ever_more_rarely() -> None:
    tiny = {1: 0.010, 2: 0.014}
    training = Training(ThreadGovernor([2, 1], threads=1, usual_s=0.010))
    early = training.go(300, tiny.__getitem__)
    late = training.go(3000, tiny.__getitem__)
    assert late.count(2) / len(late) < early.count(2) / len(early) < 0.01
    assert late[-1] == 1


def test_of_many_cores_half_are_tried_and_no_fewer_than_needed() -> None:
    # two of sixteen cores are taken; with fewer than eight threads the work itself is slow
    crowded = {16: 0.9, 8: 0.2, 4: 0.35, 1: 1.2}
    training = Training(ThreadGovernor([16, 8, 4, 1], threads=16, usual_s=0.12))
    used = training.go(60, crowded.__getitem__)
    assert set(used) == {16, 8}
    assert used.count(8) > 0.9 * len(used)


def test_of_many_cores_the_next_larger_count_is_tried_first() -> None:
    training = Training(ThreadGovernor([16, 8, 4, 1], threads=4, usual_s=0.3))
    used = training.go(21, {16: 0.1, 8: 0.2, 4: 0.3}.__getitem__)
    assert set(used) == {4, 8}
    used = training.go(60, {16: 0.1, 8: 0.2, 4: 0.3}.__getitem__)
    assert used[-1] == 16


def test_after_a_change_the_next_is_looked_for_soon() -> None:
    training = two_cores()
    training.go(2000, CROWDED.__getitem__)  # trials have become rare
    training.go(700, IDLE.__getitem__)
    assert training.threads == 2
    training.go(20, CROWDED.__getitem__)
    assert training.threads == 1
    assert training.go(60, IDLE.__getitem__)[-1] == 2


def test_slower_in_turn_the_count_falls_again() -> None:
    training = Training(ThreadGovernor([4, 2, 1], threads=4, usual_s=0.2))
    training.go(30, {4: 1.0, 2: 0.4, 1: 0.8}.__getitem__)
    assert training.threads == 2
    training.go(300, {4: 3.0, 2: 2.0, 1: 0.8}.__getitem__)
    assert training.threads == 1


def test_a_machine_crowded_from_the_start_is_known_once_it_was_idle() -> None:
    training = Training(ThreadGovernor([2, 1], threads=2, usual_s=CROWDED[2]))
    training.go(20, IDLE.__getitem__)
    training.go(60, CROWDED.__getitem__)
    assert training.threads == 1


def test_the_first_step_after_a_change_does_not_count() -> None:
    last = 1

    def warming_up(threads: int) -> float:
        nonlocal last
        changed, last = threads != last, threads
        return IDLE[threads] * (5 if changed else 1)

    training = Training(ThreadGovernor([2, 1], threads=1, usual_s=IDLE[1]))
    training.go(60, warming_up)
    assert training.threads == 2


def test_a_gain_within_noise_is_not_taken() -> None:
    even = {1: 0.36, 2: 0.35}
    training = Training(ThreadGovernor([2, 1], threads=1, usual_s=even[1]))
    assert training.go(600, even.__getitem__)[-1] == 1
    assert 2 in training.used  # it was tried


def test_a_machine_that_changes_all_the_time_is_not_followed_all_the_time() -> None:
    training = two_cores()
    hot = {threads: 2 * step_s for threads, step_s in IDLE.items()}
    for _ in range(100):
        training.go(10, hot.__getitem__)
        training.go(10, IDLE.__getitem__)
    lost_s = training.used.count(1) * (hot[1] - hot[2])
    assert 0 < lost_s < module.TRIAL_SHARE * 2000


@pytest.mark.parametrize("options", [[], [1]])
def test_without_a_choice_there_is_none(options: list[int]) -> None:
    training = Training(ThreadGovernor(options, threads=1, usual_s=0.1))
    assert set(training.go(100, lambda _: 2.0)) == {1}

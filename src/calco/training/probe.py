"""Try training steps for a moment: what does one cost on this machine, made in which way?

Nothing is concluded from the names of processors: a few real steps are timed. The questions that
usually decide most come first, each starts from the best answer so far, and a way that is clearly
slower after one step is given up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch

from calco.errors import CalcoError
from calco.inference.device import choose_device, usable_cores
from calco.records import Machine, Setup, Timing
from calco.training.steps import Allowance, Recipe, Rig, nothing_left_behind

GAIN = 0.05  # share of a step's time to be saved before another way is taken: less is noise
CROWDED = 0.8  # share of the threads' time on processors; less, and others want them too
PRECISION_SHARE = 0.25  # of the time left, at most, for trying half precision

Way = Literal["threads", "channels_last", "precision"]


def probe(
    base: Setup,
    recipe: Recipe,
    allowance_s: float,
    others: Sequence[Setup] = (),
    keep: Collection[Way] = (),
) -> Machine:
    """Find how steps are made fastest here, and what they cost for other networks and crops.

    Asked in this order, each as far as the time goes: fewer threads, the other memory layout,
    bfloat16, the other setups. Number of threads, random numbers and the networks of the caller
    are left as they were.

    Args:
        base: What training would do; timed in any case.
        recipe: The rest of a step.
        allowance_s: Seconds that all of it should take; two steps of ``base`` may take longer.
        others: Whose network, crop and batch are timed, in the best way found, in this order.
        keep: What the user has decided: it stays as in ``base``.

    Raises:
        CalcoError: When there is not enough memory for ``base``, or no such device.
    """
    began = time.perf_counter()
    with nothing_left_behind(recipe.device):
        search = _Search(base, recipe, allowance_s)
        search.ask_ways(keep)
        search.ask_others(others)
        del search.rig  # its memory is free before the caller goes on
    return Machine(
        device=_name_of(search.device),
        cores=usable_cores(),
        memory_gib=_memory_gib(search.device),
        timings=tuple(search.timings),
        best=search.best,
        seconds=time.perf_counter() - began,
        notes=tuple(search.notes),
    )


class _Search:
    """What is known so far, and the next thing worth knowing."""

    def __init__(self, base: Setup, recipe: Recipe, allowance_s: float) -> None:
        self.recipe, self.device = recipe, choose_device(recipe.device)
        began = time.perf_counter()
        self.until = began + allowance_s
        self.rig = Rig(base.network, recipe)
        # half, so that the questions that a busy machine makes urgent can be asked
        self.best = self.rig.timing(base, Allowance(began + allowance_s / 2))
        self.timings = [self.best]
        self.notes: list[str] = []

    def ask_ways(self, keep: Collection[Way]) -> None:
        """Try the ways to make the same step, the likeliest gain first."""
        on_cpu = self.device.type == "cpu"
        if on_cpu and "threads" not in keep:
            crowded = self.best.busy_cores < CROWDED * self.best.setup.threads
            for threads in fewer_threads(self.best.setup.threads):
                # that others want the cores, too, costs more than any wrong layout
                if not self._improves(replace(self.best.setup, threads=threads), urgent=crowded):
                    break
        if "channels_last" not in keep:
            other = not self.best.setup.channels_last
            self._improves(replace(self.best.setup, channels_last=other))
        if "precision" not in keep and self.best.setup.precision == "fp32":
            share = PRECISION_SHARE if on_cpu else 1.0  # few processors compute it, all GPUs do
            self._improves(replace(self.best.setup, precision="bf16"), share=share)

    def ask_others(self, others: Sequence[Setup]) -> None:
        """Time other work, done in the best way."""
        for other in others:
            work = (other.network, other.crop_px, other.batch)
            setup = replace(self.best.setup, network=work[0], crop_px=work[1], batch=work[2])
            if setup not in [t.setup for t in self.timings] and self._is_affordable(setup, 1.0):
                self._measure(setup, beat_s=float("inf"))

    def _improves(self, setup: Setup, *, share: float = 1.0, urgent: bool = False) -> bool:
        """Try another way to do the same work and take it when it is faster."""
        if not (urgent or self._is_affordable(setup, share)):
            return False
        timing = self._measure(setup, beat_s=self.best.step_s)
        if timing is None or timing.step_s > (1 - GAIN) * self.best.step_s:
            return False
        self.best = timing
        return True

    def _is_affordable(self, setup: Setup, share: float) -> bool:
        """Tell whether two steps, guessed from the best so far, fit into the time left."""
        guess_s = self.best.first_s + self.best.step_s
        guess_s *= setup.pixels / self.best.setup.pixels
        if setup.network != self.rig.plan:
            guess_s += self.rig.build_s
        if guess_s <= share * (self.until - time.perf_counter()):
            return True
        self.notes.append(f"{setup.in_words()}: not tried, the time was up")
        return False

    def _measure(self, setup: Setup, beat_s: float) -> Timing | None:
        try:
            if setup.network != self.rig.plan:
                self.rig = Rig(setup.network, self.recipe)
            timing = self.rig.timing(setup, Allowance(self.until, beat_s=beat_s))
        except CalcoError as error:
            self.notes.append(f"{setup.in_words()}: {error.problems[0].what}")
            return None
        except RuntimeError as error:  # what a device cannot do is no way, and no reason to stop
            self.notes.append(f"{setup.in_words()}: {str(error).partition(chr(10))[0]}")
            return None
        self.timings.append(timing)
        return timing


def fewer_threads(threads: int) -> Iterator[int]:
    """Yield the counts to try after this one: halves, down to one.

    Example:
        >>> list(fewer_threads(6))
        [3, 1]
    """
    while threads > 1:
        threads //= 2
        yield threads


def _memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError):  # not POSIX
        return float("nan")


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

"""Time training steps as they are: a batch, forward, backward, update, averaging."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from calco.config import OptimizerName
from calco.errors import CalcoError, Problem
from calco.inference.device import choose_device
from calco.nets.build import Segmenter, build_network
from calco.records import NetworkPlan, Setup, Timing
from calco.training.device import make_fabric
from calco.training.losses import crop_dice
from calco.training.optim import AveragedWeights, make_optimizer

N_STEPS = 3  # of which the fastest counts, after one that is left out
HOPELESS = 1.5  # times the best: given up after one step
LEARNING_RATE = 1e-5  # small enough for random masks to do no harm in a few steps
MIB = 2**20

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
"""Images (B, C, H, W) uint8 and masks (B, 1, H, W) uint8, without end."""
Feed = Callable[[int, int], Batches]
"""Side of the crops in pixels and number of them, to batches."""


def random_feed(channels: int) -> Feed:
    """Return batches of noise, the same again and again, that take no time to load."""

    def feed(crop_px: int, batch: int) -> Batches:
        shape = (batch, channels, crop_px, crop_px)  # (B, C, H, W)
        own = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=own)
        return itertools.repeat((images, (images[:, :1] > 127).to(torch.uint8)))

    return feed


@dataclass(frozen=True)
class Recipe:
    """What a training step does besides the network.

    Attributes:
        loss: Logits and masks to one loss per image.
        optimizer: Update rule.
        ema: Whether averaged weights are kept.
        clip_norm: Largest gradient norm; 0 does not clip.
        device: ``auto``, ``cpu`` or ``cuda``.
        feed: Makes the batches, which is part of a step; None takes ``random_feed``.
    """

    loss: Loss
    optimizer: OptimizerName = "adamw"
    ema: bool = True
    clip_norm: float = 1.0
    device: str = "auto"
    feed: Feed | None = None


@dataclass(frozen=True)
class Allowance:
    """When measuring has to end.

    Attributes:
        until: ``time.perf_counter()`` at which no further step should begin.
        n_steps: Steps of which the fastest counts; at least one is made whatever the time.
        beat_s: Seconds per step that another way takes; clearly slower ones are given up.
    """

    until: float
    n_steps: int = N_STEPS
    beat_s: float = float("inf")

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self.until - time.perf_counter()


def time_steps(setup: Setup, recipe: Recipe, allowance_s: float, n_steps: int = N_STEPS) -> Timing:
    """Time training steps of one setup.

    Number of threads, random numbers and the networks of the caller are left as they were.

    Args:
        setup: How the steps are made.
        recipe: The rest of a step.
        allowance_s: Seconds after which no further step begins; two are made in any case.
        n_steps: Steps of which the fastest counts; one more is made before.

    Raises:
        CalcoError: When there is not enough memory, or no such device.
    """
    with nothing_left_behind(recipe.device):
        return Rig(setup.network, recipe).timing(
            setup, Allowance(time.perf_counter() + allowance_s, n_steps)
        )


@contextmanager
def nothing_left_behind(device: str) -> Iterator[None]:
    """Restore threads and random numbers afterwards, and free what was built.

    On a GPU, torch's statistic of the largest memory begins anew.
    """
    threads = torch.get_num_threads()
    on_cuda = choose_device(device).type == "cuda"
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if on_cuda else []):
            yield
    finally:
        torch.set_num_threads(threads)
        if on_cuda:
            torch.cuda.empty_cache()


class Rig:
    """A network and all that a training step needs, rearranged from setup to setup.

    Args:
        plan: The network; its weights do not matter here and are random.
        recipe: The rest of a step.
    """

    def __init__(self, plan: NetworkPlan, recipe: Recipe) -> None:
        began = time.perf_counter()
        self.plan, self.recipe = plan, recipe
        self.source = build_network(replace(plan, pretrained=False))
        self.build_s = time.perf_counter() - began
        self.device = choose_device(recipe.device)

    def timing(self, setup: Setup, allowance: Allowance) -> Timing:
        """Make steps until there are enough, time is up or hope is lost."""
        self.largest_mib = before_mib = self._memory_mib(reset=True)
        try:
            self._arrange(setup)
            first_s = self._timed_step()
            times_s: list[float] = []
            began, cpu_began = time.perf_counter(), time.process_time()
            while not times_s or (
                len(times_s) < allowance.n_steps
                and allowance.left_s > min(times_s)
                and min(times_s) < HOPELESS * allowance.beat_s
            ):
                times_s.append(self._timed_step())
        except RuntimeError as error:  # torch's own kind on a GPU, the plain one on a processor
            if "memory" not in str(error):
                raise
            raise CalcoError(_too_large(setup)) from None
        busy = (time.process_time() - cpu_began) / (time.perf_counter() - began)
        grown_mib = self.largest_mib - before_mib
        # the fastest: until memory is laid out, which takes some more steps, each is too slow
        return Timing(setup, min(times_s), len(times_s), first_s, busy, grown_mib)

    def _arrange(self, setup: Setup) -> None:
        """Build what the setup asks for around a copy of the network."""
        torch.set_num_threads(setup.threads)
        self.layout = torch.channels_last if setup.channels_last else torch.contiguous_format
        self.fabric = make_fabric(self.recipe.device, setup.precision)
        self.segmenter: Segmenter = copy.deepcopy(self.source).train().to(memory_format=self.layout)
        self.averaged = AveragedWeights(self.segmenter) if self.recipe.ema else None
        rule = self.recipe.optimizer
        self.network, self.optimizer = self.fabric.setup(
            self.segmenter, make_optimizer(self.segmenter, rule, LEARNING_RATE, 0, setup.precision)
        )
        if self.averaged:
            self.averaged.network.to(self.fabric.device)
        feed = self.recipe.feed or random_feed(self.plan.in_channels)
        self.batches = feed(setup.crop_px, setup.batch)
        self.steps = 0

    def _timed_step(self) -> float:
        began = time.perf_counter()
        self._step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        step_s = time.perf_counter() - began
        self._watch_memory()
        return step_s

    def _step(self) -> None:
        """Make one step with all that training does in it, as ``stages.fit`` does."""
        images, masks = (self.fabric.to_device(part) for part in next(self.batches))
        images = images.contiguous(memory_format=self.layout)
        logits = self.network(images)  # (B, 1, H, W)
        loss = self.recipe.loss(logits, masks.float()).mean()
        self._watch_memory()  # all maps are alive now
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        loss.item()
        limit = self.recipe.clip_norm or float("inf")
        self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.steps += 1
        if self.averaged:
            self.averaged.update(self.segmenter, self.steps)
        crop_dice(logits.detach(), masks).sum().item()

    def _watch_memory(self) -> None:
        self.largest_mib = max(self.largest_mib, self._memory_mib())  # NaN stays NaN

    def _memory_mib(self, *, reset: bool = False) -> float:
        if self.device.type == "cpu":
            return _resident_mib()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / MIB


def _too_large(setup: Setup) -> Problem:
    return Problem(
        "PROBE_MEMORY",
        "a training step needs more memory than there is",
        got=setup.in_words(),
        do="lower fit.batch or fit.crop_px",
    )


def _resident_mib() -> float:
    """Return what the process holds in memory; NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB

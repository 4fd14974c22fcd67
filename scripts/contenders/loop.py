"""The race that every contender but calco runs: train by the clock, validate, keep the best."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contenders.courses import Course
from contenders.records import Outcome, Point
from contenders.scoring import mean_dice, score

MARKS = 10  # of learners that choose their weights on validation


@dataclass
class Stopwatch:
    """Wall-clock time of a contender; it stands still while the referee looks.

    Attributes:
        budget_s: Seconds given.
        began_s: ``time.monotonic()`` at the start.
        paused_s: Seconds it stood still.
    """

    budget_s: float
    began_s: float = field(default_factory=lambda: time.monotonic())
    paused_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds used."""
        return time.monotonic() - self.began_s - self.paused_s

    @property
    def left_s(self) -> float:
        """Seconds left; negative when it is over."""
        return self.budget_s - self.elapsed_s

    @property
    def fraction(self) -> float:
        """Share of the time used, in [0, 1]: what learning rates follow, so that all land."""
        return min(1.0, self.elapsed_s / self.budget_s)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for a while."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.paused_s += time.monotonic() - began


class Learner(Protocol):
    """What the race asks of a contender."""

    settings: str
    marks: int  # validations in a race, evenly spread over its time

    def step(self, fraction: float) -> None:
        """Make one optimiser step; ``fraction`` of the time is gone."""

    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of foreground, (H, W) float32, of (H, W, C) uint8."""

    def final_prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Do the same as the contender's own inference does it when training is over."""

    def keep(self) -> None:
        """Remember the weights: no others were better on validation so far."""

    def restore(self) -> None:
        """Go back to the remembered weights."""


def race(learner: Learner, course: Course, clock: Stopwatch) -> Outcome:
    """Train until time is up, then score the best-validated weights on both held-out parts.

    Args:
        learner: Ready for its first step; what that took has been counted.
        course: Its validation and test parts are read here, off the clock.
        clock: Started before the training part was read.
    """
    with clock.paused():
        validation = course.read("validation")
    curve: list[Point] = []
    steps, step_s, due_s = 0, 0.0, clock.budget_s / learner.marks
    while clock.left_s > step_s / 2:  # to the nearest step
        began_s = clock.elapsed_s
        learner.step(clock.fraction)
        steps, step_s = steps + 1, clock.elapsed_s - began_s
        over = clock.left_s <= step_s / 2
        if clock.elapsed_s < due_s and not over:
            continue
        seconds = clock.elapsed_s
        with clock.paused():
            value = mean_dice(score(learner.prob, validation))
            if value >= max((p.dice for p in curve), default=0.0):
                learner.keep()
        curve.append(Point(seconds, value))
        due_s = (math.floor(clock.fraction * learner.marks) + 1) * clock.budget_s / learner.marks
    seconds, peak_mb = clock.elapsed_s, _peak_mb()
    learner.restore()
    parts = {"validation": validation, "test": course.read("test")}
    prob = learner.final_prob if steps else learner.prob  # the slow way improves no noise
    scores = {name: score(prob, images) for name, images in parts.items()}
    return Outcome(seconds, tuple(curve), scores, {}, steps, peak_mb, learner.settings)


@dataclass
class TorchLearner:
    """A network trained by hand, as examples and tutorials do it.

    Attributes:
        network: Batches (B, C, H, W) float32 to logits (B, 1, H, W).
        loss: Of logits and masks (B, 1, H, W) in {0, 1}.
        optimizer: Over its parameters.
        batches: Endless.
        rate: Learning rate after a fraction of the time.
        logits: Image (H, W, C) uint8 to logits (1, 1, H, W), by the network in evaluation mode.
        settings: What is trained, in one line.
        marks: Validations in a race.
        best: The weights that are remembered.
    """

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    batches: Iterator[tuple[Tensor, Tensor]]
    rate: Callable[[float], float]
    logits: Callable[[NDArray[np.uint8]], Tensor]
    settings: str
    marks: int = MARKS
    best: dict[str, Tensor] = field(default_factory=dict)

    def step(self, fraction: float) -> None:
        """See ``Learner``."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(fraction)
        images, masks = next(self.batches)  # (B, C, H, W), (B, 1, H, W)
        self.network.train()
        self.optimizer.zero_grad()
        loss = self.loss(self.network(images), masks)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.inference_mode()
    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Learner``."""
        self.network.eval()
        height, width = image.shape[:2]
        logits = self.logits(image)[0, 0, :height, :width]
        return np.asarray(torch.sigmoid(logits).numpy(), np.float32)

    def final_prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Learner``."""
        return self.prob(image)

    def keep(self) -> None:
        """See ``Learner``."""
        self.best = deepcopy(self.network.state_dict())

    def restore(self) -> None:
        """See ``Learner``."""
        if self.best:
            self.network.load_state_dict(self.best)


def _peak_mb() -> float:
    """Return the largest resident memory so far of this process or any it waited for, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024

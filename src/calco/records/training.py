"""The plan and what training leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from calco.config import LossName, OptimizerName, Precision
from calco.errors import Problem
from calco.records.fingerprint import Fingerprint
from calco.records.machine import Machine
from calco.records.network import NetworkPlan
from calco.records.tables import html_table

STOPPED_BY = "stopped by "  # begins the reason of a training that a signal ended


@dataclass(frozen=True)
class Start:
    """Weights of an earlier training that this one begins with.

    Attributes:
        source: Run folder or file, as it was given.
        sha256: Of that weights file.
        n_reused: Tensors copied as they were.
        n_adapted: Tensors fitted to another number of channels.
        n_new: Tensors that begin at random.
    """

    source: str
    sha256: str
    n_reused: int
    n_adapted: int
    n_new: int = 0

    @property
    def sentence(self) -> str:
        """What was reused, in words."""
        return f"{self.n_reused} tensors reused, {self.n_adapted} adapted, {self.n_new} new"


@dataclass(frozen=True)
class Plan:
    """The settings training follows, each with its reason.

    Attributes:
        network: What is built.
        crop_px: Side of the square training crop; ignored when ``resize_px`` is set.
        resize_px: Images are resized to this square instead of cropped; None keeps their size.
        batch: Images per step.
        epochs: Passes over the training part at most.
        budget_s: Wall-clock seconds for the whole run; None is unlimited.
        loss: What is minimised.
        optimizer: Update rule.
        learning_rate: Peak.
        weight_decay: Strength.
        schedule: Course of the learning rate.
        ema: Whether averaged weights are validated and kept.
        clip_norm: Largest gradient norm; 0 does not clip.
        augment: Strength in [0, 1].
        precision: Arithmetic of forward and backward.
        focus: Share of crops that must hold foreground, in [0, 1].
        threads: Of the arithmetic; None leaves torch's choice.
        channels_last: Whether the channels of a pixel lie side by side in memory.
        encoder_lr_factor: Learning rate of the encoder over that of the rest.
        layer_decay: Learning rate of each stage of the encoder over that of the stage below it.
        foretold_steps: That one training should make; None where the clock does not end it.
        reasons: Why, per setting name.
        fingerprint: What of the data it rests on; None in a plan made by hand.
        machine: What of the machine it rests on; None when nothing was timed.
        start: Weights that training begins with; None takes the network's usual ones.
    """

    network: NetworkPlan
    crop_px: int
    resize_px: int | None
    batch: int
    epochs: int
    budget_s: float | None
    loss: LossName
    optimizer: OptimizerName
    learning_rate: float
    weight_decay: float
    schedule: Literal["cosine", "constant"]
    ema: bool
    clip_norm: float
    augment: float
    precision: Precision
    focus: float = 1 / 3
    threads: int | None = None
    channels_last: bool = True
    encoder_lr_factor: float = 1.0
    layer_decay: float = 1.0
    foretold_steps: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    machine: Machine | None = None
    start: Start | None = None

    def settings(self) -> list[tuple[str, object, str]]:
        """List (name, value, reason) of every planned setting."""
        others = ("network", "foretold_steps", "reasons", "fingerprint", "machine", "start")
        names = [n for n in self.__dataclass_fields__ if n not in others]
        rows = [(f"network.{n}", getattr(self.network, n)) for n in NetworkPlan.__annotations__]
        rows += [(n, getattr(self, n)) for n in names]
        told = [(name, value, self.reasons.get(name, "")) for name, value in rows]
        if self.start:
            told.append(("start", self.start.source, self.start.sentence))
        return told

    def _repr_html_(self) -> str:
        return html_table(self.settings(), header=("setting", "value", "why"))


@dataclass(frozen=True)
class Epoch:
    """One row of history.csv; NaN where an epoch was not validated.

    Attributes:
        epoch: From 1.
        step: Optimiser steps done so far.
        train_loss: Mean over the epoch's samples.
        train_dice: Mean Dice of the training crops at threshold 0.5.
        validation_loss: Mean over validation images.
        validation_dice: Mean per-image Dice at original resolution, threshold 0.5.
        learning_rate: At the last step.
        seconds: Since fit began.
    """

    epoch: int
    step: int
    train_loss: float
    train_dice: float
    validation_loss: float
    validation_dice: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """What fit left behind.

    Attributes:
        history: All epochs, in order.
        best_epoch: Epoch whose weights were kept; 0 when none was validated.
        stopped_because: One sentence.
        seconds: Wall time of fit.
        seconds_stepping: Thereof in forward, backward and step.
        seconds_validating: Thereof in validation.
        advice: What looked wrong during training, with the setting to change.
        overflows: Steps left out because loss or gradients were not finite; fp16 looks for its
            largest loss scale by a few of them.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_because: str
    seconds: float
    seconds_stepping: float
    seconds_validating: float
    advice: tuple[Problem, ...] = ()
    overflows: int = 0

    @property
    def finished(self) -> bool:
        """Whether training came to its own end; a signal's can be resumed."""
        return not self.stopped_because.startswith(STOPPED_BY)

    def _repr_html_(self) -> str:
        best = next((e for e in self.history if e.epoch == self.best_epoch), None)
        return html_table(
            [
                ("epochs", len(self.history)),
                ("best epoch", self.best_epoch),
                ("validation Dice", f"{best.validation_dice:.4f}" if best else "none"),
                ("stopped because", self.stopped_because),
                ("seconds", f"{self.seconds:.0f}"),
                ("steps left out, not finite", self.overflows),
            ]
        )

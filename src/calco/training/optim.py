"""Update rules, the course of the learning rate, and averaged weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, assert_never

import torch
from torch import nn

from calco.config import OptimizerName, Precision
from calco.nets.encoders import EncoderDecoder
from calco.records import Plan

Network = TypeVar("Network", bound=nn.Module)

WARMUP = 0.05  # share of training in which the learning rate rises
WARMUP_STEPS = 10  # at least: Adam's second moments are noise before
SETTLED = 0.9  # decay per step from which averages move so little that they need not at each step
AVERAGED_EVERY = 4  # steps then: going over all weights takes up to three hundredths of a step


@dataclass(frozen=True)
class EncoderRates:
    """How much slower an encoder learns than what comes after it.

    Attributes:
        factor: Learning rate of the encoder over that of the rest.
        layer_decay: That of each stage over that of the stage below, and of the lowest over the
            decoder's.

    Reference:
        Howard and Ruder (2018), arXiv:1801.06146
    """

    factor: float = 1.0
    layer_decay: float = 1.0


def make_optimizer(
    network: nn.Module,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
    precision: Precision = "fp32",
    rates: EncoderRates = EncoderRates(),
) -> torch.optim.Optimizer:
    """Build the optimiser; biases and normalisation weights are not decayed.

    Weights that are frozen are left out. Each group has its ``rate_factor``, with which the course
    of the learning rate is multiplied; the first group's is 1.

    It goes over all weights at once, which on two cores takes a third of the time. With fp16 it
    may not: it would undo the loss scale by itself, after the gradients were clipped.

    Reference:
        Loshchilov and Hutter (2019), arXiv:1711.05101
    """
    groups: list[dict[str, Any]] = []
    for factor, weights in _by_rate(network, rates):
        common = {"lr": factor * learning_rate, "rate_factor": factor}
        decayed = [p for p in weights if p.ndim > 1]
        plain = [p for p in weights if p.ndim <= 1]
        for params, decay in ((decayed, weight_decay), (plain, 0.0)):
            if params or not groups:  # only one may be empty where states are kept by name
                groups.append({"params": params, "weight_decay": decay, **common})
    fused = precision != "fp16"
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, fused=fused)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=fused
            )
        case _:
            assert_never(name)


def planned_optimizer(
    network: nn.Module, plan: Plan, precision: Precision
) -> torch.optim.Optimizer:
    """Build the optimiser of a plan, for arithmetic of some precision."""
    rates = EncoderRates(plan.encoder_lr_factor, plan.layer_decay)
    rule, rate, decay = plan.optimizer, plan.learning_rate, plan.weight_decay
    return make_optimizer(network, rule, rate, decay, precision, rates)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, the encoder's below it as they were made."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)  # states of before know none


def _by_rate(network: nn.Module, rates: EncoderRates) -> list[tuple[float, list[nn.Parameter]]]:
    """Return weights that are trained with what their learning rate is multiplied with, 1 first."""
    trained = [p for p in network.parameters() if p.requires_grad]
    bodies = [m for m in network.modules() if isinstance(m, EncoderDecoder) and not m.frozen]
    if rates == EncoderRates() or not bodies:
        return [(1.0, trained)]
    slower: list[tuple[float, list[nn.Parameter]]] = []
    for body in bodies:
        for height, stage in enumerate(reversed(body.stages()), start=1):
            slower.append((rates.factor * rates.layer_decay**height, stage))
    theirs = {id(p) for _, stage in slower for p in stage}
    return [(1.0, [p for p in trained if id(p) not in theirs]), *slower]


def learning_rate_factor(
    schedule: Literal["cosine", "constant"], progress: float, step: int
) -> float:
    """Return what the peak learning rate is multiplied with.

    Args:
        schedule: ``cosine`` warms up, then falls to zero; ``constant`` is always 1.
        progress: Share of training done, in [0, 1]; by clock or by steps, whichever is further.
        step: Steps done; the first few are warm-up however fast the clock runs.

    Example:
        >>> learning_rate_factor("cosine", 1.0, 1000)
        0.0
        >>> learning_rate_factor("constant", 0.5, 0)
        1.0
    """
    if schedule == "constant":
        return 1.0
    warm = min(1.0, (step + 1) / WARMUP_STEPS, (progress + 0.002) / WARMUP)
    fall = max(0.0, (progress - WARMUP) / (1 - WARMUP))
    return warm * 0.5 * (1 + math.cos(math.pi * fall))


class AveragedWeights(Generic[Network]):
    """Exponential moving average of a network's weights and statistics.

    The decay grows with the steps, so that early averages are not dominated by the random start.

    Args:
        network: Averaged; it is copied.
        decay: Final decay per step.

    Reference:
        Polyak and Juditsky (1992), https://doi.org/10.1137/0330046
    """

    def __init__(self, network: Network, decay: float = 0.995) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

    def moves_after(self, step: int) -> bool:
        """Whether the average moves after optimiser step ``step`` (from 1)."""
        return self._decay(step) <= SETTLED or step % AVERAGED_EVERY == 0

    def _decay(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move the average towards the network after optimiser step ``step``, if it is to move.

        A settled average moves at every fourth step alone, and then by as much as in four.
        """
        if not self.moves_after(step):
            return
        decay = self._decay(step)
        if decay > SETTLED:
            decay **= AVERAGED_EVERY
        mine = list(self.network.state_dict().values())
        theirs = list(network.state_dict().values())
        floats = [(m, t) for m, t in zip(mine, theirs, strict=True) if m.is_floating_point()]
        torch._foreach_lerp_([m for m, _ in floats], [t for _, t in floats], 1 - decay)
        for m, t in zip(mine, theirs, strict=True):
            if not m.is_floating_point():
                m.copy_(t)

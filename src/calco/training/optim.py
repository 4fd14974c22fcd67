"""Update rules, the course of the learning rate, and averaged weights."""

from __future__ import annotations

import copy
import math
from typing import Generic, Literal, TypeVar, assert_never

import torch
from torch import nn

from calco.config import OptimizerName, Precision

Network = TypeVar("Network", bound=nn.Module)

WARMUP = 0.05  # share of training in which the learning rate rises
WARMUP_STEPS = 10  # at least: Adam's second moments are noise before


def make_optimizer(
    network: nn.Module,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
    precision: Precision = "fp32",
) -> torch.optim.Optimizer:
    """Build the optimiser; biases and normalisation weights are not decayed.

    It goes over all weights at once, which on two cores takes a third of the time. With fp16 it
    may not: it would undo the loss scale by itself, after the gradients were clipped.

    Reference:
        Loshchilov and Hutter (2019), arXiv:1711.05101
    """
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
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

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move the average towards the network after optimiser step ``step`` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine = list(self.network.state_dict().values())
        theirs = list(network.state_dict().values())
        floats = [(m, t) for m, t in zip(mine, theirs, strict=True) if m.is_floating_point()]
        torch._foreach_lerp_([m for m, _ in floats], [t for _, t in floats], 1 - decay)
        for m, t in zip(mine, theirs, strict=True):
            if not m.is_floating_point():
                m.copy_(t)

"""A rehearsal before training: can this network, with these settings, learn one batch by heart?"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn

from calco.errors import Problem
from calco.records import Plan
from calco.training.optim import planned_optimizer

LIMIT_S = 5.0
BUDGET_SHARE = 0.01  # of the budget, at most
MIN_STEPS = 10  # fewer say nothing
MAX_STEPS = 40
LEARNT = 0.97  # times the first loss; a network that can learn is far below after ten steps
END = 3  # steps whose mean loss is where the rehearsal ends

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def preflight(
    network: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    loss_of: Loss,
    plan: Plan,
) -> Problem | None:
    """Train a copy of the network on one batch for a few seconds.

    The network itself and torch's random numbers are left as they were.

    Args:
        network: As it will be trained.
        batch: Images (B, C, H, W) uint8 and masks (B, 1, H, W) in {0, 1}, on the network's device.
        loss_of: Logits and masks to one loss per image.
        plan: Optimiser, learning rate and budget.

    Returns:
        What to change when the loss does not fall; None when it does, or when too few steps could
        be made to tell.
    """
    limit_s = LIMIT_S if plan.budget_s is None else min(LIMIT_S, BUDGET_SHARE * plan.budget_s)
    devices = [batch[0].device] if batch[0].device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        losses = _rehearse(copy.deepcopy(network).train(), batch, loss_of, plan, limit_s)
    if len(losses) < MIN_STEPS or fmean(losses[-END:]) < LEARNT * losses[0]:
        return None
    end = fmean(losses[-END:])
    rate = f"fit.learning_rate (now {plan.learning_rate:g})"
    if not math.isfinite(end) or end > losses[0] / LEARNT:
        remedy = f"likely cause: steps are too large; lower {rate} tenfold"
    else:
        remedy = f"raise {rate} tenfold; if that does not help, look at the masks with calco audit"
    return Problem(
        "PREFLIGHT",
        "the network does not learn even a single batch",
        got=f"loss {losses[0]:.3f} before, {end:.3f} after {len(losses)} steps",
        expected="well below its start",
        do=remedy,
        severity="warning",
    )


def _rehearse(
    network: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    loss_of: Loss,
    plan: Plan,
    limit_s: float,
) -> list[float]:
    """Return the loss before each step."""
    optimizer = planned_optimizer(network, plan, "fp32")
    images, masks = batch
    losses: list[float] = []
    began = time.perf_counter()
    while len(losses) < MAX_STEPS and time.perf_counter() - began < limit_s:
        loss = loss_of(network(images), masks.float()).mean()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            losses += [math.inf] * MIN_STEPS  # it will not come back
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm or math.inf)
        optimizer.step()
    return losses

"""Weights, gradients and the optimiser's state divided among processes (FSDP).

What is trained is a divided copy. The whole network stays beside it, in each process, to be
averaged, validated and saved; it is brought up to date when one of these is due.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from calco.nets.build import Segmenter
from calco.training.team import Team

LEAST_SHARE = 0.02  # of all weights; layers with less are divided together


@dataclass(frozen=True)
class Trained:
    """The weights that are trained, whole or this process's part, and the network they are of.

    Attributes:
        whole: The network; of one that is divided it has the weights of the last ``gather``.
        network: What makes the steps: a divided copy, or the whole network itself.
        by_name: Whether the optimiser's state is kept by the names of the weights, so that any
            number of processes can go on with it; then no undivided step is made either.
    """

    whole: Segmenter
    network: nn.Module
    by_name: bool

    def gather(self) -> None:
        """Bring the whole network up to date; every process has to call this.

        Its statistics become those of this process.
        """
        if self.network is self.whole:
            return
        ours = self.whole.state_dict()
        for name, found in self.network.state_dict().items():
            ours[name].copy_(found.full_tensor() if isinstance(found, DTensor) else found)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return an optimiser's state, where the team is led; every process has to call this."""
        if not self.by_name:
            return optimizer.state_dict()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_optimizer_state_dict(self.network, optimizer, options=options))

    def load(
        self,
        weights: dict[str, Any],
        optimizer: torch.optim.Optimizer,
        state: Any,  # noqa: ANN401
    ) -> None:
        """Go on from the weights of ``whole`` and the optimiser's state."""
        self.whole.load_state_dict(weights)
        if not self.by_name:
            optimizer.load_state_dict(state)
            return
        options = StateDictOptions(full_state_dict=True)
        if self.network is not self.whole:
            set_model_state_dict(self.network, weights, options=options)
        set_optimizer_state_dict(self.network, optimizer, state, options=options)
        for p, kept in optimizer.state.items():
            for name, value in kept.items():
                # fused rules go over memory, so it has to lie there as the weights do
                if value.shape == p.shape and not isinstance(p, DTensor):
                    kept[name] = torch.empty_like(p).copy_(value)


def trained_part(whole: Segmenter, team: Team, device: torch.device, *, fsdp: bool) -> Trained:
    """Divide the weights of a network among processes where that is wanted.

    Args:
        whole: The same in all processes.
        team: Alone, nothing is divided.
        device: Of this process.
        fsdp: Whether it is wanted.
    """
    if not fsdp or team.size == 1:
        return Trained(whole, whole, by_name=fsdp)
    return Trained(whole.to(device), _divided(whole, team, device), by_name=True)


def whole_number(value: torch.Tensor) -> float:
    """Return a number that may be known in parts; every process has to call this."""
    return float(value.full_tensor() if isinstance(value, DTensor) else value)


def _divided(whole: Segmenter, team: Team, device: torch.device) -> nn.Module:
    """Copy a network so that each process holds a part of its weights.

    The weights of a layer are put together while it computes, and dropped afterwards.

    Reference:
        Zhao et al. (2023), https://doi.org/10.14778/3611540.3611569
    """
    mesh = init_device_mesh(device.type, (team.size,))
    # channels-last weights cannot be cut
    divided = copy.deepcopy(whole).to(memory_format=torch.contiguous_format)
    least = LEAST_SHARE * sum(p.numel() for p in divided.parameters())
    for module in list(divided.modules()):
        # layers: what holds them may not be called itself, or call them one by one
        is_layer = next(module.children(), None) is None
        if is_layer and sum(p.numel() for p in module.parameters()) >= least:
            fully_shard(module, mesh=mesh)
    fully_shard(divided, mesh=mesh)
    return divided

"""Weights of a trained network as the beginning of another training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from calco.errors import CalcoError, Problem
from calco.nets.build import Segmenter, build_network, build_skeleton
from calco.nets.channels import adapt_channels
from calco.nets.checkpoint import load_model
from calco.nets.encoders import EncoderDecoder
from calco.records import NetworkPlan


@dataclass(frozen=True)
class Carried:
    """Weights that fit a new network.

    Attributes:
        state: Every tensor of the new network, by name.
        reused: Names of those copied as they were.
        adapted: Names of those changed to another number of channels.
    """

    state: dict[str, Tensor]
    reused: tuple[str, ...]
    adapted: tuple[str, ...]


def starting_network(plan: NetworkPlan, start: Path | None) -> Segmenter:
    """Build the planned network, with the weights of a file instead of its usual ones if given.

    Weights that no logit needs are frozen.

    Args:
        plan: What is built.
        start: Weights of calco; None takes the usual ones.

    Raises:
        CalcoError: When the file is damaged or for another network.
    """
    if start is None:
        network = build_network(plan)
    else:
        trained, card = load_model(start)
        carried = carry_over(trained.state_dict(), card.network, plan)
        network = build_network(replace(plan, pretrained=False))
        network.load_state_dict(carried.state)
    if isinstance(network.network, EncoderDecoder):
        network.network.freeze_spare()
    return network


def carry_over(source: Mapping[str, Tensor], old: NetworkPlan, new: NetworkPlan) -> Carried:
    """Fit the weights of one network to another that may see another number of channels.

    Args:
        source: Every tensor of the old network, by name.
        old: What the weights were trained as.
        new: What they are wanted for.

    Raises:
        CalcoError: When anything but the first convolution differs; a part is never taken.
    """
    target = build_skeleton(new).state_dict()
    state, reused, adapted = {}, [], []
    for name, want in target.items():
        have = source.get(name)
        if have is None:
            continue
        if have.shape == want.shape:
            state[name] = have
            reused.append(name)
        elif _differ_by_channels(have, want, old.in_channels, new.in_channels):
            state[name] = adapt_channels(have, old.in_channels, new.in_channels)
            adapted.append(name)
    strange = sorted((target.keys() ^ source.keys()) | (target.keys() - state.keys()))
    if strange:
        problem = Problem(
            "START_NAMES",
            "the weights are of another network",
            "--from",
            got=f"{len(strange)} of {len(target)} tensors that differ: {', '.join(strange[:3])}",
            expected="the same network, but for the channels of the image",
            do="give a run of the same network, or leave out the settings of model",
        )
        raise CalcoError(problem)
    return Carried(state, tuple(reused), tuple(adapted))


def _differ_by_channels(have: Tensor, want: Tensor, n_old: int, n_new: int) -> bool:
    """Whether two tensors are a first convolution for so many channels, in whole blocks each."""
    if have.ndim != 4 or want.ndim != 4 or have.shape[0] != want.shape[0]:
        return False
    if have.shape[2:] != want.shape[2:]:
        return False
    return have.shape[1] * n_new == want.shape[1] * n_old and have.shape[1] % n_old == 0

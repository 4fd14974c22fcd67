"""The rehearsal tells what can be learnt from what cannot, and leaves nothing behind."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from calco.config import LossConfig
from calco.nets.build import build_network
from calco.records import NetworkPlan, Plan
from calco.training import preflight as module
from calco.training.losses import make_loss
from calco.training.preflight import preflight

NETWORK = NetworkPlan("unet", 1, (0.0,), (255.0,), width=4, depth=2, dropout=0.1)
PLAN = Plan(
    NETWORK, 32, None, 4, 1, None, "bce_dice", "adamw", 0.01, 0, "cosine", True, 1, 0, "fp32"
)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(NETWORK)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine make as many steps as an idle one."""
    monkeypatch.setattr("calco.training.preflight.LIMIT_S", 60.0)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Bright squares on dark ground."""
    masks = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
    for i in range(4):
        masks[i, :, 4 * i : 4 * i + 12, 6:20] = 1
    noise = torch.randint(0, 40, masks.shape, generator=torch.Generator().manual_seed(1))
    return (masks * 150 + noise).to(torch.uint8), masks


def rehearse(network: nn.Module, plan: Plan = PLAN) -> object:
    return preflight(network, batch(), make_loss(LossConfig(), plan.loss), plan)


def test_a_sound_training_passes(network: nn.Module) -> None:
    assert rehearse(network) is None


@pytest.mark.parametrize("rate", [50.0, 1e6])
def test_steps_that_are_too_large_are_named(network: nn.Module, rate: float) -> None:
    problem = preflight(
        network,
        batch(),
        make_loss(LossConfig(), "bce"),
        replace(PLAN, learning_rate=rate, optimizer="sgd", clip_norm=0.0),
    )
    assert problem is not None
    assert problem.code == "PREFLIGHT"
    assert f"lower fit.learning_rate (now {rate:g}) tenfold" in problem.do


def test_steps_that_are_too_small_are_named(network: nn.Module) -> None:
    problem = preflight(
        network, batch(), make_loss(LossConfig(), "bce"), replace(PLAN, learning_rate=1e-9)
    )
    assert problem is not None
    assert "raise fit.learning_rate (now 1e-09)" in problem.do


def test_nothing_is_left_behind(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    rehearse(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_it_takes_no_more_than_its_share(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 10**6)
    began = time.perf_counter()
    assert rehearse(network, replace(PLAN, budget_s=50.0)) is None
    assert time.perf_counter() - began < 5.0  # half a second and what a busy machine adds


def test_too_few_steps_say_nothing(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 5)
    assert rehearse(network, replace(PLAN, learning_rate=1e-9)) is None

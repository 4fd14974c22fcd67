"""Folding changes no answer, and says no where it would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calco.nets.build import Ensemble, Segmenter, build_network
from calco.nets.folding import MAX_ERROR, fold_norms
from calco.records import NetworkPlan


def trained(plan: NetworkPlan) -> Segmenter:
    """A network whose batch statistics are not those it was born with."""
    torch.manual_seed(0)
    network = build_network(plan).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, plan.in_channels, 64, 64) * 255)
    return network


def plan_of(family: str) -> NetworkPlan:
    mean, std = (127.0,) * 3, (64.0,) * 3
    return NetworkPlan(family, 3, mean, std, pretrained=False, width=8, depth=2)  # type: ignore[arg-type]


def n_norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("family", ["unet", "lean", "encoder_unet"])
def test_logits_stay_and_every_normalisation_goes(family: str) -> None:
    network = trained(plan_of(family))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_norms(network, 3)
    assert n_norms(network) > 0
    assert n_norms(folded) == 0
    image = torch.randint(0, 256, (2, 3, 70, 41), dtype=torch.uint8)  # (B, C, H, W)
    with torch.no_grad():
        np.testing.assert_allclose(folded(image), network.eval()(image), atol=1e-4)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_folds_predict_as_one() -> None:
    members = Ensemble([trained(plan_of("unet")), trained(plan_of("lean"))])
    folded = fold_norms(members, 3)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)  # (B, C, H, W)
    with torch.no_grad():
        np.testing.assert_allclose(folded(image), members.eval()(image), atol=1e-4)
    assert n_norms(folded) == 0


class _Shortcut(nn.Module):
    """What the convolution gives goes into the normalisation, and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean = torch.tensor([5.0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x.float())
        total: Tensor = x + self.norm(x)
        return total


def test_a_convolution_that_feeds_something_else_is_left_alone() -> None:
    network = _Shortcut()
    folded = fold_norms(network, 1)
    assert n_norms(folded) == 1
    image = torch.randint(0, 256, (1, 1, 16, 16), dtype=torch.uint8)  # (B, C, H, W)
    with torch.no_grad():
        assert torch.equal(folded(image), network.eval()(image))


class _Broken(nn.Module):
    """A network that has diverged."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
        nn.init.constant_(self.convolution.weight, float("nan"))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.convolution(x.float()))
        return logits


def test_what_cannot_be_compared_is_left_alone() -> None:
    assert n_norms(fold_norms(_Broken(), 1)) == 1


def test_a_network_without_normalisation_is_copied() -> None:
    network = nn.Conv2d(1, 1, 1)
    folded = fold_norms(nn.Sequential(_AsFloat(), network), 1)
    assert isinstance(folded, nn.Sequential)
    assert folded[1] is not network
    assert MAX_ERROR < 0.01  # nearer to a threshold nobody promises the same mask


class _AsFloat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()

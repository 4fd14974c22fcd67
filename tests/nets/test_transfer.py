"""Weights for other channels: what a grey image is answered stays; anything else is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calco.config import Family
from calco.errors import CalcoError
from calco.nets.build import build_network
from calco.nets.checkpoint import ModelCard, save_model
from calco.nets.encoders import DEFAULT_ENCODER
from calco.nets.transfer import carry_over, starting_network
from calco.records import ImageSpec, NetworkPlan


def plan_of(family: Family, channels: int, encoder: str = DEFAULT_ENCODER) -> NetworkPlan:
    """A small network without pretrained weights."""
    mean, std = (0.0,) * channels, (255.0,) * channels
    return NetworkPlan(family, channels, mean, std, encoder, pretrained=False, width=8, depth=2)


@pytest.mark.parametrize(
    ("family", "encoder"),
    [
        ("unet", DEFAULT_ENCODER),
        ("lean", DEFAULT_ENCODER),
        ("encoder_unet", DEFAULT_ENCODER),
        ("encoder_unet", "mit_b0"),  # looks at the values of a tensor while it is built
    ],
)
@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 4), (4, 2), (3, 13)])
def test_a_grey_image_gets_the_same_answer(
    family: Family, encoder: str, before: int, after: int
) -> None:
    torch.manual_seed(0)
    old, new = plan_of(family, before, encoder), plan_of(family, after, encoder)
    trained = build_network(old).eval()
    carried = carry_over(trained.state_dict(), old, new)
    assert len(carried.adapted) == 1
    network = build_network(new).eval()
    network.load_state_dict(carried.state)
    grey = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)  # (B, 1, H, W)
    with torch.inference_mode():
        first, second = trained(grey.repeat(1, before, 1, 1)), network(grey.repeat(1, after, 1, 1))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_the_same_channels_are_the_same_weights() -> None:
    plan = plan_of("unet", 3)
    state = build_network(plan).state_dict()
    carried = carry_over(state, plan, plan)
    assert carried.adapted == ()
    assert set(carried.reused) == set(state)
    assert all(carried.state[name] is tensor for name, tensor in state.items())


@pytest.mark.parametrize("change", ["family", "width", "renamed", "missing", "more"])
def test_other_networks_are_refused(change: str) -> None:
    old = new = plan_of("unet", 3)
    state = dict(build_network(old).state_dict())
    name = next(iter(state))
    match change:
        case "family":
            new = plan_of("lean", 3)
        case "width":
            new = replace(old, width=16)
        case "renamed":
            state = {f"other.{n}": t for n, t in state.items()}
        case "missing":
            del state[name]
        case _:
            state["more"] = torch.zeros(1)
    with pytest.raises(CalcoError, match="another network") as caught:
        carry_over(state, old, new)
    assert caught.value.problems[0].code == "START_NAMES"


def test_a_network_starts_from_a_file(tmp_path: Path) -> None:
    plan = plan_of("unet", 3)
    trained = build_network(plan)
    path = tmp_path / "start.safetensors"
    save_model(path, trained, ModelCard(plan, ImageSpec(3)))
    started = starting_network(replace(plan, dropout=0.5), path)  # no weight depends on it
    assert started.training
    assert all(parameter.requires_grad for parameter in started.parameters())
    for name, tensor in started.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name])
    usual = starting_network(plan, None).state_dict()
    assert not torch.equal(next(iter(usual.values())), next(iter(trained.state_dict().values())))

import pytest
import torch
from torch import nn

from calco.config import NormName
from calco.nets.blocks import DoubleConv, Down, Up, norm_layer


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("batch", nn.BatchNorm2d),
        ("group", nn.GroupNorm),
        ("instance", nn.InstanceNorm2d),
        ("none", nn.Identity),
    ],
)
def test_norm_layer_is_the_named_one(norm: NormName, kind: type[nn.Module]) -> None:
    assert isinstance(norm_layer(norm, 8), kind)


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (4, 4), (12, 4), (7, 1)])
def test_groups_divide_any_number_of_channels(channels: int, groups: int) -> None:
    layer = norm_layer("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups


@pytest.mark.parametrize(("norm", "biased"), [("none", True), ("batch", False)])
def test_convolutions_have_a_bias_only_without_normalisation(norm: NormName, biased: bool) -> None:
    convolutions = [m for m in DoubleConv(3, 4, norm).modules() if isinstance(m, nn.Conv2d)]
    assert [c.bias is not None for c in convolutions] == [biased, biased]


def test_down_halves_and_up_doubles() -> None:
    x = torch.rand(2, 4, 10, 6)
    down = Down(4, 8, "batch")(x)
    assert down.shape == (2, 8, 5, 3)
    assert Up(8, 4, "batch")(down, x).shape == (2, 4, 10, 6)


def test_up_uses_its_skip_connection() -> None:
    up, below = Up(8, 4, "none"), torch.rand(1, 8, 2, 2)
    without = up(below, torch.zeros(1, 4, 4, 4))
    assert not torch.equal(without, up(below, torch.ones(1, 4, 4, 4)))

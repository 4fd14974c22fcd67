"""A convolution for more or fewer channels answers a grey image as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calco.nets.channels import adapt_channels, adapt_constants


def test_channels_by_hand() -> None:
    two = torch.tensor([[1.0, 3.0]]).view(1, 2, 1, 1)
    assert adapt_channels(two, 2, 2).flatten().tolist() == [1, 3]
    assert adapt_channels(two, 2, 1).flatten().tolist() == [4]  # the sum
    assert adapt_channels(two, 2, 5).flatten().tolist() == pytest.approx(
        [1 / 3, 3 / 2, 1 / 3, 3 / 2, 1 / 3]
    )
    # two planes per channel, as where pixels are unfolded first: each keeps to its own
    planes = torch.tensor([1.0, 10.0, 2.0, 20.0]).view(1, 4, 1, 1)
    assert adapt_channels(planes, 2, 1).flatten().tolist() == [3, 30]
    assert adapt_channels(planes[:, :2], 1, 2).flatten().tolist() == [0.5, 5, 0.5, 5]


@pytest.mark.parametrize("there", [1, 2, 3, 4])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 13])
def test_a_constant_image_keeps_its_answer(there: int, wanted: int) -> None:
    stem = torch.rand(5, there, 3, 3)
    adapted = adapt_channels(stem, there, wanted)
    assert adapted.shape == (5, wanted, 3, 3)
    answers = [nn.functional.conv2d(torch.ones(1, w.shape[1], 3, 3), w) for w in (stem, adapted)]
    torch.testing.assert_close(*answers)
    assert wanted != there or torch.equal(adapted, stem)


def test_constants_go_with_their_filters() -> None:
    four = (1.0, 2.0, 5.0, 10.0)
    assert adapt_constants(four, 4) == four
    assert adapt_constants(four, 1) == (4.5,)
    assert adapt_constants(four, 3) == (5.5, 2.0, 5.0)  # the last is added to the first
    assert adapt_constants(four[:2], 5) == (1.0, 2.0, 1.0, 2.0, 1.0)

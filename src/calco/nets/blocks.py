"""The three bricks of a U-Net: convolve twice, go down, come up."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from calco.config import NormName


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """Return the normalisation that follows a convolution; ``none`` changes nothing.

    Reference:
        Batch: Ioffe & Szegedy (2015), https://arxiv.org/abs/1502.03167
        Group: Wu & He (2018), https://arxiv.org/abs/1803.08494
        Instance: Ulyanov et al. (2016), https://arxiv.org/abs/1607.08022
    """
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            # at most 8 groups: 8 channels each at the default width of 64; gcd always divides
            return nn.GroupNorm(math.gcd(channels, 8), channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "none":
            return nn.Identity()


class DoubleConv(nn.Sequential):
    """(3x3 convolution, normalisation, ReLU) twice; height and width stay.

    The paper's convolutions are unpadded and shrink the map by four pixels; padding by one keeps
    input and output aligned, which is what everybody does since.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormName) -> None:
        bias = norm == "none"  # a normalisation subtracts any bias again and brings its own
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias),
            norm_layer(norm, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias),
            norm_layer(norm, out_channels),
            nn.ReLU(inplace=True),
        )


class Down(nn.Sequential):
    """Halve height and width by max pooling, then convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormName) -> None:
        super().__init__(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels, norm))


class Up(nn.Module):
    """Double height and width, put the skip connection beside, then convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormName) -> None:
        super().__init__()
        # kernel 2, stride 2: every output pixel comes from exactly one input pixel, so the
        # checkerboards of overlapping transposed convolutions cannot appear
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = DoubleConv(2 * out_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Merge (B, C, h, w) from below with (B, C/2, 2h, 2w) from the left: (B, C/2, 2h, 2w)."""
        x = self.up(x)  # (B, C/2, 2h, 2w)
        x = torch.cat([skip, x], dim=1)  # (B, C, 2h, 2w)
        merged: Tensor = self.conv(x)  # (B, C/2, 2h, 2w)
        return merged

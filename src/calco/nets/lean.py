"""A U-Net for processors and small devices: no arithmetic at full resolution.

    image (H, W)                                            logits (H, W)
     | 2 x 2 pixels become channels                            ^ 4 channels become 2 x 2 pixels
    16 ---------------------------------------------> + -> 16      H/2
      32 ----------------------------------------> + -> 32         H/4
        64 ----------------------------------> + -> 64             H/8
            96 -------------------------> + -> 96                  H/16
                128 -------------------------^                     H/32

On a processor a U-Net spends most of its time on the maps of full resolution, there as much on
normalisation and memory traffic as on convolutions. Here the first convolution sees every pixel but
answers once for 2 x 2 of them, with few channels, and the last tells those pixels apart again.
Where channels are many, a 3x3 convolution is split into a depthwise and a pointwise one: in
training a third of the time at 64 channels, a quarter at 128. Skip connections are added instead of
stacked.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from calco.config import NormName
from calco.nets.blocks import norm_layer

FINE = 16  # channels at H/2, whatever the width: each of them costs most here
FACTORS = (1, 2, 3, 4)  # channels from H/4 down, in widths
BLOCKS = (1, 2, 2, 2)  # from H/4 down


class LeanUNet(nn.Module):
    """U-Net between space-to-depth and pixel shuffle, with one logit per pixel.

    Args:
        in_channels: Channels of the image.
        width: Channels at a quarter of the resolution; most of the work is done there and below.
        norm: Normalisation after each convolution that mixes channels.
        dropout: Share of whole channels dropped at the bottom, in [0, 1).

    Reference:
        Shi et al. (2016), pixel shuffle, https://arxiv.org/abs/1609.05158
        He et al. (2016), residual blocks, https://arxiv.org/abs/1512.03385
        Howard et al. (2017), separable convolutions, https://arxiv.org/abs/1704.04861
    """

    stride = 4 * 2 ** (len(FACTORS) - 1)  # height and width must be multiples of it

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 32,
        norm: NormName = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels = [factor * width for factor in FACTORS]  # 32, 64, 96, 128
        falling = list(itertools.pairwise(channels))  # (32, 64), (64, 96), (96, 128)
        self.fine_stem = nn.Sequential(
            nn.PixelUnshuffle(2), Mix(4 * in_channels, FINE, 3, norm), nn.ReLU()
        )
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), Mix(4 * FINE, width, 3, norm), nn.ReLU())
        self.levels = nn.ModuleList(
            nn.Sequential(*(Residual(count, norm) for _ in range(blocks)))
            for count, blocks in zip(channels, BLOCKS, strict=True)
        )
        self.downs = nn.ModuleList(
            nn.Sequential(Mix(upper, lower, 2, norm), nn.ReLU()) for upper, lower in falling
        )
        self.dropout = nn.Dropout2d(dropout)
        self.ups = nn.ModuleList(Rise(lower, upper, norm) for upper, lower in reversed(falling))
        self.fine_up = nn.Sequential(nn.Conv2d(width, 4 * FINE, 1), nn.PixelShuffle(2))
        self.fine_block = nn.Sequential(Mix(FINE, FINE, 3, norm), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(FINE, 4, 3, padding=1), nn.PixelShuffle(2))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of normalised images.

        Args:
            x: (B, in_channels, H, W) float; H and W multiples of ``stride``.

        Returns:
            (B, 1, H, W) float; above 0 means foreground is likelier than not.
        """
        fine = self.fine_stem(x)  # (B, 16, H/2, W/2)
        x = self.levels[0](self.stem(fine))  # (B, 32, H/4, W/4)
        skips = []
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            skips.append(x)
            x = level(down(x))  # (B, 64, H/8, W/8) ... (B, 128, H/32, W/32)
        x = self.dropout(x)
        for up in self.ups:
            x = up(x, skips.pop())  # (B, 96, H/16, W/16) ... (B, 32, H/4, W/4)
        x = self.fine_block(F.relu(fine + self.fine_up(x)))  # (B, 16, H/2, W/2)
        logits: Tensor = self.head(x)  # (B, 1, H, W)
        return logits


class Mix(nn.Sequential):
    """A convolution that mixes channels, and its normalisation.

    Args:
        in_channels: Channels before.
        out_channels: Channels after.
        kernel: 3 and 1 keep height and width, 2 halves them.
        norm: Normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, norm: NormName) -> None:
        stride, padding = (2, 0) if kernel == 2 else (1, kernel // 2)
        bias = norm == "none"  # a normalisation subtracts any bias again and brings its own
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=bias),
            norm_layer(norm, out_channels),
        )


class Residual(nn.Module):
    """Add to a map what two separable 3x3 convolutions make of it."""

    def __init__(self, channels: int, norm: NormName) -> None:
        super().__init__()
        self.change = nn.Sequential(
            _depthwise(channels),
            Mix(channels, channels, 1, norm),
            nn.ReLU(),
            _depthwise(channels),
            Mix(channels, channels, 1, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) for (B, C, H, W)."""
        return F.relu(x + self.change(x))


class Rise(nn.Module):
    """Double height and width, add the skip connection, then a residual block."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormName) -> None:
        super().__init__()
        self.narrow = Mix(in_channels, out_channels, 1, norm)
        self.block = Residual(out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Merge (B, C, h, w) from below with (B, C', 2h, 2w) from the left: (B, C', 2h, 2w)."""
        x = F.interpolate(self.narrow(x), scale_factor=2.0)  # (B, C', 2h, 2w), each pixel 2 x 2
        merged: Tensor = self.block(F.relu(skip + x))  # (B, C', 2h, 2w)
        return merged


def _depthwise(channels: int) -> nn.Conv2d:
    # without a normalisation of its own, which would take longer than the convolution
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _initialise(module: nn.Module) -> None:
    """Draw weights so that maps keep their variance; He et al. (2015), arXiv:1502.01852.

    Without ReLU's gain: most convolutions here are followed by another convolution, by an addition
    or by the logits, and a normalisation sets the scale of the others.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)

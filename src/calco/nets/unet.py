"""The classic U-Net, written out.

Ronneberger, Fischer & Brox (2015), U-Net: Convolutional Networks for Biomedical Image
Segmentation, https://arxiv.org/abs/1505.04597. With the default width 64 and depth 4 the channels
are those of its figure 1:

    64 ------------------------------> 64 -> logits
      128 ----------------------> 128
         256 -------------> 256
            512 ----> 512
                1024

Left of the valley the map halves and the channels double, so a deep pixel knows much about a large
neighbourhood and little about where exactly; right of it the arrows hand the fine detail back.
Departures from the paper: padded convolutions (output as large as input), an optional
normalisation after each convolution (batch by default), one logit per pixel instead of two.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from calco.config import NormName
from calco.nets.blocks import DoubleConv, Down, Up


class UNet(nn.Module):
    """U-Net with one logit per pixel.

    Args:
        in_channels: Channels of the image.
        width: Channels after the first block; doubled at each level.
        depth: Times the resolution is halved; 0 levels would be no U.
        norm: Normalisation after each convolution.
        dropout: Share of whole channels dropped at the bottom, as in the paper, in [0, 1).

    Reference:
        https://arxiv.org/abs/1505.04597
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 4,
        norm: NormName = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]  # 64, 128, 256, 512, 1024
        falling = list(itertools.pairwise(channels))  # (64, 128), ..., (512, 1024)
        self.stride = 2**depth  # height and width must be multiples of it
        self.first = DoubleConv(in_channels, width, norm)
        self.downs = nn.ModuleList(Down(upper, lower, norm) for upper, lower in falling)
        self.dropout = nn.Dropout2d(dropout)
        self.ups = nn.ModuleList(Up(lower, upper, norm) for upper, lower in reversed(falling))
        self.head = nn.Conv2d(width, 1, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of normalised images.

        Args:
            x: (B, in_channels, H, W) float; H and W multiples of ``stride``.

        Returns:
            (B, 1, H, W) float; above 0 means foreground is likelier than not.
        """
        x = self.first(x)  # (B, 64, H, W)
        skips = []
        for down in self.downs:
            skips.append(x)  # remembered for the way up, before it is halved
            x = down(x)  # (B, 128, H/2, W/2) ... (B, 1024, H/16, W/16)
        x = self.dropout(x)
        for up in self.ups:
            x = up(x, skips.pop())  # (B, 512, H/8, W/8) ... (B, 64, H, W)
        logits: Tensor = self.head(x)  # (B, 1, H, W)
        return logits


def _initialise(module: nn.Module) -> None:
    """Draw weights so that the variance of the maps neither grows nor fades with depth.

    The paper asks for sqrt(2 / N) with N incoming connections, which is He et al. (2015),
    https://arxiv.org/abs/1502.01852. Without it a deep U-Net has channels that never wake up.
    """
    match module:
        case nn.ConvTranspose2d():
            # torch counts the fan of a transposed kernel from the wrong side; at stride 2 and
            # kernel 2 each output has in_channels inputs, and no ReLU follows that would halve it
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_channels))
        case nn.Conv2d(kernel_size=(1, 1)):  # the head: linear, so that first logits are of order 1
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        case nn.Conv2d():
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        case _:
            return
    if module.bias is not None:
        nn.init.zeros_(module.bias)

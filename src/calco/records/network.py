"""What a network is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from calco.config import NormName


@dataclass(frozen=True)
class NetworkPlan:
    """Everything needed to build the network again, weights aside.

    Attributes:
        family: ``unet``, ``encoder_unet`` or ``lean``.
        in_channels: Input channels.
        mean: Per-channel mean subtracted, in uint8 units; inside the network.
        std: Per-channel divisor, in uint8 units; inside the network.
        encoder: For ``encoder_unet``.
        pretrained: Start from ImageNet weights (training only).
        width: For ``unet``.
        depth: For ``unet``.
        norm: For ``unet``.
        dropout: Share of channels dropped.
        scale: Factor by which the network sees images enlarged, or shrunken below 1.
    """

    family: Literal["unet", "encoder_unet", "lean"]
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    encoder: str = "efficientnet-lite0"
    pretrained: bool = True
    width: int = 64
    depth: int = 4
    norm: NormName = "batch"
    dropout: float = 0.0
    scale: float = 1.0

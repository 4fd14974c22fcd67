"""What a network is built from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from calco.config import DecoderName, Family, NormName


@dataclass(frozen=True)
class NetworkPlan:
    """Everything needed to build the network again, weights aside.

    Attributes:
        family: ``unet``, ``encoder_unet`` or ``lean``.
        in_channels: Input channels.
        mean: Per-channel mean subtracted, in uint8 units; inside the network.
        std: Per-channel divisor, in uint8 units; inside the network.
        encoder: For ``encoder_unet``.
        pretrained: Start the encoder from trained weights (training only).
        width: For ``unet``.
        depth: For ``unet``.
        norm: For ``unet``.
        dropout: Share of channels dropped.
        scale: Factor by which the network sees images enlarged, or shrunken below 1.
        decoder: For ``encoder_unet``.
        weights: File that the encoder starts from (training only); None looks for it where the
            encoder's weights usually are.
        weights_sha256: Of what the encoder started from; empty without.
        freeze_encoder: Whether training leaves the encoder as it is.
    """

    family: Family
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
    decoder: DecoderName = "light"
    weights: str | None = None
    weights_sha256: str = ""
    freeze_encoder: bool = False

    @property
    def stride_px(self) -> int:
        """Side of the area, seen by the network, that becomes one pixel at its bottom."""
        return int(2**self.depth) if self.family == "unet" else 32

    def seen_px(self, side_px: int) -> int:
        """Return how long the network sees a side of an image."""
        return scaled_px(side_px, self.scale)


def scaled_px(side_px: int, scale: float) -> int:
    """Return a side times a scale, rounded, at least 1, in whole numbers that a graph can hold.

    Example:
        >>> [scaled_px(side, 0.5) for side in (1, 32, 33)]
        [1, 16, 17]
    """
    ratio = Fraction(scale).limit_denominator(1000)
    return max(1, (2 * ratio.numerator * side_px + ratio.denominator) // (2 * ratio.denominator))

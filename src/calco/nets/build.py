"""From a plan to a network that eats images as they come: uint8, any height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calco.config import MAX_SCALE, MIN_SCALE
from calco.errors import CalcoError, Problem
from calco.nets.encoders import EncoderDecoder, without_values
from calco.nets.lean import LeanUNet
from calco.nets.unet import UNet
from calco.nets.weights import find_weights, load_weights
from calco.records import Mean, NetworkPlan
from calco.records.network import scaled_px


class Ensemble(nn.Module):
    """Several networks that predict as one: the logit of their mean probability, or the mean logit.

    Args:
        members: Alike in what they take; at least one.
        mean: What is averaged.
    """

    def __init__(self, members: Sequence[nn.Module], mean: Mean = "prob") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mean = mean

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per pixel, members one after the other: memory stays that of one.

        Args:
            image: As for the members.

        Returns:
            (B, 1, H, W) float32 logits; infinite where all members are certain and their
                probabilities are averaged.
        """
        first, *others = self.members
        total = self._term(first(image))  # (B, 1, H, W)
        for member in others:
            total += self._term(member(image))
        average = total / len(self.members)
        return torch.logit(average) if self.mean == "prob" else average

    def _term(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits.float()) if self.mean == "prob" else logits.float()


class Segmenter(nn.Module):
    """A network with its scale and normalisation inside, for images of any size.

    Args:
        network: Maps normalised (B, C, H, W) to (B, 1, H, W) logits when H and W are multiples
            of ``stride``.
        stride: Side in pixels of the area that becomes one pixel at the network's bottom.
        mean: Per-channel mean subtracted, in uint8 units.
        std: Per-channel divisor, in uint8 units.
        scale: Images are resampled by this factor on the way in, logits back on the way out, so
            that crops, truths and scores stay at the resolution of the images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        stride: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.stride = stride
        self.scale = scale
        # not persistent: the plan is their one home, the weights file does not repeat them
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per pixel.

        Args:
            image: (B, C, H, W) uint8, or float in [0, 255]; any H, W >= 1.

        Returns:
            (B, 1, H, W) float logits.

        Raises:
            ValueError: When the shape is not (B, C, H, W) with the network's C.
        """
        channels = self.mean.shape[1]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(
                f"images of shape {tuple(image.shape)}; expected (B, {channels}, H, W)"
            )
        height, width = image.shape[-2:]
        inner = (scaled_px(height, self.scale), scaled_px(width, self.scale))  # (h, w)
        x = (image.to(self.mean.dtype) - self.mean) / self.std  # (B, C, H, W)
        if self.scale != 1:
            x = F.interpolate(x, inner, mode="bilinear", antialias=self.scale < 1)  # (B, C, h, w)
        # (B, 1, h', w'): multiples of the stride
        logits: Tensor = self.network(self._pad(x))
        logits = logits[..., : inner[0], : inner[1]]  # (B, 1, h, w)
        if self.scale != 1:
            logits = F.interpolate(
                logits, (height, width), mode="bilinear", antialias=self.scale > 1
            )
        return logits  # (B, 1, H, W)

    def _pad(self, x: Tensor) -> Tensor:
        """Mirror the image below and to the right, as training crops are beyond the border."""
        # not -(-side // stride): graphs of other engines divide towards zero
        rows, columns = ((side + self.stride - 1) // self.stride for side in x.shape[-2:])
        two_or_more = torch.sym_max(columns, 2)  # a single pixel at the bottom has no variance
        x = _mirrored(x, -2, rows * self.stride)
        return _mirrored(x, -1, two_or_more * self.stride)


def _mirrored(x: Tensor, dim: int, side: int | torch.SymInt) -> Tensor:
    """Continue a dimension by its mirror image; what is too small for that repeats its first."""
    # an exported graph must not choose by the size of one image
    if not torch.compiler.is_exporting() and x.shape[dim] == side:
        return x
    there = torch.arange(side, device=x.device)
    mirrored = 2 * (x.shape[dim] - 1) - there
    return x.index_select(dim, torch.minimum(there, mirrored).clamp(min=0))


def build_network(plan: NetworkPlan) -> Segmenter:
    """Build the planned network; random weights come from torch's global generator.

    Raises:
        CalcoError: When the plan's normalisation does not fit its channels, or the encoder's
            trained weights are not where and what they were when the plan was made.
    """
    _check(plan)
    network: UNet | EncoderDecoder | LeanUNet
    match plan.family:
        case "unet":
            network = UNet(plan.in_channels, plan.width, plan.depth, plan.norm, plan.dropout)
        case "encoder_unet":
            network = _build_encoder(plan)
        case "lean":
            network = LeanUNet(plan.in_channels, plan.width, plan.norm, plan.dropout)
        case _:
            assert_never(plan.family)
    return Segmenter(network, network.stride, plan.mean, plan.std, plan.scale)


def build_skeleton(plan: NetworkPlan) -> Segmenter:
    """Build a network for its names and shapes, without memory where that is possible.

    A few encoders need it. No trained weights are looked for, and torch's random numbers are left
    as they were.
    """
    build = partial(build_network, replace(plan, pretrained=False))
    skeleton = without_values(build)
    stored = skeleton.network.state_dict().keys()
    if all(name in stored for name, _ in skeleton.network.named_buffers()):
        return skeleton
    with torch.random.fork_rng([]):
        return build()


def _build_encoder(plan: NetworkPlan) -> EncoderDecoder:
    network = EncoderDecoder(plan.in_channels, plan.encoder, plan.decoder, plan.dropout)
    if plan.pretrained:
        found = find_weights(plan.encoder, plan.weights)
        if plan.weights_sha256 not in ("", found.sha256):  # plans of before have none
            raise CalcoError(
                Problem(
                    "ENCODER_HASH",
                    "the encoder's weights are not those that the plan was made with",
                    found.origin,
                    got=found.sha256[:16],
                    expected=plan.weights_sha256[:16],
                    do="put them back, or train into a new folder",
                )
            )
        load_weights(network.encoder, plan.in_channels, found)
    if plan.freeze_encoder:
        network.freeze_encoder()
    return network


def _check(plan: NetworkPlan) -> None:
    """Refuse what a hand-edited plan may hold and torch would only fail on later."""
    faults = []
    if plan.in_channels < 1:
        faults.append(("in_channels", str(plan.in_channels), "at least 1"))
    for name, values in (("mean", plan.mean), ("std", plan.std)):
        if len(values) != plan.in_channels:
            faults.append((name, f"{len(values)} values", f"one per channel: {plan.in_channels}"))
    if not all(value > 0 for value in plan.std):
        faults.append(("std", str(plan.std), "positive values"))
    if not (1 <= plan.width <= 256 and 1 <= plan.depth <= 6):
        faults.append(("width, depth", f"{plan.width}, {plan.depth}", "1 to 256 and 1 to 6"))
    if not MIN_SCALE <= plan.scale <= MAX_SCALE:
        faults.append(("scale", str(plan.scale), f"{MIN_SCALE} to {MAX_SCALE:g}"))
    if not 0 <= plan.dropout < 1:
        faults.append(("dropout", str(plan.dropout), "in [0, 1)"))
    if faults:
        raise CalcoError(
            *(
                Problem(
                    "PLAN_NETWORK",
                    f"network.{name} does not fit",
                    "plan.yaml",
                    got,
                    expected,
                    do="undo the edit, or train into a new folder",
                )
                for name, got, expected in faults
            )
        )

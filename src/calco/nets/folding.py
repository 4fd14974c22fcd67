"""Batch normalisation folded into the convolutions before it: the same logits in less time."""

from __future__ import annotations

import copy

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TRIED_PX = 64  # side of the image on which a network is watched
MAX_ERROR = 1e-3  # of a logit: rounding is a hundred times smaller


def fold_norms(network: nn.Module, channels: int) -> nn.Module:
    """Return a copy for prediction whose batch normalisations are part of its convolutions.

    Which normalisation follows which convolution is seen by running the network once. Where the
    copy then answers otherwise, as when a convolution also feeds something else, the network is
    returned as it is, copied.

    Args:
        network: Images (B, C, H, W) uint8 to logits; left as it is.
        channels: C.

    Returns:
        A copy in evaluation mode.
    """
    plain = copy.deepcopy(network).eval()
    device = next((p.device for p in plain.parameters()), torch.device("cpu"))
    own = torch.Generator().manual_seed(0)
    shape = (1, channels, TRIED_PX, TRIED_PX)  # (1, C, H, W)
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=own).to(device)
    with torch.no_grad():
        wanted = plain(image)
        folded = _folded(plain, image)
        # NaN, as of a network that has diverged, is unlike anything
        alike = folded and bool((folded(image) - wanted).abs().max() <= MAX_ERROR)
    return folded if folded and alike else plain


def _folded(network: nn.Module, image: Tensor) -> nn.Module | None:
    """Return a copy with every normalisation folded that directly follows a convolution."""
    pairs = _watch(network, image)
    if not pairs:
        return None
    copied = copy.deepcopy(network)
    modules = dict(copied.named_modules())
    for norm_name, convolution_name in pairs.items():
        norm, convolution = modules[norm_name], modules[convolution_name]
        if not (isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d)):
            continue
        if norm.running_mean is None or norm.running_var is None:
            continue  # it normalises by the image itself
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = weight, bias
        parent, _, name = norm_name.rpartition(".")
        # timm's kind holds the activation, too
        left = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        setattr(modules[parent], name, left)
    return copied


def _watch(network: nn.Module, image: Tensor) -> dict[str, str]:
    """Run the network and return the convolution whose output each normalisation gets, by name."""
    made: dict[int, str] = {}
    pairs: dict[str, str] = {}
    alive: list[Tensor] = []  # so that no two outputs ever have the same id
    hooks = []

    def note(name: str, output: Tensor) -> None:
        alive.append(output)
        made[id(output)] = name

    def pair(name: str, given: Tensor) -> None:
        if id(given) in made:
            pairs[name] = made[id(given)]

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _m, _i, out, n=name: note(n, out)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(
                module.register_forward_pre_hook(lambda _m, args, n=name: pair(n, args[0]))
            )
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs

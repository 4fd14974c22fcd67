"""A first convolution for another number of channels, all that a network knows of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def adapt_channels(weight: Tensor, n_old: int, n_new: int) -> Tensor:
    """Turn a first convolution to another number of channels, the sum of its filters kept.

    Channels in surplus are added to the others in turn; where more are wanted, filters are
    repeated in turn and share their weight. So a grey image, the same in each channel, gets the
    same answer before and after.

    Args:
        weight: (O, n_old B, K, K) filters; B planes belong to each channel, 1 but for networks
            that begin by unfolding pixels.
        n_old: Channels of the weights.
        n_new: Channels wanted.

    Returns:
        (O, n_new B, K, K) filters.

    Example:
        >>> filters = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
        >>> adapt_channels(filters, 3, 1).flatten().tolist()
        [7.0]
        >>> adapt_channels(filters, 3, 4).flatten().tolist()
        [0.5, 2.0, 4.0, 0.5]
        >>> adapt_channels(filters, 3, 2).flatten().tolist()
        [5.0, 2.0]
    """
    share = torch.zeros(n_new, n_old, dtype=weight.dtype)  # of each old filter in each new one
    turns = torch.arange(max(n_old, n_new))
    share[turns % n_new, turns % n_old] = 1
    share /= share.sum(dim=0)  # over the new ones: what an old filter gave is all there
    blocks = weight.reshape(len(weight), n_old, -1, *weight.shape[2:])  # (O, n_old, B, K, K)
    return torch.einsum("no,fobhw->fnbhw", share, blocks).flatten(1, 2).contiguous()


def adapt_constants(values: Sequence[float], n_new: int) -> tuple[float, ...]:
    """Turn the mean or std of channels to another number, as ``adapt_channels`` does their filters.

    Channels whose filters are added up share their average. One number cannot stand for several:
    where theirs differ, a grey image gets nearly the same answer, not the same.

    Args:
        values: One per channel of the weights.
        n_new: Channels wanted.

    Example:
        >>> adapt_constants((1.0, 2.0, 6.0), 1), adapt_constants((1.0, 2.0, 6.0), 2)
        ((3.0,), (3.5, 2.0))
        >>> adapt_constants((1.0, 2.0, 6.0), 4)
        (1.0, 2.0, 6.0, 1.0)
    """
    n_old = len(values)
    turns = range(max(n_old, n_new))
    added = [[values[t % n_old] for t in turns if t % n_new == new] for new in range(n_new)]
    return tuple(sum(each) / len(each) for each in added)

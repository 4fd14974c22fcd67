"""What a user may ask: one frozen model per section, filled from YAML and ``--set``.

A setting whose default is ``None`` is chosen by the plan from the data and the time there is; a
value given here is kept and the rest adapts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calco.config_faults import setting_problem
from calco.config_tree import assign, read_tree
from calco.errors import CalcoError, Problem
from calco.replay import is_plan, settings_of

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and PyTorch both take
Level = Annotated[int, Field(ge=0, le=255)]

LossName = Literal["bce_dice", "dice", "bce", "focal", "tversky", "lovasz"]
OptimizerName = Literal["adamw", "adam", "sgd"]
Family = Literal["unet", "encoder_unet", "lean"]
Smp = Literal["unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer", "upernet"]
DecoderName = Literal["light", Smp]
NormName = Literal["batch", "group", "instance", "none"]
MIN_SCALE, MAX_SCALE = 0.125, 4.0  # of what the network sees against the image
Precision = Literal["fp32", "bf16", "fp16"]
TrackerName = Literal["tensorboard", "wandb", "mlflow"]


class Section(BaseModel):
    """Base of all sections: frozen, closed and strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataConfig(Section):
    """Where the samples are and how to read them; everything is detected unless said here."""

    images: str | None = None
    """Image folder below the data root; None detects it."""
    masks: str | None = None
    """Mask folder or RLE CSV below the data root; None detects it."""
    group: str | None = None
    """Regular expression on the id; its first group names the sample's group: ``^(s\\d+)_``."""
    group_column: str | None = None
    """Column of ``groups.csv`` (id plus any columns) in the data root that names the group."""
    channels: Literal[1, 3] | None = None
    """Channels given to the network; None takes 3 when any image is coloured, else 1. Images with
    another count on disk keep it."""
    foreground: tuple[int, ...] | None = None
    """Mask values (or palette indices) that are foreground; None detects a two-valued code."""
    foreground_color: tuple[Level, Level, Level] | None = None
    """RGB colour that is foreground in coloured masks."""
    foreground_channel: Literal["alpha"] | None = None
    """``alpha`` reads the mask from the transparency of the mask file."""
    threshold: NonNegative | None = None
    """Mask values above this are foreground; for smeared (JPEG, resized) masks."""
    invert: bool = False
    """Swap foreground and background of every mask."""
    rle_order: Literal["column", "row"] | None = None
    """Pixel order of an RLE CSV; None detects it."""
    rle_base: Literal[0, 1] | None = None
    """Number of the first pixel in an RLE CSV; None detects it."""
    on_bad: Literal["error", "skip"] = "error"
    """``skip`` leaves unreadable or mismatched samples out, named in the report."""
    allow_unlabelled: bool = False
    """Accept images without a mask; they are left out of training and scores."""
    follow_links: bool = False
    """Read through symbolic links that leave the data root."""
    frame: Annotated[int, Field(ge=0)] | None = None
    """Frame to read from animated or multi-page files; None refuses them."""
    max_megapixels: Positive = 100.0
    """Largest image decoded, checked from its header; protects from decompression bombs."""


class AuditConfig(Section):
    """What the audit looks for."""

    twins: bool = True
    """Look for near-duplicate images, so that none straddles the split."""
    twin_correlation: Fraction = 0.8
    """Correlation of two images, shrunken and laid onto each other, above which they are called
    twins; what the default finds is measured in docs/explanation/look-alikes.md. Lower values join
    sparse pictures by chance, higher ones miss cropped copies."""
    alignment: bool = True
    """Compare the edges of masks with those of their images, to find masks that are moved, turned,
    exchanged or inverted."""
    max_foreground_fraction: Fraction = 0.9
    """Mean foreground share above which masks are suspected to be inverted."""


class SplitConfig(Section):
    """How samples are divided; sub-folders named train/val/test win over the fractions."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of samples for validation: stopping and tuning."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of samples for the test part, read once."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Trainings, each validated on another part of what is not test; together they predict as one
    model. Training and validation sub-folders are joined for it. None trains once."""
    seed: Seed = 0
    """Changes which groups go where; independent of the training seed so that runs compare."""


class ModelConfig(Section):
    """The network."""

    family: Family | None = None
    """``unet`` is written out in nets/unet.py; ``encoder_unet`` has a pretrained encoder; ``lean``
    is cheap on processors and takes width, norm and dropout as ``unet`` does; None chooses."""
    encoder: str | None = None
    """Of ``encoder_unet``: ``efficientnet-lite0`` to ``-lite4``, a name of segmentation-models-
    pytorch, or ``tu-`` and a name of timm; None takes lite0, whose weights come with calco."""
    decoder: DecoderName | None = None
    """Of ``encoder_unet``: None takes ``light``, a U-Net's that ends at half the resolution."""
    pretrained: bool = True
    """Start from trained weights: of ``weights``, a package or the Hugging Face cache, or fail."""
    weights: str | None = None
    """File of the encoder's weights, ``.safetensors``."""
    download: bool = False
    """Fetch the encoder's weights from the Hugging Face Hub when they are not on this machine."""
    freeze_encoder: bool = False
    """Leave the encoder's weights and batch statistics as they are."""
    width: Annotated[int, Field(ge=4, le=256)] | None = None
    """Channels after the first block of ``unet``, doubled at each level, or those of ``lean`` at a
    quarter of the resolution; None takes 64 or 32."""
    depth: Annotated[int, Field(ge=1, le=6)] = 4
    """Times ``unet`` halves the resolution."""
    norm: NormName = "batch"
    """Normalisation of ``unet``; ``group`` for tiny batches."""
    scale: Annotated[float, Field(ge=MIN_SCALE, le=MAX_SCALE)] | None = None
    """Factor by which the network sees images enlarged, or shrunken below 1; masks keep the size
    of the image. None chooses."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of channels dropped at the bottom of ``unet`` and before the head of
    ``encoder_unet``."""


class LossConfig(Section):
    """What training minimises; each image counts once, whatever its batch."""

    name: LossName = "bce_dice"
    """``bce_dice`` is the mean of both and the steadiest over data sets."""
    per_sample: bool = True
    """Reduce per image, then average; False pools the batch as the classic recipe does."""
    smooth: Positive = 1.0
    """Pixels added to both sides of the soft overlap ratio, so that empty images have a slope."""
    gamma: NonNegative = 2.0
    """Focal exponent: how strongly easy pixels are ignored."""
    alpha: Fraction = 0.5
    """Tversky weight of false positives; 1 - alpha weighs false negatives."""


class FitConfig(Section):
    """How the network is trained."""

    epochs: Count | None = None
    """Passes over the training part at most; None lets the budget decide."""
    batch: Count | None = None
    """Images per step."""
    crop_px: Annotated[int, Field(ge=32)] | None = None
    """Side of the square training crop."""
    resize_px: Annotated[int, Field(ge=32)] | None = None
    """Resize every image to this square instead of cropping; predictions are resized back."""
    optimizer: OptimizerName | None = None
    """Update rule."""
    learning_rate: Positive | None = None
    """Peak learning rate."""
    encoder_lr_factor: Share = 1.0
    """Learning rate of the encoder over that of the rest."""
    layer_decay: Share = 1.0
    """Learning rate of each stage of the encoder over that of the next, towards the decoder."""
    weight_decay: NonNegative | None = None
    """Decoupled for adamw, L2 for adam and sgd."""
    schedule: Literal["cosine", "constant"] | None = None
    """``cosine`` warms up, then anneals to zero as the budget or the epochs end."""
    ema: bool | None = None
    """Validate and keep an exponential moving average of the weights."""
    clip_norm: NonNegative = 1.0
    """Largest gradient norm; 0 does not clip."""
    augment: Fraction | None = None
    """Strength of augmentation, 0 none to 1 strong."""
    focus: Fraction | None = None
    """Share of crops that must hold foreground; the others lie anywhere."""
    precision: Precision | None = None
    """Arithmetic of forward and backward; None measures."""
    threads: Count | None = None
    """Threads of the arithmetic; None measures."""
    channels_last: bool | None = None
    """Keep the channels of a pixel side by side in memory; None measures."""
    monitor: Literal["dice", "loss"] = "dice"
    """Validation figure that early stopping and best weights follow."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Validations without improvement before stopping; None trains to the end of the budget."""
    min_delta: NonNegative = 0.0005
    """Smallest change of the monitored figure that counts as improvement for patience."""
    fsdp: bool = False
    """Divide trained weights, gradients and the optimiser's state among the processes of
    ``devices``; the whole network and its average stay in each."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Loader processes; 0 loads in the training process, right for cached data on few cores."""
    validation_share: Annotated[float, Field(gt=0, le=1)] = 0.06
    """Largest share of fit's time given to validation; epochs in between are not validated."""
    preflight: bool = True
    """Overfit one batch for a few seconds first, at most 1 % of the budget, and say so when even
    that is not learnt."""


class TuneConfig(Section):
    """Post-processing chosen on the validation part."""

    enabled: bool = True
    """False keeps threshold 0.5 and no clean-up."""
    min_area: bool = True
    """Try removing small objects."""
    min_peak: bool = True
    """Try removing objects that the network is nowhere sure of: what empty images are full of."""
    fill_holes: bool = True
    """Try filling small holes."""
    flips: bool = True
    """Try averaging over mirror images, when the budget can pay for it; prediction then takes four
    times as long."""
    turns: bool = False
    """Try quarter turns of all those, too: eight times as long. For pictures without an upside."""
    scales: bool = False
    """Try all those at 0.8 and 1.25 of the size, too: three times as long again."""


class EvaluateConfig(Section):
    """How masks are scored and scores summarised."""

    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of the group bootstrap behind every 95 % interval."""
    tolerance_px: NonNegative = 2.0
    """Pixels by which an outline may be off and still count as right in the NSD; choose what two
    people who trace the same image would differ by."""


class TransferConfig(Section):
    """What training starts from instead of ImageNet or random weights."""

    source: str | None = None
    """Run folder, or its best.safetensors, whose network is trained on: ``--from``."""


class TrackConfig(Section):
    """Who is told of a run besides its own folder; nobody unless asked."""

    to: tuple[TrackerName, ...] = ()
    """Trackers that hear of settings, epochs, pictures and the report: ``--track``."""
    project: Annotated[str, Field(min_length=1, max_length=100)] = "calco"
    """Name under which a tracker gathers runs: its project or experiment."""
    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Of the run there; None takes the name of its folder."""
    wandb_mode: Literal["offline", "online"] | None = None
    """None takes ``WANDB_MODE`` of the environment, else offline: nothing is sent."""
    mlflow_uri: str | None = None
    """Of an MLflow server; None takes ``MLFLOW_TRACKING_URI`` of the environment, else a file in
    the run folder."""


class Config(Section):
    """All settings of a run."""

    seed: Seed = 0
    """Seeds weights, order and augmentation."""
    budget_s: Annotated[float, Field(ge=5, allow_inf_nan=False)] | None = None
    """Wall-clock seconds from command start to finished report; None trains by epochs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes a GPU when there is one."""
    devices: Count = 1
    """Processes that train one network together, each with a device or a share of the cores; under
    torchrun, as many as it has started."""
    data: DataConfig = DataConfig()
    audit: AuditConfig = AuditConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    fit: FitConfig = FitConfig()
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    transfer: TransferConfig = TransferConfig()
    track: TrackConfig = TrackConfig()


def load_config(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Config:
    """Read settings from a YAML file and ``section.key=value`` overrides.

    Args:
        path: YAML file of settings, or a run's plan.yaml; None starts from the defaults.
        overrides: Later ones win; values are parsed as YAML.

    Raises:
        CalcoError: Lists every unknown key (with the nearest name), wrong type and range.
    """
    tree = read_tree(path) if path else {}
    if is_plan(tree):
        tree = settings_of(tree)
    for override in overrides:
        assign(tree, override, list(Config.model_fields))
    return validate_config(tree, where=str(path) if path else "settings")


def validate_config(tree: object, where: str = "settings") -> Config:
    """Check a tree of plain values against the schema.

    Raises:
        CalcoError: Lists every fault with its key.
    """
    try:
        # through JSON: strict types (no "3" for 3, no true for 1), yet lists may fill tuples
        return Config.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        raise CalcoError(
            *(setting_problem(e, where, known_keys()) for e in error.errors())
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CalcoError(
            Problem("CONFIG_TYPE", str(error), where=where, do="use plain YAML values")
        ) from None


def config_to_yaml(config: Config) -> str:
    """Return the settings as YAML that ``load_config`` reads back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """List every setting as a dotted key.

    Example:
        >>> "fit.learning_rate" in known_keys()
        True
    """
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += known_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys

"""Turn data, settings and time into everything training needs, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from calco.config import Config, LossName
from calco.nets.encoders import IMAGENET_MEAN, IMAGENET_STD
from calco.records import Audit, NetworkPlan, Plan, SampleFacts, Split

BUDGETED_EPOCHS = 100_000  # never reached: the clock ends training first
UNBUDGETED_STEPS = 3_000  # some twenty minutes of the default network on two cores
CROP_PX = 128  # many cheap steps beat few dear ones on a processor
SHORT_CROP_PX = 96  # 0.56 of the pixels of 128: more steps a minute; not yet timed fairly
SHORT_BUDGET_S = 200.0
STRIDE_PX = 32  # of the deepest features of either network
BATCH = 16
_LOSS_REASONS: dict[LossName, str] = {
    "bce_dice": "cross-entropy has slope everywhere, Dice is the goal",
    "dice": "the goal itself, softened; slow to start when foreground is rare",
    "bce": "every pixel counts alike; rare foreground is learnt late",
    "focal": "easy pixels count little: for rare foreground",
    "tversky": "misses and false alarms are weighed by loss.alpha",
    "lovasz": "a tight surrogate of IoU",
}


@dataclass
class _Choices:
    """Settings as they are decided; what the user gave wins over what is proposed."""

    reasons: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, given: Any, proposed: Any, why: str) -> Any:  # noqa: ANN401
        """Return the user's value if there is one, else the proposal; note the reason."""
        self.reasons[name] = why if given is None else "given by the user"
        return proposed if given is None else given


def make_plan(audit: Audit, split: Split, config: Config) -> Plan:
    """Choose every open setting from the training part, the settings given and the budget.

    Args:
        audit: Facts of every usable sample.
        split: Only its training part is looked at.
        config: Settings; those that are None are chosen here.
    """
    train = {s.id for s in split.part("train")}
    facts = [f for f in audit.facts if f.id in train]
    choices = _Choices()
    network = _plan_network(config, split.index.spec.channels, choices)
    fit, pretrained = config.fit, network.family == "encoder_unet" and network.pretrained
    take = choices.take
    each_s = config.budget_s / split.n_folds if config.budget_s else None  # for one training
    crop_px = take("crop_px", fit.crop_px, *_crop(facts, each_s))
    batch = take("batch", fit.batch, BATCH, "many cheap steps; enough images for batch statistics")
    choices.reasons["resize_px"] = (
        "given by the user" if fit.resize_px else "original resolution keeps thin and small objects"
    )
    epochs, why = _epochs(config, len(train), batch)
    return Plan(
        network=network,
        crop_px=crop_px,
        resize_px=fit.resize_px,
        batch=batch,
        epochs=take("epochs", fit.epochs, epochs, why),
        budget_s=take("budget_s", config.budget_s, None, "no --budget was given"),
        loss=config.loss.name,
        optimizer=take("optimizer", fit.optimizer, "adamw", "least sensitive to its settings"),
        learning_rate=take("learning_rate", fit.learning_rate, *_learning_rate(pretrained)),
        weight_decay=take("weight_decay", fit.weight_decay, 0.01, "mild; short trainings"),
        schedule=take(
            "schedule", fit.schedule, "cosine", "annealed to zero when time is up: no late noise"
        ),
        ema=take("ema", fit.ema, True, "averaged weights are steadier at any moment"),
        clip_norm=fit.clip_norm,
        augment=take(
            "augment", fit.augment, 0.5, "moderate: helps small sets, costs large ones little"
        ),
        precision=fit.precision,
        reasons={**choices.reasons, "loss": _LOSS_REASONS[config.loss.name]},
    )


def _plan_network(config: Config, channels: int, choices: _Choices) -> NetworkPlan:
    model = config.model
    family = choices.take(
        "network.family",
        model.family,
        "encoder_unet",
        "a light encoder with pretrained weights needs few steps",
    )
    pretrained = family == "encoder_unet" and model.pretrained
    if pretrained:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        choices.reasons["network.mean"] = "what the encoder was trained with"
    else:
        mean, std = 0.0, 255.0
        choices.reasons["network.mean"] = "pixels become 0 to 1; normalisation layers do the rest"
    return NetworkPlan(
        family=family,
        in_channels=channels,
        mean=(mean,) * channels,
        std=(std,) * channels,
        encoder=model.encoder,
        pretrained=pretrained,
        width=model.width,
        depth=model.depth,
        norm=model.norm,
        dropout=model.dropout,
    )


def _crop(facts: list[SampleFacts], budget_s: float | None) -> tuple[int, str]:
    """Return the crop side and why; no larger than typical images need."""
    short = budget_s is not None and budget_s < SHORT_BUDGET_S
    most = SHORT_CROP_PX if short else CROP_PX
    side = int(median(min(f.height, f.width) for f in facts))
    fitting = max(STRIDE_PX, -(-side // STRIDE_PX) * STRIDE_PX)
    if fitting < most:
        return fitting, f"images are about {side} px: one crop covers them"
    return most, "many cheap steps beat few dear ones" + (", all the more in a hurry" * short)


def _learning_rate(pretrained: bool) -> tuple[float, str]:
    if pretrained:
        # one trial each on dsb2018: 3e-3 was far ahead of 1e-3 at equal steps, about 40
        return 3e-3, "batch statistics and averaged weights bear it, and time is short"
    return 1e-3, "the usual peak for networks with normalisation"


def _epochs(config: Config, n_train: int, batch: int) -> tuple[int, str]:
    if config.budget_s is not None:
        return BUDGETED_EPOCHS, "the budget ends training"
    epochs = max(1, round(UNBUDGETED_STEPS * batch / max(n_train, 16 * batch)))
    return epochs, f"about {UNBUDGETED_STEPS} steps; --budget chooses by time instead"

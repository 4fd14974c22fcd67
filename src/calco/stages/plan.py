"""Turn data, machine and time into everything training needs, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from calco.config import Config, LossName
from calco.nets.encoders import IMAGENET_MEAN, IMAGENET_STD
from calco.records import Fingerprint, Machine, NetworkPlan, Plan, Setup
from calco.training.losses import make_loss
from calco.training.probe import probe, usable_cores
from calco.training.steps import Recipe

BUDGETED_EPOCHS = 100_000  # never reached: the clock ends training first
UNBUDGETED_STEPS = 3_000  # some twenty minutes of the default network on two cores
CROPS_PX = (64, 96, 128)  # larger ones cost steps: many cheap steps beat few dear ones
USUAL_CROP_PX = 128
ENOUGH_STEPS = 600  # fewer, and smaller crops are worth their lost context, as measured
STRIDE_PX = 32  # of the deepest features of either network
BATCH = 16
FOCUS = 1 / 3  # nnU-Net's share of crops with foreground
AUGMENT = 0.5
PROBE_SHARE = 0.03  # of the budget
MAX_PROBE_S = 20.0  # longer tells nothing more
OTHER_SHARE = 0.1  # of fit's time that is not spent in steps: loading, validation
_WIDTHS: dict[str, tuple[int, str]] = {
    "unet": (64, "as in the paper"),
    "encoder_unet": (64, "not used by this family"),
    "lean": (32, "more steps; wider ones learn no better in minutes"),
}
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


def measure_machine(fingerprint: Fingerprint, config: Config) -> Machine | None:
    """Time a few real training steps, counted against the budget.

    Args:
        fingerprint: Of the training part: how large crops are.
        config: What the user has decided is not tried otherwise.

    Returns:
        What a step costs; None without a budget, when nothing may depend on the clock.

    Raises:
        CalcoError: When a step needs more memory than there is, or there is no such device.
    """
    if config.budget_s is None:
        return None
    fit, draft = config.fit, _Choices()
    network = _plan_network(config, fingerprint, draft)
    base = Setup(
        network=network,
        crop_px=fit.resize_px or fit.crop_px or _largest_crop(fingerprint)[0],
        batch=fit.batch or BATCH,
        threads=fit.threads or usable_cores(),
        channels_last=fit.channels_last is not False,
        precision=fit.precision or "fp32",
    )
    allowance_s = min(PROBE_SHARE * config.budget_s, MAX_PROBE_S)
    loss = make_loss(config.loss, config.loss.name)
    optimizer, ema = fit.optimizer or "adamw", fit.ema is not False
    recipe = Recipe(loss, optimizer, ema, fit.clip_norm, config.device)
    given = [w for w in ("threads", "channels_last", "precision") if getattr(fit, w) is not None]
    smaller = [replace(base, crop_px=px) for px in CROPS_PX if px < base.crop_px]
    others = [] if fit.crop_px or fit.resize_px else smaller[:1]
    return probe(base, recipe, allowance_s, others, keep=given)  # type: ignore[arg-type]


def make_plan(
    fingerprint: Fingerprint, machine: Machine | None, config: Config, fit_s: float = math.inf
) -> Plan:
    """Choose every open setting from the training part, the machine, the time and what is given.

    Args:
        fingerprint: Of the training part.
        machine: What a step costs here; None when nothing may depend on the clock.
        config: Settings; those that are None are chosen here.
        fit_s: Seconds that one training has, about.
    """
    choices = _Choices()
    network = _plan_network(config, fingerprint, choices)
    fit, pretrained = config.fit, network.family == "encoder_unet" and network.pretrained
    take = choices.take
    batch = take("batch", fit.batch, BATCH, "many cheap steps; enough images for batch statistics")
    crop_px = take("crop_px", fit.crop_px, *_crop(fingerprint, machine, network, batch, fit_s))
    choices.reasons["resize_px"] = (
        "given by the user" if fit.resize_px else "original resolution keeps thin and small objects"
    )
    epochs, why = _epochs(config, fingerprint.n_images, batch)
    setup = machine.best.setup if machine else None
    measured = "the fastest that was measured" if machine else "without a budget nothing is timed"
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
        augment=take("augment", fit.augment, *_augment(fingerprint)),
        precision=take("precision", fit.precision, setup.precision if setup else "fp32", measured),
        focus=take("focus", fit.focus, *_focus(config)),
        threads=take("threads", fit.threads, setup.threads if setup else None, measured),
        channels_last=take(
            "channels_last", fit.channels_last, setup.channels_last if setup else True, measured
        ),
        reasons={**choices.reasons, "loss": _LOSS_REASONS[config.loss.name]},
        fingerprint=fingerprint,
        machine=machine,
    )


def _plan_network(config: Config, fingerprint: Fingerprint, choices: _Choices) -> NetworkPlan:
    model, channels = config.model, fingerprint.channels
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
        width=choices.take("network.width", model.width, *_WIDTHS[family]),
        depth=model.depth,
        norm=model.norm,
        dropout=model.dropout,
        scale=choices.take("network.scale", model.scale, *_scale(fingerprint, config)),
    )


def _scale(fingerprint: Fingerprint, config: Config) -> tuple[float, str]:
    return 1.0, "original resolution keeps thin and small objects"


def _crop(
    fingerprint: Fingerprint,
    machine: Machine | None,
    network: NetworkPlan,
    batch: int,
    fit_s: float,
) -> tuple[int, str]:
    """Return the crop side and why: as large as images need and the time allows."""
    largest, why = _largest_crop(fingerprint)
    if machine is None:
        return largest, why
    for crop_px in sorted({largest, *(px for px in CROPS_PX if px < largest)}, reverse=True):
        step_s = machine.step_s(network, crop_px, batch)
        steps = fit_s * (1 - OTHER_SHARE) / step_s
        if steps >= ENOUGH_STEPS:
            break
    if crop_px == largest:
        return largest, f"{why}; about {steps:.0f} steps fit into the time"
    return crop_px, f"in the time only {steps:.0f} steps fit, with larger crops fewer"


def _largest_crop(fingerprint: Fingerprint) -> tuple[int, str]:
    """Return the side of the largest crop worth having."""
    side = int(min(fingerprint.height_px.mid, fingerprint.width_px.mid))
    fitting = max(STRIDE_PX, -(-side // STRIDE_PX) * STRIDE_PX)
    if fitting < USUAL_CROP_PX:
        return fitting, f"images are about {side} px: one crop covers them"
    return USUAL_CROP_PX, "many cheap steps beat few dear ones"


def _augment(fingerprint: Fingerprint) -> tuple[float, str]:
    return AUGMENT, "moderate: helps small sets, costs large ones little"


def _focus(config: Config) -> tuple[float, str]:
    if config.fit.resize_px:
        return 0.0, "whole images are shown, each as often as the others"
    return FOCUS, "rare objects are seen, however many images are empty; so is every background"


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

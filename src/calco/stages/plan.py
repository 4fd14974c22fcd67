"""Turn data, machine and time into everything training needs, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calco.config import Config, Family, LossName
from calco.errors import CalcoError, Problem
from calco.inference.device import choose_device, usable_cores
from calco.nets.asked import asked_of_encoder
from calco.nets.encoders import DEFAULT_ENCODER
from calco.nets.weights import PACKAGES, find_weights
from calco.records import Fingerprint, Machine, NetworkPlan, Plan, Setup
from calco.training.cache import Decoded, evenly
from calco.training.dataset import Cut, crop_feed
from calco.training.losses import make_loss
from calco.training.probe import probe
from calco.training.steps import Feed, Recipe

BUDGETED_EPOCHS = 100_000  # never reached: the clock ends training first
UNBUDGETED_STEPS = 3_000  # some twenty minutes of the default network on two cores
CROPS_PX = (64, 96, 128, 192, 256)  # as the network sees them; larger ones cost steps
USUAL_CROP_PX = 128
ENOUGH_STEPS = 600  # fewer, and smaller crops are worth their lost context, as measured
FEW_STEPS = 50  # fewer of the pretrained network, and the lean one learns more, as measured
BATCH = 16
FOCUS = 1 / 3  # nnU-Net's share of crops with foreground
AUGMENT = 0.5
PROBE_SHARE = 0.02  # of the budget: with three hundredths, plans were the same
MAX_PROBE_S = 20.0  # longer tells nothing more
OTHER_SHARE = 0.08  # of fit's time that is not spent in steps: validation, rehearsal, probes
MOST_CROPPED = 64  # images that crops of timed steps are made of
THIN_DICE = 0.9  # that masks keep at half size; below it, images are enlarged
COARSE_DICE = {0.25: 0.995, 0.5: 0.98}  # that masks keep at a quarter, by what images shrink to
LEAST_SEEN_PX = 256  # of a shrunken image's shorter side: smaller ones are cheap as they are
ALIKE = "all weights learn at one rate"
ORIGINAL = "original resolution keeps thin and small objects"
_WIDTHS: dict[Family, tuple[int, str]] = {
    "unet": (64, "as in the paper"),
    "encoder_unet": (64, "not used by this family"),
    "lean": (32, "more steps; wider ones learn no better in minutes"),
}
_FAMILY_REASONS: dict[Family, str] = {
    "encoder_unet": "a light encoder with pretrained weights needs few steps",
    "lean": "of a larger one too few steps fit into the time",
    "unet": "",  # only where it is given
}
_ENCODER_REASONS: dict[Family, str] = {
    "unet": "not used by this family",
    "encoder_unet": "small, and its weights are installed",
    "lean": "not used by this family",
}
_DECODER_REASONS: dict[Family, str] = _ENCODER_REASONS | {
    "encoder_unet": "ends at half the resolution: more steps, and no lower Dice, as measured",
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


def families(config: Config) -> tuple[Family, ...]:
    """Return the families of networks to consider: the next where the one before is too slow."""
    if config.model.family:
        return (config.model.family,)
    return ("encoder_unet",) if asked_of_encoder(config) else ("encoder_unet", "lean")


def measure_machine(
    samples: Sequence[Decoded],
    fingerprint: Fingerprint,
    config: Config,
    family: Family | None = None,
) -> Machine | None:
    """Time a few real training steps, counted against the budget.

    Args:
        samples: Decoded training part, of which crops are made.
        fingerprint: Of the training part: how large crops are.
        config: What the user has decided is not tried otherwise.
        family: Of the network; None takes the first of ``families``.

    Returns:
        What a step costs; None without a budget, when nothing may depend on the clock, and with
        ``fit.fsdp``, when undivided steps may not fit.

    Raises:
        CalcoError: When a step needs more memory than there is, or there is no such device.
    """
    if config.budget_s is None or config.fit.fsdp:
        return None
    fit = config.fit
    network = _plan_network(config, fingerprint, family or families(config)[0], _Choices())
    sides = _crop_sides(network, fingerprint)
    given_crop = fit.resize_px or fit.crop_px
    on_cpu = choose_device(config.device).type == "cpu"
    base = Setup(
        network=network,
        # the cheapest steps, so that much can be asked; too small to tell anything of a GPU
        crop_px=given_crop or (sides[0] if on_cpu else _usual(sides, network)),
        batch=-(-(fit.batch or BATCH) // config.devices),  # what one of them does of a step
        threads=fit.threads or usable_cores(),
        channels_last=fit.channels_last is not False,
        precision=fit.precision or "fp32",
    )
    allowance_s = min(PROBE_SHARE * config.budget_s, MAX_PROBE_S)
    loss = make_loss(config.loss, config.loss.name)
    optimizer, ema = fit.optimizer or "adamw", fit.ema is not False
    recipe = Recipe(
        loss, optimizer, ema, fit.clip_norm, config.device, _feed(samples, base.crop_px, config)
    )
    given = [w for w in ("threads", "channels_last", "precision") if getattr(fit, w) is not None]
    crops_px = () if given_crop else (_usual(sides, network), sides[0], sides[-1])
    others = [replace(base, crop_px=px) for px in crops_px]
    return probe(base, recipe, allowance_s, others, keep=given)  # type: ignore[arg-type]


def _feed(samples: Sequence[Decoded], crop_px: int, config: Config) -> Feed | None:
    """Return what makes batches in training; None where other processes do."""
    fit = config.fit
    if fit.workers:
        return None
    focus = _focus(config)[0] if fit.focus is None else fit.focus
    augment = AUGMENT if fit.augment is None else fit.augment
    cut = Cut(crop_px, fit.resize_px, augment, focus)
    return crop_feed(evenly(samples, MOST_CROPPED), cut, config.seed)


def is_too_slow(machine: Machine, fingerprint: Fingerprint, fit_s: float) -> bool:
    """Whether so few steps of the network that was timed fit that a cheaper one learns more.

    Args:
        machine: What a step costs.
        fingerprint: Of the training part.
        fit_s: Seconds that one training has, about.
    """
    setup = machine.best.setup
    smallest_px = _crop_sides(setup.network, fingerprint)[0]
    return _n_steps(machine, setup.network, smallest_px, setup.batch, fit_s) < FEW_STEPS


def make_plan(
    fingerprint: Fingerprint, machine: Machine | None, config: Config, fit_s: float = math.inf
) -> Plan:
    """Choose every open setting from the training part, the machine, the time and what is given.

    Args:
        fingerprint: Of the training part.
        machine: What a step costs here; None when nothing may depend on the clock.
        config: Settings; those that are None are chosen here.
        fit_s: Seconds that one training has, about.

    Raises:
        CalcoError: When the crop that the user gave does not fit the network.
    """
    choices = _Choices()
    family = machine.best.setup.network.family if machine else families(config)[0]
    network = _plan_network(config, fingerprint, family, choices)
    fit, take = config.fit, choices.take
    if fit.crop_px and not fit.resize_px:
        _require_fitting(fit.crop_px, network)
    batch = take("batch", fit.batch, BATCH, "many cheap steps; enough images for batch statistics")
    share = -(-batch // config.devices)
    crop_px = take("crop_px", fit.crop_px, *_crop(fingerprint, machine, network, share, fit_s))
    choices.reasons["resize_px"] = "given by the user" if fit.resize_px else ORIGINAL
    epochs, why = _epochs(config, fingerprint.n_images, batch)
    side_px = fit.resize_px or crop_px
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
        learning_rate=take("learning_rate", fit.learning_rate, *_learning_rate(network)),
        weight_decay=take("weight_decay", fit.weight_decay, 0.01, "mild; short trainings"),
        schedule=take(
            "schedule", fit.schedule, "cosine", "annealed to zero when time is up: no late noise"
        ),
        ema=take("ema", fit.ema, True, "averaged weights are steadier at any moment"),
        clip_norm=fit.clip_norm,
        augment=take(
            "augment", fit.augment, AUGMENT, "moderate: helps small sets, costs large ones little"
        ),
        precision=take("precision", fit.precision, setup.precision if setup else "fp32", measured),
        focus=take("focus", fit.focus, *_focus(config)),
        threads=take("threads", fit.threads, setup.threads if setup else None, measured),
        channels_last=take(
            "channels_last", fit.channels_last, setup.channels_last if setup else True, measured
        ),
        encoder_lr_factor=take("encoder_lr_factor", _unless_one(fit.encoder_lr_factor), 1.0, ALIKE),
        layer_decay=take("layer_decay", _unless_one(fit.layer_decay), 1.0, ALIKE),
        foretold_steps=_n_steps(machine, network, side_px, batch, fit_s) if machine else None,
        reasons={**choices.reasons, "loss": _LOSS_REASONS[config.loss.name]},
        fingerprint=fingerprint,
        machine=machine,
    )


def worthwhile_crops(network: NetworkPlan, fingerprint: Fingerprint) -> tuple[int, ...]:
    """Return the sides of crops that a plan may choose from, in pixels, ascending."""
    return _crop_sides(network, fingerprint)


def _plan_network(
    config: Config, fingerprint: Fingerprint, family: Family, choices: _Choices
) -> NetworkPlan:
    model, channels = config.model, fingerprint.channels
    asked = asked_of_encoder(config)
    why = f"{asked[0]} asks for an encoder" if asked else _FAMILY_REASONS[family]
    choices.take("network.family", model.family, family, why)
    encoder = choices.take(
        "network.encoder", model.encoder, DEFAULT_ENCODER, _ENCODER_REASONS[family]
    )
    mean, std, sha256 = (0.0,) * channels, (255.0,) * channels, ""
    pretrained = family == "encoder_unet" and model.pretrained
    if pretrained and config.transfer.source is None:  # a run brings its weights and constants
        found = find_weights(encoder, model.weights, download=model.download)
        (mean, std), sha256 = found.constants(channels), found.sha256
        choices.reasons["network.mean"] = "what the encoder was trained with"
        choices.reasons["network.weights_sha256"] = f"of {found.origin}"
    else:
        choices.reasons["network.mean"] = "pixels become 0 to 1; normalisation layers do the rest"
    return NetworkPlan(
        family=family,
        in_channels=channels,
        mean=mean,
        std=std,
        encoder=encoder,
        pretrained=pretrained,
        width=choices.take("network.width", model.width, *_WIDTHS[family]),
        depth=model.depth,
        norm=model.norm,
        dropout=model.dropout,
        scale=choices.take("network.scale", model.scale, *_scale(fingerprint, config)),
        decoder=choices.take("network.decoder", model.decoder, "light", _DECODER_REASONS[family]),
        weights=choices.take("network.weights", model.weights, None, "those found first"),
        weights_sha256=sha256,
        freeze_encoder=choices.take(
            "network.freeze_encoder", model.freeze_encoder or None, False, "all of it learns"
        ),
    )


def _scale(fingerprint: Fingerprint, config: Config) -> tuple[float, str]:
    """Return the scale at which masks are neither lost nor needlessly large, and why."""
    if config.fit.resize_px:
        return 1.0, "all images are resized to one square"
    half, quarter = fingerprint.half_scale_dice, fingerprint.quarter_scale_dice
    if half < THIN_DICE:
        return 2.0, f"thin structures: at half size masks would keep a Dice of {half:.2f}"
    side = min(fingerprint.height_px.mid, fingerprint.width_px.mid)
    for scale, least in COARSE_DICE.items():
        if quarter >= least and scale * side >= LEAST_SEEN_PX:
            return scale, f"large structures: at a quarter masks keep a Dice of {quarter:.3f}"
    return 1.0, ORIGINAL


def _crop(
    fingerprint: Fingerprint,
    machine: Machine | None,
    network: NetworkPlan,
    batch: int,
    fit_s: float,
) -> tuple[int, str]:
    """Return the side of the largest crops of which enough fit into the time, and why."""
    sides = _crop_sides(network, fingerprint)
    if machine is None:
        return _usual(sides, network), "usual; with --budget the time decides"
    n_steps = {px: _n_steps(machine, network, px, batch, fit_s) for px in sides}
    affordable = [px for px in sides if n_steps[px] >= ENOUGH_STEPS]
    if not affordable:
        return sides[0], f"in the time only {n_steps[sides[0]]:.0f} steps fit, with larger fewer"
    crop_px = affordable[-1]
    why = "the largest worth having" if crop_px == sides[-1] else "the largest with enough steps"
    return crop_px, f"{why}: about {n_steps[crop_px]:.0f} fit into the time"


def _n_steps(
    machine: Machine, network: NetworkPlan, crop_px: int, batch: int, fit_s: float
) -> float:
    """Foretell how many steps a training of some seconds makes."""
    return fit_s * (1 - OTHER_SHARE) / machine.step_s(network, crop_px, batch)


def _crop_sides(network: NetworkPlan, fingerprint: Fingerprint) -> tuple[int, ...]:
    """Return the sides of crops worth having, ascending: none larger than images need."""
    largest_px = math.ceil((max(CROPS_PX) + network.stride_px) / network.scale)
    fitting = [px for px in range(1, largest_px + 1) if _fits(px, network)]
    sides = {min(fitting, key=lambda px: abs(network.scale * px - seen)) for seen in CROPS_PX}
    needed = min(fingerprint.height_px.mid, fingerprint.width_px.mid)
    covering = next((px for px in fitting if px >= needed), max(sides))
    return tuple(sorted({min(px, covering) for px in sides}))


def _usual(sides: Sequence[int], network: NetworkPlan) -> int:
    small = [px for px in sides if network.seen_px(px) <= USUAL_CROP_PX]
    return max(small, default=min(sides))


def _fits(crop_px: int, network: NetworkPlan) -> bool:
    return network.seen_px(crop_px) % network.stride_px == 0


def _require_fitting(crop_px: int, network: NetworkPlan) -> None:
    """Refuse crops that the network would pad: it never learns what belongs at that border.

    Trained so, it took the right and lower border of every image for foreground, and dsb2018's
    validation Dice was 0.81 instead of 0.92.
    """
    if _fits(crop_px, network):
        return
    sides = [px for px in range(1, 2 * crop_px + 8 * network.stride_px) if _fits(px, network)]
    nearest = sorted(sorted(sides, key=lambda px: abs(px - crop_px))[:2])
    seen = network.seen_px(crop_px)
    raise CalcoError(
        Problem(
            "CROP_SIDE",
            "crops of this side do not fit the network",
            "fit.crop_px",
            got=f"{crop_px} px, {seen} px at scale {network.scale:g}",
            expected=f"a multiple of {network.stride_px} px at that scale",
            do="set fit.crop_px to " + " or ".join(map(str, nearest)),
        )
    )


def _focus(config: Config) -> tuple[float, str]:
    if config.fit.resize_px:
        return 0.0, "whole images are shown, each as often as the others"
    return FOCUS, "rare objects are seen, however many images are empty; so is every background"


def _unless_one(factor: float) -> float | None:
    return None if factor == 1 else factor


def _learning_rate(network: NetworkPlan) -> tuple[float, str]:
    if network.pretrained and network.encoder in PACKAGES:
        # one trial each on dsb2018: 3e-3 was far ahead of 1e-3 at equal steps, about 40
        return 3e-3, "batch statistics and averaged weights bear it, and time is short"
    return 1e-3, "the usual peak for networks with normalisation"


def _epochs(config: Config, n_train: int, batch: int) -> tuple[int, str]:
    if config.budget_s is not None:
        return BUDGETED_EPOCHS, "the budget ends training"
    epochs = max(1, round(UNBUDGETED_STEPS * batch / max(n_train, 16 * batch)))
    return epochs, f"about {UNBUDGETED_STEPS} steps; --budget chooses by time instead"

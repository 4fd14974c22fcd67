"""What is given is kept, the rest is chosen with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from calco.config import load_config
from calco.records import (
    Assignment,
    Audit,
    ImageSpec,
    MaskCode,
    Plan,
    Sample,
    SampleFacts,
    SampleIndex,
    Split,
)
from calco.stages.plan import make_plan


def plan_for(*overrides: str, side_px: int = 300, channels: int = 3, count: int = 40) -> Plan:
    """Plan for a made-up set of square images."""
    ids = [f"s{i:03d}" for i in range(count)]
    samples = tuple(Sample(i, Path(f"{i}.png")) for i in ids)
    code = MaskCode("values", (255,))
    index = SampleIndex(Path(), "made up", samples, ImageSpec(channels), code)
    facts = tuple(
        SampleFacts(i, side_px, side_px + 20, 3, "uint8", 0, 255, 90, 0.1, 5, i) for i in ids
    )
    parts = ["validation", "test", *["train"] * (count - 2)]
    assigned = tuple(Assignment(i, i, p) for i, p in zip(ids, parts, strict=True))  # type: ignore[arg-type]
    return make_plan(Audit(index, facts), Split(index, assigned), load_config(None, overrides))


def test_every_setting_has_a_reason() -> None:
    plan = plan_for()
    planned = {"crop_px", "batch", "epochs", "learning_rate", "optimizer", "schedule", "augment"}
    reasons = {name: reason for name, _, reason in plan.settings()}
    assert all(reasons[name] for name in planned)
    assert reasons["network.family"]


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
    ],
)
def test_what_is_given_is_kept(override: str, name: str, value: object) -> None:
    plan = plan_for(override)
    assert getattr(plan, name) == value
    assert plan.reasons[name] == "given by the user"


@pytest.mark.parametrize(("side_px", "crop_px"), [(20, 32), (70, 96), (101, 128), (1000, 128)])
def test_crops_are_no_larger_than_images_need(side_px: int, crop_px: int) -> None:
    assert plan_for(side_px=side_px).crop_px == crop_px


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_normalisation_has_one_value_per_channel(channels: int) -> None:
    for family in ("unet", "encoder_unet"):
        network = plan_for(f"model.family={family}", channels=channels).network
        assert network.in_channels == len(network.mean) == len(network.std) == channels


def test_a_budget_ends_training_instead_of_epochs() -> None:
    assert plan_for("budget_s=60").epochs > 10_000
    assert plan_for("budget_s=60").budget_s == 60
    unlimited = plan_for(count=402)
    assert unlimited.budget_s is None
    assert unlimited.epochs * 400 / unlimited.batch == pytest.approx(3000, rel=0.02)


def test_validation_and_test_do_not_influence_the_plan() -> None:
    ids = ["a", "b", "c", "d"]
    samples = tuple(Sample(i, Path(f"{i}.png")) for i in ids)
    index = SampleIndex(Path(), "", samples, ImageSpec(3), MaskCode("values", (255,)))
    assigned = (
        Assignment("a", "a", "train"),
        Assignment("b", "b", "train"),
        Assignment("c", "c", "validation"),
        Assignment("d", "d", "test"),
    )

    def plan_with(held_out_px: int) -> Plan:
        sides = {"a": 64, "b": 64, "c": held_out_px, "d": held_out_px}
        facts = tuple(
            SampleFacts(i, s, s, 3, "uint8", 0, 255, 90, 0.1, 5, i) for i, s in sides.items()
        )
        return make_plan(Audit(index, facts), Split(index, assigned), load_config())

    assert plan_with(64) == plan_with(2000)

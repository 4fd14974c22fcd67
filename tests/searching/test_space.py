"""What may be searched, and what a space of settings says when it is wrong."""

from __future__ import annotations

import pytest

from calco.config import Config, load_config
from calco.errors import CalcoError
from calco.searching.space import (
    Choices,
    Range,
    default_space,
    overlay,
    parse_space,
    space_to_yaml,
)

BASE = Config()


def test_lists_and_ranges_are_read() -> None:
    text = """
learning_rate: {low: 1e-4, high: 1e-2, log: true}
fit:
  batch: [8, 16]
model.width: {low: 8, high: 64, step: 8}
dropout: {low: 0, high: 1e-1}
"""
    space = parse_space(text, BASE)
    assert space.dimensions == (
        Range("fit.learning_rate", 1e-4, 1e-2, log=True),
        Choices("fit.batch", (8, 16)),
        Range("model.width", 8, 64, step=8, whole=True),
        Range("model.dropout", 0, 0.1),  # whole ends, but the setting takes fractions
    )
    assert parse_space(space_to_yaml(space), BASE) == space
    assert space.n_combinations == float("inf")


def test_a_whole_dropout_range_is_not_whole() -> None:
    (dimension,) = parse_space("fit.augment: {low: 0, high: 1}", BASE).dimensions
    assert dimension == Range("fit.augment", 0, 1, whole=False)


def test_lists_alone_are_a_grid() -> None:
    space = parse_space("learning_rate: [0.001, 0.0005]\nbatch: [8, 16, 32]", BASE)
    points = list(space.grid())
    assert len(points) == space.n_combinations == 6
    assert points[0] == {"fit.learning_rate": 0.001, "fit.batch": 8}
    assert points[-1] == {"fit.learning_rate": 0.0005, "fit.batch": 32}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("leraning_rate: [0.1]", "did you mean fit.learning_rate?"),
        ("fit.bach: [8]", "did you mean fit.batch?"),
        ("split.test: [0.1, 0.2]", "scored on the same data"),
        ("budget_s: [60]", "scored on the same data"),
        ("fit.epochs: [5, 10]", "all trials have the same time"),
        ("fit.batch: [0, 8]", "fit.batch: input should be greater than or equal to 1"),
        ("fit.batch: [8, '16']", "fit.batch: input should be a valid integer"),
        ("loss.name: [dice, dise]", "loss.name: input should be 'bce_dice'"),
        ("fit.batch: [8, 8]", "repeated"),
        ("fit.batch: []", "no values of fit.batch"),
        ("fit.batch: 8", r"write fit.batch: \[8\]"),
        ("fit.learning_rate: {low: 1, high: 0.1}", "low is not below high"),
        ("fit.learning_rate: {low: 0, high: 0.1, log: true}", "begins above 0"),
        ("fit.learning_rate: {low: 0.1, hihg: 0.2}", "not a range"),
        ("model.dropout: {low: 0, high: 1}", "model.dropout: input should be less than 1"),
        ("model.depth: {low: 1, high: 5, step: 1.5}", "whole numbers"),
        ("learning_rate: [0.1]\nfit.learning_rate: [0.2]", "given twice"),
        ("[1, 2]", "names settings"),
        ("", "names settings"),
        ("fit.batch: !!python/object:os.system [8]", "tags are not used"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(CalcoError, match=said):
        parse_space(text, BASE)


def test_all_faults_are_listed() -> None:
    with pytest.raises(CalcoError) as caught:
        parse_space("bach: [8]\nloss.name: [dise]\nfit.crop_px: [8]", BASE)
    assert [p.code for p in caught.value.problems] == ["SPACE_KEY", "CONFIG_VALUE", "CONFIG_VALUE"]


def test_overlay_changes_nothing_else() -> None:
    changed = overlay(BASE, {"fit.batch": 4, "loss.name": "dice"})
    assert changed.fit.batch == 4
    assert changed.loss.name == "dice"
    assert overlay(changed, {"fit.batch": None, "loss.name": "bce_dice"}) == BASE


def test_only_what_could_be_drawn_begins_the_sweep() -> None:
    space = parse_space(
        "fit.batch: [8, 16]\nmodel.dropout: {low: 0.1, high: 0.2}\n"
        "model.depth: {low: 2, high: 6, step: 2}",
        BASE,
    )
    assert space.inside({"fit.batch": 16, "model.dropout": 0.0, "model.depth": 4}) == {
        "fit.batch": 16,
        "model.depth": 4,
    }
    assert space.inside({"fit.batch": 32, "model.depth": 3}) == {}
    assert space.inside({"fit.batch": True}) == {}


def test_the_usual_space_leaves_out_what_is_given_or_useless() -> None:
    base = load_config(None, ("fit.batch=4", "loss.name=dice"))
    keys = default_space(base, "unet", (64, 128)).keys
    assert "fit.batch" not in keys
    assert "loss.name" not in keys
    assert {"fit.learning_rate", "fit.crop_px", "model.width", "model.depth"} <= set(keys)
    encoder = default_space(BASE, "encoder_unet", (64,)).keys
    assert not {"model.width", "model.depth", "fit.crop_px"} & set(encoder)


@pytest.mark.parametrize("family", ["unet", "encoder_unet", "lean"])
def test_the_usual_space_is_a_valid_space(family: str) -> None:
    space = default_space(BASE, family, (64, 96, 128))  # type: ignore[arg-type]
    assert parse_space(space_to_yaml(space), BASE) == space

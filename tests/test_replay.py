"""A plan can be trained by again, edited or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calco.config import FitConfig, ModelConfig, load_config
from calco.errors import CalcoError
from calco.records import NetworkPlan, Plan
from calco.replay import DERIVED, FIT, settings_of
from calco.runs import RunDir

NETWORK = NetworkPlan("unet", 3, (0.0,) * 3, (255.0,) * 3, width=12, dropout=0.25, scale=2.0)
PLAN = Plan(
    network=NETWORK,
    crop_px=96,
    resize_px=None,
    batch=7,
    epochs=3,
    budget_s=90.0,
    loss="focal",
    optimizer="sgd",
    learning_rate=0.02,
    weight_decay=0.1,
    schedule="constant",
    ema=False,
    clip_norm=2.0,
    augment=0.3,
    precision="bf16",
    focus=0.7,
    threads=1,
    channels_last=False,
    reasons={"batch": "made up"},
)


@pytest.fixture
def plan_yaml(tmp_path: Path) -> Path:
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    folder.save_plan(PLAN)
    return folder.path / "plan.yaml"


def test_every_planned_setting_becomes_a_given_one(plan_yaml: Path) -> None:
    config = load_config(plan_yaml)
    for name in FIT:
        assert getattr(config.fit, name) == getattr(PLAN, name), name
    for name in ModelConfig.model_fields:
        assert getattr(config.model, name) == getattr(NETWORK, name), name
    assert config.loss.name == "focal"
    assert config.budget_s == 90


def test_no_planned_setting_is_forgotten() -> None:
    planned = {f.name for f in dataclasses.fields(Plan)}
    elsewhere = {"network", "loss", "budget_s", "reasons", "fingerprint", "machine", "start"}
    assert planned - elsewhere == set(FIT)
    assert set(FIT) <= set(FitConfig.model_fields)
    network = {f.name for f in dataclasses.fields(NetworkPlan)}
    assert network - set(DERIVED) == set(ModelConfig.model_fields)


def test_what_is_typed_wins_over_the_plan(plan_yaml: Path) -> None:
    config = load_config(plan_yaml, ("fit.batch=4", "budget_s=300"))
    assert (config.fit.batch, config.fit.crop_px, config.budget_s) == (4, 96, 300)


def test_a_slip_in_an_edited_plan_is_named(plan_yaml: Path) -> None:
    plan_yaml.write_text(plan_yaml.read_text().replace("batch: 7", "bach: 7"))
    with pytest.raises(CalcoError, match=r"CONFIG_KEY.*bach"):
        load_config(plan_yaml)


def test_a_network_that_is_no_section_is_refused() -> None:
    assert settings_of({"network": 3, "reasons": {}})["model"] == 3

"""A plan can be trained by again, edited or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from calco.config import FitConfig, ModelConfig, load_config
from calco.errors import CalcoError
from calco.records import NetworkPlan, Plan
from calco.replay import DERIVED, FIT, RESTS_ON, settings_of
from calco.runs import RunDir

NETWORK = NetworkPlan(
    family="encoder_unet",
    in_channels=3,
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
    encoder="resnet18",
    width=12,
    dropout=0.25,
    scale=2.0,
    decoder="fpn",
    weights="w.safetensors",
    weights_sha256="0" * 64,
    freeze_encoder=True,
)
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
    encoder_lr_factor=0.5,
    layer_decay=0.8,
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
    for name in set(ModelConfig.model_fields) - {"download"}:
        assert getattr(config.model, name) == getattr(NETWORK, name), name
    assert config.loss.name == "focal"
    assert config.budget_s == 90


def test_no_planned_setting_is_forgotten() -> None:
    planned = {f.name for f in dataclasses.fields(Plan)}
    elsewhere = {"network", "loss", "budget_s", "start", *RESTS_ON}
    assert planned - elsewhere == set(FIT)
    assert set(FIT) <= set(FitConfig.model_fields)
    network = {f.name for f in dataclasses.fields(NetworkPlan)}
    # whether weights may be fetched is no property of the network that they are in
    assert network - set(DERIVED) == set(ModelConfig.model_fields) - {"download"}


def test_a_plan_without_an_encoder_asks_for_none() -> None:
    plan = {"network": {"family": "lean", "width": 8, "encoder": "resnet18", "pretrained": False}}
    assert settings_of(plan)["model"] == {"family": "lean", "width": 8}


def test_what_is_typed_wins_over_the_plan(plan_yaml: Path) -> None:
    config = load_config(plan_yaml, ("fit.batch=4", "budget_s=300"))
    assert (config.fit.batch, config.fit.crop_px, config.budget_s) == (4, 96, 300)


def test_a_slip_in_an_edited_plan_is_named(plan_yaml: Path) -> None:
    plan_yaml.write_text(plan_yaml.read_text().replace("batch: 7", "bach: 7"))
    with pytest.raises(CalcoError, match=r"CONFIG_KEY.*bach"):
        load_config(plan_yaml)


def test_a_network_that_is_no_section_is_refused() -> None:
    assert settings_of({"network": 3, "reasons": {}})["model"] == 3

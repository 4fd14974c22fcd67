"""Networks that cannot be had are refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm

from calco.config import Family, load_config
from calco.errors import CalcoError
from calco.nets.asked import asked_of_encoder, require_network
from calco.records import NetworkPlan


def test_what_is_asked_is_named() -> None:
    given = ("model.decoder=fpn", "fit.layer_decay=0.9", "model.width=8")
    assert asked_of_encoder(load_config(None, given)) == ["model.decoder", "fit.layer_decay"]
    assert asked_of_encoder(load_config()) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("model.family=lean", "model.encoder=resnet18"), "ENCODER_NONE"),
        (("model.family=unet", "fit.layer_decay=0.9"), "ENCODER_NONE"),
        (("model.pretrained=false", "model.weights=w.safetensors"), "ENCODER_RANDOM"),
        (("model.pretrained=false", "model.freeze_encoder=true"), "ENCODER_RANDOM"),
        (("model.freeze_encoder=true", "fit.encoder_lr_factor=0.1"), "ENCODER_FROZEN"),
        (("model.decoder=deeplabv3plus", "fit.batch=2"), "ENCODER_BATCH"),
        (("model.encoder=resnet43",), "ENCODER_NAME"),
        (("model.encoder=tu-vit_tiny_patch16_224",), "ENCODER_UNFIT"),
        (("model.weights=/nowhere/w.safetensors",), "ENCODER_FILE"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_read(
    given: tuple[str, ...], code: str
) -> None:
    with pytest.raises(CalcoError, match=code) as caught:
        require_network(load_config(None, given))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("model.family=lean",),
        ("model.family=lean", "model.encoder=efficientnet-lite0"),  # as older runs wrote it
        ("model.encoder=resnet18", "model.pretrained=false"),
    ],
)
def test_what_can_be_built_is_not(given: tuple[str, ...]) -> None:
    require_network(load_config(None, given))


# --- a file of weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])  # of the images, which nobody has looked at yet
def test_weights_are_of_this_encoder(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "w.safetensors"
    donor = timm.create_model("mobilenetv3_small_050", in_chans=channels)
    safetensors.torch.save_file(donor.state_dict(), path)
    given = f"model.weights={path}"
    require_network(load_config(None, (given, "model.encoder=tu-mobilenetv3_small_050")))
    for others in ((), ("model.encoder=resnet18",), ("model.encoder=tu-mobilenetv3_small_075",)):
        with pytest.raises(CalcoError, match="ENCODER_SHAPES") as caught:
            require_network(load_config(None, (given, *others)))
        assert len(str(caught.value).splitlines()) == 1


# --- a run to start from -------------------------------------------------------------------------


def trained(family: Family, encoder: str = "resnet34") -> NetworkPlan:
    return NetworkPlan(family, 3, (0.0,) * 3, (255.0,) * 3, encoder, decoder="deeplabv3plus")


@pytest.mark.parametrize(
    ("family", "given", "code"),
    [
        ("lean", ("model.freeze_encoder=true",), "ENCODER_NONE"),
        ("unet", ("fit.layer_decay=0.9",), "ENCODER_NONE"),
        ("unet", ("fit.encoder_lr_factor=0.1",), "ENCODER_NONE"),
        ("encoder_unet", ("model.weights=w.safetensors",), "START_WEIGHTS"),
        ("encoder_unet", ("model.freeze_encoder=true", "fit.layer_decay=0.9"), "ENCODER_FROZEN"),
        ("encoder_unet", ("fit.batch=2",), "ENCODER_BATCH"),
    ],
)
def test_what_the_network_of_a_run_cannot_follow(
    family: Family, given: tuple[str, ...], code: str
) -> None:
    with pytest.raises(CalcoError, match=code) as caught:
        require_network(load_config(None, given), trained(family))
    assert len(str(caught.value).splitlines()) == 1
    assert "model.family" not in str(caught.value)  # which the run has settled


@pytest.mark.parametrize(
    "given",
    [
        ("model.encoder=resnet34", "model.decoder=deeplabv3plus"),
        ("model.pretrained=false", "model.freeze_encoder=true"),
        ("fit.layer_decay=0.9",),
    ],
)
def test_a_run_needs_no_other_weights(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("looked for")

    monkeypatch.setattr("calco.nets.asked.find_weights", never)
    require_network(load_config(None, given), trained("encoder_unet"))
    with pytest.raises((AssertionError, CalcoError)):  # the negative control
        require_network(load_config(None, given))

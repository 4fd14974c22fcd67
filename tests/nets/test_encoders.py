from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calco.config import DecoderName
from calco.errors import CalcoError
from calco.inference.engines import OnnxEngine, TorchEngine
from calco.nets.build import Segmenter, build_network
from calco.nets.checkpoint import ModelCard, load_model, save_model
from calco.nets.encoders import (
    EncoderDecoder,
    require_fitting,
    require_known,
    timm_name,
)
from calco.nets.graph import to_onnx
from calco.nets.transfer import starting_network
from calco.records import ImageSpec, NetworkPlan

SMALL = "tu-mobilenetv3_small_050"
DECODERS: tuple[DecoderName, ...] = (
    "light",
    "unet",
    "unetplusplus",
    "fpn",
    "deeplabv3plus",
    "segformer",
    "upernet",
)
SIZES = [(1, 1), (31, 70), (64, 32)]


def planned(encoder: str, decoder: DecoderName, channels: int = 3) -> NetworkPlan:
    mean, std = (127.0,) * channels, (128.0,) * channels
    return NetworkPlan(
        "encoder_unet", channels, mean, std, encoder, pretrained=False, decoder=decoder
    )


def built(plan: NetworkPlan) -> Segmenter:
    torch.manual_seed(0)
    return build_network(plan).eval()


def pixels(size: tuple[int, int], channels: int) -> Tensor:
    own = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, channels, *size), dtype=torch.uint8, generator=own)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-lite0",
        "efficientnet-lite4",
        "resnet34",
        "efficientnet-b0",
        "tu-resnet18",
        "tu-resnet18.a1_in1k",
    ],
)
def test_names_of_both_libraries_are_known(name: str) -> None:
    require_known(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet43", "resnet34"),
        ("efficientnet_lite0", "efficientnet-lite0"),
        ("convnext_nano", "tu-convnext_nano"),
        ("tu-convnext_nanno", "tu-convnext_nano"),
        ("tu-resnet18.a9_in1k", r"tu-resnet18\.a\d_in1k"),
        ("timm-efficientnet-b0", "efficientnet-b0"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(CalcoError, match=rf"ENCODER_NAME.*did you mean {near}\?"):
        require_known(name)


@pytest.mark.parametrize(
    "name", ["hf-hub:someone/model", "tu-hf-hub:someone/model", "tu-local-dir:/"]
)
def test_a_name_leads_to_no_file_and_no_network(name: str) -> None:
    # a model's card is read from a file that people pass around
    with pytest.raises(CalcoError, match="ENCODER_NAME"):
        EncoderDecoder(3, name)


def test_lite_encoders_are_timms() -> None:
    assert timm_name("efficientnet-lite3") == "tf_efficientnet_lite3"


# --- any size, any number of channels, any decoder -----------------------------------------------


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_takes_every_size(decoder: DecoderName) -> None:
    network = built(planned(SMALL, decoder, channels=4))
    with torch.no_grad():
        for size in SIZES:
            logits = network(pixels(size, 4))
            assert logits.shape == (2, 1, *size)
            assert logits.isfinite().all()


@pytest.mark.parametrize("channels", [1, 2, 13])
def test_any_number_of_channels(channels: int) -> None:
    network = built(planned(SMALL, "light", channels))
    assert network(pixels((40, 33), channels)).shape == (2, 1, 40, 33)


@pytest.mark.parametrize("decoder", ["light", "fpn"])
def test_a_model_on_disk_is_the_one_saved(decoder: DecoderName, tmp_path: Path) -> None:
    plan = replace(planned(SMALL, decoder), weights="/home/someone/w.safetensors")
    network = built(plan)
    save_model(tmp_path / "best.safetensors", network, ModelCard(plan, ImageSpec(3)))
    assert b"someone" not in (tmp_path / "best.safetensors").read_bytes()
    before = torch.get_rng_state()
    loaded, card = load_model(tmp_path / "best.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert card.network == replace(plan, weights=None)
    image = pixels((40, 50), 3)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def test_an_encoder_that_needs_memory_to_be_built_is_loaded_too(tmp_path: Path) -> None:
    plan = planned("mit_b0", "segformer")
    network = built(plan)
    save_model(tmp_path / "best.safetensors", network, ModelCard(plan, ImageSpec(3)))
    loaded, _ = load_model(tmp_path / "best.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(pixels((40, 50), 3)), network(pixels((40, 50), 3)))


@pytest.mark.slow  # the exporter thinks for some seconds
@pytest.mark.parametrize(
    ("encoder", "decoder"), [("resnet18", "deeplabv3plus"), (SMALL, "segformer")]
)
def test_an_exported_graph_takes_every_size(encoder: str, decoder: DecoderName) -> None:
    network = built(planned(encoder, decoder))
    engine, reference = OnnxEngine(to_onnx(network, 3, {})), TorchEngine(network)
    for size in SIZES:
        batch = np.ascontiguousarray(pixels(size, 3).permute(0, 2, 3, 1).numpy())  # (B, H, W, C)
        np.testing.assert_allclose(engine.logits(batch), reference.logits(batch), atol=1e-3)


def test_a_decoder_that_onnx_cannot_hold_is_refused_in_one_line() -> None:
    with pytest.raises(CalcoError, match=r"EXPORT_POOLING.*upernet.*another model\.decoder"):
        to_onnx(built(planned(SMALL, "upernet")), 3, {})


# --- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("efficientnet-lite0", "unetplusplus"),
        ("mit_b0", "unet"),
        ("tu-convnext_nano", "upernet"),
        ("tu-regnety_002", "deeplabv3plus"),
    ],
)
def test_what_goes_together_is_accepted(encoder: str, decoder: DecoderName) -> None:
    before = torch.get_rng_state()
    require_fitting(encoder, decoder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("encoder", "decoder", "why"),
    [
        ("tu-vit_tiny_patch16_224", "unet", "downsampling pattern"),  # one scale
        ("tu-swin_tiny_patch4_window7_224", "unet", r"doesn't match model \(224\)"),  # fixed size
        ("tu-maxvit_nano_rw_256", "unet", "divisible by window"),
        ("mit_b0", "unetplusplus", "not support"),
        ("vgg11_bn", "deeplabv3plus", "dilated"),
        ("tu-hrnet_w18", "deeplabv3plus", "AssertionError"),
    ],
)
def test_what_does_not_is_one_line_with_its_reason(
    encoder: str, decoder: DecoderName, why: str
) -> None:
    with pytest.raises(CalcoError, match=rf"ENCODER_UNFIT.*{encoder} with {decoder}.*{why}") as e:
        require_fitting(encoder, decoder)
    assert len(str(e.value).splitlines()) == 1


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_weight_takes_part(decoder: DecoderName) -> None:
    network = EncoderDecoder(3, SMALL, decoder).train()
    network(torch.rand(3, 3, 32, 64)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_every_weight_that_is_trained_has_a_gradient() -> None:
    # one without would end distributed training at its second step
    network = starting_network(planned("efficientnet-b0", "light"), None).network
    assert network.training
    network(torch.rand(2, 3, 32, 64)).square().mean().backward()
    weights = dict(network.named_parameters())
    assert all((p.grad is not None) == p.requires_grad for p in weights.values())
    spare = {"encoder._conv_head.weight", "encoder._bn1.weight", "encoder._bn1.bias"}
    assert {name for name, p in weights.items() if not p.requires_grad} == spare
    assert spare < network.state_dict().keys()  # files of weights still fit


def test_a_frozen_encoder_stays_frozen_when_spare_weights_are_looked_for() -> None:
    network = EncoderDecoder(3, "efficientnet-b0")
    network.freeze_encoder()
    network.freeze_spare()
    assert network.training
    assert not network.encoder.training
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert all(p.requires_grad for p in network.decoder.parameters())


@pytest.mark.parametrize("decoder", ["light", "fpn", "deeplabv3plus"])
def test_dropout_acts_in_training_only(decoder: DecoderName) -> None:
    torch.manual_seed(0)
    network = EncoderDecoder(3, SMALL, decoder, dropout=0.5).eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(image), network(image))
    network.dropout.train()
    assert not torch.equal(network(image), network(image))


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns() -> None:
    network = built(replace(planned(SMALL, "light"), freeze_encoder=True)).network
    assert isinstance(network, EncoderDecoder)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    network.eval()
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    after = network.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in before.items() if n.startswith("encoder."))
    assert not torch.equal(after["head.weight"], before["head.weight"])
    assert network.decoder.training


def test_stages_are_those_of_the_maps() -> None:
    network = EncoderDecoder(3, "resnet18")
    names = {id(p): name for name, p in network.encoder.named_parameters()}
    stages = network.stages()
    first_words = [{names[id(p)].partition(".")[0] for p in stage} for stage in stages]
    assert first_words == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]


@pytest.mark.parametrize(
    ("encoder", "count"), [("efficientnet-lite0", 5), ("tu-convnext_atto", 4), ("mit_b0", 4)]
)
def test_stages_hold_every_weight_once(encoder: str, count: int) -> None:
    network = EncoderDecoder(4, encoder)
    stages = network.stages()
    found = [id(p) for stage in stages for p in stage]
    assert len(stages) == count
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in network.encoder.parameters()}

import importlib
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from calco.errors import CalcoError
from calco.nets import encoders
from calco.nets.encoders import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EncoderUNet,
    adapt_stem,
    load_imagenet,
    read_imagenet_weights,
)

MILITARY_UNIFORM = 652  # ImageNet class


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return read_imagenet_weights()


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """The photograph of an officer in uniform that comes with Matplotlib, (1, 3, 224, 224)."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:512]  # (512, 512, 3)
    small = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {n: t.clone() for n, t in state.items() if not n.endswith("num_batches_tracked")}


def test_every_encoder_tensor_is_replaced_by_its_counterpart(weights: dict[str, Tensor]) -> None:
    network = EncoderUNet(pretrained=False)
    before = _tensors(network.encoder)
    load_imagenet(network.encoder, weights)
    after = _tensors(network.encoder)
    used = [t for n, t in weights.items() if t.ndim and not n.startswith(("_conv_h", "_bn1", "_f"))]
    assert len(before) == len(used) == 240
    assert all(torch.equal(a, u) for a, u in zip(after.values(), used, strict=True))
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_the_order_of_layers_is_right_because_the_classifier_works(
    weights: dict[str, Tensor], portrait: Tensor
) -> None:
    # the same order, carried through to the classifier that we cut off, names the picture
    network = timm.create_model("tf_efficientnet_lite0").eval()
    state = network.state_dict()
    network.load_state_dict(dict(zip(state, weights.values(), strict=True)))
    with torch.no_grad():
        classes = network((portrait - IMAGENET_MEAN) / IMAGENET_STD).softmax(1)[0]
    assert int(classes.argmax()) == MILITARY_UNIFORM
    assert float(classes.max()) > 0.3

    # and those are the encoder's features, bit for bit
    encoder = EncoderUNet().eval().encoder
    whole = network.forward_intermediates(portrait, intermediates_only=True)
    with torch.no_grad():
        features = encoder(portrait)[1:]
    assert all(torch.equal(a, b) for a, b in zip(features, whole, strict=True))


def _stem_variance_ratio(weights: dict[str, Tensor], image: Tensor) -> float:
    """Variance after the first convolution over the one stored in training, median of filters."""
    maps = nn.functional.conv2d(image, weights["_conv_stem.weight"], stride=2, padding=1)
    ratio = maps.var(dim=(0, 2, 3)) / weights["_bn0.running_var"]
    return float(ratio.median())


def test_the_normalisation_is_the_one_of_training(
    weights: dict[str, Tensor], portrait: Tensor
) -> None:
    ours = _stem_variance_ratio(weights, (portrait - IMAGENET_MEAN) / IMAGENET_STD)
    usual = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    assert 0.8 < ours < 1.25
    assert _stem_variance_ratio(weights, portrait / usual) > 4  # negative controls
    assert _stem_variance_ratio(weights, portrait / 255) < 0.4


def test_pretrained_features_tell_pictures_apart(portrait: Tensor) -> None:
    # a random encoder answers nearly alike to anything; a trained one does not
    torch.manual_seed(0)
    noise = torch.randint(0, 256, portrait.shape).float()
    images = (torch.cat([portrait, portrait.flip(3), noise]) - IMAGENET_MEAN) / IMAGENET_STD

    def similarities(pretrained: bool) -> tuple[float, float]:
        encoder = EncoderUNet(pretrained=pretrained).eval().encoder
        with torch.no_grad():
            deep = encoder(images)[-1].mean(dim=(2, 3))  # (3, 320)
        assert deep.isfinite().all()
        cosine = nn.functional.cosine_similarity
        return float(cosine(deep[0], deep[1], dim=0)), float(cosine(deep[0], deep[2], dim=0))

    mirrored, unlike = similarities(pretrained=True)
    assert mirrored > 0.9
    assert unlike < 0.3


def test_a_grey_image_answers_as_its_rgb_copy() -> None:
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 64, 64)
    one, three = EncoderUNet(1).eval().encoder, EncoderUNet(3).eval().encoder
    with torch.no_grad():
        pairs = zip(one(grey)[1:], three(grey.expand(-1, 3, -1, -1))[1:], strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_more_channels_take_turns_and_keep_the_response() -> None:
    stem = torch.arange(3.0).view(1, 3, 1, 1) + 1  # 1, 2, 3
    assert adapt_stem(stem, 3) is stem
    assert adapt_stem(stem, 1).flatten().tolist() == [6]
    assert adapt_stem(stem, 2).flatten().tolist() == [1.5, 3.0]
    assert adapt_stem(stem, 6).flatten().tolist() == [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]


def test_logits_are_as_large_as_the_image() -> None:
    network = EncoderUNet(4, pretrained=True, dropout=0.2)
    assert network(torch.rand(2, 4, 64, 96)).shape == (2, 1, 64, 96)


def test_every_weight_takes_part() -> None:
    # a weight without gradient would stall distributed training
    network = EncoderUNet(pretrained=False)
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = EncoderUNet(pretrained=False, dropout=0.5).eval()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(image), network(image))
    network.dropout.train()
    assert not torch.equal(network(image), network(image))


def test_shapes_are_compared_before_anything_is_copied(weights: dict[str, Tensor]) -> None:
    network = EncoderUNet(pretrained=False)
    before = _tensors(network.encoder)
    damaged = dict(weights)
    damaged["_blocks.15._bn2.bias"] = torch.zeros(7)
    with pytest.raises(CalcoError, match="ENCODER_SHAPES"):
        load_imagenet(network.encoder, damaged)
    assert all(torch.equal(t, before[n]) for n, t in _tensors(network.encoder).items())


def _package(root: Path, monkeypatch: pytest.MonkeyPatch, blob: bytes) -> None:
    (root / "fake_weights").mkdir()
    (root / "fake_weights" / "__init__.py").touch()
    (root / "fake_weights" / "w.pth").write_bytes(blob)
    monkeypatch.syspath_prepend(root)
    importlib.invalidate_caches()
    monkeypatch.setattr(encoders, "WEIGHTS_PACKAGE", "fake_weights")
    monkeypatch.setattr(encoders, "WEIGHTS_FILE", "w.pth")


def test_tampered_weights_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled before the hash was checked")

    _package(tmp_path, monkeypatch, b"\x80\x02not what was tested")
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(CalcoError, match="ENCODER_HASH"):
        EncoderUNet()


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "WEIGHTS_PACKAGE", "no_such_package_here")
    with pytest.raises(CalcoError, match=r"ENCODER_MISSING.*model\.pretrained: false"):
        EncoderUNet()


def test_without_pretraining_no_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> dict[str, Tensor]:
        raise AssertionError("read")

    reader: Callable[[], dict[str, Tensor]] = never
    monkeypatch.setattr(encoders, "read_imagenet_weights", reader)
    assert EncoderUNet(pretrained=False).stride == 32

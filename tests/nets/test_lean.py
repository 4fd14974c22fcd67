import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calco.config import NormName
from calco.nets.build import Segmenter, build_network
from calco.nets.lean import LeanUNet
from calco.records import NetworkPlan


def segmenter(width: int = 8, norm: NormName = "batch") -> Segmenter:
    return build_network(NetworkPlan("lean", 3, (127.0,) * 3, (64.0,) * 3, width=width, norm=norm))


def test_default_weighs_what_its_drawing_says() -> None:
    def separable(c: int) -> int:  # 9 per channel, pointwise, two of a batch norm
        return 9 * c + c * c + 2 * c

    expected = 9 * 12 * 16 + 2 * 16  # from 2 x 2 pixels of 3 channels to H/2
    expected += 9 * 64 * 32 + 2 * 32  # from 2 x 2 of 16 channels to H/4
    expected += 2 * separable(32)  # the one block there
    for upper, lower in ((32, 64), (64, 96), (96, 128)):
        expected += 4 * upper * lower + 2 * lower + 2 * 2 * separable(lower)  # down
        expected += lower * upper + 2 * upper + 2 * separable(upper)  # up
    expected += (32 + 1) * 64  # back to H/2, as 2 x 2 of 16 channels
    expected += 9 * 16 * 16 + 2 * 16  # the one convolution there
    expected += 9 * 16 * 4 + 4  # head, to 2 x 2 pixels
    assert sum(p.numel() for p in LeanUNet().parameters()) == expected
    assert LeanUNet.stride == 32


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize(("channels", "width"), [(1, 1), (3, 8), (7, 5)])
def test_logits_are_as_large_as_the_image(norm: NormName, channels: int, width: int) -> None:
    network = LeanUNet(channels, width, norm)
    assert network(torch.rand(2, channels, 64, 96)).shape == (2, 1, 64, 96)


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (31, 33), (45, 1), (64, 32)])
def test_any_size_trains_and_predicts(norm: NormName, size: tuple[int, int]) -> None:
    network = segmenter(norm=norm)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    for mode in (True, False):
        logits = network.train(mode)(image)
        assert logits.shape == (1, 1, *size)
        assert logits.isfinite().all()


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = LeanUNet(3, 8)
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_initial_logits_neither_explode_nor_fade(norm: NormName) -> None:
    torch.manual_seed(0)
    network = LeanUNet(3, 32, norm)
    with torch.no_grad():
        spread = float(network(torch.randn(4, 3, 128, 128)).std())
    assert 0.2 < spread < 5


def toy_squares(side_px: int = 64) -> tuple[Tensor, Tensor]:
    """Draw four bright squares on noise, with sides within and between blocks of 2 x 2 pixels."""
    generator = torch.Generator().manual_seed(0)
    images = 100 + 20 * torch.randn(4, 3, side_px, side_px, generator=generator)
    masks = torch.zeros(4, 1, side_px, side_px)
    for mask, row, col in zip(masks, (3, 10, 21, 38), (33, 6, 18, 25), strict=True):
        mask[:, row : row + 21, col : col + 21] = 1
    return (images + 80 * masks).clamp(0, 255), masks


def test_squares_are_learnt_to_the_pixel_in_a_few_steps() -> None:
    torch.manual_seed(0)
    network, (images, masks) = segmenter(width=16).train(), toy_squares()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = F.binary_cross_entropy_with_logits(network(images), masks)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        wrong = (network(images) > 0) != (masks > 0)
    assert wrong.float().mean() < 0.005  # with outlines off by one pixel: 0.02


def test_neighbours_in_a_batch_do_not_matter_in_prediction() -> None:
    torch.manual_seed(0)
    network = segmenter()
    images = torch.randint(0, 256, (4, 3, 40, 64), dtype=torch.uint8)
    with torch.no_grad():
        together = network.eval()(images)
        alone = torch.cat([network(image[None]) for image in images])
        assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4)
        trained = network.train()(images)  # negative control: batch statistics do mix
        assert not torch.allclose(
            trained[:1], network(images[:1].repeat(2, 1, 1, 1))[:1], atol=1e-2
        )


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = LeanUNet(3, 8, dropout=0.5)
    image = torch.rand(2, 3, 64, 64)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_same_seed_builds_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in LeanUNet(3, 4).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))

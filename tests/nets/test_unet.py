import pytest
import torch

from calco.config import NormName
from calco.nets.unet import UNet


def test_default_is_the_network_of_the_paper() -> None:
    network = UNet()
    # per 3x3 convolution 9 in out, per batch norm 2 out, per transposed convolution (4 in + 1) out,
    # head 64 + 1; summed over figure 1 of the paper with a 3-channel input
    encoder = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    decoder = [(1024, 512), (512, 256), (256, 128), (128, 64)]

    def double(i: int, o: int) -> int:
        return 9 * (i * o + o * o) + 4 * o

    expected = sum(double(i, o) for i, o in encoder)
    expected += sum((4 * i + 1) * o + double(i, o) for i, o in decoder)
    expected += 64 + 1
    assert sum(p.numel() for p in network.parameters()) == expected == 31_037_633
    assert network.stride == 16


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize(("channels", "width", "depth"), [(1, 4, 1), (3, 5, 3), (7, 8, 2)])
def test_logits_are_as_large_as_the_image(
    norm: NormName, channels: int, width: int, depth: int
) -> None:
    network = UNet(channels, width, depth, norm)
    size = (2 * 2**depth, 3 * 2**depth)
    assert network(torch.rand(2, channels, *size)).shape == (2, 1, *size)


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = UNet(3, 8, 3)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_initial_logits_neither_explode_nor_fade() -> None:
    # 22 layers without normalisation: a gain of 2 per layer would reach 4 million
    torch.manual_seed(0)
    network = UNet(3, 32, 4, norm="none").eval()
    with torch.no_grad():
        spread = float(network(torch.randn(4, 3, 64, 64)).std())
    assert 0.2 < spread < 5


def test_reach_of_the_bottom_is_wider_than_a_block() -> None:
    torch.manual_seed(0)
    network = UNet(1, 4, 3, norm="none").eval()
    image = torch.zeros(1, 1, 64, 64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(image + 1)[0, 0, 32, 32], image)
    rows = slope.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    # to each side 2 + 2 convolutions at steps of 1, 2 and 4 pixels and 2 at the bottom's 8
    assert 20 < rows.max() - rows.min() <= 2 * (4 * (1 + 2 + 4) + 2 * 8) + 1


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = UNet(3, 8, 2, dropout=0.5)
    image = torch.rand(2, 3, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_same_seed_builds_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in UNet(3, 4, 2).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))

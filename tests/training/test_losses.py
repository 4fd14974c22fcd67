import math
from typing import get_args

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from calco.config import LossConfig, LossName
from calco.training.losses import make_loss

NAMES: tuple[LossName, ...] = get_args(LossName)
LOG3 = math.log(3)  # logit of probability 3/4


def _image(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]  # (1, 1, H, W)


def _loss(name: LossName, logits: Tensor, true: Tensor, **settings: float) -> list[float]:
    config = LossConfig.model_validate(settings)
    values: list[float] = make_loss(config, name)(logits, true).tolist()
    return values


# probabilities 3/4, 1/4 over 3/4, 1/4; truth 1, 0 over 0, 1
LOGITS = _image([LOG3, -LOG3], [LOG3, -LOG3])
TRUE = _image([1, 0], [0, 1])
# probability given to the wrong answer: 1/4, 1/4, 3/4, 3/4


def test_bce_by_hand() -> None:
    expected = (2 * math.log(4 / 3) + 2 * math.log(4)) / 4
    assert _loss("bce", LOGITS, TRUE) == pytest.approx([expected])


def test_dice_by_hand() -> None:
    # tp = 3/4 + 1/4, fp = 1/4 + 3/4, fn = 1/4 + 3/4; 1 - (2 + 1) / (2 + 1 + 1 + 1)
    assert _loss("dice", LOGITS, TRUE) == pytest.approx([2 / 5])
    assert _loss("dice", LOGITS, TRUE, smooth=2.0) == pytest.approx([1 - 4 / 6])


def test_bce_dice_is_the_mean_of_both() -> None:
    bce, dice = _loss("bce", LOGITS, TRUE), _loss("dice", LOGITS, TRUE)
    assert _loss("bce_dice", LOGITS, TRUE) == pytest.approx([(bce[0] + dice[0]) / 2])


def test_focal_by_hand() -> None:
    expected = (2 * math.log(4 / 3) / 16 + 2 * math.log(4) * 9 / 16) / 4
    assert _loss("focal", LOGITS, TRUE) == pytest.approx([expected])


def test_focal_without_focus_is_bce() -> None:
    assert _loss("focal", LOGITS, TRUE, gamma=0.0) == pytest.approx(_loss("bce", LOGITS, TRUE))


def test_tversky_by_hand() -> None:
    true = _image([1, 0], [0, 0])  # tp 3/4, fp 1/4 + 3/4 + 1/4, fn 1/4
    errors = 0.2 * 5 / 4 + 0.8 * 1 / 4
    expected = errors / (3 / 4 + errors + 1)
    assert _loss("tversky", LOGITS, true, alpha=0.2) == pytest.approx([expected])


def test_even_tversky_is_dice_with_half_the_smoothing() -> None:
    tversky = _loss("tversky", LOGITS, TRUE, alpha=0.5, smooth=1.0)
    assert tversky == pytest.approx(_loss("dice", LOGITS, TRUE, smooth=2.0))


def test_lovasz_by_hand() -> None:
    # hinge errors 1 - logit on foreground, 1 + logit on background: 3 (fg), 2 (bg), 0.5 (fg), 0.
    # Worst first, 1 - IoU grows to 1/2 (one of two missed), 2/3 (union 3, one hit), 1, 1
    logits, true = _image([-2, 1], [0.5, -1]), _image([1, 0], [1, 0])
    expected = 3 * 1 / 2 + 2 * (2 / 3 - 1 / 2) + 0.5 * (1 - 2 / 3)
    assert _loss("lovasz", logits, true) == pytest.approx([expected])


def test_lovasz_of_hard_errors_is_one_minus_iou_of_the_hinge() -> None:
    # every error is 2 or 0: the extension equals 2 (1 - IoU) on such corners
    logits, true = _image([1, 1, -1, -1]), _image([1, 0, 1, 0])
    assert _loss("lovasz", logits, true) == pytest.approx([2 * (1 - 1 / 3)])


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_cost_next_to_nothing(name: LossName) -> None:
    for true in (TRUE, torch.zeros_like(TRUE), torch.ones_like(TRUE)):
        assert _loss(name, 40 * (2 * true - 1), true)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_false_positive_on_an_empty_image_costs_and_is_pushed_down(name: LossName) -> None:
    true = torch.zeros(1, 1, 8, 8)
    logits = torch.full((1, 1, 8, 8), -6.0)
    logits[0, 0, 3, 4] = 3.0
    logits.requires_grad_()
    loss = make_loss(LossConfig(), name)(logits, true)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    quiet = make_loss(LossConfig(), name)(torch.full((1, 1, 8, 8), -6.0), true)
    assert float(loss.detach()) > float(quiet) + 0.01
    assert float(slope[0, 0, 3, 4]) > 0
    assert (slope >= 0).all()


def test_smp_dice_forgives_everything_on_an_empty_image() -> None:
    # negative control: why the loss is written here
    theirs = smp.losses.DiceLoss(mode="binary", from_logits=True)
    logits = torch.full((1, 1, 8, 8), 20.0, requires_grad=True)
    loss = theirs(logits, torch.zeros(1, 1, 8, 8))
    assert float(loss.detach()) == 0
    assert _loss("dice", logits.detach(), torch.zeros(1, 1, 8, 8))[0] == pytest.approx(64 / 65)


@pytest.mark.parametrize("name", NAMES)
def test_missed_object_is_pulled_up(name: LossName) -> None:
    logits = torch.full((1, 1, 4, 4), -3.0, requires_grad=True)
    true = torch.zeros(1, 1, 4, 4)
    true[..., 1, 1] = 1
    (slope,) = torch.autograd.grad(make_loss(LossConfig(), name)(logits, true).sum(), logits)
    assert float(slope[0, 0, 1, 1]) < 0


@pytest.mark.parametrize("name", NAMES)
def test_an_image_costs_the_same_alone_and_in_a_batch(name: LossName) -> None:
    torch.manual_seed(0)
    logits, true = torch.randn(5, 1, 9, 7), (torch.rand(5, 1, 9, 7) > 0.7).float()
    true[2] = 0
    together = make_loss(LossConfig(), name)(logits, true)
    alone = [make_loss(LossConfig(), name)(logits[i : i + 1], true[i : i + 1]) for i in range(5)]
    assert together.shape == (5,)
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", NAMES)
def test_pooling_sees_the_batch_as_one_image(name: LossName) -> None:
    torch.manual_seed(0)
    logits, true = torch.randn(3, 1, 4, 5), (torch.rand(3, 1, 4, 5) > 0.7).float()
    pooled = make_loss(LossConfig(per_sample=False), name)(logits, true)
    one_image = make_loss(LossConfig(), name)(logits.view(1, 1, 12, 5), true.view(1, 1, 12, 5))
    assert pooled.shape == (1,)
    torch.testing.assert_close(pooled, one_image)


def test_pooled_dice_hides_a_missed_small_object() -> None:
    # 90 of 90 pixels right in one image, 0 of 10 in the other
    true = torch.zeros(2, 1, 10, 10)
    true[0, 0, :9] = 1
    true[1, 0, 0] = 1
    logits = 40 * (2 * true - 1)
    logits[1] = -40
    per_image = make_loss(LossConfig(), "dice")(logits, true).mean()
    pooled = make_loss(LossConfig(per_sample=False), "dice")(logits, true)
    assert float(per_image) == pytest.approx((0 + 10 / 11) / 2, abs=1e-6)
    assert float(pooled) == pytest.approx(10 / 191, abs=1e-6)  # fn 10, 2 tp 180, smooth 1


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_derivative(name: LossName) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    true = (torch.rand(2, 1, 3, 4) > 0.6).double()
    loss = make_loss(LossConfig(gamma=1.5, alpha=0.3), name)
    assert torch.autograd.gradcheck(lambda x: loss(x, true), (logits,))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("name", NAMES)
def test_huge_logits_stay_finite(name: LossName, gamma: float) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4]).view(1, 1, 2, 2).requires_grad_()
    loss = make_loss(LossConfig(gamma=gamma), name)(logits, TRUE.float())
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_logits_are_reduced_in_float32(name: LossName, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 128, 128).to(dtype)
    true = (torch.rand(1, 1, 128, 128) > 0.5).float()
    loss = make_loss(LossConfig(), name)
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(logits, true)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(logits.float(), true), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64_on_a_large_image(name: LossName) -> None:
    torch.manual_seed(0)
    logits = 6 * torch.randn(1, 1, 512, 512)
    true = (torch.rand(1, 1, 512, 512) > 0.99).float()
    loss = make_loss(LossConfig(), name)
    wide = loss(logits.double(), true.double()).float()
    torch.testing.assert_close(loss(logits, true), wide, rtol=1e-5, atol=0)


def test_masks_of_255_are_refused() -> None:
    with pytest.raises(ValueError, match=r"truth reaches 255\.0"):
        _loss("bce", LOGITS, TRUE * 255)


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="truth"):
        _loss("bce", LOGITS, TRUE[0])

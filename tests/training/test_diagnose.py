"""Each way of failing is provoked; each healthy counterpart stays silent."""

import pytest

from calco.config import LossName, Precision
from calco.records import NetworkPlan, Plan
from calco.training.diagnose import collapsed, diverging, not_finite
from calco.training.validate import NOT_VALIDATED, Validation


def plan(loss: LossName = "bce_dice", precision: Precision = "fp32") -> Plan:
    network = NetworkPlan("unet", 1, (0.0,), (255.0,))
    return Plan(
        network, 64, None, 4, 1, None, loss, "adamw", 1e-3, 0, "cosine", True, 1, 0, precision
    )


def validation(pred: float, true: float, prob_max: float = 0.4) -> Validation:
    return Validation(0.7, 0.0, pred, true, prob_max)


def test_predicting_foreground_is_no_collapse() -> None:
    assert collapsed(validation(0.1, 0.12), plan(), 500) is None


def test_a_set_without_foreground_is_no_collapse() -> None:
    assert collapsed(validation(0.0, 0.0), plan(), 500) is None


def test_an_epoch_that_was_not_validated_is_no_collapse() -> None:
    assert collapsed(NOT_VALIDATED, plan(), 500) is None


@pytest.mark.parametrize(
    ("step", "true", "prob_max", "loss", "remedy"),
    [
        (10, 0.1, 0.4, "bce_dice", "train longer"),
        (500, 0.002, 0.4, "bce", "loss.name"),
        (500, 0.1, 0.01, "bce_dice", "fit.learning_rate"),
        (500, 0.002, 0.4, "bce_dice", "tversky"),
        (500, 0.1, 0.4, "bce_dice", "calco audit"),
    ],
)
def test_collapse_names_the_setting_to_change(
    step: int, true: float, prob_max: float, loss: LossName, remedy: str
) -> None:
    problem = collapsed(validation(0.0, true, prob_max), plan(loss), step)
    assert problem is not None
    assert problem.code == "COLLAPSE_BACKGROUND"
    assert remedy in problem.do


def test_rising_loss_is_named_and_noise_is_not() -> None:
    assert diverging([0.9, 0.4, 0.7, 0.8], plan()) is not None
    assert diverging([0.9, 0.4, 0.45, 0.42], plan()) is None
    assert diverging([0.9, 0.4, 0.9, 0.4], plan()) is None  # it came back
    assert diverging([0.1, 0.9], plan()) is None  # too early to tell


def test_nan_names_precision_first() -> None:
    assert "fit.precision: fp32" in not_finite(7, ("a", "b"), plan(precision="bf16")).do
    problem = not_finite(7, ("a", "b"), plan())
    assert "fit.learning_rate" in problem.do
    assert problem.where == "a, b"

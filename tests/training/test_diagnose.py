"""Each way of failing is provoked; each healthy counterpart stays silent."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from calco.config import LossConfig, LossName, Precision
from calco.records import NetworkPlan, Plan
from calco.training.cache import Held
from calco.training.diagnose import (
    by_parts,
    collapsed,
    diverging,
    not_finite,
    not_learning,
    unlike,
)
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


def test_predicting_everything_is_a_collapse_too() -> None:
    problem = collapsed(validation(0.99, 0.1), plan(), 500)
    assert problem is not None
    assert problem.code == "COLLAPSE_FOREGROUND"
    assert "fit.learning_rate" in problem.do
    assert collapsed(validation(0.99, 0.97), plan(), 500) is None  # masks are that full


@pytest.mark.parametrize(
    ("loss", "step", "remedy"),
    [
        (1.5, 500, "lower fit.learning_rate"),
        (0.9, 500, "raise fit.learning_rate"),
        (0.5, 500, None),  # it learns
        (0.9, 20, None),  # too early to tell
        (float("nan"), 500, None),
    ],
)
def test_a_loss_that_stays_where_it_was(loss: float, step: int, remedy: str | None) -> None:
    problem = not_learning(0.9, loss, step, plan())
    assert (problem is None) == (remedy is None)
    assert remedy is None or (problem is not None and remedy in problem.do)


# --- parts


def images(n: int, seed: int, level: float = 90.0, share: float = 0.2) -> list[Held]:
    rng = np.random.default_rng(seed)
    decoded = []
    for i in range(n):
        brightness = level + rng.normal(0, 25)
        image = rng.normal(brightness, 20, (40, 40, 1)).clip(0, 255).astype(np.uint8)
        mask = (rng.random((40, 40)) < share * rng.uniform(0.5, 1.5)).astype(np.uint8)
        decoded.append(Held(f"{seed} {i}", image, mask))
    return decoded


def test_parts_of_one_kind_are_alike() -> None:
    """Negative control: of 40 random divisions none is called unlike."""
    assert not any(unlike(images(60, seed), images(15, 1000 + seed)) for seed in range(40))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (images(15, 1, level=190.0), "brightness"),
        (images(15, 1, share=0.7), "foreground share"),
    ],
)
def test_a_validation_part_of_another_kind_is_named(other: Sequence[Held], named: str) -> None:
    problem = unlike(images(60, 2), other)
    assert problem is not None
    assert problem.code == "VALIDATION_UNLIKE"
    assert named in problem.got


def test_a_few_images_prove_nothing() -> None:
    assert unlike(images(60, 2), images(2, 1, level=190.0)) is None


def test_what_depends_on_the_whole_batch_is_named() -> None:
    pooled, whole = LossConfig(per_sample=False), LossConfig()
    grouped = replace(plan(), network=replace(plan().network, norm="group"))
    assert by_parts(plan(), pooled, 1) is None
    assert by_parts(grouped, whole, 2) is None
    assert by_parts(replace(grouped, loss="bce"), pooled, 2) is None  # a mean over pixels
    found = by_parts(plan(), pooled, 2)
    assert found is not None
    assert found.got == "batch normalisation and a loss that is pooled over the batch"
    assert found.expected == "about 2 images at a time"
    assert found.severity == "note"

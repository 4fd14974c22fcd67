"""Names why a training goes wrong while it does, with the setting to change."""

from __future__ import annotations

from calco.errors import Problem
from calco.records import Plan
from calco.training.validate import Validation

RARE_FRACTION = 0.01  # below this a network gains almost nothing from finding the foreground
EARLY_LOSS_RISE = 1.5  # a smoothed loss this many times its best is diverging, not noisy


def collapsed(validation: Validation, plan: Plan, step: int) -> Problem | None:
    """Return advice when validation predicts (almost) no foreground though there is some.

    Args:
        validation: The latest pass.
        plan: Settings in force.
        step: Optimiser steps done.
    """
    true = validation.true_fraction
    if not true > 0 or validation.pred_fraction > 0.02 * true:
        return None
    if step < 50:
        cause, remedy = "only a few steps were done", "train longer"
    elif true < RARE_FRACTION and plan.loss == "bce":
        cause = f"foreground is rare ({true:.2%} of pixels) and the loss is plain bce"
        remedy = "set loss.name: bce_dice or tversky"
    elif validation.prob_max < 0.05:
        cause = "probabilities are near zero everywhere, as after a step that was too large"
        remedy = f"lower fit.learning_rate (now {plan.learning_rate:g})"
    elif true < RARE_FRACTION:
        cause = f"foreground is rare ({true:.2%} of pixels)"
        remedy = "set loss.name: tversky with loss.alpha: 0.3, or train longer"
    else:
        cause = "probabilities stay below the threshold of 0.5"
        remedy = "train longer, or check the masks with calco audit"
    return Problem(
        "COLLAPSE_BACKGROUND",
        "validation predicts only background",
        got=f"{validation.pred_fraction:.3%} predicted, largest probability"
        f" {validation.prob_max:.2f}",
        expected=f"about {true:.2%}",
        do=f"likely cause: {cause}; {remedy}",
        severity="warning",
    )


def diverging(losses: list[float], plan: Plan) -> Problem | None:
    """Return advice when the epochs' training loss rises far above its best.

    Args:
        losses: Mean training loss of each epoch so far.
        plan: Settings in force.
    """
    if len(losses) < 3 or min(losses[-2:]) < EARLY_LOSS_RISE * min(losses[:-2]):
        return None
    return Problem(
        "LOSS_RISING",
        "the training loss rises",
        got=f"{losses[-1]:.3f}",
        expected=f"near its best, {min(losses):.3f}",
        do=f"lower fit.learning_rate (now {plan.learning_rate:g})",
        severity="warning",
    )


def not_finite(step: int, files: tuple[str, ...], plan: Plan) -> Problem:
    """Describe a loss or gradient that stayed NaN or infinite."""
    remedy = "lower fit.learning_rate"
    if plan.precision != "fp32":
        remedy = "set fit.precision: fp32"
    return Problem(
        "LOSS_NOT_FINITE",
        f"loss or gradient is not finite for several steps in a row, last at step {step}",
        where=", ".join(files[:4]),
        do=f"{remedy} (now {plan.learning_rate:g}, {plan.precision})",
    )

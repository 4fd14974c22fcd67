"""Names why a training goes wrong while it does, with the setting to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

from scipy.stats import mannwhitneyu

from calco.config import LossConfig
from calco.errors import Problem
from calco.records import Epoch, Plan
from calco.training.cache import Decoded, evenly
from calco.training.progress import Watch
from calco.training.validate import NOT_VALIDATED, Validation

RARE_FRACTION = 0.01  # below this a network gains almost nothing from finding the foreground
EARLY_LOSS_RISE = 1.5  # a smoothed loss this many times its best is diverging, not noisy
LEARNT_STEPS = 50  # from here on a network that learns has left its first loss behind
FALLEN = 0.95  # times the first loss is no fall
UNLIKE = 0.85  # chance that an image of one part exceeds one of the other; 0.5 when alike
UNLIKE_P = 0.001  # few images differ by chance
MOST_COMPARED = 500  # images of a part; more tell no more, and may have to be read
FIGURES = ("brightness", "contrast", "foreground share", "size in pixels")


class Adviser:
    """Notes what looks wrong in a training, for the report; a kind is told once.

    Args:
        plan: Of the training.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.advice: dict[str, Problem] = {}
        self.told: set[str] = set()

    def look(
        self,
        history: Sequence[Epoch],
        validation: Validation,
        first_losses: Sequence[float],
        watch: Watch,
    ) -> None:
        """Look at a training after an epoch; what it recovered from is forgotten."""
        losses, step = [e.train_loss for e in history], history[-1].step
        if validation is not NOT_VALIDATED:
            for code in ("COLLAPSE_BACKGROUND", "COLLAPSE_FOREGROUND", "LOSS_FLAT"):
                self.advice.pop(code, None)
        first_loss = fmean(first_losses) if first_losses else math.nan
        self.note(collapsed(validation, self.plan, step), watch)
        self.note(diverging(losses, self.plan), watch)
        self.note(not_learning(first_loss, losses[-1], step, self.plan), watch)

    def note(self, found: Problem | None, watch: Watch) -> None:
        """Take in a finding, if there is one."""
        if found is None:
            return
        if found.code not in self.told:
            watch.on_advice(found)
        self.told.add(found.code)
        self.advice[found.code] = found


def by_parts(plan: Plan, loss: LossConfig, n_processes: int) -> Problem | None:
    """Return a note on what several processes compute otherwise than one would.

    Args:
        plan: Network, batch and loss.
        loss: Whether images or whole batches are reduced.
        n_processes: That share each batch.
    """
    found = []
    if plan.network.family == "encoder_unet" or plan.network.norm == "batch":
        found.append("batch normalisation")
    if not loss.per_sample and plan.loss not in ("bce", "focal"):  # those are means over pixels
        found.append("a loss that is pooled over the batch")
    if n_processes == 1 or not found:
        return None
    return Problem(
        "TEAM_PARTS",
        "each process sees its own part of a batch, where one process would see all of it",
        got=" and ".join(found),
        expected=f"about {plan.batch / n_processes:g} images at a time",
        do="keep the parts large: raise fit.batch with --devices",
        severity="note",
    )


def unlike(train: Sequence[Decoded], validation: Sequence[Decoded]) -> Problem | None:
    """Return advice when the validation part is not what the network is trained for.

    Args:
        train: Training part.
        validation: Validation part.
    """
    found = []
    looked_at = (evenly(part, MOST_COMPARED) for part in (train, validation))
    ours_by_name, theirs_by_name = (zip(*map(_figures, part), strict=True) for part in looked_at)
    for name, ours, theirs in zip(FIGURES, ours_by_name, theirs_by_name, strict=True):
        rank_sum, p = mannwhitneyu(theirs, ours)
        exceeds = float(rank_sum) / (len(ours) * len(theirs))  # ties count half
        if p < UNLIKE_P and not 1 - UNLIKE < exceeds < UNLIKE:
            found.append(f"{name} {median(theirs):.3g} against {median(ours):.3g} in training")
    if not found:
        return None
    return Problem(
        "VALIDATION_UNLIKE",
        "validation images are unlike the training images",
        got="; ".join(f"median {text}" for text in found),
        do="expect worse scores on new images of either kind; let calco divide the images instead"
        " of giving it a validation folder, or add training images of that kind",
        severity="warning",
    )


def _figures(sample: Decoded) -> tuple[float, ...]:
    """Return what is compared, in the order of ``FIGURES``."""
    image, mask = sample.pixels()
    seen = image[::4, ::4]  # every 16th pixel tells as much
    return float(seen.mean()), float(seen.std()), float(mask.mean()), float(mask.size)


def not_learning(first_loss: float, loss: float, step: int, plan: Plan) -> Problem | None:
    """Return advice when the training loss is where it was before the first step.

    Args:
        first_loss: Mean over the first few steps.
        loss: Mean over the latest epoch.
        step: Optimiser steps done.
        plan: Settings in force.
    """
    if step < LEARNT_STEPS or not loss > FALLEN * first_loss:
        return None
    rate = f"fit.learning_rate (now {plan.learning_rate:g})"
    if loss > first_loss / FALLEN:
        cause, remedy = "steps are too large", f"lower {rate} tenfold"
    else:
        cause = "steps are too small, or the masks do not follow from the images"
        remedy = f"raise {rate} tenfold; if that does not help, look at calco audit"
    return Problem(
        "LOSS_FLAT",
        f"the training loss has not fallen in {step} steps",
        got=f"{loss:.3f}",
        expected=f"well below its start, {first_loss:.3f}",
        do=f"likely cause: {cause}; {remedy}",
        severity="warning",
    )


def collapsed(validation: Validation, plan: Plan, step: int) -> Problem | None:
    """Return advice when validation predicts hardly anything, or everything, as foreground.

    Args:
        validation: The latest pass.
        plan: Settings in force.
        step: Optimiser steps done.
    """
    true, pred = validation.true_fraction, validation.pred_fraction
    if pred > 0.98 and true < 0.9:
        return Problem(
            "COLLAPSE_FOREGROUND",
            "validation predicts only foreground",
            got=f"{pred:.1%} predicted",
            expected=f"about {true:.2%}",
            do="likely cause: a step that was too large; lower fit.learning_rate"
            f" (now {plan.learning_rate:g}), or train longer",
            severity="warning",
        )
    if not true > 0 or pred > 0.02 * true:
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

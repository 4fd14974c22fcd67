"""Learning-curve stage: what would twice as many labels give?

Quick trainings on an eighth, a quarter, half and all of the training groups, each given the same
time, are validated on the same images. Of them a curve is fitted, error against number of images,
both logarithmic: a straight line there is the power law that learning curves follow, and a slight
bend lets it level off at what cannot be learnt. What the curve says of twice as many images is
never more certain than its parts: which images were validated on, and the luck of each training.

Reference:
    Hestness et al. (2017), https://arxiv.org/abs/1712.00409; Viering and Loog (2023), The Shape
    of Learning Curves, https://doi.org/10.1109/TPAMI.2022.3220744
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from calco.records import ImageScore, LearningCurve, LearningPoint, Split, Subset

TrainOn = Callable[[Split, float, int], Sequence[ImageScore]]
"""Trains on a split for some seconds with a seed, and scores every validation image."""
Array = NDArray[np.float64]

SMALL_SET = 100  # training images, up to which nobody has to ask for it
LEAST_BUDGET_S = 600.0
BUDGET_SHARE = 0.1
MIN_IMAGES = 5  # fewer show one image's luck
MAX_SIZES = 4  # n/8, n/4, n/2, n
SMALLER = 0.75  # share of the next larger size, at most: what is closer tells nothing of a slope
SHORTEST_S = 20.0  # of a training; in less, time is missing and not labels
REPEAT_S = 60.0  # per training, beyond which a repeat of all sizes says more than longer trainings
MAX_CHAINS = 3
OVERRUN = 1.1  # trainings may take a little longer than they were given

DRAWS = 2000
INTERVAL = (0.025, 0.975)
LEAST_ERROR = 1e-3  # a Dice of 1 has no logarithm of its error
# What is believed before looking, in logarithms of the error (1 - Dice) per doubling of the images.
# A doubling takes nothing, give or take 26 %; the curve bends up by 1 %, give or take 3 %, which
# covers errors of which four fifths cannot be learnt. See tests/stages/test_learning_curve.py.
SLOPE = (0.0, 0.3)  # (mean, sd)
BEND = (0.01, 0.03)
LUCK = 0.05  # sd of a training on all images, relative to its error: 0.75 points at a Dice of 0.85
LUCK_FACTOR = 1.65  # by which that may well be too large or too small
LUCK_PER_HALVING = 2**0.25  # half the images, more luck


@dataclass(frozen=True)
class Trial:
    """One quick training.

    Attributes:
        n_images: Training images.
        dices: (images,) validation Dice, in one order for all trials.
    """

    n_images: int
    dices: Array


def worth_measuring(n_train: int, budget_s: float | None) -> bool:
    """Whether the question is open and the budget can pay for an answer.

    Args:
        n_train: Training images.
        budget_s: Of the whole run; None is unlimited, and nothing is measured unasked.
    """
    if budget_s is None:
        return False
    return 2 * MIN_IMAGES <= n_train <= SMALL_SET and budget_s >= LEAST_BUDGET_S


def measure_learning(
    train_on: TrainOn,
    split: Split,
    allowance_s: float,
    seed: int = 0,
    now: Callable[[], float] = time.monotonic,
) -> LearningCurve | None:
    """Train on nested parts of the training groups and say where more images would lead.

    With folds it is the first division that is halved. The test part stays out.

    Args:
        train_on: Trains and validates; hears of the split, the seconds and the seed.
        split: Whose training part is halved, by groups.
        allowance_s: For all trainings together.
        seed: Of the parts drawn, the trainings and the bootstrap.
        now: Seconds on some clock.

    Returns:
        The curve; None where groups or time are too few for two sizes.
    """
    parts = _parts(split, allowance_s, seed)
    if len({len(ids) for _, ids in parts}) < 2:
        return None
    division = split.divisions()[0]
    ids = [sample.id for sample in division.validation]
    each_s = allowance_s / len(parts)
    began_s, trials = now(), []
    for chain, train_ids in parts:
        if now() - began_s + each_s > OVERRUN * allowance_s:
            break
        # one seed for all sizes of a chain: they differ by their images alone
        scores = train_on(_only(split, train_ids, ids), each_s, seed + chain)
        dice_of = {score.id: score.dice for score in scores}
        trials.append(Trial(len(train_ids), np.array([dice_of[i] for i in ids])))
    if len({trial.n_images for trial in trials}) < 2:
        return None
    return forecast(trials, division.validation_groups, each_s, seed)


# --- parts of the training part ----------------------------------------------------------------


def _parts(split: Split, allowance_s: float, seed: int) -> list[tuple[int, list[str]]]:
    """Return the parts to train on, each with its chain: nested, the largest first."""
    n_sizes = min(MAX_SIZES, int(allowance_s / SHORTEST_S))
    n_chains = max(1, min(MAX_CHAINS, int(allowance_s / (REPEAT_S * MAX_SIZES))))
    groups = _training_groups(split)
    rng = np.random.default_rng(seed)
    return [(chain, ids) for chain in range(n_chains) for ids in _halved(groups, n_sizes, rng)]


def _training_groups(split: Split) -> list[list[str]]:
    """Return the ids of each group that the first training learns from, by name of the group."""
    train = {sample.id for sample in split.divisions()[0].train}
    groups: dict[str, list[str]] = {}
    for assignment in split.assignments:
        if assignment.id in train:
            groups.setdefault(assignment.group, []).append(assignment.id)
    return [groups[name] for name in sorted(groups)]


def _halved(
    groups: Sequence[Sequence[str]], n_sizes: int, rng: np.random.Generator
) -> Iterator[list[str]]:
    """Yield all ids, then about half of them, a quarter ...: whole groups, each part in the last.

    Parts that are too small, or not well smaller than the last one, are left out.
    """
    order = [groups[i] for i in rng.permutation(len(groups))]
    counts = np.cumsum([len(group) for group in order])  # (groups,)
    last = math.inf
    for halvings in range(n_sizes):
        n_groups = int(np.argmin(abs(counts - counts[-1] / 2**halvings))) + 1
        n_images = int(counts[n_groups - 1])
        if MIN_IMAGES <= n_images <= SMALLER * last:
            last = n_images
            yield [i for group in order[:n_groups] for i in group]


def _only(split: Split, train: Collection[str], validation: Collection[str]) -> Split:
    """Return one division as a split without folds and without test."""
    parts: dict[str, Subset] = dict.fromkeys(train, "train")
    parts.update(dict.fromkeys(validation, "validation"))
    kept = [a for a in split.assignments if a.id in parts]
    assignments = tuple(replace(a, subset=parts[a.id], fold=0) for a in kept)
    return Split(split.index.only(parts), assignments)


# --- where the curve leads ---------------------------------------------------------------------


def forecast(
    trials: Sequence[Trial], groups: Sequence[str], seconds_each: float = 0.0, seed: int = 0
) -> LearningCurve:
    """Fit the curve and say what twice as many images would add.

    The logarithm of the mean error is a parabola in log2 of the share of images, its slope and bend
    drawn towards what is believed of learning curves, the more so the less the trials agree. The
    band holds what comes from the validation images, groups resampled and widened for few groups,
    and from the luck of the trainings, whose size is learnt from their scatter about the curve.

    Args:
        trials: At least two sizes.
        groups: Group of each validation image.
        seconds_each: Time that each training was given.
        seed: Of the drawing.
    """
    sizes = np.array([trial.n_images for trial in trials])  # (trials,)
    doublings = np.log2(sizes / sizes.max())  # (trials,) at most 0
    dices = np.stack([trial.dices for trial in trials])  # (trials, images)
    rng = np.random.default_rng(seed)
    beliefs = _beliefs(doublings, errors := _log_error(dices.mean(axis=1)))
    best = np.einsum("s,sk->k", beliefs.shares, beliefs.pull @ errors + beliefs.push)  # (3,)
    means = {n: dices[sizes == n].mean(axis=1).tolist() for n in np.unique(sizes).tolist()}
    fitted = dict(zip(sizes.tolist(), 1 - _error(_powers(doublings) @ best), strict=True))
    points = tuple(LearningPoint(n, tuple(means[n]), float(fitted[n])) for n in means)
    band = (math.nan, math.nan)
    if len(set(groups)) > 1:
        drawn = errors + _deviations(dices, groups, rng)  # (draws, trials)
        low, high = np.quantile(_gain(beliefs.draw(drawn, rng)), INTERVAL)
        band = (float(low), float(high))
    return LearningCurve(points, float(_gain(best)), band, dices.shape[1], seconds_each)


@dataclass(frozen=True)
class _Beliefs:
    """What the coefficients may be, for each size of luck that is considered.

    Attributes:
        shares: (lucks,) probability of each size of luck.
        pull: (lucks, 3, trials) maps log errors to the mean of the coefficients.
        push: (lucks, 3) what the beliefs held before add to it.
        roots: (lucks, 3, 3) Cholesky factors of the covariance.
    """

    shares: Array
    pull: Array
    push: Array
    roots: Array

    def draw(self, errors: Array, rng: np.random.Generator) -> Array:
        """Draw coefficients, (draws, 3), one for each row of (draws, trials) log errors."""
        which = rng.choice(len(self.shares), size=len(errors), p=self.shares)
        noise = rng.standard_normal((len(errors), 3))
        means = np.einsum("dkt,dt->dk", self.pull[which], errors) + self.push[which]
        scattered: Array = means + np.einsum("dkl,dl->dk", self.roots[which], noise)
        return scattered


def _beliefs(doublings: Array, errors: Array) -> _Beliefs:
    """Regress log errors on doublings; the luck of a training is learnt with the curve.

    Args:
        doublings: (trials,) log2 of the share of images.
        errors: (trials,) log errors.

    Reference:
        Gelman et al. (2013), Bayesian Data Analysis, chapter 14; the grid is that of chapter 10.
    """
    steps = np.linspace(-2.5, 2.5, 21)  # standard deviations of log luck
    scale = LUCK * LUCK_FACTOR ** steps[:, None]  # (lucks, 1)
    variance = (scale * LUCK_PER_HALVING**-doublings) ** 2  # (lucks, trials)
    powers = _powers(doublings)  # (trials, 3)
    before = np.array([errors.mean(), SLOPE[0], BEND[0]])  # (3,)
    spread = np.diag([5.0, SLOPE[1], BEND[1]]) ** 2  # (3, 3); the level is left open
    precise = np.linalg.inv(spread)
    weighed = powers.T / variance[:, None, :]  # (lucks, 3, trials)
    covariance = np.linalg.inv(precise + weighed @ powers)  # (lucks, 3, 3)
    expected = variance[:, :, None] * np.eye(len(errors)) + powers @ spread @ powers.T
    off = errors - powers @ before  # (trials,)
    misfit = np.einsum("t,ltu,u->l", off, np.linalg.inv(expected), off)
    evidence = -0.5 * (np.linalg.slogdet(expected)[1] + misfit + steps**2)  # (lucks,) logarithms
    shares = np.exp(evidence - evidence.max())
    return _Beliefs(
        shares=shares / shares.sum(),
        pull=covariance @ weighed,
        push=covariance @ precise @ before,
        roots=np.linalg.cholesky(covariance),
    )


def _deviations(dices: Array, groups: Sequence[str], rng: np.random.Generator) -> Array:
    """Resample validation groups and return by how much log errors move, (draws, trials).

    The percentile bootstrap is too narrow with few groups: it is widened as Student's t is.

    Reference:
        Hesterberg (2015), https://doi.org/10.1080/00031305.2015.1089789
    """
    names, group_of = np.unique(np.array(groups, dtype=str), return_inverse=True)
    n_groups = len(names)
    sums = np.stack([np.bincount(group_of, row) for row in dices], axis=1)  # (groups, trials)
    times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), DRAWS)  # (draws, groups)
    means = times @ sums / (times @ np.bincount(group_of))[:, None]  # (draws, trials)
    quantile = student_t.ppf(INTERVAL[1], n_groups - 1) / NormalDist().inv_cdf(INTERVAL[1])
    widened = quantile * math.sqrt(n_groups / (n_groups - 1))
    moved: Array = widened * (_log_error(means) - _log_error(dices.mean(axis=1)))
    return moved


def _powers(doublings: Array) -> Array:
    """Return level, slope and bend per trial, (trials, 3)."""
    return np.stack([np.ones_like(doublings), doublings, doublings**2], axis=1)


def _log_error(dices: Array) -> Array:
    return np.log(np.clip(1 - dices, LEAST_ERROR, 1))


def _error(log_errors: Array) -> Array:
    return np.exp(np.minimum(log_errors, 0))  # a Dice below 0 there is not


def _gain(coefficients: Array) -> Array:
    """Return the error now minus that one doubling on, of (..., 3) coefficients."""
    difference: Array = _error(coefficients[..., 0]) - _error(coefficients.sum(axis=-1))
    return difference

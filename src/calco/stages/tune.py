"""Tune stage: choose threshold and clean-up on the validation part.

Everything is searched from counts: one histogram per image gives its Dice at all thresholds at
once, and one component labelling per image and level gives its Dice for all limits of area, or of
peak probability, at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calco.config import TuneConfig
from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean, label_holes, label_objects
from calco.metrics.summary import score_image
from calco.records import Postprocess

Curve = NDArray[np.float64]

CUTS = np.arange(255)  # level > cut is foreground; cut 127 is threshold 0.5
HALF = 127
TOLERANCE = 0.0005  # Dice differences below it are noise: such settings share a plateau
MIN_GAIN = 0.001  # a clean-up that gains less, or less than its standard error, is not worth having
SMOOTH = 9  # levels averaged, so that one lucky level does not win
AREA_QUANTILE = 0.05  # area limits spare at least 95 % of the true objects
N_AREAS = 12
# denser towards 255, as networks are mostly sure; 0 removes nothing
PEAKS = np.append(0, np.rint(255 - np.geomspace(125, 2, 12))).astype(np.int64)
SCALES = (0.8, 1.25)  # of an image, besides its own
MAX_CUTS = 8
REFINEMENTS = 3
NEAR_CUTS = 6  # levels over which a gain hardly bends
# pixels labelled in the search for an area limit, about 5 s on one core; fewer cuts beyond that
LABELLED_PX = 400_000_000


def tune_postprocess(maps: Sequence[ProbMap], config: TuneConfig) -> Postprocess:
    """Choose what maximises the mean per-image Dice of the validation maps.

    To keep the choice from following the noise of few images, thresholds are taken from the middle
    of the smoothed curve's plateau, area limits stay below the size of nearly all true objects,
    and a clean-up has to gain ``MIN_GAIN`` and more than its standard error.

    Args:
        maps: Validation part only; the test part is never seen here.
        config: What may be tuned.

    Returns:
        The settings; ``note`` says what they rest on and what they gained. Defaults when tuning is
        off, there is no map, or nothing beats them.
    """
    if not config.enabled:
        return Postprocess(note="defaults: tuning is off")
    if not maps:
        return Postprocess(note="defaults: no validation images")
    score = functools.cache(functools.partial(_dices, maps))
    curve = _threshold_curve(maps)
    tuned = Postprocess(threshold=_threshold(_plateau_centre(_smoothed(curve), toward=HALF)))
    limits = _area_limits(maps)
    if config.min_area and len(limits) > 1:
        cleaner, cleaner_curve = _without_small(maps, curve, limits)
        if _is_worth_having(score(cleaner), score(tuned)):
            tuned, curve = cleaner, cleaner_curve
    if config.min_peak and any(m.true.any() for m in maps):
        cleaner = _without_doubtful(maps, curve, tuned)
        tuned = cleaner if _is_worth_having(score(cleaner), score(tuned)) else tuned
    if config.fill_holes and len(limits) > 1:
        cleaner = _with_holes(maps, tuned, limits)
        tuned = cleaner if _is_worth_having(score(cleaner), score(tuned)) else tuned
    before, after = score(Postprocess()).mean(), score(tuned).mean()
    source = f"{len(maps)} validation images: Dice {before:.3f} at 0.5"
    if after <= before:
        return Postprocess(note=f"{source}, nothing better found")
    return replace(tuned, note=f"{source} -> {after:.3f}")


def looks_to_try(config: TuneConfig) -> tuple[Postprocess, ...]:
    """Return the ways to see an image that are tried one after the other, each with more views."""
    if not config.enabled:
        return ()
    looks = []
    if config.flips:
        looks.append(Postprocess(flips=True))
    if config.turns:
        looks.append(Postprocess(flips=config.flips, turns=True))
    if config.scales:
        looks.append(Postprocess(flips=config.flips, turns=config.turns, scales=SCALES))
    return tuple(looks)


def tune_viewed(
    tuned: tuple[Sequence[ProbMap], Postprocess],
    viewed: Sequence[ProbMap],
    look: Postprocess,
    config: TuneConfig,
) -> Postprocess:
    """Tune on maps that are means over more views, and keep what is better.

    Args:
        tuned: Validation part as seen so far, and what was tuned on it.
        viewed: The same images, seen otherwise.
        look: How.
        config: What may be tuned.

    Returns:
        The settings with the views of the better; ``note`` goes on with what was tried.
    """
    maps, params = tuned
    other = tune_postprocess(viewed, config)
    before, after = _dices(maps, params), _dices(viewed, other)
    named = _views_in_words(look)
    if not _is_worth_having(after, before):
        return replace(params, note=f"{params.note}; {named}: {after.mean():.3f}, not used")
    note = f"{params.note}; with {named} {after.mean():.3f}"
    chosen = replace(other, flips=look.flips, turns=look.turns, scales=look.scales)
    return replace(chosen, mean=look.mean, note=note)


def _views_in_words(look: Postprocess) -> str:
    """Say what comes with the last view added: ``mirror images, logits averaged``."""
    words = "mirror images"
    if look.turns:
        words = "quarter turns"
    if look.scales:
        words = f"scales {', '.join(f'{scale:g}' for scale in look.scales)}"
    return f"{words}, logits averaged" if look.mean == "logit" else words


def nested_dice(folds: Sequence[Sequence[ProbMap]], config: TuneConfig) -> float:
    """Score each fold with settings tuned on the others: validation without tuning's optimism.

    Args:
        folds: Out-of-fold maps of each fold.
        config: What may be tuned.

    Returns:
        Mean per-image Dice over all maps; NaN with a single fold, which has no others.
    """
    if len(folds) < 2:
        return math.nan
    scores = []
    for number, held_out in enumerate(folds):
        others = [m for i, fold in enumerate(folds) if i != number for m in fold]
        params = tune_postprocess(others, config)
        scores += [_dice_of(m, params) for m in held_out]
    return math.fsum(scores) / len(scores)


def _threshold_curve(maps: Sequence[ProbMap]) -> Curve:
    """Return the mean Dice at every cut, (255,)."""
    curves = []
    for m in maps:
        # one pass: levels of false pixels fill the first 256 bins, of true ones the last
        coded = m.levels + np.uint16(256) * m.true
        false, true = np.bincount(coded.ravel(), minlength=512).reshape(2, 256)
        tp, fp = _above(true), _above(false)
        curves.append(_dice(tp, tp + fp, int(true.sum())))
    return _mean(curves)


def _above(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the pixels above each cut, (255,), from a (256,) histogram of levels."""
    return histogram[::-1].cumsum()[::-1][1:]


def _without_small(
    maps: Sequence[ProbMap], curve: Curve, limits: NDArray[np.int64]
) -> tuple[Postprocess, Curve]:
    """Choose threshold and smallest object together; return the Dice at every cut then, too."""

    def gains(cuts: NDArray[np.int64]) -> Curve:
        return _mean([_object_gains(m, cuts, limits) for m in maps])  # (limits, cuts)

    row, cut, better = _search(curve, _cuts_to_label(maps, int(np.argmax(curve))), gains)
    return Postprocess(threshold=_threshold(cut), min_area_px=int(limits[row])), better


def _without_doubtful(maps: Sequence[ProbMap], curve: Curve, params: Postprocess) -> Postprocess:
    """Choose threshold and lowest peak of an object together."""

    def gains(cuts: NDArray[np.int64]) -> Curve:
        return _mean([_peak_gains(m, cuts, params.min_area_px) for m in maps])  # (peaks, cuts)

    row, cut, _ = _search(curve, _cuts_to_label(maps, int(np.argmax(curve))), gains)
    peak = _threshold(int(PEAKS[row])) if row else 0.0
    return replace(params, threshold=_threshold(cut), min_peak=peak)


def _search(
    curve: Curve, cuts: NDArray[np.int64], gains_at: Callable[[NDArray[np.int64]], Curve]
) -> tuple[int, int, Curve]:
    """Choose a limit and a cut together: each changes what is best for the other.

    What a limit gains is measured at a few cuts and interpolated between them; where the best
    looks far from any measured cut, one more is measured there, as gains can bend.

    Args:
        curve: Dice at every cut without a limit, (255,).
        cuts: To measure at, rising.
        gains_at: What each limit adds at given cuts, (limits, cuts).

    Returns:
        Number of the limit, cut, and the Dice at every cut with that limit.
    """
    gains = gains_at(cuts)
    for _ in range(REFINEMENTS):
        row, cut = _best_limit_and_cut(curve, cuts, gains)
        if np.abs(cuts - cut).min() <= NEAR_CUTS:
            break
        at = int(np.searchsorted(cuts, cut))
        gains = np.insert(gains, at, gains_at(np.array([cut]))[:, 0], axis=1)
        cuts = np.insert(cuts, at, cut)
    row, cut = _best_limit_and_cut(curve, cuts, gains)
    return row, cut, curve + np.interp(CUTS, cuts, gains[row])


def _best_limit_and_cut(plain: Curve, cuts: NDArray[np.int64], gains: Curve) -> tuple[int, int]:
    curves = [_smoothed(plain + np.interp(CUTS, cuts, gain)) for gain in gains]
    row = _plateau_centre(np.array([curve.max() for curve in curves]))
    return row, _plateau_centre(curves[row], toward=HALF)


def _object_gains(m: ProbMap, cuts: NDArray[np.int64], limits: NDArray[np.int64]) -> Curve:
    """Return the Dice that each area limit adds at each cut, (limits, cuts)."""
    n_true = int(np.count_nonzero(m.true))
    scores = np.empty((len(limits), len(cuts)))
    for column, cut in enumerate(cuts):
        labels, areas = label_objects(m.levels > cut)
        hits = _true_pixels(labels, areas, m.true)
        kept, found = _from_limit_up(areas, np.stack([areas, hits]), limits)
        scores[:, column] = _dice(found, kept, n_true)
    gains: Curve = scores - scores[0]
    return gains


def _peak_gains(m: ProbMap, cuts: NDArray[np.int64], min_area_px: int) -> Curve:
    """Return the Dice that each peak of ``PEAKS`` adds at each cut, (peaks, cuts)."""
    n_true = int(np.count_nonzero(m.true))
    scores = np.empty((len(PEAKS), len(cuts)))
    for column, cut in enumerate(cuts):
        mask = m.levels > cut
        labels, areas = label_objects(mask)
        sums = np.stack([areas, _true_pixels(labels, areas, m.true)])
        sums[:, areas < min_area_px] = 0  # gone already
        peaks = np.zeros(len(areas), np.int64)  # 0 stays for the background
        inside = m.levels[mask]
        rising = np.argsort(inside, kind="stable")  # by radix, as they are bytes
        peaks[labels[mask][rising]] = inside[rising]  # the last one stays: the largest
        kept, found = _from_limit_up(peaks, sums, PEAKS + 1)
        scores[:, column] = _dice(found, kept, n_true)
    gains: Curve = scores - scores[0]
    return gains


def _with_holes(
    maps: Sequence[ProbMap], params: Postprocess, limits: NDArray[np.int64]
) -> Postprocess:
    """Add the best filling of small holes."""
    scores = _mean([_hole_scores(m, params, limits) for m in maps])  # (limits,)
    return replace(params, max_hole_px=int(limits[_plateau_centre(scores)]))


def _hole_scores(m: ProbMap, params: Postprocess, limits: NDArray[np.int64]) -> Curve:
    """Return the Dice after filling holes up to each limit, (limits,)."""
    mask = clean(m.levels, params)
    labels, areas = label_holes(mask)
    hits = _true_pixels(labels, areas, m.true)
    # limits are inclusive for holes: what is filled is all but the holes of limit + 1 and more
    inside = areas <= limits[-1]
    areas, hits = areas[inside], hits[inside]
    larger, larger_hits = _from_limit_up(areas, np.stack([areas, hits]), limits + 1)
    pred = np.count_nonzero(mask) + areas.sum() - larger
    tp = np.count_nonzero(mask & m.true) + hits.sum() - larger_hits
    return _dice(tp, pred, int(np.count_nonzero(m.true)))


def _area_limits(maps: Sequence[ProbMap]) -> NDArray[np.int64]:
    """Return candidate limits: 0, then rising to a size that nearly all true objects exceed."""
    areas = np.concatenate([label_objects(m.true)[1][1:] for m in maps])
    largest = np.quantile(areas, AREA_QUANTILE) if len(areas) else 0
    if largest < 2:
        return np.array([0])
    return np.unique([0, *np.geomspace(2, largest, N_AREAS).astype(int)])


def _cuts_to_label(maps: Sequence[ProbMap], best: int) -> NDArray[np.int64]:
    """Return the cuts at which objects are labelled: spread evenly, and the best plain one."""
    affordable = LABELLED_PX // sum(m.true.size for m in maps)
    spread = np.linspace(8, 246, int(np.clip(affordable, 3, MAX_CUTS))).astype(int)
    return np.union1d(spread, [best])


def _true_pixels(
    labels: NDArray[np.int32], areas: NDArray[np.int64], true: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count the true pixels of each label."""
    return np.bincount(labels[true], minlength=len(areas))


def _from_limit_up(
    keys: NDArray[np.int64], values: NDArray[np.int64], limits: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sum the values of the regions whose key is at least each limit.

    Args:
        keys: (regions,); 0 marks the background, which is in no sum.
        values: (values, regions).
        limits: (limits,).

    Returns:
        (values, limits).
    """
    order = np.argsort(keys)
    first = np.searchsorted(keys[order], np.maximum(limits, 1))
    sums = np.zeros((len(values), len(keys) + 1), np.int64)
    sums[:, :-1] = values[:, order[::-1]].cumsum(axis=1)[:, ::-1]
    totals: NDArray[np.int64] = sums[:, first]
    return totals


def _dice(tp: NDArray[np.int64], pred: NDArray[np.int64], n_true: int) -> Curve:
    """Return the Dice of many masks against one truth; both empty = 1, as in the scores."""
    size = pred + n_true
    return np.where(size > 0, 2 * tp / np.maximum(size, 1), 1.0)


def _is_worth_having(after: Curve, before: Curve) -> bool:
    """Whether per-image Dice rises by enough, and by more than a few lucky images would do."""
    gains = after - before  # (images,)
    return bool(gains.mean() >= max(MIN_GAIN, gains.std() / math.sqrt(len(gains))))


def _dices(maps: Sequence[ProbMap], params: Postprocess) -> Curve:
    """Return the Dice of each image, sorted by id so that their order cannot tip a near tie."""
    ordered = sorted(maps, key=lambda m: m.id)
    return np.array([_dice_of(m, params) for m in ordered])


def _dice_of(m: ProbMap, params: Postprocess) -> float:
    return score_image(m.id, m.group, "validation", clean(m.levels, params), m.true).dice


def _mean(curves: Sequence[Curve]) -> Curve:
    """Average over images; sorted first, so that their order cannot tip a near tie."""
    mean: Curve = np.sort(np.stack(curves), axis=0).mean(axis=0)
    return mean


def _smoothed(curve: Curve) -> Curve:
    """Average each cut with its neighbours; fewer at the ends."""
    window = np.ones(SMOOTH)
    weights = np.convolve(np.ones_like(curve), window, mode="same")
    return np.convolve(curve, window, mode="same") / weights


def _plateau_centre(curve: Curve, toward: int = 0) -> int:
    """Return the middle of the stretch around the best value that is as good but for noise.

    Of several best stretches the one whose middle is nearest to ``toward`` is taken.
    """
    good = curve >= curve.max() - TOLERANCE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]  # (stretches,)
    peaks = np.maximum.reduceat(np.where(good, curve, -1.0), starts)
    middles = (starts + stops - 1) / 2
    nearest = np.lexsort((np.abs(middles - toward), -np.round(peaks, 9)))[0]
    low, high = np.floor(middles[nearest]), np.ceil(middles[nearest])
    return int(min(low, high, key=lambda middle: abs(middle - toward)))


def _threshold(cut: int) -> float:
    """Return a probability between a cut and the next level, short enough to be read."""
    return round((cut + 0.5) / 255, 3)

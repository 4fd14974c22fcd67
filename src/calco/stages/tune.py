"""Tune stage: choose threshold and clean-up on the validation part.

Everything is searched from counts: one histogram per image gives its Dice at all thresholds at
once, and one component labelling per image and level gives its Dice for all area limits at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
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
MIN_GAIN = 0.001  # a clean-up that gains less is not worth having
SMOOTH = 9  # levels averaged, so that one lucky level does not win
AREA_QUANTILE = 0.05  # area limits spare at least 95 % of the true objects
N_AREAS = 12
MAX_CUTS = 8
REFINEMENTS = 3
NEAR_CUTS = 6  # levels over which a gain hardly bends
# pixels labelled in the search for an area limit, about 5 s on one core; fewer cuts beyond that
LABELLED_PX = 400_000_000


def tune_postprocess(maps: Sequence[ProbMap], config: TuneConfig) -> Postprocess:
    """Choose what maximises the mean per-image Dice of the validation maps.

    To keep the choice from following the noise of few images, thresholds are taken from the middle
    of the smoothed curve's plateau, area limits stay below the size of nearly all true objects,
    and a clean-up has to gain ``MIN_GAIN``.

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
    score = functools.cache(functools.partial(_mean_dice, maps))
    plain = _threshold_curve(maps)
    tuned = Postprocess(threshold=_threshold(_plateau_centre(_smoothed(plain), toward=HALF)))
    limits = _area_limits(maps)
    if config.min_area and len(limits) > 1:
        cleaner = _with_objects(maps, plain, limits)
        tuned = cleaner if score(cleaner) >= score(tuned) + MIN_GAIN else tuned
    if config.fill_holes and len(limits) > 1:
        cleaner = _with_holes(maps, tuned, limits)
        tuned = cleaner if score(cleaner) >= score(tuned) + MIN_GAIN else tuned
    before, after = score(Postprocess()), score(tuned)
    source = f"{len(maps)} validation images: Dice {before:.3f} at 0.5"
    if after <= before:
        return Postprocess(note=f"{source}, nothing better found")
    return replace(tuned, note=f"{source} -> {after:.3f}")


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


def _with_objects(maps: Sequence[ProbMap], plain: Curve, limits: NDArray[np.int64]) -> Postprocess:
    """Choose threshold and smallest object together: each changes what is best for the other.

    What a limit gains is measured at a few cuts and interpolated between them; where the best
    looks far from any measured cut, one more is measured there, as gains can bend.
    """
    cuts = _cuts_to_label(maps, int(np.argmax(plain)))
    gains = _mean_gains(maps, cuts, limits)
    for _ in range(REFINEMENTS):
        row, cut = _best_limit_and_cut(plain, cuts, gains)
        if np.abs(cuts - cut).min() <= NEAR_CUTS:
            break
        at = int(np.searchsorted(cuts, cut))
        gains = np.insert(gains, at, _mean_gains(maps, np.array([cut]), limits)[:, 0], axis=1)
        cuts = np.insert(cuts, at, cut)
    row, cut = _best_limit_and_cut(plain, cuts, gains)
    return Postprocess(threshold=_threshold(cut), min_area_px=int(limits[row]))


def _best_limit_and_cut(plain: Curve, cuts: NDArray[np.int64], gains: Curve) -> tuple[int, int]:
    curves = [_smoothed(plain + np.interp(CUTS, cuts, gain)) for gain in gains]
    row = _plateau_centre(np.array([curve.max() for curve in curves]))
    return row, _plateau_centre(curves[row], toward=HALF)


def _mean_gains(
    maps: Sequence[ProbMap], cuts: NDArray[np.int64], limits: NDArray[np.int64]
) -> Curve:
    return _mean([_object_gains(m, cuts, limits) for m in maps])  # (limits, cuts)


def _object_gains(m: ProbMap, cuts: NDArray[np.int64], limits: NDArray[np.int64]) -> Curve:
    """Return the Dice that each area limit adds at each cut, (limits, cuts)."""
    n_true = int(np.count_nonzero(m.true))
    scores = np.empty((len(limits), len(cuts)))
    for column, cut in enumerate(cuts):
        labels, areas = label_objects(m.levels > cut)
        kept, hits = _from_area_up(areas, _true_pixels(labels, areas, m.true), limits)
        scores[:, column] = _dice(hits, kept, n_true)
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
    larger, larger_hits = _from_area_up(areas, hits, limits + 1)
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


def _from_area_up(
    areas: NDArray[np.int64], hits: NDArray[np.int64], limits: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum areas and true pixels over the regions of at least each limit, twice (limits,)."""
    order = np.argsort(areas)
    first = np.searchsorted(areas[order], np.maximum(limits, 1))  # area 0 marks the background
    totals = [np.append(x[order][::-1].cumsum()[::-1], 0)[first] for x in (areas, hits)]
    return totals[0], totals[1]


def _dice(tp: NDArray[np.int64], pred: NDArray[np.int64], n_true: int) -> Curve:
    """Return the Dice of many masks against one truth; both empty = 1, as in the scores."""
    size = pred + n_true
    return np.where(size > 0, 2 * tp / np.maximum(size, 1), 1.0)


def _mean_dice(maps: Sequence[ProbMap], params: Postprocess) -> float:
    return math.fsum(
        score_image(m.id, m.group, "validation", clean(m.levels, params), m.true).dice for m in maps
    ) / len(maps)


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

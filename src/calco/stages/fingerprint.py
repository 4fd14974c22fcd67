"""Stage: what the training part looks like, for the plan and for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calco.images.fingerprint import Measures, measure
from calco.records import Fingerprint, Quantiles, Split
from calco.training.cache import Decoded, evenly

MOST_MEASURED = 150
"""Images measured: shares are then known to 4 %, and small images take half a second."""
SHARES = (0.05, 0.5, 0.95)


def take_fingerprint(
    samples: Sequence[Decoded], split: Split, threads: int | None = None
) -> Fingerprint:
    """Measure the training part.

    At most ``MOST_MEASURED`` images are looked at, evenly chosen by id; neither the order of the
    samples nor the number of threads changes a figure.

    Args:
        samples: Decoded training part; nothing else may be in it.
        split: Of which it is a part; says which images belong together.
        threads: That measure side by side; None takes what the machine has.
    """
    ordered = sorted(samples, key=lambda sample: sample.id)
    chosen = evenly(ordered, MOST_MEASURED)
    with ThreadPoolExecutor(threads) as pool:  # OpenCV releases the GIL
        measured = list(pool.map(lambda sample: measure(*sample.pixels()), chosen))
    filled = [m for m in measured if m.foreground_fraction > 0]

    def over(of: Sequence[Measures], figure: Callable[[Measures], float]) -> Quantiles:
        return _quantiles([figure(m) for m in of])

    ids = {sample.id for sample in ordered}
    return Fingerprint(
        n_images=len(ordered),
        n_groups=len({a.group for a in split.assignments if a.id in ids}),
        n_measured=len(measured),
        channels=split.index.spec.channels,
        height_px=_quantiles([s.size[0] for s in ordered]),
        width_px=_quantiles([s.size[1] for s in ordered]),
        intensity=_level_quantiles([m.levels for m in measured]),
        contrast=over(filled, lambda m: m.contrast),
        texture_px=over(measured, lambda m: m.texture_px),
        empty_fraction=_mean(m.foreground_fraction == 0 for m in measured),
        foreground_fraction=over(filled, lambda m: m.foreground_fraction),
        mean_foreground_fraction=_mean(m.foreground_fraction for m in measured),
        blank_tile_fraction=_mean(m.blank_tile_fraction for m in measured),
        n_objects=over(filled, lambda m: m.n_objects),
        diameter_px=_pooled(m.diameters_px for m in filled),
        thickness_px=_pooled(m.thickness_px for m in filled),
        half_scale_dice=_mean(m.half_scale_dice for m in filled),
        quarter_scale_dice=_mean(m.quarter_scale_dice for m in filled),
    )


def _quantiles(values: ArrayLike) -> Quantiles:
    """Return the quantiles of the values that are not NaN."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return Quantiles(*map(float, np.quantile(known, SHARES))) if known.size else Quantiles()


def _pooled(values: Iterable[NDArray[np.float32]]) -> Quantiles:
    return _quantiles(np.concatenate([np.empty(0, np.float32), *values]))


def _level_quantiles(levels: Sequence[NDArray[np.float64]]) -> Quantiles:
    """Return the smallest grey levels up to which these shares of the values lie."""
    if not levels:
        return Quantiles()
    below = np.cumsum(np.mean(levels, axis=0))  # (256,), up to 1 but for rounding
    return Quantiles(*(float(np.searchsorted(below, share - 1e-9)) for share in SHARES))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan

"""Label stage: rank masks that a model which has not seen them contradicts, surely and in kind.

Three things are asked of every mask, each in units of Dice: what would be gained if objects that
the model is sure of were added, if objects that it sees nothing of were removed, and if the mask
were shifted. A model errs in these ways on right masks too, by its own measure on every data set:
each gain is divided by what it reaches on nine tenths of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.files import write_csv
from calco.inference.maps import ProbMap
from calco.inference.postprocess import clean, label_objects
from calco.inference.quality import estimate_dice
from calco.metrics.counts import count
from calco.metrics.overlap import dice
from calco.records import Box, LabelSuspicion, Postprocess

TYPICAL = 0.9  # quantile over images of what a model's own errors make of a gain
FLOOR = 0.01  # Dice; gains below are of no interest, however rare they are in a set
SUSPICIOUS = 2.0  # times what is typical
ALONE = 0.1  # share of an object that the other mask may cover
SHIFT_PX = 24  # farthest shift looked for
SHIFT_SIDE_PX = 256  # masks are compared at about this size
SWAPPED_BELOW = 0.4  # Dice that a swapped mask may still reach
SWAPPED_GAIN = 0.2  # Dice that the other image's mask must be better by
THUMBNAIL_PX = 48  # of masks, when one is sought among all

COLUMNS = (
    *("rank", "id", "kind", "score", "dice", "estimated_dice", "detail"),
    *("row", "col", "height", "width"),
)
Mask = NDArray[np.bool_]


class _Evidence(NamedTuple):
    """What speaks against one mask: gains in Dice, and where or how."""

    missed: float
    extra: float
    shifted: float
    missed_box: Box | None
    extra_box: Box | None
    shift: tuple[int, int]


def find_label_errors(maps: Sequence[ProbMap], params: Postprocess) -> tuple[LabelSuspicion, ...]:
    """Rank the masks that are probably wrong, the most suspicious first.

    Args:
        maps: Predictions by models that were not trained on these masks: out-of-fold, validation
            or test.
        params: From probability to mask.

    Returns:
        Only masks whose score exceeds ``SUSPICIOUS``; in a set without errors these are the
        images that the model fails on most confidently, still worth a look.
    """
    if not maps:
        return ()
    preds = [clean(m.levels, params) for m in maps]
    evidence = [_evidence(m, pred) for m, pred in zip(maps, preds, strict=True)]
    gains = np.array([e[:3] for e in evidence])  # (images, 3)
    scores = gains / (np.quantile(gains, TYPICAL, axis=0) + FLOOR)  # (images, 3)
    fits = [dice(count(pred, m.true)) for m, pred in zip(maps, preds, strict=True)]
    owners = dict(_owners(maps, preds, fits))
    found = []
    for i in np.flatnonzero(scores.sum(axis=1) > SUSPICIOUS).tolist():
        kind, detail, box = _told(evidence[i], int(np.argmax(scores[i])), owners.get(i))
        found.append(
            LabelSuspicion(
                id=maps[i].id,
                kind=kind,
                score=float(scores[i].sum()),
                dice=1.0 if np.isnan(fits[i]) else fits[i],
                estimated_dice=estimate_dice(maps[i].levels, preds[i]),
                detail=detail,
                box=box,
            )
        )
    return tuple(sorted(found, key=lambda s: (-s.score, s.id)))


def write_suspicions(found: Sequence[LabelSuspicion], path: Path) -> None:
    """Write the suspicions as a table, one row each; a row without a place has no box."""
    rows = [
        (rank, s.id, s.kind, s.score, s.dice, s.estimated_dice, s.detail, *(s.box or ("",) * 4))
        for rank, s in enumerate(found, start=1)
    ]
    write_csv(path, COLUMNS, rows)


def _evidence(m: ProbMap, pred: Mask) -> _Evidence:
    both = int(np.count_nonzero(pred)) + int(np.count_nonzero(m.true))
    missed, missed_box = _alone(pred, m.true, m.levels)
    extra, extra_box = _alone(m.true, pred, np.uint8(255) - m.levels)
    overlap, shift = _best_shift(pred, m.true)
    missed, extra, overlap = (2 * pixels / max(both, 1) for pixels in (missed, extra, overlap))
    return _Evidence(missed, extra, overlap, missed_box, extra_box, shift)


def _alone(mask: Mask, other: Mask, levels: NDArray[np.uint8]) -> tuple[float, Box | None]:
    """Weigh the objects of a mask that the other one lacks.

    Args:
        mask: (H, W) bool.
        other: (H, W) bool.
        levels: (H, W) uint8, how sure the model is that the objects are right.

    Returns:
        Their pixels, each object by how far its mean certainty exceeds one half, and the box
        around the weightiest.
    """
    labels, areas = label_objects(mask)
    covered = np.bincount(labels[other], minlength=len(areas))  # (objects,)
    sure = np.bincount(labels[mask], levels[mask], len(areas)) / np.maximum(areas, 1) / 255
    weights = areas * (covered <= ALONE * areas) * np.clip(2 * sure - 1, 0, 1)
    weights[0] = 0  # the background
    heaviest = int(np.argmax(weights))
    if not weights[heaviest]:
        return 0.0, None
    col, row, width, height = cv2.boundingRect((labels == heaviest).view(np.uint8))
    return float(weights.sum()), Box(row, col, height, width)


def _best_shift(pred: Mask, true: Mask) -> tuple[float, tuple[int, int]]:
    """Return the pixels of overlap gained by the best shift of the truth, and the shift in px.

    All shifts are tried at once, as one product of spectra.
    """
    step = max(1, round(max(true.shape) / SHIFT_SIDE_PX))
    height, width = (-(-side // step) for side in true.shape)
    small = [
        cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for mask in (pred, true)
    ]
    most = max(1, SHIFT_PX // step)
    size = (height + 2 * most, width + 2 * most)  # room to shift without wrapping around
    spectra = [np.fft.rfft2(mask, size) for mask in small]
    overlap = np.fft.irfft2(spectra[0] * np.conj(spectra[1]), size)
    near = np.roll(overlap, (most, most), (0, 1))[: 2 * most + 1, : 2 * most + 1]
    best = np.unravel_index(int(near.argmax()), near.shape)
    gain = float(near[best] - near[most, most]) * step**2
    return max(gain, 0.0), (int(best[0] - most) * step, int(best[1] - most) * step)


def _owners(
    maps: Sequence[ProbMap], preds: Sequence[Mask], fits: Sequence[float]
) -> Iterator[tuple[int, str]]:
    """Yield images whose mask does not fit at all, and whose mask it seems to be."""
    lost = [i for i, fit in enumerate(fits) if fit < SWAPPED_BELOW and maps[i].true.any()]
    pictures = np.stack([_thumbnail(pred) for pred in preds]) if lost else np.empty(0)
    for i in lost:
        mask = _thumbnail(maps[i].true)  # (pixels,)
        shared = 2 * np.minimum(pictures, mask).sum(axis=1)
        likeness = shared / np.maximum(pictures.sum(axis=1) + mask.sum(), 1e-9)  # (images,)
        likeness[[m.true.shape != maps[i].true.shape for m in maps]] = 0
        likeness[i] = 0
        best = int(np.argmax(likeness))
        if likeness[best] > max(fits[i] + SWAPPED_GAIN, SWAPPED_BELOW):
            yield i, maps[best].id


def _thumbnail(mask: Mask) -> NDArray[np.float32]:
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    flat: NDArray[np.float32] = small.ravel()  # (pixels,)
    return flat


def _told(evidence: _Evidence, strongest: int, owner: str | None) -> tuple[str, str, Box | None]:
    """Return kind, words and place of the strongest evidence."""
    if owner is not None:
        return "swapped", f"fits the picture {owner} better", None
    match strongest:
        case 0:
            return "missed object", "the model is sure of an object here", evidence.missed_box
        case 1:
            return "extra object", "the model sees nothing here", evidence.extra_box
        case _:
            rows, cols = evidence.shift
            return "shifted", f"fits better moved by {rows:+d} rows, {cols:+d} columns", None

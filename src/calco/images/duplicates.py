"""Twins: images so alike that a split must not separate them.

An image is remembered as a thumbnail (``signature``). Thumbnails are compared in two steps: at
16 x 16 pixels against all others, turned, mirrored and cropped, by matrix products; then the
nearest few of each image at 64 x 64 pixels, shifted and scaled onto each other, with the local mean
removed, so that neither illumination nor one blob in the middle makes two pictures alike.

Measured on the 546 fluorescence and stained pictures of BBBC038v1 (Data Science Bowl 2018) and 23
altered copies of each, at the default threshold of 0.8: recall 0.999, precision 0.999. JPEG quality
30 to 90, resizing, brightness, contrast, gamma, blur, noise, turning and mirroring: recall 1; crops
of 5 % 0.998, of 10 % 0.987. Distinct pictures reach 0.7; the largest group was one true pair. Not
found: pictures that overlap by less than nine tenths, turned by odd angles, or copies within a set
of one fixed scene that do not show it in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from calco.config import AuditConfig
from calco.records import Twins

SIDE_PX = 64  # shows texture beyond the layout of a picture, survives JPEG quality 30 and halving
COARSE_PX = 16  # tolerates half a crop of 5 %; keeps all-pairs products cheap
MIN_CONTRAST = 0.5  # grey levels; the dimmest of 546 sparse fluorescence thumbnails has 2.1
MIN_COARSE = 0.45  # 1 in 1,300 distinct pairs lies above it, and 99 % of copies cropped by 10 %
NEAREST = 8  # candidates per image: bounds the work when a whole set looks alike
BLOCK = 128  # rows of the all-pairs product held at once
LOCAL_PX = 9  # window of the local mean that the close comparison removes
LIGHT_PX = 33  # the same for the coarse one: alike illumination brings no candidates
CROPS_PX = (61, 57)  # windows of 64 that stand for crops of 5 % and 10 %
SCALED_PX = (62, 61, 59, 57)  # sizes at which one thumbnail is sought within the other
SHIFT_PX = 3  # shift allowed between two crops of one picture
MIN_FOR_SCENE = 8  # images from which a median shows what all have in common
SCENE_CORRELATION = 0.3  # three quarters of the images correlate more than this with a scene

Array = NDArray[np.float32]


class _Candidate(NamedTuple):
    """Two images to compare closely, the second one turned by ``turn`` of ``_turned``."""

    first: int
    second: int
    turn: int


def signature(image: NDArray[np.uint8]) -> Array:
    """Shrink an image to what is compared: 64 x 64 grey levels with mean 0 and length 1.

    Args:
        image: (H, W, C) uint8.

    Returns:
        (4096,) float32; all zeros for an image without contrast, which resembles nothing.
    """
    match image.shape[2]:
        case 1:
            grey = image[:, :, 0]
        case 3:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        case _:
            grey = image.mean(axis=2, dtype=np.float32)
    # float: rounding to whole grey levels would drown dim pictures
    small = cv2.resize(grey.astype(np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    if small.std() < MIN_CONTRAST:
        return np.zeros(SIDE_PX * SIDE_PX, np.float32)
    return np.asarray(_standardised(small.reshape(1, -1))[0])


def find_twins(
    ids: Sequence[str], signatures: Sequence[Array], sha256s: Sequence[str], config: AuditConfig
) -> tuple[Twins, ...]:
    """Group images that are copies of each other.

    Identical bytes are always found; copies that were re-encoded, resized, recoloured, turned,
    mirrored or cropped by up to 10 % only when ``config.twins``. Time grows with the square of the
    number of images: on one core 0.5 s for 546, 6 s for 3,000, 5 minutes for 20,000, which also
    take 0.8 GB.

    Args:
        ids: One per image.
        signatures: From ``signature``, one per image.
        sha256s: Of the files, one per image.
        config: Threshold of likeness.

    Returns:
        Groups of at least two, sorted by their first id; an image is in one group at most.
    """
    first_with: dict[str, int] = {}
    pairs = [(first_with.setdefault(sha, i), i) for i, sha in enumerate(sha256s)]
    # one copy of each file is compared: a hundred copies must not crowd out the other neighbours
    distinct = list(first_with.values())
    if config.twins and len(distinct) > 1:
        near = _near_pairs(np.stack([signatures[i] for i in distinct]), config.twin_correlation)
        pairs += [(distinct[i], distinct[j]) for i, j in near]
    groups: list[Twins] = []
    for members in connected(len(ids), pairs):
        if len(members) > 1:
            same_bytes = len({sha256s[i] for i in members}) == 1
            names = tuple(sorted(ids[i] for i in members))
            groups.append(Twins(names, "exact" if same_bytes else "near"))
    return tuple(sorted(groups, key=lambda twins: twins.ids))


def shared_scene(signatures: Array) -> Array | None:
    """Return what nearly all images show: a fixed camera's background, a centred object.

    Args:
        signatures: (n, 4096) float32 from ``signature``.

    Returns:
        (4096,) float32 of length 1; None when the images have little in common or are few.
    """
    if len(signatures) < MIN_FOR_SCENE:
        return None
    every = max(1, len(signatures) // 512)  # 512 images show the median well enough
    scene = _standardised(np.median(signatures[::every], axis=0, keepdims=True))[0]
    common = np.quantile(signatures @ scene, 0.25) > SCENE_CORRELATION
    return scene if common else None


def connected(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Split 0..n-1 into the connected components of the given pairs.

    Example:
        >>> connected(4, [(0, 2)])
        [[0, 2], [1], [3]]
    """
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    count, labels = connected_components(graph, directed=False)
    members: list[list[int]] = [[] for _ in range(count)]
    for i, label in enumerate(labels):
        members[label].append(i)
    return members


def _near_pairs(signatures: Array, threshold: float) -> Iterator[tuple[int, int]]:
    """Yield index pairs whose thumbnails, laid onto each other, correlate above the threshold."""
    thumbnails = _without_scene(signatures).reshape(-1, SIDE_PX, SIDE_PX)
    for first, second, turn in _candidates(thumbnails):
        if _likeness(thumbnails[first], _turned(thumbnails[second], turn)) > threshold:
            yield first, second


def _without_scene(signatures: Array) -> Array:
    """Remove the shared scene, or every picture of one machine part is every other's twin."""
    scene = shared_scene(signatures)
    if scene is None:
        return signatures
    return _standardised(signatures - (signatures @ scene)[:, None] * scene)


def _candidates(thumbnails: Array) -> set[_Candidate]:
    """Find the nearest few of each image at low resolution."""
    n = len(thumbnails)
    thumbnails = np.stack([_detail(thumbnail, LIGHT_PX) for thumbnail in thumbnails])
    whole = _coarse(thumbnails)
    views = [_coarse(_turned(thumbnails, turn)) for turn in range(8)]
    views += [_coarse(_cropped(thumbnails, window)) for window in _crop_windows()]
    found = set()
    for start in range(0, n, BLOCK):
        rows = whole[start : start + BLOCK]
        scores = np.stack([rows @ view.T for view in views])  # (18, rows, n)
        best, which = scores.max(axis=0), scores.argmax(axis=0)  # (rows, n)
        best[np.arange(len(rows)), start + np.arange(len(rows))] = -1  # not its own twin
        nearest = np.argpartition(-best, min(NEAREST, n - 1) - 1, axis=1)[:, :NEAREST]
        alike = np.take_along_axis(best, nearest, axis=1) > MIN_COARSE
        for row, column in np.argwhere(alike):
            other = int(nearest[row, column])
            view = int(which[row, other])
            found.add(_Candidate(start + int(row), other, view if view < 8 else 0))
    return found


def _likeness(first: Array, second: Array) -> float:
    """Return the best correlation of two thumbnails over small shifts and scales."""
    one, other = _detail(first), _detail(second)
    best = float((one * other).sum() / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-6))
    inner = other[SHIFT_PX:-SHIFT_PX, SHIFT_PX:-SHIFT_PX]
    if np.linalg.norm(inner) > 0.7 * np.linalg.norm(other):  # else only noise would be matched
        best = max(best, _best_match(one, inner))
    for side_px in SCALED_PX:
        size = (side_px, side_px)
        for large, small in ((one, second), (other, first)):
            shrunk = _detail(cv2.resize(small, size, interpolation=cv2.INTER_AREA))
            best = max(best, _best_match(large, shrunk))
    return best


def _best_match(large: Array, small: Array) -> float:
    return float(cv2.matchTemplate(large, small, cv2.TM_CCOEFF_NORMED).max())


def _detail(thumbnail: Array, window_px: int = LOCAL_PX) -> Array:
    """Subtract the mean of each pixel's surroundings."""
    window = (window_px, window_px)
    local_mean = cv2.blur(thumbnail, window, borderType=cv2.BORDER_REFLECT)
    return np.asarray(thumbnail - local_mean, np.float32)


def _turned(thumbnails: Array, turn: int) -> Array:
    """Turn by ``turn`` % 4 quarters, then mirror when ``turn`` >= 4; last two axes."""
    quarters = np.rot90(thumbnails, turn % 4, axes=(-2, -1))
    return np.ascontiguousarray(quarters[..., ::-1] if turn >= 4 else quarters)


def _crop_windows() -> Iterator[tuple[int, int, int]]:
    """Yield (row, col, side) of a window in the middle and in each corner, per crop size."""
    for side_px in CROPS_PX:
        end = SIDE_PX - side_px
        yield end // 2, end // 2, side_px
        yield from ((row, col, side_px) for row in (0, end) for col in (0, end))


def _cropped(thumbnails: Array, window: tuple[int, int, int]) -> Array:
    row, col, side_px = window
    views = thumbnails[:, row : row + side_px, col : col + side_px]
    size = (SIDE_PX, SIDE_PX)
    return np.stack([cv2.resize(v, size, interpolation=cv2.INTER_LINEAR) for v in views])


def _coarse(thumbnails: Array) -> Array:
    """Average (n, 64, 64) to (n, 256), standardised."""
    factor = SIDE_PX // COARSE_PX
    cells = thumbnails.reshape(-1, COARSE_PX, factor, COARSE_PX, factor)
    return _standardised(cells.mean(axis=(2, 4)).reshape(len(thumbnails), -1))


def _standardised(rows: Array) -> Array:
    """Give each row mean 0 and length 1; rows without contrast become 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(
        np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-6), np.float32
    )

"""Twins: images so alike that a split must not separate them.

An image is remembered as a thumbnail (``signature``). Thumbnails are compared in two steps: at
16 x 16 pixels, turned, mirrored and cropped, with those that may resemble them; then the nearest
few of each image at 64 x 64 pixels, shifted and scaled onto each other, with the local mean
removed, so that neither illumination nor one blob in the middle makes two pictures alike. Two
exposures of a scene are compared after one has taken on the grey levels of the other, which undoes
any change of brightness, contrast and gamma, and saturation in part.

How well this works is measured by ``scripts/measure_twins.py`` and told in
docs/explanation/look-alikes.md. Not found: pictures that overlap by less than nine tenths, turned
by odd angles, or copies within a set of one fixed scene that do not show it in its place.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from calco.config import AuditConfig
from calco.images.neighbours import (
    NEAREST,
    SIDE_PX,
    detail,
    find_candidates,
    standardised,
    turned,
)
from calco.records import Twins

MIN_CONTRAST = 0.5  # grey levels; the dimmest of 546 sparse fluorescence thumbnails has 2.1
LOCAL_PX = 9  # window of the local mean that the close comparison removes
SHARE_SHIFTED = 0.05  # of the side, by which two crops of one picture may be shifted
SCALED_PX = (61, 58, 60, 59, 62, 57)
"""Sizes at which one thumbnail is sought within another of 64 pixels, those of crops of 5 and 10 %
first: a size that is off by one pixel costs a tenth of the correlation."""
HALF_PX = 32  # a quick look at half the size tells which of two thumbnails shows less
HALF_SCALED_PX = (30, 29)
MIN_HALF = 0.5  # half of the distinct candidates lie below, 99 % of copies cropped by 10 % above
MIN_EXPOSED = 0.3  # two exposures correlate more than this even where one is mostly saturated
MIN_FOR_SCENE = 8  # images from which a median shows what all have in common
SCENE_SAMPLE = 512  # images that show the median well enough
SCENE_CORRELATION = 0.3  # three quarters of the images correlate more than this with a scene
PARTS = 3  # train, validation and test: a group that holds more than one of so many is cut
BLOCKS = 8  # pieces of a longer chain: enough for any split, and few ends where neighbours part
MIN_BLOCKS = 4  # copies of one picture lie within a few links of each other, and stay together

Array = NDArray[np.float32]
Pairs = Iterable[tuple[int, int]]


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
    mean, deviation = (float(figure[0, 0]) for figure in cv2.meanStdDev(small))
    if deviation < MIN_CONTRAST:
        return np.zeros(SIDE_PX * SIDE_PX, np.float32)
    length = deviation * SIDE_PX  # the root of its 64 x 64 squares
    return np.asarray((small - mean) / length, np.float32).ravel()


def find_twins(
    ids: Sequence[str], signatures: Sequence[Array], sha256s: Sequence[str], config: AuditConfig
) -> tuple[Twins, ...]:
    """Group images that are copies of each other.

    Identical bytes are always found; copies that were re-encoded, resized, recoloured, exposed
    otherwise, turned, mirrored or cropped by up to 10 % only when ``config.twins``. Time grows with
    the power 1.5 of the number of images. A film whose frames resemble the next ones is a chain of
    copies: one that holds more than a third of the images is cut into contiguous blocks.

    Args:
        ids: One per image.
        signatures: From ``signature``, one per image.
        sha256s: Of the files, one per image.
        config: Threshold of likeness.

    Returns:
        Groups of at least two, sorted by their first id; an image is in one group at most. Blocks
        of a chain are of the kind "series".
    """
    with_sha: defaultdict[str, list[int]] = defaultdict(list)
    for i, sha in enumerate(sha256s):
        with_sha[sha].append(i)
    # one copy of each file is compared: a hundred copies must not crowd out the other neighbours;
    # in an order that the order of the images does not change
    shas = sorted(with_sha)
    near: list[tuple[int, int]] = []
    if config.twins:
        near += _near_pairs([signatures[with_sha[sha][0]] for sha in shas], config.twin_correlation)
    groups: list[Twins] = []
    for members in connected(len(shas), near):
        long = PARTS * len(members) > len(shas)
        blocks = in_blocks(members, near) if long else [members]
        as_one: Literal["near", "series"] = "near" if len(blocks) == 1 else "series"
        for block in blocks:
            names = tuple(sorted(ids[i] for member in block for i in with_sha[shas[member]]))
            if len(names) > 1:
                groups.append(Twins(names, "exact" if len(block) == 1 else as_one, len(blocks)))
    return tuple(sorted(groups, key=lambda twins: twins.ids))


def shared_scene(signatures: Array | Sequence[Array]) -> Array | None:
    """Return what nearly all images show: a fixed camera's background, a centred object.

    Args:
        signatures: (n, 4096) float32 or n times (4096,), from ``signature``.

    Returns:
        (4096,) float32 of length 1; None when the images have little in common or are few.
    """
    if len(signatures) < MIN_FOR_SCENE:
        return None
    every = max(1, len(signatures) // SCENE_SAMPLE)
    sample = np.asarray(signatures[::every], np.float32)  # (n, 4096)
    # the median; sorting rows takes a third of the time of numpy.median along columns
    ranked = np.sort(np.ascontiguousarray(sample.T))  # (4096, n)
    middle = ranked[:, (len(sample) - 1) // 2 : len(sample) // 2 + 1].mean(axis=1)
    scene = standardised(middle[None])[0]
    # of few images, the median resembles each because it and its copy are part of it
    limit = math.hypot(SCENE_CORRELATION, math.sqrt(2 / len(sample)))
    return scene if np.quantile(sample @ scene, 0.25) > limit else None


def without_scene(signature: Array, scene: Array | None) -> Array:
    """Remove the shared scene, or every picture of one machine part is every other's twin.

    Args:
        signature: (4096,) float32.
        scene: From ``shared_scene``.

    Returns:
        (64, 64) float32 with mean 0 and length 1, or all zeros.
    """
    if scene is not None:
        rest = signature - (signature @ scene) * scene
        signature = standardised(rest[None])[0]
    return np.asarray(signature.reshape(SIDE_PX, SIDE_PX))


def best_match(large: Array, small: Array) -> float:
    """Return the best correlation of a picture with the places where it fits into a larger one."""
    return float(cv2.matchTemplate(large, small, cv2.TM_CCOEFF_NORMED).max())


# --- graphs


def connected(n: int, pairs: Pairs) -> list[list[int]]:
    """Split 0..n-1 into the connected components of the given pairs.

    Example:
        >>> connected(4, [(0, 2)])
        [[0, 2], [1], [3]]
    """
    count, labels = connected_components(_graph(n, pairs), directed=False)
    members: list[list[int]] = [[] for _ in range(count)]
    for i, label in enumerate(labels):
        members[label].append(i)
    return members


def in_blocks(members: Sequence[int], pairs: Pairs) -> list[list[int]]:
    """Cut a long chain into contiguous blocks; what is no chain stays whole.

    Members are ordered by their distance, in links, from one end. Those at the same distance stay
    together, and a block spans at least two distances.

    Args:
        members: Connected by the pairs, in increasing order.
        pairs: Links between them; others are ignored.

    Returns:
        Four to eight blocks, or all members in one.

    Example:
        >>> in_blocks(range(9), [(i, i + 1) for i in range(8)])
        [[6, 7, 8], [4, 5], [2, 3], [0, 1]]
    """
    place = {member: i for i, member in enumerate(members)}
    inside = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
    graph = _graph(len(members), inside)
    end = int(_distances(graph, 0).argmax())
    distance = _distances(graph, end)  # (members,)
    n_blocks = min(BLOCKS, (int(distance.max()) + 1) // 2)
    if n_blocks < MIN_BLOCKS:
        return [list(members)]
    at_distance = np.bincount(distance)
    before = np.cumsum(at_distance) - at_distance  # members nearer to the end
    block_of = before[distance] * n_blocks // len(members)
    blocks: list[list[int]] = [[] for _ in range(n_blocks)]
    for member, block in zip(members, block_of, strict=True):
        blocks[block].append(member)
    return [block for block in blocks if block]


def _graph(n: int, pairs: Pairs) -> coo_array:
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    return coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))


def _distances(graph: coo_array, start: int) -> NDArray[np.int64]:
    links = dijkstra(graph, directed=False, indices=[start], unweighted=True)  # (1, n)
    return np.asarray(links[0], np.int64)


# --- close comparison


class _Look:
    """A thumbnail and what the comparisons with others share."""

    def __init__(self, thumbnail: Array) -> None:
        self.thumbnail = thumbnail  # (side, side)

    @cached_property
    def detail(self) -> Array:
        """The thumbnail without its local mean."""
        return detail(self.thumbnail, LOCAL_PX)

    @cached_property
    def length(self) -> float:
        """Length of the detail."""
        return float(np.linalg.norm(self.detail))

    @cached_property
    def half(self) -> _Look:
        """The thumbnail at half its size."""
        size = (HALF_PX, HALF_PX)
        return _Look(np.asarray(cv2.resize(self.thumbnail, size, interpolation=cv2.INTER_AREA)))


def _near_pairs(signatures: Sequence[Array], threshold: float) -> Iterator[tuple[int, int]]:
    """Yield index pairs whose thumbnails, laid onto each other, correlate above the threshold."""
    scene = shared_scene(signatures)

    def thumbnail(i: int) -> Array:
        return without_scene(signatures[i], scene)

    @lru_cache(maxsize=2 * NEAREST)  # candidates come sorted by their first image
    def look(i: int, turn: int) -> _Look:
        return _Look(turned(thumbnail(i), turn))

    for pair in find_candidates(len(signatures), thumbnail):
        first, second, turn = pair.tolist()
        likenesses = _likenesses(look(first, 0), look(second, turn))
        if any(likeness > threshold for likeness in likenesses):
            yield first, second


def _likenesses(first: _Look, second: _Look) -> Iterator[float]:
    """Yield correlations of two thumbnails laid onto each other, the cheapest first."""
    in_place = _correlation(first, second)
    yield in_place
    pairs = ((first, second), (second, first))
    halves = [(large.half, small.half) for large, small in pairs]
    unscaled = _overlap(*halves[0], HALF_PX)
    scaled = [max(_overlap(*half, side_px) for side_px in HALF_SCALED_PX) for half in halves]
    if max(unscaled, *scaled) < MIN_HALF:
        return
    within = pairs[scaled[1] > scaled[0]]
    yield from (_overlap(*within, side_px) for side_px in (SIDE_PX, *SCALED_PX))
    if in_place > MIN_EXPOSED:
        exposed = [_correlation(_exposed_as(one, other), other) for one, other in pairs]
        if min(exposed) > MIN_EXPOSED:  # a few bright pixels at one place are alike one way only
            yield max(exposed)


def _overlap(large: _Look, small: _Look, side_px: int) -> float:
    """Seek one thumbnail, shrunk to a size or trimmed by the allowed shift, within another."""
    full_px = len(large.thumbnail)
    if side_px < full_px:
        size = (side_px, side_px)
        shrunk = cv2.resize(small.thumbnail, size, interpolation=cv2.INTER_LINEAR)
        return best_match(large.detail, detail(shrunk, LOCAL_PX))
    shift_px = round(SHARE_SHIFTED * full_px)
    template = small.detail[shift_px:-shift_px, shift_px:-shift_px]
    if np.linalg.norm(template) < 0.7 * small.length:
        return 0.0  # only noise would be matched
    return best_match(large.detail, template)


def _correlation(first: _Look, second: _Look) -> float:
    """Correlate the details of two thumbnails as they lie."""
    return float((first.detail * second.detail).sum() / max(first.length * second.length, 1e-6))


def _exposed_as(look: _Look, model: _Look) -> _Look:
    """Give a thumbnail the grey levels of another, its own order of brightness kept.

    Reference:
        Exact histogram specification: Coltuc, Bolon and Chassery (2006), IEEE Transactions on Image
        Processing 15(5), 1143-1152
    """
    exposed = np.empty_like(look.thumbnail)
    order = np.argsort(look.thumbnail, axis=None, kind="stable")
    exposed.flat[order] = np.sort(model.thumbnail, axis=None)
    return _Look(exposed)

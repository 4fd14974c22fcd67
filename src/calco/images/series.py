"""Series: several pictures of one thing, which a split must not separate.

Slices of a stack, frames of a film, times, positions and exposures of one sample have names that
differ in a counter, and neighbours that look more alike than other pictures of the set. Both are
asked for: a counter alone numbers unrelated pictures too, and likeness alone is what ``find_twins``
looks for. So series are not found whose neighbours do not resemble each other, such as adjacent
tiles, wavelengths, or patients with one picture per pose; those have to be declared.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import AuditConfig
from calco.images.duplicates import (
    PARTS,
    best_match,
    connected,
    in_blocks,
    shared_scene,
    without_scene,
)
from calco.images.neighbours import detail
from calco.records import SampleFacts, Twins

MIN_IMAGES = 8  # of fewer nobody can tell which likeness is chance
MIN_ALIKE = 0.35  # all of 29 neighbouring slices, and 1 in 900 unrelated pictures, lie above it
BY_CHANCE = 0.99  # quantile of pictures far apart in the set that neighbours must exceed well
FAR_PAIRS = 600  # from which that quantile is taken
HALF_PX = 32  # neighbouring slices agree in coarse features, not in fine ones
LOCAL_PX = 17
SHIFT_PX = 2  # of 32: drift between two slices or frames
MAX_HALVES = 4096  # 4 kB each, wanted again by the next neighbour and by the pictures far apart
MAX_COUNTERS = 8  # digests have more, and no neighbours

COUNTER = re.compile(r"[0-9]+|(?<=[0-9_. -])[A-Za-z]$")  # a number, or one letter at the end

Array = NDArray[np.float32]


def find_series(
    ids: Sequence[str],
    facts: Sequence[SampleFacts],
    signatures: Sequence[Array],
    config: AuditConfig,
    twins: Sequence[Twins] = (),
) -> tuple[Twins, ...]:
    """Group images that are neighbours in a series by name and by what they show.

    A series that holds more than a third of the images is cut into contiguous blocks, so that it
    can be split: neighbours are separated only where two blocks meet.

    Args:
        ids: One per image.
        facts: One per image; members of a series agree in size, channels and depth.
        signatures: From ``calco.images.duplicates.signature``, one per image.
        config: Nothing is sought unless ``config.twins``.
        twins: Groups that a series joins and that no cut separates.

    Returns:
        Groups of at least two, sorted by their first id; an image is in one group at most.
    """
    if not config.twins or len(ids) < MIN_IMAGES:
        return ()
    order = sorted(range(len(ids)), key=lambda i: (_natural(ids[i]), ids[i]))
    links = _links(
        [ids[i] for i in order], [facts[i] for i in order], [signatures[i] for i in order]
    )
    place = {ids[i]: position for position, i in enumerate(order)}
    known = [[place[name] for name in group.ids if name in place] for group in twins]
    groups = _joined(len(ids), links, known)
    named = (
        Twins(tuple(sorted(ids[order[member]] for member in group)), "series", n_blocks)
        for group, n_blocks in groups
    )
    return tuple(sorted(named, key=lambda twins: twins.ids))


# --- names


def _natural(name: str) -> list[str | int]:
    """Return a key that sorts slice9 before slice10."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _runs(names: Sequence[str], facts: Sequence[SampleFacts]) -> Iterator[list[list[int]]]:
    """Yield, counter by counter, runs of images whose names differ in it alone.

    Args:
        names: In natural order.
        facts: One per name.
    """
    counters = [[match.span() for match in COUNTER.finditer(name)] for name in names]
    counters = [found if len(found) <= MAX_COUNTERS else [] for found in counters]
    for place in range(max(map(len, counters), default=0)):
        runs: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
        for i, (name, found, fact) in enumerate(zip(names, counters, facts, strict=True)):
            if place < len(found):
                start, end = found[place]
                camera = fact.height, fact.width, fact.channels, fact.dtype
                runs[name[:start], name[end:], *camera].append(i)
        yield [run for run in runs.values() if len(run) > 1]


# --- pictures


def _links(
    names: Sequence[str], facts: Sequence[SampleFacts], signatures: Sequence[Array]
) -> Iterator[tuple[int, int]]:
    """Yield the neighbours by name that look more alike than pictures far apart do."""
    likeness = _Likeness(signatures, None)
    far = [likeness(i, j) for i, j in _far_pairs(len(names))]
    if median(far) > MIN_ALIKE:  # a fixed camera; in a short stack, the scene is the series
        likeness = _Likeness(signatures, shared_scene(signatures))
        far = [likeness(i, j) for i, j in _far_pairs(len(names))]
    found = [
        {tuple(run): [likeness(*pair) for pair in pairwise(run)] for run in runs}
        for runs in _runs(names, facts)
    ]
    level = max(MIN_ALIKE, _beyond(far), (median(far) + _usual(found)) / 2)
    for near in found:
        for run, values in near.items():
            yield from _linked(run, values, level, likeness)


def _usual(found: Sequence[Mapping[tuple[int, ...], Sequence[float]]]) -> float:
    """Return what the neighbours of the best counter usually reach.

    Slices 12 of two patients may be more alike than chance, but slices 12 and 13 of one are much
    more alike. Counters of few images do not count.
    """
    pooled = [[value for values in near.values() for value in values] for near in found]
    most = max(map(len, pooled), default=0)
    return max((median(v) for v in pooled if v and 2 * len(v) >= most), default=0.0)


def _beyond(far: Sequence[float]) -> float:
    """Return a correlation that hardly any pair of unrelated pictures exceeds.

    Of their Fisher z, half as much again beyond the quantile as that lies beyond the middle: one in
    4,000 where they are normally distributed.
    """
    middle, high = np.arctanh(np.clip(np.quantile(far, [0.5, BY_CHANCE]), -0.999, 0.999))
    return math.tanh(high + (high - middle) / 2)


def _linked(
    run: Sequence[int], values: Sequence[float], level: float, likeness: _Likeness
) -> Iterator[tuple[int, int]]:
    """Yield the neighbours in a run that are alike.

    Args:
        run: Images in the order of their names.
        values: Likeness of each to the next.
        level: What it has to exceed.
        likeness: Compares others.
    """
    alike = [value > level for value in values]
    for i in range(len(run) - 2):
        # one spoilt picture does not end a series that goes on behind it
        around = alike[max(i - 1, 0) : i + 3]
        if any(around) and not all(around) and likeness(run[i], run[i + 2]) > level:
            alike[i] = alike[i + 1] = True
    yield from (pair for pair, close in zip(pairwise(run), alike, strict=True) if close)


class _Likeness:
    """Correlates the coarse details of two images, slightly shifted."""

    def __init__(self, signatures: Sequence[Array], scene: Array | None) -> None:
        @lru_cache(maxsize=MAX_HALVES)
        def half(i: int) -> Array:
            thumbnail = without_scene(signatures[i], scene)
            small = cv2.resize(thumbnail, (HALF_PX, HALF_PX), interpolation=cv2.INTER_AREA)
            return detail(small, LOCAL_PX)

        self._half = half

    def __call__(self, i: int, j: int) -> float:
        inner = self._half(j)[SHIFT_PX:-SHIFT_PX, SHIFT_PX:-SHIFT_PX]
        return best_match(self._half(i), inner)


def _far_pairs(n: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of images that are half and two thirds of the set apart."""
    for step in (n // 2, 2 * n // 3):
        every = max(1, 2 * (n - step) // FAR_PAIRS)
        yield from ((i, i + step) for i in range(0, n - step, every))


# --- groups


def _joined(
    n: int, links: Iterable[tuple[int, int]], known: Sequence[Sequence[int]]
) -> Iterator[tuple[list[int], int]]:
    """Yield what the links connect, known groups whole, and in how many blocks long chains are."""
    whole = connected(n, [pair for group in known for pair in pairwise(group)])
    home = {member: i for i, group in enumerate(whole) for member in group}
    between = sorted({(home[i], home[j]) for i, j in links if home[i] != home[j]})
    for part in connected(len(whole), between):
        size = sum(len(whole[i]) for i in part)
        blocks = in_blocks(part, between) if PARTS * size > n else [part]
        for block in blocks:
            if len(block) > 1:  # else nothing that is not known
                yield [member for i in block for member in whole[i]], len(blocks)

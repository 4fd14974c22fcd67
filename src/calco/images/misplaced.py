"""Masks that do not lie on their images, told by the rest of the set.

A mask is suspected when it fits elsewhere nearly as well as the others do where they lie. Nothing
is said of sets whose truth has no edges in the image, so that masks lie well nowhere, of patterns
that repeat themselves, and of masks that fit nowhere.

Measured by ``scripts/measure_suspicions.py``, which plants faults in a twentieth of the masks. Of
the 546 sound masks of BBBC038v1 (Data Science Bowl 2018) and the 24 of ISBI 2012 none is named, and
no sound mask beside spoilt ones: precision is 1 for each fault. Recall on the two sets: shifted by
5 px 0.93 and 0.85, by 10 px 0.96 and 1, by 20 px 0.96 and 1, flipped 0.96 and 1, transposed 0.95
and 1, inverted 0.93 and 1, exchanged 0.98 and 0.95. A fault of all masks is named as one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from calco.errors import Problem
from calco.images.alignment import Edges
from calco.records.data import Alignment, SampleFacts, Turn

MIN_JUDGED = 8
"""Masks with edges below which nothing is said."""
MOST = 0.6
"""Share of the masks that must have one fault for it to be the whole set's."""
SOME = 0.3
"""Share of the masks that must lie well to show that their edges are those of the images."""
MIN_SCORE = 0.2
"""Correlation that counts as a fit; masks of BBBC038v1 on other images of it reach 0.11."""
NEARLY = 0.8
"""A mask must fit elsewhere nearly as well as the worst twentieth of those that lie well."""
MAX_RIVAL = 0.6
"""Second-best place, relative to the best, above which a pattern may repeat itself."""
MAX_LEFT = 0.9
"""Score as the mask lies, relative to the best place, above which it may as well stay."""
GAIN = 1.3
"""Factor by which a fault must explain a mask better than the next simpler one."""
STEPS = 1.4
"""Steps of the comparison by which a mask may be off."""
MIN_SHIFT_PX = 2.0
"""Pixels by which outlines differ between two people who draw them."""
SLACK = 3.0
"""Times the deviation that three of five masks stay below, by which one may be off: in a set that
was drawn carelessly, no single mask is to blame."""
NEIGHBOURS = 9
"""Images of similar brightness and contrast that say which side of an edge is foreground."""
MAX_AGREEING = 0.2
"""Share of these that may agree with a mask that is called inverted."""
MARGIN = 0.5
"""Log-odds by which its foreground share must be more usual the other way round."""

_IN_WORDS: dict[Turn, str] = {
    "mirrored": "mirrored left to right",
    "upside_down": "flipped upside down",
    "half_turn": "turned by 180 degrees",
    "transposed": "transposed",
    "anti_transposed": "transposed along the other diagonal",
    "quarter_left": "turned a quarter to the left",
    "quarter_right": "turned a quarter to the right",
}
_SWAPPED_AXES = ("transposed", "anti_transposed", "quarter_left", "quarter_right")


@dataclass(frozen=True)
class _Judged:
    """Alignments by id.

    Attributes:
        all: Of every mask with edges.
        well: Those of them that lie well.
        slack_px: By which masks of this set may be off.
    """

    all: Mapping[str, Alignment]
    well: Mapping[str, Alignment]
    slack_px: float

    @property
    def has_edges(self) -> bool:
        """Whether enough masks lie well to show what lying well means in this set."""
        return len(self.well) >= max(MIN_JUDGED, SOME * len(self.all))

    @cached_property
    def needed(self) -> float:
        """Score from which a mask fits."""
        if not self.has_edges:
            return MIN_SCORE
        usual = np.quantile([abs(a.score) for a in self.well.values()], 0.05)
        return max(MIN_SCORE, NEARLY * float(usual))

    def odd(self) -> Iterable[tuple[str, Alignment]]:
        """Yield what does not lie well."""
        return ((name, a) for name, a in self.all.items() if name not in self.well)

    def fits_turned(self, alignment: Alignment) -> bool:
        """Whether a mask fits when it is turned, and not otherwise."""
        score = abs(alignment.turn_score)
        others = max(abs(alignment.shift_score), abs(alignment.score))
        return score >= max(self.needed, GAIN * others)

    def fits_moved(self, alignment: Alignment) -> bool:
        """Whether a mask fits when it is moved, and only there."""
        score = abs(alignment.shift_score)
        return (
            score >= self.needed
            and abs(alignment.score) <= MAX_LEFT * score
            and _only_there(alignment)
            and math.hypot(*alignment.shift_px) > _tolerance_px(alignment, self.slack_px)
        )


def suspect_places(facts: Sequence[SampleFacts], poor: Mapping[str, Edges]) -> list[Problem]:
    """Name masks that are moved, mirrored, turned, exchanged or inverted, one by one or all.

    Args:
        facts: Of the usable, labelled samples.
        poor: Edges of samples whose mask does not lie well, by id; exchanged masks are sought among
            these.
    """
    judged = _judge({f.id: f.alignment for f in facts if f.alignment is not None})
    if len(judged.all) < MIN_JUDGED:
        return []
    swapped = _swapped(judged, poor)
    problems = list(swapped.values())
    if shared := _all_turned(judged) or _all_shifted(judged):
        return [*problems, shared]
    if not judged.has_edges:
        return problems
    for name, alignment in judged.odd():
        if name in swapped:
            continue
        if judged.fits_turned(alignment):
            problems.append(_turned(name, alignment))
        elif judged.fits_moved(alignment):
            problems.append(_shifted(name, alignment))
    return problems + _opposite([f for f in facts if f.id in judged.well])


# --- one mask


def _judge(found: Mapping[str, Alignment]) -> _Judged:
    slack_px = _slack_px([a for a in found.values() if _only_there(a)])
    well = {name: a for name, a in found.items() if _lies_well(a, slack_px)}
    return _Judged(found, well, slack_px)


def _only_there(alignment: Alignment) -> bool:
    """Whether a mask fits in one place: no chance, no pattern that repeats itself."""
    score = abs(alignment.shift_score)
    return score >= MIN_SCORE and alignment.rival <= MAX_RIVAL * score


def _slack_px(clear: Sequence[Alignment]) -> float:
    """Measure how far from each other masks lie, whether beside their images or not."""
    if len(clear) < MIN_JUDGED:
        return 0.0
    shifts_px = np.array([a.shift_px for a in clear])  # (n, 2)
    away_px = np.hypot(*(shifts_px - np.median(shifts_px, axis=0)).T)
    return SLACK * float(np.quantile(away_px, 0.6))


def _tolerance_px(alignment: Alignment, slack_px: float) -> float:
    return max(MIN_SHIFT_PX, STEPS * alignment.step_px, slack_px)


def _lies_well(alignment: Alignment, slack_px: float) -> bool:
    near = math.hypot(*alignment.shift_px) <= _tolerance_px(alignment, slack_px)
    return near and abs(alignment.turn_score) <= GAIN * abs(alignment.shift_score)


def _turned(name: str, alignment: Alignment) -> Problem:
    done = _IN_WORDS[alignment.turn]
    return Problem(
        "MASK_TURNED",
        "mask is mirrored or turned against its image",
        name,
        got=f"edges fit {abs(alignment.turn_score):.2f} when {done}, "
        f"{abs(alignment.score):.2f} as it is",
        do=f"save it {done}, or export it again",
        severity="warning",
    )


def _shifted(name: str, alignment: Alignment) -> Problem:
    return Problem(
        "MASK_SHIFTED",
        "mask lies beside what it traces",
        name,
        got=f"edges fit {abs(alignment.shift_score):.2f} when moved {_way(alignment.shift_px)}, "
        f"{abs(alignment.score):.2f} as it is",
        do="move it, or export it again",
        severity="warning",
    )


def _way(shift_px: tuple[int, int]) -> str:
    """Write a shift in words.

    Example:
        >>> _way((5, 0)), _way((-1, 3))
        ('5 px down', '1 px up and 3 px right')
    """
    down, right = shift_px
    parts = [f"{abs(down)} px {'down' if down > 0 else 'up'}"] if down else []
    parts += [f"{abs(right)} px {'right' if right > 0 else 'left'}"] if right else []
    return " and ".join(parts)


# --- all masks


def _all_turned(judged: _Judged) -> Problem | None:
    turns: defaultdict[Turn, list[str]] = defaultdict(list)
    for name, alignment in judged.odd():
        if judged.fits_turned(alignment):
            turns[alignment.turn].append(name)
    turn, names = max(turns.items(), key=lambda item: len(item[1]), default=("", []))
    if len(names) < max(MIN_JUDGED, MOST * len(judged.all)):
        return None
    done = _IN_WORDS[turn]
    swapped_axes = turn in _SWAPPED_AXES
    return Problem(
        "MASKS_TURNED",
        "masks are mirrored or turned against their images",
        got=f"{len(names)} of {len(judged.all)} fit when {done}",
        do=f"save them {done}" + (", or set data.rle_order for encoded ones" * swapped_axes),
        severity="warning",
        ids=tuple(names),
    )


def _all_shifted(judged: _Judged) -> Problem | None:
    moved = {name: a for name, a in judged.odd() if judged.fits_moved(a)}
    if not moved:
        return None
    down, right = (float(x) for x in np.median([a.shift_px for a in moved.values()], axis=0))
    names = [
        name
        for name, a in moved.items()
        if math.hypot(a.shift_px[0] - down, a.shift_px[1] - right)
        <= _tolerance_px(a, judged.slack_px)
    ]
    if len(names) < max(MIN_JUDGED, MOST * len(judged.all)):
        return None
    return Problem(
        "MASKS_SHIFTED",
        "masks lie beside what they trace, all by the same step",
        got=f"{len(names)} of {len(judged.all)} fit when moved {_way((round(down), round(right)))}",
        do="export them again; often images or masks alone were cropped or padded",
        severity="warning",
        ids=tuple(names),
    )


# --- exchanged masks


def _swapped(judged: _Judged, poor: Mapping[str, Edges]) -> dict[str, Problem]:
    """Find masks that fit another image of those whose own mask does not fit."""
    of_size: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in poor.keys() & judged.all.keys():
        of_size[*poor[name].mask.shape, poor[name].step_px].append(name)
    problems = {}
    for names in of_size.values():
        names.sort()
        scores = _cross_scores([poor[name] for name in names])  # (masks, images)
        for name, row in zip(names, scores, strict=True):
            own, score = judged.all[name], float(row.max())
            others = max(abs(own.score), abs(own.shift_score), abs(own.turn_score))
            rival = float(np.partition(row, -2)[-2]) if len(row) > 1 else 0.0
            fits = score >= max(judged.needed, GAIN * others) and rival <= MAX_RIVAL * score
            if fits and name not in judged.well:
                problems[name] = _fits_other(name, names[int(row.argmax())], score, own)
    return problems


def _cross_scores(edges: Sequence[Edges]) -> NDArray[np.float32]:
    """Correlate each mask with each other image, (n, n); 0 with its own."""
    masks = np.stack([e.mask.ravel() for e in edges])  # (n, pixels)
    scores = np.abs(masks @ np.stack([e.image.ravel() for e in edges]).T)
    np.fill_diagonal(scores, 0)
    return np.asarray(scores, np.float32)


def _fits_other(name: str, other: str, score: float, own: Alignment) -> Problem:
    return Problem(
        "MASK_SWAPPED",
        "mask fits another image",
        name,
        got=f"edges fit {score:.2f} on {other}, {abs(own.score):.2f} on its own image",
        do="exchange the masks, or correct the file names",
        severity="warning",
        ids=(name, other),
    )


# --- inverted masks


def _opposite(facts: Sequence[SampleFacts]) -> list[Problem]:
    """Find masks whose inside is where similar images have the outside.

    The share alone does not tell, because some images are full of objects; which side of an edge
    is darker does not either, because sets mix stains and glow. Both together do.
    """
    clear = [f for f in facts if f.alignment is not None and abs(f.alignment.score) >= MIN_SCORE]
    if len(clear) <= MIN_JUDGED:
        return []
    brighter = np.array([f.alignment is not None and f.alignment.score > 0 for f in clear])  # (n,)
    shares = np.array([f.foreground_fraction for f in clear])  # (n,), between 0 and 1
    odds = np.log(shares / (1 - shares))
    nearest = _nearest(clear)  # (n, k)
    agreeing = (brighter[nearest] == brighter[:, None]).mean(axis=1)
    usual = np.median(odds[nearest], axis=1)
    wrong = (agreeing <= MAX_AGREEING) & (abs(odds + usual) < abs(odds - usual) - MARGIN)
    return [
        _inverted(clear[i], float(1 / (1 + np.exp(-usual[i]))), bool(brighter[i]))
        for i in np.flatnonzero(wrong)
    ]


def _nearest(facts: Sequence[SampleFacts]) -> NDArray[np.int64]:
    """List for each image those of most similar brightness and contrast: (n, k), not itself."""
    looks = np.log1p([[f.mean, f.contrast] for f in facts])  # (n, 2)
    spread = np.median(np.abs(looks - np.median(looks, axis=0)), axis=0)
    looks /= np.maximum(spread, 0.1)
    k = min(NEIGHBOURS, len(facts) - 1)
    found = np.asarray(KDTree(looks).query(looks, k=k + 1)[1])  # (n, k + 1)
    own = found == np.arange(len(facts))[:, None]
    own[~own.any(axis=1), -1] = True  # of many equal ones it may be missing
    return np.asarray(found[~own].reshape(len(facts), k), np.int64)


def _inverted(facts: SampleFacts, usual: float, brighter: bool) -> Problem:
    sides = ("brighter", "darker") if brighter else ("darker", "brighter")
    return Problem(
        "MASK_OPPOSITE",
        "mask seems to be inverted, unlike those of similar images",
        facts.id,
        got=f"{facts.foreground_fraction:.0%} foreground, {sides[0]} than what lies around it; "
        f"usual are {usual:.0%}, {sides[1]}",
        do="swap its foreground and background",
        severity="warning",
    )

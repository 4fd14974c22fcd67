"""What can be wrong with the code of a set of masks, in words that show what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from calco.errors import Problem
from calco.images.mask_files import show_color
from calco.images.mask_tallies import END_WIDTH, Tally
from calco.wording import place

_LISTED = 8


def no_zero(low: int, high: int, where: str) -> Problem:
    """Two values, none of them 0."""
    return Problem(
        "MASK_VALUES",
        "masks have two values but no 0; the higher one is taken as foreground",
        where,
        got=f"{low} and {high}",
        do=f"set data.foreground: [{high}] or [{low}] to confirm",
        severity="warning",
    )


def white_ground(color: int, where: str) -> Problem:
    """One colour on white instead of black."""
    return Problem(
        "MASK_VALUES",
        "masks have one colour on white; the colour is taken as foreground",
        where,
        got=f"{show_color(color)} on white",
        do=f"set data.foreground_color: {list(_rgb(color))} to confirm",
        severity="warning",
    )


def smeared(between: int, counts: Mapping[float, int], where: str) -> Problem:
    """Black and white blurred by JPEG or resizing, still clearly two-valued."""
    return Problem(
        "MASK_VALUES",
        "masks are smeared, as by JPEG; values above 127 are taken as foreground",
        where,
        got=f"{len(counts)} values, {between} pixels "
        f"({100 * between / sum(counts.values()):.2f} %) more than {END_WIDTH} from 0 and 255",
        expected="two values",
        do="save masks as PNG, or set data.threshold: 127 to confirm",
        severity="warning",
    )


def many_values(counts: Mapping[float, int], where: str) -> Problem:
    """Grey levels of which none tells where foreground begins."""
    return Problem(
        "MASK_VALUES",
        "masks have many values, so what is foreground is undecided",
        where,
        got=f"{len(counts)} values: {_histogram(counts)}",
        expected="two values",
        do="set data.threshold (values above it are foreground; 0 when every object has a number)",
    )


def classes(counts: Mapping[float, int], tallies: Sequence[Tally], root: Path) -> Problem:
    """Several classes, object numbers, files with different codes, or a stray value in a few."""
    total = sum(counts.values())
    listed = [f"{v:g} ({100 * counts[v] / total:.3g} %)" for v in sorted(counts)[:_LISTED]]
    more = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
    rarest = min(counts, key=lambda value: counts[value])
    holders = [t for t in tallies if rarest in (t.values or ())]
    sets = Counter(tuple(sorted(t.values or ())) for t in tallies)
    per_file = ""
    if len(sets) > 1 and all(len(values) <= 2 for values in sets):
        shown = [f"{{{', '.join(f'{v:g}' for v in s)}}} in {n}" for s, n in sets.most_common(4)]
        per_file = f"; single files hold {', '.join(shown)}"
    elif len(holders) < len(tallies):
        per_file = f"; {rarest:g} is in {len(holders)} of {len(tallies)} files looked at"
    return Problem(
        "MASK_CLASSES",
        "masks have more than two values, so what is foreground is undecided",
        place(holders[0].path, root),
        got=", ".join(listed) + more + per_file,
        expected="two values",
        do="set data.foreground to the values that count, e.g. "
        f"[{max(counts):g}], or data.threshold: 0 when all but 0 do",
    )


def many_colors(counts: Mapping[int, int], tallies: Sequence[Tally], root: Path) -> Problem:
    """Several colours, one per class, or a stray one in a few files."""
    total = sum(counts.values())
    common = sorted(counts, key=lambda c: -counts[c])
    listed = [f"{show_color(c)} {100 * counts[c] / total:.3g} %" for c in common[:_LISTED]]
    more = f" and {len(common) - _LISTED} more" if len(common) > _LISTED else ""
    got = ", ".join(listed) + more
    indices = sorted({i for t in tallies if t.colors is not None for i in t.values or ()})
    if indices:
        got += f"; palette indices {', '.join(f'{i:g}' for i in indices[:_LISTED])}"
    holders = [t for t in tallies if common[-1] in t.as_colors]
    if len(holders) < len(tallies):
        got += f"; {show_color(common[-1])} is in {len(holders)} of {len(tallies)} files looked at"
    return Problem(
        "MASK_COLORS",
        "masks have several colours, so what is foreground is undecided",
        place(holders[0].path, root),
        got=got,
        expected="one colour on black",
        do=f"set data.foreground_color, e.g. {list(_rgb(common[min(1, len(common) - 1)]))}"
        + (", or data.foreground to the indices that count" if indices else ""),
    )


def photos(count: int, noun: str, where: str) -> Problem:
    """Masks that look like pictures."""
    return Problem(
        "MASK_PHOTO",
        f"masks look like photos ({count} {noun}); are image and mask folders swapped?",
        where,
        expected="two values",
        do="set data.images and data.masks to the right folders",
    )


def alpha_unclear(where: str) -> Problem:
    """Colour and transparency disagree."""
    return Problem(
        "MASK_ALPHA",
        "mask differs in colour and in transparency, and the two do not agree",
        where,
        do="set data.foreground_channel: alpha to read the transparency, "
        "or data.foreground_color to read the colour",
    )


def conflict(names: str) -> Problem:
    """Several settings for one thing."""
    return Problem(
        "CONFIG_CONFLICT",
        "several settings say what is foreground",
        got=names,
        expected="one of them",
        do="remove the others",
    )


def all_empty(n_masks: int, where: str) -> Problem:
    """No foreground anywhere."""
    return Problem(
        "MASK_ALL_EMPTY",
        f"none of {n_masks} masks looked at has foreground, so there is nothing to learn",
        where,
        do="check the mask folder, data.foreground and data.threshold",
    )


def all_full(n_masks: int, where: str) -> Problem:
    """Foreground everywhere."""
    return Problem(
        "MASK_ALL_FULL",
        f"all {n_masks} masks looked at are foreground everywhere, so there is nothing to learn",
        where,
        do="check the mask folder, data.foreground, data.threshold and data.invert",
    )


def _histogram(counts: Mapping[float, int], bins: int = 8) -> str:
    low, high, total = min(counts), max(counts), sum(counts.values())
    if low >= 0 and 1 < high <= 255:
        low, high = 0, 256
    width = (high - low) / bins
    shares = [0.0] * bins
    for value, n in counts.items():
        shares[min(int((value - low) / width), bins - 1)] += 100 * n / total
    return ", ".join(f"from {low + i * width:g} {s:.3g} %" for i, s in enumerate(shares))


def _rgb(packed: int) -> tuple[int, int, int]:
    return packed >> 16, packed >> 8 & 255, packed & 255

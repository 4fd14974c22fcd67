"""What is wrong with a data set although every file of it is sound."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

from calco.config import AuditConfig
from calco.errors import Problem, Severity
from calco.records import Sample, SampleFacts, Subset, Twins
from calco.wording import name_some

MIN_SAMPLES = 2
"""One to train on and one to validate with; a test part needs a third."""
FEW_SAMPLES = 8
"""Below it, validation and test hold one or two images and their scores mean little."""
OUTLIER_AREA = 8
"""Areas this many times above or below the median are named."""

Facts = Sequence[SampleFacts]


def suspect_facts(facts: Facts, config: AuditConfig) -> list[Problem]:
    """Check the number of samples, their masks, sizes and depths against each other.

    Args:
        facts: Of the usable, labelled samples.
        config: Thresholds.
    """
    checks: tuple[Callable[[Facts], Problem | None], ...] = (
        _too_few,
        _all_empty,
        _all_full,
        lambda facts: _inverted(facts, config.max_foreground_fraction),
        _some_empty,
        _some_full,
        _blank_images,
        _sizes,
        _odd_sizes,
        _depths,
        _channels,
    )
    return [problem for check in checks if (problem := check(facts))]


def suspect_twins(
    samples: Sequence[Sample], twins: Sequence[Twins], mask_digests: Mapping[str, str]
) -> list[Problem]:
    """Report look-alikes, and look-alikes and groups that straddle the given parts.

    Args:
        samples: The usable ones.
        twins: Found among them.
        mask_digests: Per id; equal for equal masks.
    """
    subset_of = {sample.id: sample.subset for sample in samples}
    problems = [_twins(group) for group in twins]
    problems += [_contradiction(group) for group in twins if _differ(group, mask_digests)]
    largest = max((group for group in twins if group.kind == "near"), key=_count, default=None)
    if largest and 2 * _count(largest) > len(samples) > MIN_SAMPLES:
        problems.append(_dominant(largest, len(samples)))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.group is not None:
            groups[sample.group].append(sample.id)
    return problems + [
        _leak(what, ids, subset_of)
        for what, ids in [
            *(("images look alike", group.ids) for group in twins),
            *((f"group {name!r}", ids) for name, ids in groups.items()),
        ]
        if len({subset_of[i] for i in ids} - {None}) > 1
    ]


def shared_background() -> Problem:
    """Return the note that likeness was judged by what differs from a common background."""
    return Problem(
        "SHARED_SCENE",
        "most images share one background, so copies were sought by what differs from it",
        do="declare data.group if they are pictures of one film or series",
        severity="note",
    )


# --- number of samples


def _too_few(facts: Facts) -> Problem | None:
    if len(facts) >= FEW_SAMPLES:
        return None
    enough = len(facts) >= MIN_SAMPLES
    return Problem(
        "FEW_SAMPLES",
        "scores on so few samples mean little" if enough else "too few samples to train",
        got=f"{len(facts)} usable with a mask",
        expected=f"at least {FEW_SAMPLES if enough else MIN_SAMPLES}",
        do="add labelled images",
        severity="warning" if enough else "error",
    )


# --- masks


def _all_empty(facts: Facts) -> Problem | None:
    if not facts or any(f.foreground_fraction > 0 for f in facts):
        return None
    what = "all masks are empty: there is nothing to learn"
    return Problem("MASK_ALL_EMPTY", what, do="check data.foreground and data.threshold")


def _all_full(facts: Facts) -> Problem | None:
    if not facts or any(f.foreground_fraction < 1 for f in facts):
        return None
    what = "all masks are full: there is no background"
    return Problem("MASK_ALL_FULL", what, do="check data.foreground and data.threshold")


def _inverted(facts: Facts, limit: float) -> Problem | None:
    share = fmean(f.foreground_fraction for f in facts) if facts else 0.0
    if not limit < share < 1:
        return None
    return Problem(
        "MASK_INVERTED",
        "masks seem to be inverted",
        got=f"{share:.1%} foreground on average",
        expected=f"at most {limit:.0%}",
        do="set data.invert: true, or raise audit.max_foreground_fraction if they are right",
        severity="warning",
    )


def _some_empty(facts: Facts) -> Problem | None:
    empty = [f.id for f in facts if f.foreground_fraction == 0]
    if not 0 < len(empty) < len(facts):
        return None
    what = f"{len(empty)} masks are empty: right when the images show nothing of interest"
    return Problem("MASK_EMPTY", what, got=name_some(empty), severity="note")


def _some_full(facts: Facts) -> Problem | None:
    full = [f.id for f in facts if f.foreground_fraction == 1]
    if not 0 < len(full) < len(facts):
        return None
    what = f"{len(full)} masks are entirely foreground"
    return Problem("MASK_FULL", what, got=name_some(full), do="look at them", severity="warning")


# --- images


def _blank_images(facts: Facts) -> Problem | None:
    blank = [f.id for f in facts if f.low == f.high]
    what = f"{len(blank)} images have one value everywhere"
    return _listed("IMG_BLANK", what, blank, "warning", "remove them")


def _sizes(facts: Facts) -> Problem | None:
    sizes = sorted({(f.height, f.width) for f in facts}, key=lambda size: size[0] * size[1])
    if len(sizes) < 2:
        return None
    (low_h, low_w), (high_h, high_w) = sizes[0], sizes[-1]
    what = f"images have {len(sizes)} sizes, {low_h} x {low_w} to {high_h} x {high_w} (H x W)"
    return Problem("IMG_SIZES", what, severity="note")


def _odd_sizes(facts: Facts) -> Problem | None:
    typical = median(f.height * f.width for f in facts) if facts else 0
    odd = [
        f.id
        for f in facts
        if not typical / OUTLIER_AREA <= f.height * f.width <= typical * OUTLIER_AREA
    ]
    what = f"{len(odd)} images are {OUTLIER_AREA} times larger or smaller than the usual one"
    return _listed("IMG_SIZE_OUTLIER", what, odd, "note")


def _depths(facts: Facts) -> Problem | None:
    counts = Counter(f.dtype for f in facts)
    if len(counts) < 2:
        return None
    got = ", ".join(f"{n} {dtype}" for dtype, n in sorted(counts.items()))
    do = "bring them to one depth, or the same tissue has two brightnesses"
    return Problem("IMG_DEPTHS", "images differ in depth", got=got, do=do, severity="warning")


def _channels(facts: Facts) -> Problem | None:
    counts = Counter(f.channels for f in facts)
    if len(counts) < 2:
        return None
    got = ", ".join(f"{n} with {channels}" for channels, n in sorted(counts.items()))
    return Problem("IMG_CHANNEL_MIX", "images differ in channels", got=got, severity="note")


def _listed(
    code: str, what: str, ids: Sequence[str], severity: Severity, do: str = ""
) -> Problem | None:
    return Problem(code, what, got=name_some(ids), do=do, severity=severity) if ids else None


# --- look-alikes


def _count(group: Twins) -> int:
    return len(group.ids)


def _twins(group: Twins) -> Problem:
    same = group.kind == "exact"
    return Problem(
        "TWINS_EXACT" if same else "TWINS_NEAR",
        "the same image several times" if same else "images look alike",
        where=group.ids[0],
        got=name_some(group.ids),
        do="nothing: the split keeps them together",
        severity="warning",
    )


def _differ(group: Twins, mask_digests: Mapping[str, str]) -> bool:
    return group.kind == "exact" and len({mask_digests[i] for i in group.ids}) > 1


def _contradiction(group: Twins) -> Problem:
    return Problem(
        "TWIN_MASKS",
        "the same image has different masks",
        where=group.ids[0],
        got=name_some(group.ids),
        do="keep the right one",
        severity="warning",
    )


def _dominant(group: Twins, n_samples: int) -> Problem:
    return Problem(
        "TWINS_DOMINATE",
        "most images look alike and stay in one part",
        where=group.ids[0],
        got=f"{len(group.ids)} of {n_samples}",
        do="set audit.twins: false if they show different things, else add other images",
        severity="warning",
    )


def _leak(what: str, ids: Sequence[str], subset_of: Mapping[str, Subset | None]) -> Problem:
    return Problem(
        "LEAK",
        f"{what} across the given parts: scores will be too good",
        where=min(ids),
        got=name_some(f"{i} ({subset_of[i]})" for i in sorted(ids)),
        do="move them to one part, or remove the copies",
        severity="warning",
    )

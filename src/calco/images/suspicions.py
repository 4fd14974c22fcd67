"""What is wrong with a data set although every file of it is sound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

from calco.config import AuditConfig
from calco.errors import Problem, Severity
from calco.images.outliers import odd_images, odd_masks
from calco.records import Sample, SampleFacts, Subset, Twins
from calco.wording import counted, name_some

MIN_SAMPLES = 2
"""One to train on and one to validate with; a test part needs a third."""
FEW_SAMPLES = 8
"""Below it, validation and test hold one or two images and their scores mean little."""
OUTLIER_AREA = 8
"""Areas this many times above or below the median are named."""
RARE = 3
"""Files of a kind that are named beside its number."""

Facts = Sequence[SampleFacts]

_TWINS: dict[str, tuple[str, str, Severity]] = {
    "exact": ("TWINS_EXACT", "the same image several times", "warning"),
    "near": ("TWINS_NEAR", "images look alike", "warning"),
    "series": ("SERIES", "several pictures of one thing", "note"),
}


def suspect_images(facts: Facts) -> list[Problem]:
    """Compare sizes, depths and looks of images with each other.

    Args:
        facts: Of the usable, labelled samples.
    """
    checks = (_blank_images, _two_valued, _sizes, _odd_sizes, _depths, _channels)
    return [problem for check in checks if (problem := check(facts))] + odd_images(facts)


def suspect_masks(facts: Facts, config: AuditConfig) -> list[Problem]:
    """Check the number of samples and compare their masks with each other.

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
    )
    return [problem for check in checks if (problem := check(facts))] + odd_masks(facts)


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
            *((_TWINS[group.kind][1], group.ids) for group in twins),
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
    return _listed("MASK_EMPTY", what, empty, "note")


def _some_full(facts: Facts) -> Problem | None:
    full = [f.id for f in facts if f.foreground_fraction == 1]
    if not 0 < len(full) < len(facts):
        return None
    what = f"{len(full)} masks are entirely foreground"
    return _listed("MASK_FULL", what, full, "warning", "look at them")


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
    times = {f.id: f.height * f.width / typical for f in facts}
    away = {name: max(x, 1 / x) for name, x in times.items()}
    odd = sorted((name for name in away if away[name] > OUTLIER_AREA), key=lambda n: -away[n])
    what = f"{len(odd)} images are {OUTLIER_AREA} times larger or smaller than the usual one"
    return _listed("IMG_SIZE_OUTLIER", what, odd, "note")


def _two_valued(facts: Facts) -> Problem | None:
    flat = [f.id for f in facts if f.two_valued]
    do = "look whether masks lie among the images"
    if 2 * len(flat) > len(facts):
        do = "set data.images and data.masks to the right folders, if the two are swapped"
    what = f"{counted(len(flat), 'image')} with two values only, as masks have"
    return _listed("IMG_TWO_VALUED", what, flat, "warning", do)


def _depths(facts: Facts) -> Problem | None:
    do = "bring them to one depth, or the same tissue has two brightnesses"
    kinds = _by_kind(facts, lambda f: f.dtype)
    return _mixed("IMG_DEPTHS", "images differ in depth", kinds, "warning", do)


def _channels(facts: Facts) -> Problem | None:
    kinds = _by_kind(facts, lambda f: f"with {f.channels}")
    return _mixed("IMG_CHANNEL_MIX", "images differ in channels", kinds, "note")


def _mixed(
    code: str, what: str, kinds: Mapping[str, Sequence[str]], severity: Severity, do: str = ""
) -> Problem | None:
    if len(kinds) < 2:
        return None
    rarest = min(kinds.values(), key=len)
    return Problem(code, what, "", _count_kinds(kinds), "", do, severity, tuple(rarest))


def _by_kind(facts: Facts, kind: Callable[[SampleFacts], str]) -> dict[str, list[str]]:
    """Gather ids by what they have."""
    gathered: defaultdict[str, list[str]] = defaultdict(list)
    for f in facts:
        gathered[kind(f)].append(f.id)
    return dict(sorted(gathered.items()))


def _count_kinds(kinds: Mapping[str, Sequence[str]]) -> str:
    """Count each kind, and name the files of a rare one."""
    most = max(map(len, kinds.values()))
    return ", ".join(
        f"{len(ids)} {kind}" + (f" ({', '.join(ids)})" if len(ids) <= RARE < most else "")
        for kind, ids in kinds.items()
    )


def _listed(
    code: str, what: str, ids: Sequence[str], severity: Severity, do: str = ""
) -> Problem | None:
    if not ids:
        return None
    return Problem(code, what, got=name_some(ids), do=do, severity=severity, ids=tuple(ids))


# --- look-alikes


def _count(group: Twins) -> int:
    return len(group.ids)


def _twins(group: Twins) -> Problem:
    code, what, severity = _TWINS[group.kind]
    do = "nothing: the split keeps them together"
    if group.n_blocks > 1:
        what = f"one of {group.n_blocks} blocks of a series too long to stay together"
        do = (
            "read the score as that of other places in the same series, not of another series: the"
            " split parts neighbours where two blocks meet"
        )
    return Problem(
        code,
        what,
        where=group.ids[0],
        got=name_some(group.ids),
        do=do,
        severity=severity,
        ids=group.ids,
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
        ids=group.ids,
    )


def _dominant(group: Twins, n_samples: int) -> Problem:
    return Problem(
        "TWINS_DOMINATE",
        "most images look alike and stay in one part",
        where=group.ids[0],
        got=f"{len(group.ids)} of {n_samples}",
        do="set audit.twins: false if they show different things, else add other images",
        severity="warning",
        ids=group.ids,
    )


def _leak(what: str, ids: Sequence[str], subset_of: Mapping[str, Subset | None]) -> Problem:
    return Problem(
        "LEAK",
        f"{what} across the given parts: scores will be too good",
        where=min(ids),
        got=name_some(f"{i} ({subset_of[i]})" for i in sorted(ids)),
        do="move them to one part, or remove the copies",
        severity="warning",
        ids=tuple(sorted(ids)),
    )

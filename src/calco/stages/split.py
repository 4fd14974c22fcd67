"""Stage 3: divide the samples so that nothing of one part is seen in another.

Each group of samples draws a number from a hash of its name, and within a stratum of similar
foreground share the lowest numbers go to test and the next to validation. So neither the order of
files nor most of the other files decide where a group goes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from calco.config import SplitConfig
from calco.errors import CalcoError, Problem
from calco.images.duplicates import connected
from calco.records import SUBSETS, Assignment, Audit, Sample, Split, Subset

MAX_STRATA = 5
"""They halve the difference in mean share; with more, files that are added move more of the others:
these move 3 % of 500 samples when a tenth is added, 9 % of 100."""
MIN_PER_STRATUM = 12
"""Groups per stratum: enough for one or two of each smaller part."""

Shares = Mapping[Subset, float]


@dataclass(frozen=True)
class _Group:
    """Samples that stay together.

    Attributes:
        name: Its declared group, or the smallest id.
        samples: At least one.
        foreground: Mean share of its masks.
        draw: In [0, 1), from the seed and the name.
    """

    name: str
    samples: tuple[Sample, ...]
    foreground: float
    draw: float

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def given(self) -> list[Subset]:
        """Parts the user put its samples in, train first."""
        return [s for s in SUBSETS if any(sample.subset == s for sample in self.samples)]


def split_samples(audit: Audit, config: SplitConfig) -> Split:
    """Assign every labelled sample to train, validation or test.

    Samples of one declared group, and look-alikes, stay together. Parts given by the user's
    sub-folders win, even over that. Parts that are not given are taken from the rest by groups, in
    ``config``'s shares of its images: all three from an undivided set, validation from the training
    folder of a set without one, and test too unless ``config.test`` is 0. Two groups make train and
    validation without test. Samples outside the given sub-folders train.

    With ``config.folds`` no validation part is taken and a given one joins training: what is not
    test is dealt out to the folds, group by group.

    Args:
        audit: Usable samples and their look-alikes.
        config: Shares, folds and seed.

    Raises:
        CalcoError: SPLIT_SHARES when nothing is left to train on; SPLIT_GROUPS when the groups are
            too few for train and validation, or for the folds.
    """
    if config.validation + config.test >= 1:
        raise _no_training_share(config)
    index = audit.index.only(sample.id for sample in audit.index if sample.mask is not None)
    samples = [_joining_training(s) for s in index] if config.folds else index.samples
    groups = _groups(audit, samples, config.seed)
    given = {subset for group in groups for subset in group.given}
    pool = [group for group in groups if set(group.given) <= {"train"}]
    shares = _wanted(config, given, len(pool))
    picked = _divide(pool, shares) if shares else {}
    folds = _deal(_training(groups, picked), config.folds) if config.folds else {}
    assigned = {}
    for group in groups:
        for sample in group.samples:
            subset = _subset(sample, group, picked)
            fold = folds[group.name] if folds and subset == "train" else 0
            assigned[sample.id] = Assignment(sample.id, group.name, subset, fold)
    return Split(index, tuple(assigned[sample.id] for sample in index))


def ungrouped(audit: Audit) -> Audit:
    """Forget which samples belong together, to show what a split without that knowledge scores."""
    samples = tuple(replace(sample, group=None) for sample in audit.index)
    return replace(audit, index=replace(audit.index, samples=samples), twins=())


# --- groups


def _groups(audit: Audit, samples: Sequence[Sample], seed: int) -> list[_Group]:
    """Join samples by declared groups and look-alikes, in the order of their names."""
    place = {sample.id: i for i, sample in enumerate(samples)}
    pairs = [
        (place[first], place[other])
        for twins in audit.twins
        for first, other in zip(twins.ids, twins.ids[1:], strict=False)
        if first in place and other in place
    ]
    first_of: dict[str, int] = {}
    for i, sample in enumerate(samples):
        if sample.group is not None:
            pairs.append((first_of.setdefault(sample.group, i), i))
    foreground = {facts.id: facts.foreground_fraction for facts in audit.facts}
    groups = []
    for members in connected(len(samples), pairs):
        joined = tuple(sorted((samples[i] for i in members), key=lambda sample: sample.id))
        name = _name(joined, taken=first_of)
        share = fmean(foreground[sample.id] for sample in joined)
        groups.append(_Group(name, joined, share, _draw(seed, name)))
    return sorted(groups, key=lambda group: group.name)


def _name(samples: Sequence[Sample], taken: Collection[str]) -> str:
    """Name a group by its declaration, else by its smallest id, kept apart from declared names."""
    declared = [sample.group for sample in samples if sample.group is not None]
    if declared:
        return min(declared)
    return samples[0].id + ("'" if samples[0].id in taken else "")


def _draw(seed: int, name: str) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


# --- division


def _wanted(config: SplitConfig, given: set[Subset], n_pool: int) -> Shares:
    """Return the parts to take from the pool, test first, with their shares.

    Raises:
        CalcoError: When the pool cannot give them and still train.
    """
    shares: dict[Subset, float] = {}
    if "test" not in given and config.test > 0:
        shares["test"] = config.test
    if "validation" not in given and not config.folds:
        shares["validation"] = config.validation
    if n_pool < 3 and len(shares) == 2:
        del shares["test"]  # without validation, training could neither stop nor be tuned
    trained = config.folds or int(bool(shares) or "train" not in given)
    needed = len(shares) + trained
    if n_pool < needed:
        raise _too_few_groups(n_pool, needed)
    return shares


def _divide(pool: Sequence[_Group], shares: Shares) -> dict[str, Subset]:
    """Pick groups for the wanted parts; what is not picked trains.

    Walks the strata and gives each part the lowest draws until its share of the images so far is
    reached; a group that would overshoot by more than half of itself is passed over. The largest
    group always trains; where it alone exceeds the training share, the shares are of the others, or
    these would all be used up.
    """
    largest = max(pool, key=lambda group: (len(group), group.draw))
    n_images = sum(len(group) for group in pool)
    too_large = len(largest) > (1 - sum(shares.values())) * n_images
    picked: dict[str, Subset] = {}
    filled = dict.fromkeys(shares, 0)
    seen = 0
    for stratum in _strata(pool):
        seen += sum(len(group) for group in stratum if group is not largest or not too_large)
        for group in sorted(stratum, key=lambda group: group.draw):
            fits = (s for s in shares if filled[s] + len(group) / 2 <= shares[s] * seen)
            subset = next(fits, None)
            if subset is not None and group is not largest:
                filled[subset] += len(group)
                picked[group.name] = subset
    _fill_empty(picked, [group for group in pool if group is not largest], shares)
    return picked


def _strata(pool: Sequence[_Group]) -> Iterator[Sequence[_Group]]:
    """Cut the groups into runs of similar foreground share and equal length."""
    # shares may tie (empty masks), and a tie broken by the draw would sort the draws themselves
    ordered = sorted(pool, key=lambda group: (group.foreground, _draw(0, f"tie {group.name}")))
    n_strata = max(1, min(MAX_STRATA, len(ordered) // MIN_PER_STRATUM))
    for i in range(n_strata):
        yield ordered[i * len(ordered) // n_strata : (i + 1) * len(ordered) // n_strata]


def _fill_empty(picked: dict[str, Subset], spare: Sequence[_Group], shares: Shares) -> None:
    """Give each part that stayed empty the group nearest to its size.

    Args:
        picked: Completed in place.
        spare: Groups that need not train; at least one per part.
        shares: Wanted parts.
    """
    n_images = sum(len(group) for group in spare)
    for subset, share in shares.items():
        counts = Counter(picked.values())
        if counts[subset]:
            continue
        # from training, or from a part that keeps another group
        free = [g for g in spare if g.name not in picked or counts[picked[g.name]] > 1]
        best = min(free, key=lambda group: (abs(len(group) - share * n_images), group.draw))
        picked[best.name] = subset


def _joining_training(sample: Sample) -> Sample:
    return replace(sample, subset="train") if sample.subset == "validation" else sample


def _training(groups: Sequence[_Group], picked: Mapping[str, Subset]) -> list[_Group]:
    """Return the groups of which at least one sample trains."""
    return [
        group
        for group in groups
        if any(_subset(sample, group, picked) == "train" for sample in group.samples)
    ]


def _deal(groups: Sequence[_Group], n_folds: int) -> dict[str, int]:
    """Deal groups out to folds, stratum by stratum, each to the fold with the fewest images."""
    folds: dict[str, int] = {}
    sizes = [0] * n_folds
    for stratum in _strata(groups):
        # large groups first: what is uneven then is made up for by the small ones
        for group in sorted(stratum, key=lambda group: (-len(group), group.draw)):
            folds[group.name] = sizes.index(min(sizes))
            sizes[folds[group.name]] += len(group)
    return folds


def _subset(sample: Sample, group: _Group, picked: Mapping[str, Subset]) -> Subset:
    """Return the part of a sample: the picked one, else its own, else its group's, else train."""
    if group.name in picked:
        return picked[group.name]
    if sample.subset is not None:
        return sample.subset
    return group.given[0] if group.given else "train"


# --- faults


def _no_training_share(config: SplitConfig) -> CalcoError:
    return CalcoError(
        Problem(
            "SPLIT_SHARES",
            "validation and test leave nothing to train on",
            "split",
            got=f"{config.validation:g} + {config.test:g}",
            expected="less than 1 together",
            do="lower split.validation or split.test",
        )
    )


def _too_few_groups(n_groups: int, needed: int) -> CalcoError:
    return CalcoError(
        Problem(
            "SPLIT_GROUPS",
            "too few independent groups of training images to divide",
            got=str(n_groups),
            expected=f"at least {needed}",
            do="add images of another source, or set audit.twins: false if images that look alike "
            "show different things",
        )
    )

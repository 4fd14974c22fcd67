"""Audits of sets that are on no disk, to be divided, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tests.images.facts import sound

from calco.records import (
    SUBSETS,
    Audit,
    FileMask,
    ImageSpec,
    MaskCode,
    Sample,
    SampleIndex,
    Split,
    Subset,
    Twins,
)


def audit_of(samples: Sequence[Sample], *twins: Twins, shares: Mapping[str, float]) -> Audit:
    facts = tuple(sound(s.id, foreground_fraction=shares[s.id]) for s in samples)
    index = SampleIndex(Path("data"), "test", tuple(samples), ImageSpec(), MaskCode("values"))
    return Audit(index, facts, twins)


def sample(name: str, group: str | None = None, subset: Subset | None = None) -> Sample:
    return Sample(name, Path(name), FileMask(Path(name)), group, subset)


def singles(names: Sequence[str], *twins: Twins, share: float = 0.2) -> Audit:
    return audit_of([sample(n) for n in names], *twins, shares=dict.fromkeys(names, share))


def parts(split: Split) -> dict[str, Subset]:
    return {a.id: a.subset for a in split.assignments}


def sizes(split: Split) -> list[int]:
    """Return images in train, validation, test."""
    return [len(split.part(subset)) for subset in SUBSETS]


def many(count: int, seed: int = 0) -> Audit:
    """Skewed set: a fifth of the masks empty, most of the rest small."""
    rng = np.random.default_rng(seed)
    names = [f"image {i}" for i in range(count)]
    drawn = np.where(rng.random(count) < 0.2, 0, rng.beta(0.5, 4, count))
    shares = dict(zip(names, drawn.tolist(), strict=True))
    return audit_of([sample(n) for n in names], shares=shares)

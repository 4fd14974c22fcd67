"""Compare stage: is one run better than another, or were its images kinder to it?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calco.errors import Problem
from calco.metrics.intervals import mean_interval, sign_flip_p
from calco.records import Comparison, ImageScore
from calco.runs import RunDir
from calco.wording import counted

DRAWS = 10_000  # sign patterns; p-values down to 0.0001


@dataclass(frozen=True)
class _Tested:
    """The images a run was tested on, by id, and what tells each picture from another."""

    name: str
    scores: Mapping[str, ImageScore]
    sha256s: Mapping[str, str]
    subset: str


def compare(runs: Sequence[RunDir], bootstrap: int = 2000) -> list[Comparison]:
    """Compare each further run with the first, image by image.

    Only pictures that both were tested on count: the same name, and the same content, as names may
    be the same in two data sets. One training of each says nothing about the luck of another seed.

    Args:
        runs: Finished runs, at least two.
        bootstrap: Resamples behind each interval.

    Raises:
        CalcoError: When a run has no scores.
    """
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    first, *others = (_tested(run, name) for run, name in zip(runs, names, strict=True))
    return [_pair(first, other, bootstrap) for other in others]


def _tested(run: RunDir, name: str) -> _Tested:
    scores = run.load_scores()
    sha256s = {facts.id: facts.image_sha256 for facts in run.load_audit().facts}
    # small sets may have no test part; validation was tuned on, which flatters both alike
    subset = "test" if any(score.subset == "test" for score in scores) else "validation"
    return _Tested(
        name=name,
        scores={s.id: s for s in scores if s.subset == subset and s.id in sha256s},
        sha256s=sha256s,
        subset=subset,
    )


def _pair(first: _Tested, second: _Tested, bootstrap: int) -> Comparison:
    both = sorted(
        i for i in first.scores.keys() & second.scores if first.sha256s[i] == second.sha256s[i]
    )
    differences = [second.scores[i].dice - first.scores[i].dice for i in both]
    groups = [first.scores[i].group for i in both]
    return Comparison(
        first=first.name,
        second=second.name,
        n_images=len(both),
        n_groups=len(set(groups)),
        difference=math.fsum(differences) / len(both) if both else math.nan,
        ci95=mean_interval(differences, groups, bootstrap),
        p_value=sign_flip_p(differences, groups, DRAWS),
        problems=tuple(_unfair(first, second, len(both))),
    )


def _unfair(first: _Tested, second: _Tested, n_both: int) -> list[Problem]:
    """Say what keeps the comparison from being fair."""
    problems = []
    where = f"{second.name} against {first.name}"
    alone = [f"{len(t.scores) - n_both} only in {t.name}" for t in (first, second)]
    if not len(first.scores) == len(second.scores) == n_both:
        problems.append(
            Problem(
                "COMPARE_IMAGES",
                f"the runs were tested on different images; {counted(n_both, 'image')} compared",
                where,
                got=", ".join(alone),
                do="train both on the same data with the same split.seed",
                severity="warning",
            )
        )
    if "validation" in (first.subset, second.subset):
        problems.append(
            Problem(
                "COMPARE_TUNED",
                "compared on a validation part, on which both were stopped and tuned",
                where,
                do="set split.test above 0",
                severity="warning",
            )
        )
    return problems

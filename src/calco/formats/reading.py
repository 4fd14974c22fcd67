"""What every layout is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calco.config import DataConfig
from calco.errors import Problem
from calco.records import Sample
from calco.wording import N_NAMED, counted, name_some


@dataclass(frozen=True)
class Reading:
    """Samples of a data set before their ids are shortened and their groups known.

    Attributes:
        layout: What was detected, for people.
        samples: In any order; ids are paths below the images' common folder.
        problems: Faults of single samples, which are then not among the samples.
        doubts: What could not be decided about all masks.
        mask_note: How masks are written, when no mask file tells.
    """

    layout: str
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Problem, ...] = ()
    mask_note: str = ""


def some_of(problems: Sequence[Problem], most: int = N_NAMED) -> list[Problem]:
    """Keep the first problems of each code; one more counts the others.

    One wrong setting can fault every row of a table: ten of them say as much as thousands.
    """
    kept: list[Problem] = []
    for code in dict.fromkeys(problem.code for problem in problems):
        same = [problem for problem in problems if problem.code == code]
        kept += same[:most]
        if len(same) > most:
            what = f"{counted(len(same) - most, 'more problem')} of this kind"
            kept.append(Problem(code, what, severity=same[0].severity))
    return kept


def images_without_mask(
    names: Sequence[str], where: str, config: DataConfig, unread: str = ""
) -> list[Problem]:
    """Report images that have no truth: a note when they are allowed, else an error.

    Args:
        names: Of the images.
        where: Their folder.
        config: Says whether they are allowed.
        unread: Kinds of file among the masks that calco does not read, such as ``2 .npz``.
    """
    if not names:
        return []
    what, got = f"{counted(len(names), 'image')} without a mask", name_some(names)
    if config.allow_unlabelled:
        return [Problem("ORPHAN_IMAGE", what, where, got, severity="note")]
    do = "add the masks, move the images away, or set data.allow_unlabelled: true"
    got, do = _with_unread(got, do, unread)
    return [Problem("ORPHAN_IMAGE", what, where, got, do=do)]


def masks_without_image(names: Sequence[str], where: str, unread: str = "") -> list[Problem]:
    """Report masks whose image is missing; ``unread`` as for ``images_without_mask``."""
    if not names:
        return []
    what = f"{counted(len(names), 'mask')} without an image"
    got, do = _with_unread(name_some(names), "add the images or move the masks away", unread)
    return [Problem("ORPHAN_MASK", what, where, got, do=do)]


def _with_unread(got: str, do: str, unread: str) -> tuple[str, str]:
    """Name files of other kinds, which may be what is missing, and what to do about them."""
    if not unread:
        return got, do
    return f"{got}; beside files of other kinds: {unread}", f"convert those to PNG, or {do}"

"""Problems gathered by kind: why each kind matters, what to do, and what shows it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from calco.errors import Problem, Severity, printable
from calco.formats.evidence import Evidence, Picture, count_named

MAX_PICTURES = 64
"""Of all kinds together, so that a page of them stays below 5 MB."""
PER_KIND, PER_GROUP = 8, 4
"""Pictures of one kind, and of one group of images to be compared, at most."""
RESERVED = 2
"""Pictures kept for each kind that follows, as long as there are enough."""
LIST_BYTES = 1_500_000
"""Of the lines of all kinds together, as HTML."""
LINE_CHARS = 400
N_WORDINGS = 5
"""Different messages and remedies of one kind that are quoted."""


@dataclass(frozen=True)
class Family:
    """Kinds of problems that matter for one reason.

    Attributes:
        title: Heading for problems that differ in their words.
        why: Why they matter, one sentence.
        codes: How their codes begin.
    """

    title: str
    why: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Pictures to be compared; ``n_more`` of the group are not shown."""

    pictures: tuple[Picture, ...]
    n_more: int


@dataclass(frozen=True)
class Kind:
    """All problems of one severity and code.

    Attributes:
        severity: As theirs.
        code: As theirs.
        title: What is wrong, for a heading.
        why: Why it matters.
        count: Number of problems.
        first: Stands for the others; its texts are cut to a line.
        whats: Different wordings, each with its number; the first few.
        dos: Different remedies; the first few.
        pictures: Of samples and files concerned, each for itself.
        groups: Of samples that are the problem together.
        lines: One per place.
        n_unlisted: Places without a line, for want of room.
    """

    severity: Severity
    code: str
    title: str
    why: str
    count: int
    first: Problem
    whats: tuple[tuple[str, int], ...]
    dos: tuple[str, ...]
    pictures: tuple[Picture, ...]
    groups: tuple[Group, ...]
    lines: tuple[str, ...]
    n_unlisted: int


FAMILIES = (
    Family(
        "Files that cannot be read",
        "A file that cannot be read teaches the model nothing, and one damaged file often means"
        " that others were copied badly too.",
        ("IO_", "IMG_", "NOT_A_FILE", "UNSAFE_FILE", "LINK_"),
    ),
    Family(
        "Images that were converted",
        "These images were read, but not exactly as their files or names say; make sure that the"
        " pictures show what you recorded.",
        ("IMG_NOTE",),
    ),
    Family(
        "Images that differ from the others",
        "The model learns what all images have in common; a difference in size, depth or channels"
        " that has nothing to do with the objects can mislead it.",
        (
            "IMG_CHANNEL",
            "IMG_DEPTH",
            "IMG_SIZES",
            "IMG_SIZE_OUTLIER",
            "IMG_BRIGHTNESS_OUTLIER",
            "IMG_CONTRAST_OUTLIER",
        ),
    ),
    Family(
        "Images that may be masks",
        "If masks lie among the images, the model is given the answer as the question and learns"
        " nothing about real images.",
        ("IMG_TWO_VALUED",),
    ),
    Family(
        "Images that show nothing",
        "In an image of one single value nothing can be recognised, so whatever its mask says"
        " teaches the model something wrong.",
        ("IMG_BLANK",),
    ),
    Family(
        "What counts as foreground",
        "If the wrong pixels are taken for foreground, the model learns the wrong thing, and its"
        " scores do not show it.",
        ("MASK_", "RLE_"),
    ),
    Family(
        "Masks that do not fit their images",
        "A mask must lie pixel by pixel on its image; otherwise the model is shown the wrong"
        " places as foreground.",
        (
            "MASK_SIZE",
            "MASK_MISSING",
            "MASK_EXIF",
            "MASK_TURNED",
            "MASK_SHIFTED",
            "MASK_SWAPPED",
            "MASKS_",
        ),
    ),
    Family(
        "Masks that may be the wrong way round",
        "If foreground and background are swapped, the model traces everything except what you"
        " are looking for.",
        ("MASK_INVERTED", "MASK_OPPOSITE", "MASK_FULL", "MASK_ALL_FULL"),
    ),
    Family(
        "Masks that differ from the others",
        "An unusual mask may be right, but it may also be unfinished or belong to another image,"
        " and only a look can tell.",
        ("MASK_SHARE_OUTLIER", "MASK_COUNT_OUTLIER", "MASK_OBJECT_SIZE_OUTLIER"),
    ),
    Family(
        "Masks without foreground",
        "An empty mask says that the image shows nothing of interest; where that is not true, the"
        " model is taught to overlook it.",
        ("MASK_EMPTY", "MASK_ALL_EMPTY", "EMPTY_OBJECTS"),
    ),
    Family(
        "Images that look alike",
        "If one of them is used for training and another for the test, the model is examined on"
        " what it has already seen, and its scores come out too high.",
        ("TWINS", "SERIES", "LEAK", "SHARED_SCENE"),
    ),
    Family(
        "One image with different masks",
        "Two different answers for the same image contradict each other, so the model can learn"
        " neither.",
        ("TWIN_MASKS",),
    ),
    Family(
        "Few samples",
        "A model needs examples to learn from and others to be tested on; from very few images,"
        " good and bad models cannot be told apart.",
        ("FEW_SAMPLES", "NO_SAMPLES"),
    ),
    Family(
        "Images and masks without a partner",
        "Only an image together with exactly one mask can be learnt from; a missing partner is"
        " often a forgotten or differently named file.",
        ("ORPHAN_", "NO_MASKS", "NO_PAIRS", "DUP_MASK", "OBJECT_IMAGE"),
    ),
    Family(
        "Names that are not clear",
        "Results are written under the names of the images; where two share one, or a name cannot"
        " be written everywhere, they would be mixed up.",
        ("DUP_ID", "ID_"),
    ),
    Family(
        "Groups that are not complete",
        "Groups keep images of one patient, scene or series on one side of the split; an image"
        " without a group could end up on both.",
        ("GROUP_",),
    ),
    Family(
        "Tables that cannot be read as they should",
        "A row that is not understood is a mask, or a part of one, that is missing.",
        ("CSV_",),
    ),
    Family(
        "Files that are not used",
        "Make sure that nothing you need is among them.",
        ("FOLDER_", "LIST_", "JUNK"),
    ),
)
OTHER = Family("Other findings", "It may keep the data from being read as you mean them.", ("",))


def gather_kinds(problems: Sequence[Problem], evidence: Evidence) -> list[Kind]:
    """Gather problems by severity and code, in the order found.

    However many there are, pictures and lines stay below fixed numbers of bytes.

    Args:
        problems: Of one data set.
        evidence: Of the same.
    """
    gathered: dict[tuple[Severity, str], list[Problem]] = {}
    for problem in problems:
        gathered.setdefault((problem.severity, problem.code), []).append(problem)
    left, room, kinds = MAX_PICTURES, LIST_BYTES, []
    for n_later, same in zip(reversed(range(len(gathered))), gathered.values(), strict=True):
        most = min(PER_KIND, max(1, left - RESERVED * n_later))
        kind = _kind(same, evidence, most, room)
        left -= len(kind.pictures) + sum(len(group.pictures) for group in kind.groups)
        room -= sum(map(_size, kind.lines))
        kinds.append(kind)
    return kinds


def family_of(code: str) -> Family:
    """Return the family whose codes begin most like a code.

    Example:
        >>> family_of("IMG_SIZES").title, family_of("IMG_SIZE").title
        ('Images that differ from the others', 'Files that cannot be read')
    """
    fits = [(len(c), family) for family in FAMILIES for c in family.codes if code.startswith(c)]
    return max(fits, key=lambda fit: fit[0], default=(0, OTHER))[1]


def _kind(problems: Sequence[Problem], evidence: Evidence, most: int, room: int) -> Kind:
    first, family = problems[0], family_of(problems[0].code)
    whats = Counter(_clipped(problem.what) for problem in problems)
    dos = dict.fromkeys(_clipped(problem.do) for problem in problems if problem.do)
    pictures, groups = _shown(problems, evidence, most)
    lines = _lines(problems)
    listed = _fitting(lines, room)
    return Kind(
        severity=first.severity,
        code=first.code,
        title=next(iter(whats)) if len(whats) == 1 else family.title,
        why=family.why,
        count=len(problems),
        first=replace(
            first,
            where=_clipped(first.where),
            got=_clipped(first.got),
            expected=_clipped(first.expected),
        ),
        whats=tuple(whats.most_common(N_WORDINGS)),
        dos=tuple(dos)[:N_WORDINGS],
        pictures=pictures,
        groups=groups,
        lines=listed,
        n_unlisted=len(lines) - len(listed),
    )


# --- pictures


def _shown(
    problems: Sequence[Problem], evidence: Evidence, most: int
) -> tuple[tuple[Picture, ...], tuple[Group, ...]]:
    """Show the first things concerned; those of one problem with a place side by side."""
    singles: dict[Picture, None] = {}  # a file with two faults is shown once
    groups: list[Group] = []
    for problem in problems:
        left = most - len(singles) - sum(len(group.pictures) for group in groups)
        if not left:
            break
        items = evidence.about(problem)
        if problem.where and len(items) > 1:
            if left < 2:  # one alone cannot be compared
                break
            pictures = tuple(evidence.picture(item) for item in items[: min(PER_GROUP, left)])
            n_all = max(len(items), count_named(problem))
            groups.append(Group(pictures, n_all - len(pictures)))
        else:
            singles |= dict.fromkeys(evidence.picture(item) for item in items[:left])
    return tuple(singles), tuple(groups)


# --- lines


def _lines(problems: Sequence[Problem]) -> list[str]:
    """Write a line per problem, or per sample when a problem without a place has several."""
    lines: list[str] = []
    alike = len({problem.what for problem in problems}) == 1
    for problem in problems:
        if problem.ids and not problem.where:
            lines += (_clipped(printable(name)) for name in problem.ids)
            continue
        where = "" if problem.where in problem.ids else problem.where
        what = "" if alike else problem.what
        got = ", ".join(map(printable, problem.ids)) or problem.got
        lines.append(_clipped(": ".join(text for text in (where, what, got) if text)))
    return [line for line in lines if line]


def _fitting(lines: Sequence[str], room: int) -> tuple[str, ...]:
    """Keep the lines that fit into a number of bytes."""
    for number, line in enumerate(lines):
        room -= _size(line)
        if room < 0:
            return tuple(lines[:number])
    return tuple(lines)


def _size(line: str) -> int:
    return len(html.escape(line).encode()) + len("<li></li>\n")


def _clipped(text: str) -> str:
    return text if len(text) <= LINE_CHARS else f"{text[: LINE_CHARS - 1]}…"

"""Problems by kind: reasons for all codes, and room for any number."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from calco.errors import Problem
from calco.formats.evidence import Evidence
from calco.formats.findings import FAMILIES, LIST_BYTES, OTHER, Kind, family_of, gather_kinds
from calco.records import Audit, ImageSpec, MaskCode, SampleIndex


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(Audit(SampleIndex(tmp_path, "made", (), ImageSpec(), MaskCode("rle")), ()))


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("IMG_TRUNCATED", "Files that cannot be read"),
        ("IMG_SIZE", "Files that cannot be read"),
        ("IMG_SIZES", "Images that differ from the others"),
        ("IMG_CHANNEL_MIX", "Images that differ from the others"),
        ("IMG_BLANK", "Images that show nothing"),
        ("MASK_VALUES", "What counts as foreground"),
        ("MASK_SIZE_UNKNOWN", "Masks that do not fit their images"),
        ("MASK_INVERTED", "Masks that may be the wrong way round"),
        ("MASK_COUNT_OUTLIER", "Masks that differ from the others"),
        ("MASKS_SHIFTED", "Masks that do not fit their images"),
        ("IMG_TWO_VALUED", "Images that may be masks"),
        ("SERIES", "Images that look alike"),
        ("MASK_ALL_EMPTY", "Masks without foreground"),
        ("TWINS_DOMINATE", "Images that look alike"),
        ("TWIN_MASKS", "One image with different masks"),
        ("DUP_MASK", "Images and masks without a partner"),
        ("DUP_ID", "Names that are not clear"),
        ("UNHEARD_OF", OTHER.title),
    ],
)
def test_the_longest_beginning_decides(code: str, title: str) -> None:
    assert family_of(code).title == title


def test_no_beginning_is_claimed_twice() -> None:
    codes = [code for family in FAMILIES for code in family.codes]
    assert len(codes) == len(set(codes))


def test_kinds_keep_the_order_and_count(evidence: Evidence) -> None:
    problems = [Problem(c, f"what {c}", "w", do=f"do {c}") for c in "BAAB"]
    problems += [Problem("A", "other", "w", do="do A", severity="note")]
    kinds = gather_kinds(problems, evidence)
    assert [(k.severity, k.code, k.count) for k in kinds] == [
        ("error", "B", 2),
        ("error", "A", 2),
        ("note", "A", 1),
    ]
    assert kinds[0].title == "what B"
    assert kinds[0].dos == ("do B",)


def test_wordings_are_counted_and_the_family_is_the_title(evidence: Evidence) -> None:
    problems = [Problem("IMG_NOTE", what, severity="note") for what in ("a", "b", "b")]
    (kind,) = gather_kinds(problems, evidence)
    assert kind.title == "Images that were converted"
    assert kind.whats == (("b", 2), ("a", 1))
    assert kind.lines == ("a", "b", "b")


def test_a_line_per_place_or_per_sample(evidence: Evidence) -> None:
    problems = [
        Problem("A", "x", "p.png", "7 x 7", do="y"),
        Problem("A", "x", "q", do="y", ids=("q", "r\n")),
        Problem("A", "x", got="s and 1 more", do="y", ids=("s", "t")),
    ]
    assert gather_kinds(problems, evidence)[0].lines == ("p.png: 7 x 7", "q, r\\n", "s", "t")


def n_bytes(kinds: list[Kind]) -> int:
    return sum(len(f"<li>{html.escape(line)}</li>\n".encode()) for k in kinds for line in k.lines)


def test_lines_fit_whatever_their_number(evidence: Evidence) -> None:
    problems = [Problem(code, "x", "<&'é>" * 200, do="y") for code in "AB" for _ in range(2000)]
    kinds = gather_kinds(problems, evidence)
    assert LIST_BYTES * 0.99 < n_bytes(kinds) <= LIST_BYTES
    assert all(len(line) == 400 for k in kinds for line in k.lines)
    assert sum(len(k.lines) + k.n_unlisted for k in kinds) == 4000
    assert not kinds[1].lines

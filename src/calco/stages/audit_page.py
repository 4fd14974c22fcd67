"""Write the audit as a page: what a data set holds, what is wrong with it, what to do about it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from calco.errors import printable
from calco.files import to_json, write_atomic
from calco.formats.evidence import Evidence
from calco.formats.findings import Kind, gather_kinds
from calco.formats.pages import page_template
from calco.records import SUBSETS, Audit, ImageSpec, Sample, SampleFacts, SampleIndex, Twins
from calco.wording import NBSP, counted

N_GALLERY = 12
N_BARS = 20
SCALE_ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares at which the histogram of the foreground may end: in most sets, 1 is far away."""

Level = Literal["error", "warning", "ready"]


@dataclass(frozen=True)
class Bar:
    """Images whose foreground share lies in [low, high); ``height`` is relative to the highest."""

    low: float
    high: float
    count: int
    height: float


def write_audit_page(audit: Audit, path: Path) -> Path:
    """Write an audit as one self-contained page for people and, beside it, as JSON for programs.

    Of the data set only the images shown are read, and a fault of theirs is named in their place.
    The same audit of the same files gives the same bytes.

    Args:
        audit: Of any data set, whether it can be trained on or not.
        path: Of the page; the JSON twin differs in the ending alone.

    Returns:
        The page's path.
    """
    twin = path.with_suffix(".json")
    evidence = Evidence(audit)
    kinds = gather_kinds(audit.problems, evidence)
    page = page_template("audit.html.jinja", _FILTERS).render(
        name=audit.index.root.resolve().name,
        twin=twin.name,
        audit=audit,
        level=_level(audit),
        verdict=_verdict(kinds),
        kinds=kinds,
        names_settings=any("data." in do or "audit." in do for kind in kinds for do in kind.dos),
        facts=_facts(audit),
        bars=_bars([f.foreground_fraction for f in audit.facts]),
        gallery=[evidence.picture(sample) for sample in _drawn_by_lot(audit.index)],
    )
    write_atomic(twin, to_json(audit))
    write_atomic(path, page)
    return path


# --- verdict


def _level(audit: Audit) -> Level:
    return "error" if audit.errors else "warning" if audit.warnings else "ready"


def _verdict(kinds: Sequence[Kind]) -> str:
    found = Counter(kind.severity for kind in kinds)
    if found["error"]:
        return f"Not ready: {counted(found['error'], 'kind')} of fault must be mended first."
    if found["warning"]:
        return f"Ready to train, but look at {counted(found['warning'], 'finding')} first."
    return "Ready to train: nothing was found that needs mending."


# --- facts


def _facts(audit: Audit) -> list[tuple[str, str]]:
    """Tell what the set holds and how it is read, as (name, value)."""
    code, groups = audit.index.code, {s.group for s in audit.index if s.group is not None}
    rows = [
        *_measured(audit.facts),
        ("How masks were read", printable(code.note or code.kind)),
        ("What the model will see", _input(audit.index.spec)),
    ]
    if kept := Counter(map(_togetherness, audit.twins)):
        told = (f"{counted(n, noun)} of {whose}" for (noun, whose), n in sorted(kept.items()))
        rows.append(("Kept on one side of the split", ", ".join(told)))
    if groups:
        rows.append(("Declared groups", str(len(groups))))
    if subsets := Counter(s.subset for s in audit.index if s.subset is not None):
        rows.append(("Division given", ", ".join(f"{subsets[s]} {s}" for s in SUBSETS)))
    return rows


def _togetherness(twins: Twins) -> tuple[str, str]:
    """Return what a group is called, as (noun, of what)."""
    if twins.n_blocks > 1:
        return "block", "a series that was cut"
    return "group", "series" if twins.kind == "series" else "look-alikes"


def _measured(facts: Sequence[SampleFacts]) -> list[tuple[str, str]]:
    if not facts:
        return []
    shares = [f.foreground_fraction for f in facts]
    pieces = [f.n_objects for f in facts]
    return [
        ("Size, height × width", _spread(f"{f.height} × {f.width} px" for f in facts)),
        ("Channels in the files", _spread(_channels(f.channels) for f in facts)),
        ("Bit depth", _spread(_depth(f.dtype) for f in facts)),
        ("Values in the files", f"{min(f.low for f in facts):g} to {max(f.high for f in facts):g}"),
        ("Foreground", f"{_percent(fmean(shares))} of an image on average"),
        (
            "Objects",
            f"{sum(pieces):,} separate pieces of foreground:"
            f" {median(pieces):g} in the median image, {max(pieces):,} at most",
        ),
        ("Empty masks", f"{shares.count(0)} of {len(facts)}"),
    ]


def _spread(values: Iterable[str], most: int = 3) -> str:
    """Say how often each value occurs, the most frequent first.

    Example:
        >>> _spread(["a", "b", "a"]), _spread(["a", "a"])
        ('a in 2 images, b in 1', 'a in all images')
    """
    counts = Counter(values).most_common()
    (first, n), *others = counts
    if not others:
        return f"{first} in all images"
    told = [f"{first} in {counted(n, 'image')}", *(f"{v} in {k}" for v, k in others[: most - 1])]
    rest = len(counts) - most
    return ", ".join(told) + (f" and {rest} others" if rest > 0 else "")


def _channels(n: int) -> str:
    return {1: "1 (grey)", 3: "3 (colour)"}.get(n, str(n))


def _depth(dtype: str) -> str:
    """Return a NumPy type in the words of a camera's manual.

    Example:
        >>> _depth("uint16"), _depth("float32")
        ('16 bit', '32 bit with fractions')
    """
    bits = dtype.lstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{bits} bit with fractions" if dtype.startswith("float") else f"{bits} bit"


def _input(spec: ImageSpec) -> str:
    """Say how images become uint8."""
    channels = {1: "one grey channel", 3: "three colour channels"}
    text = channels.get(spec.channels, f"{spec.channels} channels") + " of 8 bit; "
    if (spec.low, spec.high) == (0, 255):
        text += "values are taken as they are"
    else:
        text += f"{spec.low:g} becomes 0 and {spec.high:g} becomes 255, the same for all images"
    return text + (f"; frame {spec.frame} of each file" if spec.frame is not None else "")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}{NBSP}%"


def _bars(shares: Sequence[float]) -> list[Bar]:
    """Count images per share of foreground, on a scale that ends just above the largest."""
    if not shares:
        return []
    end = next(x for x in SCALE_ENDS if x >= max(shares))
    counts = Counter(min(int(share / end * N_BARS), N_BARS - 1) for share in shares)
    highest = max(counts.values())
    edges = pairwise(end * i / N_BARS for i in range(N_BARS + 1))
    return [Bar(low, high, counts[i], counts[i] / highest) for i, (low, high) in enumerate(edges)]


def _drawn_by_lot(index: SampleIndex) -> list[Sample]:
    """Choose samples at random, but the same ones every time, whatever their order."""
    return sorted(index, key=lambda s: hashlib.sha256(s.id.encode()).digest())[:N_GALLERY]


# --- text


def _sentence(text: str) -> str:
    """Begin a text with a capital and end it with a stop.

    Example:
        >>> _sentence("look at them")
        'Look at them.'
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "…")) else ".")


_FILTERS: dict[str, Callable[..., object]] = {
    "many": counted,
    "percent": _percent,
    "plain": printable,
    "sentence": _sentence,
}

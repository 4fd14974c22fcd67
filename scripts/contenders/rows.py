"""Rows of a report: measured piece by piece, each kept as soon as it is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from calco.files import from_json, to_json, write_atomic
from contenders.records import Figures, Measured, Target


@dataclass(frozen=True)
class Row:
    """One row: what is measured, piece by piece, and the verdict on it.

    Attributes:
        measure: In words.
        wanted: Target.
        pieces: By the name of their first figure; each returns that figure and maybe others.
        verdict: What was found, and whether it is enough.
    """

    measure: str
    wanted: str
    pieces: Mapping[str, Callable[[], Figures]]
    verdict: Callable[[Figures], tuple[str, bool]]


def fill(report: Path, name: str, row: Row, *, again: bool) -> None:
    """Measure the missing pieces of a row; each is on disk before the next begins."""
    for key, piece in row.pieces.items():
        known = read(report)
        figures = dict(known[name].figures) if name in known else {}
        if key in figures and not again:
            continue
        print(f"{name} {key} ...", flush=True)
        figures |= piece()
        target = Target(row.measure, row.wanted, "not all measured")
        if row.pieces.keys() <= figures.keys():
            target = Target(row.measure, row.wanted, *row.verdict(figures))
        report.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(report, to_json(known | {name: Measured(target, figures)}))
        print(f"{name} {key}: {json.dumps(figures)}")


def read(report: Path) -> dict[str, Measured]:
    """Return what is measured already."""
    if not report.exists():
        return {}
    return from_json(dict[str, Measured], report.read_text(encoding="utf-8"), str(report))

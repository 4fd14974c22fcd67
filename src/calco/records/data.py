"""Samples, and what the audit and the split say of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from calco.errors import Problem
from calco.records.tables import html_table

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class RleDialect:
    """How run-length encoded masks are written; data, not code.

    Attributes:
        order: ``column`` numbers pixels down the columns (Kaggle's usual), ``row`` along the rows.
        base: Number of the first pixel.
        relative: Starts count from the end of the run before instead of the first pixel.
        empty: Cell that stands for an empty mask.
        per_object: One row per object instead of one per image.
        columns: Names of the id and the RLE column.
    """

    order: Literal["column", "row"] = "column"
    base: Literal[0, 1] = 1
    relative: bool = False
    empty: str = ""
    per_object: bool = False
    columns: tuple[str, str] = ("id", "rle_mask")


@dataclass(frozen=True)
class FileMask:
    """A mask in one file."""

    path: Path


@dataclass(frozen=True)
class ObjectMasks:
    """A mask that is the union of one file per object."""

    paths: tuple[Path, ...]


@dataclass(frozen=True)
class RleMask:
    """A mask that is the union of run-length encoded rows; no rows is an empty mask."""

    rows: tuple[str, ...]
    dialect: RleDialect
    where: str  # file and line of the first row, for messages


MaskSource = FileMask | ObjectMasks | RleMask


@dataclass(frozen=True)
class MaskCode:
    """Which mask pixels are foreground.

    Attributes:
        kind: ``values`` listed grey values or palette indices; ``threshold`` above a value;
            ``color`` one RGB colour; ``alpha`` opaque pixels; ``rle`` decoded, no file code.
        values: For ``values``.
        threshold: For ``threshold``.
        color: For ``color``.
        invert: Swap foreground and background afterwards.
        note: How the code was found, one sentence for people.
        background: The only other values there may be, colours as 0xRRGGBB; any when empty.
    """

    kind: Literal["values", "threshold", "color", "alpha", "rle"]
    values: tuple[int, ...] = ()
    threshold: float = math.nan
    color: tuple[int, int, int] = (0, 0, 0)
    invert: bool = False
    note: str = ""
    background: tuple[int, ...] = ()


@dataclass(frozen=True)
class ImageSpec:
    """How every image of a data set becomes the network's uint8 input.

    Attributes:
        channels: Channels after conversion; grey is repeated, colour is never dropped.
        low: Pixel value on disk that becomes 0.
        high: Pixel value on disk that becomes 255.
        max_megapixels: Largest image decoded.
        frame: Frame read from multi-page files; None refuses them.
    """

    channels: int = 3
    low: float = 0.0
    high: float = 255.0
    max_megapixels: float = 100.0
    frame: int | None = None


@dataclass(frozen=True)
class Sample:
    """One image, its truth if there is one, and what it must not be separated from.

    Attributes:
        id: Unique name, the file's stem or relative path; NFC-normalised.
        image: Image file.
        mask: Where its truth is; None when unlabelled.
        group: Declared group; None when it is its own.
        subset: Part given by the user's sub-folders or column; None when calco splits.
    """

    id: str
    image: Path
    mask: MaskSource | None = None
    group: str | None = None
    subset: Subset | None = None


@dataclass(frozen=True)
class SampleIndex:
    """All samples of a data set and how they are read.

    Attributes:
        root: Folder given by the user.
        layout: What was detected, one sentence for people.
        samples: Sorted by id.
        spec: How images are read.
        code: How masks are read.
        problems: What was noticed while indexing (orphans, duplicate ids, ignored files).
    """

    root: Path
    layout: str
    samples: tuple[Sample, ...]
    spec: ImageSpec
    code: MaskCode
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def only(self, ids: Iterable[str]) -> SampleIndex:
        """Return the index restricted to some ids, in its own order."""
        wanted = set(ids)
        return replace(self, samples=tuple(s for s in self.samples if s.id in wanted))

    def _repr_html_(self) -> str:
        labelled = sum(s.mask is not None for s in self.samples)
        return html_table(
            [
                ("layout", self.layout),
                ("images", len(self.samples)),
                ("with mask", labelled),
                ("mask code", self.code.note),
                ("channels", self.spec.channels),
            ]
        )


@dataclass(frozen=True)
class SampleFacts:
    """What was measured on one fully decoded sample.

    Attributes:
        id: Sample.
        height: Pixels, after EXIF orientation.
        width: Pixels, after EXIF orientation.
        channels: On disk.
        dtype: On disk.
        low: Smallest pixel value on disk.
        high: Largest pixel value on disk.
        mean: Mean of the uint8 input the network gets.
        foreground_fraction: Share of mask pixels; NaN when unlabelled.
        n_objects: 8-connected components of the mask; -1 when unlabelled.
        image_sha256: Of the file's bytes.
        mask_sha256: Of the digests of the mask's files, in order; empty when it has none.
    """

    id: str
    height: int
    width: int
    channels: int
    dtype: str
    low: float
    high: float
    mean: float
    foreground_fraction: float
    n_objects: int
    image_sha256: str
    mask_sha256: str = ""


@dataclass(frozen=True)
class Twins:
    """Images so alike that they must stay on one side of the split; ids sorted."""

    ids: tuple[str, ...]
    kind: Literal["exact", "near"]


@dataclass(frozen=True)
class Audit:
    """All that is known and wrong about a data set.

    Attributes:
        index: The samples that can be used.
        facts: One per usable sample, in the index's order.
        twins: Groups of look-alikes.
        problems: Everything found, errors first.
    """

    index: SampleIndex
    facts: tuple[SampleFacts, ...]
    twins: tuple[Twins, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that stop training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that training survives."""
        return tuple(p for p in self.problems if p.severity == "warning")

    def _repr_html_(self) -> str:
        shares = [f.foreground_fraction for f in self.facts]
        sizes = sorted({(f.height, f.width) for f in self.facts})
        rows: list[tuple[object, object]] = [
            ("usable samples", len(self.facts)),
            ("sizes (H x W)", ", ".join(f"{h} x {w}" for h, w in sizes[:6])),
            ("mean foreground share", f"{sum(shares) / max(len(shares), 1):.3f}"),
            ("empty masks", sum(s == 0 for s in shares)),
            ("groups of look-alikes", len(self.twins)),
        ]
        return html_table(rows + [(p.severity, str(p)) for p in self.problems[:20]])


@dataclass(frozen=True)
class Assignment:
    """Where one sample went."""

    id: str
    group: str
    subset: Subset
    fold: int = 0


@dataclass(frozen=True)
class Split:
    """A division in which no group straddles two subsets.

    Attributes:
        index: All usable, labelled samples.
        assignments: One per sample, in the index's order.
    """

    index: SampleIndex
    assignments: tuple[Assignment, ...]

    def part(self, subset: Subset) -> SampleIndex:
        """Return the samples of one subset."""
        return self.index.only(a.id for a in self.assignments if a.subset == subset)

    def groups(self, subset: Subset) -> tuple[str, ...]:
        """Return the group of each sample of ``part(subset)``, in its order."""
        return tuple(a.group for a in self.assignments if a.subset == subset)

    def part_and_groups(self, subset: Subset) -> tuple[SampleIndex, tuple[str, ...]]:
        """Return the samples of one subset and their groups."""
        return self.part(subset), self.groups(subset)

    def _repr_html_(self) -> str:
        return html_table(
            [(s, len(self.part(s)), len(set(self.groups(s)))) for s in SUBSETS],
            header=("subset", "images", "groups"),
        )

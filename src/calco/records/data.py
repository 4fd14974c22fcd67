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

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file it is read from, the image first; rows of a table are no file of its own."""
        match self.mask:
            case FileMask(path):
                return self.image, path
            case ObjectMasks(paths):
                return self.image, *paths
            case _:
                return (self.image,)


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


Turn = Literal[
    "",
    "mirrored",
    "upside_down",
    "half_turn",
    "transposed",
    "anti_transposed",
    "quarter_left",
    "quarter_right",
]


@dataclass(frozen=True)
class Alignment:
    """How the edges of a mask lie on those of its image.

    Scores are correlations in [-1, 1]; negative ones say that objects are darker than what lies
    around them.

    Attributes:
        score: As the mask lies.
        shift_px: (rows, columns) by which the mask would have to move to fit best; (0, 0) when it
            lies well.
        shift_score: Score there.
        rival: Largest magnitude far from there or of the other sign, by chance, because a pattern
            repeats itself or because light comes from one side.
        turn: What would have to be done to the mask to fit best of all ways to mirror or turn it;
            empty when it lies well, so that nothing was tried.
        turn_score: Score of that.
        step_px: Pixels of the image per step of the comparison; less does not show.
    """

    score: float
    shift_px: tuple[int, int] = (0, 0)
    shift_score: float = 0.0
    rival: float = 0.0
    turn: Turn = ""
    turn_score: float = 0.0
    step_px: int = 1


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
        contrast: Standard deviation of the grey levels of the shrunken input.
        two_valued: Whether the input has two values only, as masks have.
        alignment: Of mask and image; None when one of them has no edges.
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
    contrast: float = 0.0
    two_valued: bool = False
    alignment: Alignment | None = None


@dataclass(frozen=True)
class Twins:
    """Images that must stay on one side of the split; ids sorted.

    Attributes:
        ids: At least two.
        kind: ``exact`` are the same bytes, ``near`` look alike, ``series`` are several pictures of
            one thing: of a film, a stack, a slide. A copy within a series is in both groups.
        n_blocks: Pieces that a series was cut into, of which this is one, because it would have
            left nothing to split; 1 is whole.
    """

    ids: tuple[str, ...]
    kind: Literal["exact", "near", "series"]
    n_blocks: int = 1


@dataclass(frozen=True)
class Audit:
    """All that is known and wrong about a data set.

    Attributes:
        index: The samples that can be used.
        facts: One per usable sample, in the index's order.
        twins: Groups of look-alikes and series.
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
            ("groups of look-alikes", sum(t.kind != "series" for t in self.twins)),
            ("series", sum(t.kind == "series" for t in self.twins)),
        ]
        return html_table(rows + [(p.severity, str(p)) for p in self.problems[:20]])


@dataclass(frozen=True)
class Assignment:
    """Where one sample went; with folds, the training that is validated on it."""

    id: str
    group: str
    subset: Subset
    fold: int = 0


@dataclass(frozen=True)
class Division:
    """What one training learns from and what it is validated on.

    Attributes:
        train: Samples that change the weights.
        validation: Samples for stopping and tuning.
        validation_groups: Group of each of them.
    """

    train: SampleIndex
    validation: SampleIndex
    validation_groups: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """A division in which no group straddles two subsets, nor two folds of the training subset.

    Attributes:
        index: All usable, labelled samples.
        assignments: One per sample, in the index's order.
    """

    index: SampleIndex
    assignments: tuple[Assignment, ...]

    @property
    def n_folds(self) -> int:
        """Trainings on this split; 1 unless folds were asked for."""
        return 1 + max((a.fold for a in self.assignments), default=0)

    def divisions(self) -> tuple[Division, ...]:
        """Return what each training learns from: one division, or one per fold."""
        if self.n_folds == 1:
            division = Division(self.part("train"), *self.part_and_groups("validation"))
            return (division,)
        pool = [a for a in self.assignments if a.subset != "test"]
        return tuple(
            Division(
                train=self.index.only(a.id for a in pool if a.fold != fold),
                validation=self.index.only(a.id for a in pool if a.fold == fold),
                validation_groups=tuple(a.group for a in pool if a.fold == fold),
            )
            for fold in range(self.n_folds)
        )

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

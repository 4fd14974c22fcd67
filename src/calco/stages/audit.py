"""Stage 2: read every image and mask to the last byte and say all that is wrong."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calco.config import AuditConfig, DataConfig
from calco.errors import CalcoError, Problem, printable
from calco.files import sha256_of
from calco.formats.truth import read_truth
from calco.images.alignment import Edges, align, edges_of, shrunken_grey
from calco.images.duplicates import find_twins, shared_scene, signature
from calco.images.io import Pixels, read_pixels, to_input
from calco.images.misplaced import suspect_places
from calco.images.series import find_series
from calco.images.suspicions import (
    shared_background,
    suspect_images,
    suspect_masks,
    suspect_twins,
)
from calco.records import (
    Audit,
    FileMask,
    ObjectMasks,
    RleMask,
    Sample,
    SampleFacts,
    SampleIndex,
    Twins,
)
from calco.wording import counted, name_some, place

MAX_READERS = 16
"""Threads at most: each holds one image, which may be large."""
MAX_POOR = 128
"""Samples of which edges are kept: 0.5 MB each at most, and compared all with all."""
LINES_PER_KIND = 10
"""Examples listed of one kind of problem; the rest is counted."""

_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, eq=False)
class _Measured:
    """What is kept of a sample once its pixels are gone."""

    facts: SampleFacts
    signature: NDArray[np.float32]
    mask_digest: str
    notes: tuple[str, ...]
    edges: Edges | None = None  # of those whose mask does not lie well


@contextmanager
def _single_threaded_libraries() -> Iterator[None]:
    """Keep OpenCV and BLAS from starting threads inside threads, and for work too small for them.

    Between two products of matrices, threads of BLAS do not sleep but spin.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


@_single_threaded_libraries()
def audit_samples(
    index: SampleIndex,
    data: DataConfig,
    config: AuditConfig,
    on_progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Decode every sample, measure it and compare it with the others.

    Images stream through as many threads as there are processors; 16 kB of each are kept while the
    audit runs.

    Args:
        index: Samples as found; its problems are taken over.
        data: What to do about bad and unlabelled samples.
        config: What to look for.
        on_progress: Called with (samples done, samples in all).

    Returns:
        Facts of the usable samples and every problem, errors first. Unreadable, mismatched and
        unlabelled samples are not in its index. Faults of the data are never raised.
    """
    measured: dict[str, _Measured] = {}
    poor: dict[str, Edges] = {}
    faults: list[Problem] = []
    for done, (sample, outcome) in enumerate(_measure_all(index), start=1):
        if isinstance(outcome, _Measured):
            if outcome.edges is not None and len(poor) < MAX_POOR:
                poor[sample.id] = outcome.edges
            measured[sample.id] = replace(outcome, edges=None)
        else:
            faults += (_with_way_out(p, data.on_bad == "skip") for p in outcome)
        if on_progress:
            on_progress(done, len(index))
    usable = index.only(s.id for s in index if s.mask is not None and s.id in measured)
    kept = [measured[sample.id] for sample in usable]
    facts = tuple(m.facts for m in kept)
    twins = _together(kept, config)
    problems = [*index.problems, *faults, *_unlabelled(index, data), *_notes(measured)]
    problems += _unless_known(_suspicions(index, facts, poor, config), index)
    problems += suspect_twins(usable.samples, twins, {m.facts.id: m.mask_digest for m in kept})
    distinct = {m.facts.image_sha256: m.signature for m in kept}
    if config.twins and distinct and shared_scene([*distinct.values()]) is not None:
        problems.append(shared_background())
    return Audit(usable, facts, twins, tuple(sorted(problems, key=_rank)))


def require_unchanged(audit: Audit) -> None:
    """Check that images and masks are the ones that were audited.

    Raises:
        CalcoError: Lists every sample of which a file changed or vanished since.
    """
    changed = [
        sample.id
        for sample, facts in zip(audit.index, audit.facts, strict=True)
        if _digests(sample) != (facts.image_sha256, facts.mask_sha256)
    ]
    if changed:
        what = f"images or masks of {counted(len(changed), 'sample')} changed since the audit"
        do = "restore them, or train into a new folder"
        raise CalcoError(
            Problem("DATA_CHANGED", what, str(audit.index.root), name_some(changed), do=do)
        )


def report_lines(problems: Sequence[Problem], places: int = LINES_PER_KIND) -> list[str]:
    """Return problems for people: one block per kind, in their order.

    Args:
        problems: Of an audit.
        places: A kind that occurs once is one line; of others so many places are listed, and all
            are counted.
    """
    kinds: defaultdict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.severity, problem.code].append(problem)
    lines: list[str] = []
    for (severity, code), same in kinds.items():
        first, n = same[0], len(same)
        if n == 1:
            lines.append(str(first))
            continue
        do = f" -- {first.do}" if first.do else ""
        lines.append(printable(f"{severity}[{code}] {n} times: {first.what}{do}"))
        lines += [printable(_place(p, first)) for p in same[:places]]
        if n > places:
            lines.append(f"    and {n - places} more")
    return lines


def _place(problem: Problem, first: Problem) -> str:
    details = [problem.what if problem.what != first.what else "", problem.got]
    text = "; ".join(detail for detail in details if detail)
    return "    " + ": ".join(part for part in (problem.where, text) if part)


# --- one sample


def _measure_all(
    index: SampleIndex,
) -> Iterator[tuple[Sample, _Measured | Sequence[Problem]]]:
    """Yield what each sample shows, in order, from several threads."""
    readers = ThreadPoolExecutor(min(_n_processors(), MAX_READERS))
    try:
        outcomes = readers.map(lambda sample: _measure(sample, index), index.samples)
        yield from zip(index.samples, outcomes, strict=True)
    finally:
        # an interrupt must not wait for thousands of images that are still queued
        readers.shutdown(cancel_futures=True)


def _n_processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _measure(sample: Sample, index: SampleIndex) -> _Measured | Sequence[Problem]:
    """Return facts of a sound sample, or the faults of its image and its mask."""
    spec = index.spec
    faults: list[Problem] = []
    image = mask = None
    try:
        pixels = read_pixels(sample.image, max_megapixels=spec.max_megapixels, frame=spec.frame)
        image = to_input(pixels, spec)
    except CalcoError as error:
        faults += error.problems
    faults = [_placed(p, sample.image, index.root) for p in faults]
    # without its image, runs have no size to be decoded to
    if sample.mask is not None and (image is not None or not isinstance(sample.mask, RleMask)):
        size = None if image is None else (image.shape[0], image.shape[1])
        try:
            mask = read_truth(sample.mask, index.code, size, spec.max_megapixels)
        except CalcoError as error:
            faults += (_placed(p, sample.image, index.root) for p in error.problems)
    if faults or image is None:
        return faults
    if (digests := _digests(sample)) is None:
        what, do = "vanished between two looks", "leave the data alone while they are read"
        return [Problem("IO_ERROR", what, place(sample.image, index.root), do=do)]
    facts = _facts(sample.id, pixels, image, mask, digests)
    return _kept(facts, image, mask, pixels.notes)


def _kept(
    facts: SampleFacts,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    notes: tuple[str, ...],
) -> _Measured:
    """Shrink a sample to what is compared with others."""
    small = shrunken_grey(image)  # (h, w)
    edges = None if mask is None else edges_of(small, mask)
    alignment = None if edges is None else align(edges)
    facts = replace(facts, contrast=float(cv2.meanStdDev(small)[1][0, 0]), alignment=alignment)
    poor = edges if alignment is not None and alignment.turn else None
    # on 273 pictures of BBBC038v1, thumbnails of shrunken and of whole ones correlate 0.994 or more
    return _Measured(facts, signature(small[..., None]), _digest(mask), notes, poor)


def _digests(sample: Sample) -> tuple[str, str] | None:
    """Return the digests of image and mask files; None when one cannot be read."""
    match sample.mask:
        case FileMask(path):
            paths: tuple[Path, ...] = (path,)
        case ObjectMasks():
            paths = sample.mask.paths
        case _:  # runs are kept in audit.json, so a table that changes since changes nothing
            paths = ()
    try:
        mask = "".join(sha256_of(path) for path in paths)
        return sha256_of(sample.image), hashlib.sha256(mask.encode()).hexdigest() if mask else ""
    except OSError:
        return None


def _facts(
    name: str,
    pixels: Pixels,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
    digests: tuple[str, str],
) -> SampleFacts:
    return SampleFacts(
        id=name,
        height=image.shape[0],
        width=image.shape[1],
        channels=pixels.channels,
        dtype=pixels.pixels.dtype.name,
        low=float(pixels.pixels.min()),
        high=float(pixels.pixels.max()),
        mean=float(cv2.mean(image.reshape(-1, 1))[0]),  # many times faster than ndarray.mean
        foreground_fraction=math.nan if mask is None else np.count_nonzero(mask) / mask.size,
        n_objects=-1 if mask is None else _count_objects(mask),
        image_sha256=digests[0],
        mask_sha256=digests[1],
        two_valued=_is_two_valued(image),
    )


def _is_two_valued(image: NDArray[np.uint8]) -> bool:
    rows, cols = (max(1, side // 8) for side in image.shape[:2])
    if len(set(image[::rows, ::cols].tobytes())) > 2:  # true of nearly all, and soon seen
        return False
    low, high = image.min(), image.max()
    return bool(low < high and ((image == low) | (image == high)).all())


def _count_objects(mask: NDArray[np.bool_]) -> int:
    height, width = mask.shape
    most = ((height + 1) // 2) * ((width + 1) // 2)  # objects that do not touch
    labels = cv2.CV_16U if most < 1 << 16 else cv2.CV_32S  # half the memory, half the time
    found = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=labels)
    return int(found[0]) - 1


def _digest(mask: NDArray[np.bool_] | None) -> str:
    if mask is None:
        return ""
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


# --- the set


def _together(kept: Sequence[_Measured], config: AuditConfig) -> tuple[Twins, ...]:
    """Find copies and series; an image may be in one of each."""
    facts, signatures = [m.facts for m in kept], [m.signature for m in kept]
    ids = [f.id for f in facts]
    twins = find_twins(ids, signatures, [f.image_sha256 for f in facts], config)
    series = find_series(ids, facts, signatures, config, twins)
    return tuple(dict.fromkeys(twins + series))  # both may find one film


def _suspicions(
    index: SampleIndex,
    facts: Sequence[SampleFacts],
    poor: Mapping[str, Edges],
    config: AuditConfig,
) -> list[Problem]:
    """Compare the samples with each other, masks only when it is known what they show."""
    problems = suspect_images(facts)
    if not _code_undecided(index):
        problems += suspect_masks(facts, config)
        problems += suspect_places(facts, poor) if config.alignment else []
    return problems


# --- problems


def _placed(problem: Problem, image: Path, root: Path) -> Problem:
    """Name a file relative to the data root; a problem without place is the image's."""
    return replace(problem, where=place(Path(problem.where or image), root))


def _with_way_out(problem: Problem, skip: bool) -> Problem:
    if skip:
        return replace(problem, what=f"{problem.what}; left out", severity="warning")
    way_out = "set data.on_bad: skip to leave it out"
    return replace(problem, do=f"{problem.do}, or {way_out}" if problem.do else way_out)


def _unlabelled(index: SampleIndex, data: DataConfig) -> list[Problem]:
    alone = [sample.id for sample in index if sample.mask is None]
    if not alone or any(p.code == "ORPHAN_IMAGE" for p in index.problems):
        return []
    allowed = data.allow_unlabelled
    return [
        Problem(
            "ORPHAN_IMAGE",
            f"{len(alone)} images have no mask" + (" and are left out" if allowed else ""),
            got=name_some(alone),
            do="" if allowed else "add the masks, or set data.allow_unlabelled: true",
            severity="note" if allowed else "error",
        )
    ]


def _notes(measured: dict[str, _Measured]) -> list[Problem]:
    """Report each conversion once, with the samples it was done to."""
    by_note: defaultdict[str, list[str]] = defaultdict(list)
    for name, sample in measured.items():
        for note, _ in Counter(sample.notes).items():
            by_note[note].append(name)
    return [
        Problem("IMG_NOTE", f"{len(ids)} images: {note}", got=name_some(ids), severity="note")
        for note, ids in sorted(by_note.items())
    ]


def _code_undecided(index: SampleIndex) -> bool:
    """Whether foreground is only a guess, so that shares of it mean nothing."""
    return any(p.code.startswith("MASK_") and p.severity == "error" for p in index.problems)


def _unless_known(found: Sequence[Problem], index: SampleIndex) -> list[Problem]:
    known = {problem.code for problem in index.problems}
    return [problem for problem in found if problem.code not in known]


def _rank(problem: Problem) -> tuple[int, str, str]:
    return _SEVERITIES.index(problem.severity), problem.code, problem.where

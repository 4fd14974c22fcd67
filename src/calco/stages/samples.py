"""Stage 1: which images there are, where their masks are, and what belongs together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from calco.config import DataConfig
from calco.errors import CalcoError, Problem, Severity
from calco.formats.detect import Layout, detect
from calco.formats.folders import FolderPairs, read_pairs, report_alone, report_empty_parts
from calco.formats.listing import Listing, list_data
from calco.formats.per_object import ObjectFolders, read_objects
from calco.formats.reading import Reading
from calco.formats.rle_csv import RleTable, read_rle
from calco.formats.roles import is_text, nfc
from calco.formats.tables import ID_COLUMNS, column_of, plain_name, read_table
from calco.images.io import choose_spec
from calco.images.masks import detect_code
from calco.records import MaskCode, RleMask, Sample, SampleIndex
from calco.wording import counted, name_some, place

GROUPS_TABLE = "groups.csv"
"""Table in the data root that ``data.group_column`` refers to."""


def index_samples(root: Path, config: DataConfig) -> SampleIndex:
    """Find the samples of a data set, whatever its layout.

    Only names, headers and a few masks and images are looked at; the audit reads everything.

    Args:
        root: Data folder.
        config: What the user said about it; the rest is detected.

    Returns:
        Samples sorted by id. Faults of single samples are among its problems, as errors; with
        ``data.on_bad: skip`` as warnings, the samples being left out.

    Raises:
        CalcoError: When the folder as a whole makes no data set, or a setting does not fit it.
    """
    pattern = _group_pattern(config)
    listing = list_data(root, config.follow_links)
    layout = detect(listing, config)
    reading = _read(layout, listing, config)
    samples, misnamed = _named(reading.samples, root)
    faults = [*listing.problems, *report_empty_parts(listing), *reading.problems, *misnamed]
    if config.on_bad == "skip":
        faults = [replace(p, severity=_softer(p)) for p in faults]
    if not any(sample.mask for sample in samples):
        raise CalcoError(*(_placed(p, root) for p in faults), _none_usable(reading))
    samples = _divided(samples)
    faults += _unread_lists(listing, samples)
    samples, ungrouped = _grouped(samples, root, config, pattern)
    code, code_problems = _mask_code(samples, reading, config, root)
    return SampleIndex(
        root=root,
        layout=f"{reading.layout} ({counted(len(samples), 'image')})",
        samples=tuple(samples),
        spec=choose_spec([sample.image for sample in samples], config),
        code=code,
        problems=tuple(
            _placed(p, root) for p in (*faults, *reading.doubts, *ungrouped, *code_problems)
        ),
    )


def _read(layout: Layout, listing: Listing, config: DataConfig) -> Reading:
    match layout:
        case FolderPairs():
            reading = read_pairs(layout, listing, config)
            return replace(reading, problems=(*reading.problems, *report_alone(layout.alone)))
        case ObjectFolders():
            reading = read_objects(layout, listing, config)
            tests = [p for p in layout.alone if p.place.subset == "test" or p.place.role == "mask"]
            return replace(reading, problems=(*reading.problems, *report_alone(tests)))
        case RleTable():
            reading = read_rle(layout, config)
            return replace(reading, problems=(*reading.problems, *report_alone(layout.alone)))
        case _:
            assert_never(layout)


def _softer(problem: Problem) -> Severity:
    return "warning" if problem.severity == "error" else problem.severity


def _placed(problem: Problem, root: Path) -> Problem:
    """Name a file from the data folder down."""
    path = Path(problem.where)
    inside = problem.where and path.is_relative_to(root) and path != root
    return replace(problem, where=place(path, root)) if inside else problem


def _none_usable(reading: Reading) -> Problem:
    what = "no image has a usable mask"
    return Problem("NO_SAMPLES", what, got=reading.layout, do="correct the problems named above")


# --- names


def _named(samples: Sequence[Sample], root: Path) -> tuple[list[Sample], list[Problem]]:
    """Shorten ids to the file's stem when no two are the same; leave out samples that clash.

    Upper and lower case count as one: results are copied to systems that do not tell them apart.
    """
    stems = {nfc(sample.id.rpartition("/")[2]).casefold() for sample in samples}
    if len(stems) == len({sample.id.casefold() for sample in samples}):
        samples = [replace(sample, id=sample.id.rpartition("/")[2]) for sample in samples]
    by_id: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_id[sample.id.casefold()].append(sample)
    problems = [
        Problem(
            "DUP_ID",
            f"{len(same)} images share the id {same[0].id!r}",
            got=name_some([place(s.image, root) for s in same]),
            do="rename or remove all but one",
        )
        for same in by_id.values()
        if len(same) > 1
    ]
    single = [same[0] for same in by_id.values() if len(same) == 1]
    names = [place(path, root) for s in single for path in s.files if not is_text(path)]
    if names:
        what = f"{counted(len(names), 'file name')} in an unknown encoding"
        problems.append(Problem("ID_ENCODING", what, got=name_some(names), do="rename in UTF-8"))
    written = [sample for sample in single if all(is_text(path) for path in sample.files)]
    return sorted(written, key=lambda sample: sample.id), problems


def _divided(samples: Sequence[Sample]) -> list[Sample]:
    """Complete the division that sub-folders make; training alone divides nothing."""
    subsets = {sample.subset for sample in samples if sample.mask}
    if subsets <= {None, "train"}:
        return [replace(sample, subset=None) for sample in samples]
    return [replace(sample, subset=sample.subset or "train") for sample in samples]


def _unread_lists(listing: Listing, samples: Sequence[Sample]) -> list[Problem]:
    """Warn that a division said in files is not the one that will be made."""
    if not listing.lists or any(sample.subset for sample in samples):
        return []
    what = "lists of parts are not read, and the images will be divided anew"
    got = name_some([listing.where(path) for path in listing.lists])
    do = "to keep that division, sort the files into folders train, val and test"
    return [Problem("LIST_UNUSED", what, got=got, do=do, severity="warning")]


# --- groups


def _group_pattern(config: DataConfig) -> re.Pattern[str] | None:
    """Compile ``data.group``.

    Raises:
        CalcoError: ``GROUP_SETTING`` when it is no regular expression, has no group in
            parentheses, or a group column is set too.
    """
    if config.group is None:
        return None
    what, got = "", repr(config.group)
    try:
        pattern = re.compile(config.group)
    except re.error as error:
        what, got = f"not a regular expression: {error}", repr(config.group)
    else:
        if config.group_column is not None:
            what, got = "groups are set twice", "data.group and data.group_column"
        elif not pattern.groups:
            what = "the expression has no group in parentheses"
        else:
            return pattern
    expected = r"such as ^(s\d+)_ for ids such as s12_0007"
    raise CalcoError(Problem("GROUP_SETTING", what, "data.group", got, expected, "correct it"))


def _grouped(
    samples: Sequence[Sample], root: Path, config: DataConfig, pattern: re.Pattern[str] | None
) -> tuple[list[Sample], list[Problem]]:
    """Give each sample its declared group; ids without one are an error, never their own group."""
    if pattern is not None:
        hits = ((sample.id, pattern.search(sample.id)) for sample in samples)
        found = {name: hit[1] for name, hit in hits if hit and hit[1]}
        place, do = "data.group", "correct the expression so that it fits every id"
    elif config.group_column is not None:
        found = _groups_of_table(root, config.group_column, samples)
        place, do = GROUPS_TABLE, "add the ids and their groups"
    else:
        return list(samples), []
    missing = [s.id for s in samples if s.id not in found]
    problems = []
    if missing:
        what = f"{counted(len(missing), 'image')} without a group"
        problems.append(Problem("GROUP_MISSING", what, place, name_some(missing), do=do))
    return [replace(s, group=found.get(s.id)) for s in samples], problems


def _groups_of_table(root: Path, column: str, samples: Sequence[Sample]) -> dict[str, str]:
    """Read the groups of all ids; an id may be written with its file's extension.

    Raises:
        CalcoError: When the table or the column is missing, or an id has two groups.
    """
    table = read_table(root / GROUPS_TABLE, GROUPS_TABLE)
    ids = column_of(table, ID_COLUMNS, "ids")
    position = column_of(table, frozenset((plain_name(column),)), f"groups, {column!r}")
    groups: dict[str, str] = {}
    doubled: list[str] = []
    for row in table.rows:
        name, group = nfc(row.cells[ids]), row.cells[position].strip()
        if groups.setdefault(name, group) != group:
            doubled.append(f"{name!r} (line {row.line})")
    if doubled:
        what = "ids stand in more than one group"
        got = name_some(doubled)
        raise CalcoError(Problem("GROUP_DOUBLE", what, GROUPS_TABLE, got, do="keep one row each"))
    found = {s.id: groups.get(s.id) or groups.get(nfc(s.image.name), "") for s in samples}
    return {name: group for name, group in found.items() if group}


# --- masks


def _mask_code(
    samples: Iterable[Sample], reading: Reading, config: DataConfig, root: Path
) -> tuple[MaskCode, tuple[Problem, ...]]:
    sources = [sample.mask for sample in samples if sample.mask]
    if isinstance(sources[0], RleMask):
        return MaskCode("rle", invert=config.invert, note=reading.mask_note), ()
    return detect_code(sources, config, root)

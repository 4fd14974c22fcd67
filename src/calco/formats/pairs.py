"""Two folders of masks: which prediction belongs to which truth."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calco.errors import CalcoError, Problem
from calco.formats.roles import path_id
from calco.images.io import is_junk
from calco.images.mask_files import MASK_SUFFIXES

_MASK_ENDING = re.compile(
    r"[-_. ](mask|masks|gt|label|labels|seg|segmentation|pred|prediction|truth)$", re.IGNORECASE
)


@dataclass(frozen=True)
class MaskPair:
    """A prediction and its truth.

    Attributes:
        id: Path of the truth below its folder without the extension, NFC-normalised.
        pred: Predicted mask file.
        true: True mask file.
    """

    id: str
    pred: Path
    true: Path


def pair_masks(pred: Path, truth: Path) -> tuple[tuple[MaskPair, ...], tuple[Problem, ...]]:
    """Find the prediction of every truth.

    Files belong together when their paths below the folders, without extension, are the same;
    what is left over also when they are the same without an ending such as ``_mask`` or ``_pred``.

    Args:
        pred: Folder of predicted masks.
        truth: Folder of true masks.

    Returns:
        Pairs in the order of their ids, and what is wrong: truths without a prediction or with
        several (errors), and predictions without a truth (one warning: predicting more than is
        labelled is usual).

    Raises:
        CalcoError: When a folder is missing, holds no mask, or holds one name twice.
    """
    preds, truths = _masks_below(pred), _masks_below(truth)
    exact = truths.keys() & preds.keys()
    loose: dict[str, list[str]] = defaultdict(list)
    for name in sorted(preds.keys() - exact):
        loose[_bare(name)].append(name)
    pairs: list[MaskPair] = []
    problems: list[Problem] = []
    for name, true in truths.items():
        match [name] if name in exact else loose[_bare(name)]:
            case [only]:
                pairs.append(MaskPair(name, preds[only], true))
            case []:
                problems.append(
                    Problem("PRED_MISSING", "no prediction for this truth", name, do="predict it")
                )
            case several:
                problems.append(_doubled([preds[n] for n in several], pred))
    problems += _taken_twice(pairs, truth)
    problems += _extra(set(preds.values()) - {pair.pred for pair in pairs}, pred)
    return tuple(pairs), tuple(problems)


def _masks_below(folder: Path) -> Mapping[str, Path]:
    if not folder.is_dir():
        raise CalcoError(Problem("IO_MISSING", "no such folder", str(folder), do="check the path"))
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in MASK_SUFFIXES and path.is_file() and not is_junk(path):
            files[path_id(path, folder)].append(path)
    if not files:
        raise CalcoError(
            Problem("DATA_EMPTY", "no mask in the folder", str(folder), do="give the mask folder")
        )
    doubled = [_doubled(paths, folder) for paths in files.values() if len(paths) > 1]
    if doubled:
        raise CalcoError(*doubled)
    return {name: files[name][0] for name in sorted(files)}


def _bare(name: str) -> str:
    return _MASK_ENDING.sub("", name)


def _taken_twice(pairs: Sequence[MaskPair], truth: Path) -> list[Problem]:
    takers: dict[Path, list[Path]] = defaultdict(list)
    for pair in pairs:
        takers[pair.pred].append(pair.true)
    return [_doubled(trues, truth) for trues in takers.values() if len(trues) > 1]


def _doubled(paths: Sequence[Path], folder: Path) -> Problem:
    names = ", ".join(path.relative_to(folder).as_posix() for path in paths)
    return Problem("DUP_ID", "several files for one image", str(folder), names, do="keep one")


def _extra(paths: set[Path], folder: Path) -> list[Problem]:
    if not paths:
        return []
    first = min(path.relative_to(folder).as_posix() for path in paths)
    what = "predictions without a truth are not scored"
    got = f"{len(paths)}, first {first}"
    do = "add their truths, or leave it so"
    return [Problem("PRED_EXTRA", what, str(folder), got, do=do, severity="warning")]

"""What the names of folders and files say: image or mask, and which part of the data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calco.records import Subset

Role = Literal["image", "mask"]


def _with_plural(*words: str) -> frozenset[str]:
    return frozenset(words) | {word + "s" for word in words}


IMAGE_WORDS = _with_plural(
    "image", "img", "input", "photo", "picture", "original", "jpegimage", "sat", "rgb"
)
MASK_WORDS = _with_plural(
    "mask",
    "label",
    "gt",
    "groundtruth",
    "annotation",
    "seg",
    "segmentation",
    "truth",
    "target",
    "manual",
    "manual1",
    "segmentationclass",
    "segmentationobject",
)
SUBSET_WORDS: dict[str, Subset] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
_GROUND_TRUTH = re.compile(r"ground[\s_\-]+truth", re.IGNORECASE)
_END = re.compile(r"(.*?)[\s_\-.]*([^\s_\-.]+)", re.DOTALL)
_LAST_WORD = re.compile(r"(.+?)[\s_\-.]+([^\s_\-.]+)", re.DOTALL)
_FIRST_WORD = re.compile(r"([^\s_\-.]+)[\s_\-.]+(.+)", re.DOTALL)
_YEAR = re.compile(r"(?<=[a-z])(19|20)\d\d$")  # train2017


@dataclass(frozen=True)
class Place:
    """What the path of a folder says about the files in it.

    Attributes:
        role: What it holds; None when its name does not say.
        subset: Part of the data; None when its name does not say.
        above: Names before the first one that says something: one data set of several.
        below: Names after it: series, classes.
    """

    role: Role | None = None
    subset: Subset | None = None
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


def place_of(parts: Sequence[str]) -> Place:
    """Read the names of the folders from the data root down.

    Example:
        >>> place_of(("train", "cell_masks"))
        Place(role='mask', subset='train', above=(), below=('cell',))
    """
    role: Role | None = None
    subset: Subset | None = None
    above: list[str] = []
    below: list[str] = []
    for part in parts:
        part_role, part_subset, rest = _read_name(part)
        told = role or subset
        role, subset = part_role or role, part_subset or subset
        if rest:
            (below if told else above).append(rest)
    return Place(role, subset, tuple(above), tuple(below))


def _read_name(name: str) -> tuple[Role | None, Subset | None, str]:
    """Take role and subset off the end of a folder's name; return what is left of it."""
    text = _GROUND_TRUTH.sub("groundtruth", nfc(name))
    role: Role | None = None
    subset: Subset | None = None
    while cut := _END.fullmatch(text):
        word = _YEAR.sub("", cut[2].casefold())
        if word in MASK_WORDS:
            role = "mask"
        elif word in IMAGE_WORDS:
            role = role or "image"  # mask_images and images_gt hold masks
        elif subset is None and word in SUBSET_WORDS:
            subset = SUBSET_WORDS[word]
        else:
            break
        text = cut[1]
    return role, subset, text if role is None and subset is None else text.rstrip(" _-.")


def nfc(text: str) -> str:
    """Return text in Unicode's composed form; one name may be stored in two ways."""
    return unicodedata.normalize("NFC", text)


def is_text(path: Path) -> bool:
    """Tell whether a path is valid Unicode, which Linux does not ask of it."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def path_id(path: Path, top: Path) -> str:
    """Return a path below ``top`` without its extension, forward slashes, NFC."""
    return nfc(path.relative_to(top).with_suffix("").as_posix())


def stem_of(path: Path) -> str:
    """Return a file's name without extension, NFC."""
    return nfc(path.stem)


def is_split_list(path: Path) -> bool:
    """Tell whether a file's name says that it lists which image is in which part.

    Example:
        >>> is_split_list(Path("lists/val.txt")), is_split_list(Path("train.csv"))
        (True, False)
    """
    stem, suffix = path.stem.casefold(), path.suffix.casefold()
    if stem in ("split", "splits"):
        return suffix in (".txt", ".lst", ".csv", ".json")
    return (stem in SUBSET_WORDS or stem == "trainval") and suffix in (".txt", ".lst")


def bare_stem(stem: str, role: Role) -> str | None:
    """Return a file's stem without the word that tells its role; None without such a word.

    Example:
        >>> bare_stem("a_01_mask", "mask"), bare_stem("mask-7", "mask"), bare_stem("a_01", "mask")
        ('a_01', '7', None)
    """
    words = MASK_WORDS if role == "mask" else IMAGE_WORDS
    text = _GROUND_TRUTH.sub("groundtruth", stem)
    if text.casefold() in words:
        return ""
    if (cut := _LAST_WORD.fullmatch(text)) and cut[2].casefold() in words:
        return cut[1]
    if (cut := _FIRST_WORD.fullmatch(text)) and cut[1].casefold() in words:
        return cut[2]
    return None

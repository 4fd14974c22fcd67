"""Rows 23 to 30 and 46 to 48: links, names, folders, parts and groups."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from calco.config import AuditConfig, DataConfig
from calco.images.toy import draw_sample
from calco.stages.audit import audit_samples, require_unchanged
from calco.stages.samples import index_samples

from .drawing import (
    MASK,
    NAMES,
    RGB,
    Array,
    Builder,
    also,
    box,
    encoded,
    grey,
    image,
    only,
    picture,
    sound,
    write,
)
from .matrix import Accepted, Raised, Refused, Row

X = "images/x.png"
PNG, TRUTH = encoded(RGB), encoded(grey(MASK))
PAIR = {X: PNG, "masks/x.png": TRUTH}


# --- links and permissions


def link_outside(root: Path) -> None:
    """Keep the image elsewhere."""
    sound(root)
    write(root.parent, {"elsewhere/x.png": PNG})
    write(root, {"masks/x.png": TRUTH})
    (root / X).symlink_to(root.parent / "elsewhere/x.png")


def link_to_nothing(root: Path) -> None:
    sound(root)
    write(root, {"masks/x.png": TRUTH})
    (root / X).symlink_to("gone.png")


def folder_named_as_image(root: Path) -> None:
    sound(root)
    write(root, {"masks/x.png": TRUTH})
    (root / X).mkdir()


def lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to open the image; file modes do not stop an administrator."""
    unlocked = Path.open

    def refuse(path: Path, *args: object, **options: object) -> object:
        if path.match(X):
            raise PermissionError(13, "Permission denied")
        return unlocked(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)


def lock_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to list a folder."""
    unlocked = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return unlocked(path)

    monkeypatch.setattr(Path, "iterdir", refuse)


# --- names


def named(stem: str) -> Row:
    """A file name that a pattern, a shell or another system might misread is only a name."""
    composed, decomposed = (unicodedata.normalize(form, stem) for form in ("NFC", "NFD"))
    files = {f"images/{decomposed}.png": PNG, f"masks/{composed}.png": TRUTH}
    return Row(25, f"named-{stem!r}", also(files), Accepted(RGB, sample=composed))


def same_id(first: str, second: str) -> Builder:
    """Two images of one id."""
    return also(
        {
            f"images/{first}": PNG,
            f"images/{second}": encoded(picture(8)),
            "masks/x.png": TRUTH,
            **({"masks/X.png": TRUTH} if first == "X.png" else {}),
        }
    )


LITTER = {name: b"litter" for name in (".DS_Store", "images/Thumbs.db", "images/._x.png")}


# --- changes


def change_after_audit(root: Path) -> None:
    """Exchange one image and remove another mask while the audit is on its way to training."""
    audit = audit_samples(index_samples(root, DataConfig()), DataConfig(), AuditConfig())
    (root / X).write_bytes(encoded(picture(8)))
    (root / "masks/a.png").unlink()
    require_unchanged(audit)


def vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the image between the look at the folder and the look into the file."""
    there = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: not path.match(X) and there(path))


# --- levels


def below(*sets: str) -> Builder:
    """Put whole data sets into sub-folders."""

    def build(root: Path) -> None:
        for name in sets:
            (root / name).mkdir(parents=True)
            sound(root / name)

    return build


def single(root: Path) -> None:
    write(root, PAIR)


def empty_validation(root: Path) -> None:
    below("train")(root)
    for name in ("val/images", "val/masks"):
        (root / name).mkdir(parents=True)


def images_empty(root: Path) -> None:
    write(root, MASKS_ONLY)
    (root / "images").mkdir()


MASKS_ONLY = {f"masks/{name}.png": encoded(grey(box(n))) for n, name in enumerate(NAMES)}
PHOTOSHOP = {f"images/{name}.psd": b"8BPS" for name in NAMES}
TWELVE = {f"images/m{n:02}.png": PNG for n in range(12)}
IMAGES_ONLY = {f"images/{name}.png": encoded(picture(n)) for n, name in enumerate(NAMES)}


# --- parts


def leak(change: Callable[[Array, Array], tuple[bytes, Array]]) -> Builder:
    """Put a copy of the first training image into the test part, changed or not."""

    def build(root: Path) -> None:
        for number in range(3):
            pixels, truth = draw_sample(0, number)
            write(root, {f"train/images/t{number}.png": encoded(pixels)})
            write(root, {f"train/masks/t{number}.png": encoded(grey(truth))})
        content, truth = change(*draw_sample(0, 0))
        write(root, {"test/images/copy.png": content, "test/masks/copy.png": encoded(grey(truth))})

    return build


def half_size(pixels: Array, truth: Array) -> tuple[bytes, Array]:
    small = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return encoded(np.asarray(small)), truth[: 2 * small.shape[0] : 2, : 2 * small.shape[1] : 2]


def exact(pixels: Array, truth: Array) -> tuple[bytes, Array]:
    return encoded(pixels), truth


def as_jpeg(pixels: Array, truth: Array) -> tuple[bytes, Array]:
    return encoded(pixels, "JPEG", quality=80), truth


def groups(text: str) -> Builder:
    """Add a table of groups to a sound set."""
    return also({"groups.csv": text.encode()})


# --- what must come of it

OUTSIDE = Refused("LINK_OUTSIDE", X, "data.follow_links: true", also=("ORPHAN_MASK",))
DANGLING = Refused("LINK_DANGLING", X, "restore it", "gone.png", also=("ORPHAN_MASK",))
LOCKED = Refused("IO_PERMISSION", X, "chmod u+r")
LOCKED_FOLDER = Refused("IO_PERMISSION", "locked", "chmod u+rx")
FOLDER = Refused("NOT_A_FILE", X, "rename it", also=("ORPHAN_MASK",))
TWICE = Refused("DUP_ID", "", "rename or remove all but one", "images/x.jpg, images/x.png")
TWICE_BUT_CASE = Refused("DUP_ID", "", "rename or remove all but one", "images/X.png, images/x.png")
IGNORED = Accepted(RGB, code="JUNK", told="hidden or system files and folders ignored: 3")
CHANGED = Raised(change_after_audit, "DATA_CHANGED", "{root}", "restore them", "a, x")
VANISHED = Refused("IO_MISSING", X, "restore or remove it")
NOTHING = Refused("DATA_EMPTY", "{root}", "give the folder that holds the data", "no files")
NO_IMAGES = Refused("NO_IMAGES", "images", "put the images there", "no files")
PSD = Refused("NO_IMAGES", "images", "convert the images to PNG", "4 .psd")
MASKS_ALONE = Refused("NO_IMAGES", "{root}", "data.images and data.masks", "masks (4 image files)")
NO_MASKS = Refused("NO_MASKS", "{root}", "data.images and data.masks", "images (4 image files)")
HALF_A_PAIR = Refused("NO_MASKS", "{root}/images", "give its parent")
SEVERAL = Refused("DATA_LEVEL", "{root}", "give one of them", "one, two/deep")
NO_MASK = Refused("ORPHAN_IMAGE", "images", "data.allow_unlabelled", "1 image without a mask x.png")
NO_IMAGE = Refused("ORPHAN_MASK", "masks", "add the images", "1 mask without an image x.png")
MANY_ALONE = Refused("ORPHAN_IMAGE", "images", "add the masks", "m09.png and 2 more")
ALLOWED = Accepted(mask=None, sample="a", code="ORPHAN_IMAGE", told="got x.png")
LEAK = Accepted(mask=None, sample="t0", code="LEAK", told="got copy (test), t0 (train)")
PART = Accepted(mask=box(1), sample="a", code="FOLDER_EMPTY", told="val")
LISTS = Accepted(code="LIST_UNUSED", told="got lists/val.txt, train.txt")
ONE = Refused("FEW_SAMPLES", "", "add labelled images", "1 usable with a mask at least 2")
NO_GROUP = Refused("GROUP_MISSING", "groups.csv", "add the ids", "1 image without a group c")
TWO_GROUPS = Refused("GROUP_DOUBLE", "groups.csv", "keep one row each", "'a' (line 5)")
NO_COLUMN = Refused("CSV_COLUMN", "groups.csv:1", "did you mean 'slides'", "'id', 'slides'")
NO_TABLE = Refused("IO_MISSING", "groups.csv", "put it into the data folder")

SLIDE: dict[str, object] = {"group_column": "slide"}
FOLDERS = (
    Row(23, "link-outside", link_outside, OUTSIDE),
    Row(23, "link-outside-followed", link_outside, Accepted(RGB), {"follow_links": True}),
    Row(23, "link-to-nothing", link_to_nothing, DANGLING),
    Row(24, "file-locked", image(PNG), LOCKED, patch=lock_file),
    Row(24, "folder-locked", also({"locked/y.png": PNG}), LOCKED_FOLDER, patch=lock_folder),
    Row(24, "folder-named-as-image", folder_named_as_image, FOLDER),
    *(named(stem) for stem in ("é", "x y", "x[1]", "x*", "new\nline", "-x", "x.1", "%s")),
    Row(26, "png-and-jpg", same_id("x.jpg", "x.png"), TWICE),
    Row(26, "upper-and-lower-case", same_id("X.png", "x.png"), TWICE_BUT_CASE),
    Row(27, "litter", also({**PAIR, **LITTER}), IGNORED),
    Row(28, "changed-after-audit", image(PNG), CHANGED),
    Row(28, "vanished-during-audit", image(PNG), VANISHED, patch=vanish),
    Row(29, "empty-folder", only({}), NOTHING),
    Row(29, "no-images", only(MASKS_ONLY), MASKS_ALONE),
    Row(29, "images-empty", images_empty, NO_IMAGES),
    Row(29, "images-of-another-kind", only({**MASKS_ONLY, **PHOTOSHOP}), PSD),
    Row(29, "no-masks", only(IMAGES_ONLY), NO_MASKS),
    Row(29, "image-folder-given", sound, HALF_A_PAIR, at="images"),
    Row(29, "one-level-too-high", below("one", "two/deep"), SEVERAL),
    Row(30, "image-without-mask", also({X: PNG}), NO_MASK),
    Row(30, "mask-without-image", also({"masks/x.png": TRUTH}), NO_IMAGE),
    Row(30, "twelve-without-mask", also(TWELVE), MANY_ALONE),
    Row(30, "allowed", also({X: PNG}), ALLOWED, {"allow_unlabelled": True}),
    Row(46, "same-in-train-and-test", leak(exact), LEAK),
    Row(46, "smaller-in-test", leak(half_size), LEAK),
    Row(46, "jpeg-in-test", leak(as_jpeg), LEAK),
    Row(47, "lists-of-parts", also({**PAIR, "train.txt": b"a", "lists/val.txt": b"x"}), LISTS),
    Row(47, "validation-empty", empty_validation, PART),
    Row(47, "one-image", single, ONE),
    Row(48, "id-without-group", groups("id,slide\na,1\nb,2\n"), NO_GROUP, SLIDE),
    Row(48, "id-in-two-groups", groups("id,slide\na,1\nb,2\nc,2\na,2\n"), TWO_GROUPS, SLIDE),
    Row(48, "no-such-column", groups("id,slides\na,1\nb,2\nc,2\n"), NO_COLUMN, SLIDE),
    Row(48, "no-such-table", sound, NO_TABLE, SLIDE),
)

"""Write masks for other programs, and prove each file before it gets its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from calco.errors import CalcoError, Problem
from calco.files import atomic_file
from calco.formats import annotations as kinds
from calco.formats.annotations import AnnotatedImage, Tree
from calco.images.mask_files import read_predicted
from calco.images.objects import Labels, Method, split_objects

COCO_FILE = "annotations.coco.json"


def write_annotations(
    masks: Mapping[str, tuple[Path, Path]],
    out: Path,
    formats: Sequence[str],
    method: Method = "components",
    max_megapixels: float = 100.0,
) -> list[Path]:
    """Write the objects of masks, read each file back and compare before naming it.

    COCO is one file, ``annotations.coco.json``; labelme and GeoJSON have one for each image, in a
    folder of that name.

    Args:
        masks: Mask file, uint8 {0, 255}, and image file of each id; read one at a time.
        out: Folder to write into.
        formats: Of ``coco``, ``labelme`` and ``geojson``.
        method: How objects are told apart.
        max_megapixels: Largest mask decoded whole; those of slides are read by window.

    Returns:
        The files, COCO's last.

    Raises:
        CalcoError: When a mask is not {0, 255}, a file cannot be written, or read back is not
            pixel for pixel the objects.
    """
    written: list[Path] = []
    entries: list[Tree] = []
    objects: list[Tree] = []
    for number, (name, (mask, source)) in enumerate(masks.items(), 1):
        labels = split_objects(read_predicted(mask, max_megapixels), method)
        if "labelme" in formats:
            path = out / "labelme" / f"{name}.json"
            image = AnnotatedImage(_relative(source, path.parent), labels)
            _write(path, kinds.labelme_file(image), labels, kinds.labels_of_labelme)
            written.append(path)
        image = AnnotatedImage(source.name, labels)
        if "geojson" in formats:
            path = out / "geojson" / f"{name}.geojson"
            back = _sized(kinds.labels_of_geojson, image.size)
            _write(path, kinds.geojson_file(image), labels, back)
            written.append(path)
        if "coco" in formats:
            image = AnnotatedImage(_relative(source, out), labels)
            entry, own = kinds.coco_image(image, number, len(objects) + 1)
            if not np.array_equal(kinds.labels_of_coco(own, image.size), labels):
                raise _mismatch(out / COCO_FILE)
            entries.append(entry)
            objects += own
    if "coco" in formats:
        _write_tree(out / COCO_FILE, kinds.coco_file(entries, objects), lambda _: True)
        written.append(out / COCO_FILE)
    return written


def _write(path: Path, tree: Tree, labels: Labels, back: Callable[[Tree], Labels]) -> None:
    _write_tree(path, tree, lambda read: np.array_equal(back(read), labels))


def _write_tree(path: Path, tree: Tree, is_right: Callable[[Tree], bool]) -> None:
    """Write JSON, read it back and let it be judged before it gets its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(json.dumps(tree, ensure_ascii=False).encode())
            file.seek(0)
            read = json.loads(file.read())
            if read != tree or not is_right(read):
                raise _mismatch(path)
    except OSError as error:
        got, do = error.strerror or str(error), "make room or choose another folder"
        problem = Problem("OUT_WRITE", "cannot write annotations", str(path), got=got, do=do)
        raise CalcoError(problem) from None
    except kinds.UNREADABLE:
        raise _mismatch(path) from None


def _sized(
    draw: Callable[[Tree, tuple[int, int]], Labels], size: tuple[int, int]
) -> Callable[[Tree], Labels]:
    return lambda tree: draw(tree, size)


def _relative(source: Path, folder: Path) -> str:
    # so that programs find the image from where the annotation lies
    try:
        return Path(os.path.relpath(source, folder)).as_posix()
    except ValueError:  # on another drive
        return source.as_posix()


def _mismatch(path: Path) -> CalcoError:
    what, do = "the file read back differs from the masks; it was not kept", "report it"
    return CalcoError(Problem("ANNOTATION_MISMATCH", what, str(path), do=do))

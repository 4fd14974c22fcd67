"""Annotations hold exactly the masks, or they do not exist."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

import calco.formats.annotations as kinds
from calco.errors import CalcoError
from calco.images.objects import Labels
from calco.stages.annotations import write_annotations

MASK = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]], np.uint8) * np.uint8(255)


def one_mask(folder: Path, name: str = "sub/a") -> dict[str, tuple[Path, Path]]:
    path = folder / "m.png"
    cv2.imwrite(str(path), MASK)
    return {name: (path, folder / "images" / f"{name}.jpg")}


def test_every_format_is_written_beside_the_masks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = write_annotations(one_mask(tmp_path), out, ["coco", "labelme", "geojson"])
    assert [p.relative_to(out).as_posix() for p in written] == [
        "labelme/sub/a.json",
        "geojson/sub/a.geojson",
        "annotations.coco.json",
    ]
    labelme = json.loads(written[0].read_text())
    assert labelme["imagePath"] == "../../../images/sub/a.jpg"  # from where the file lies
    assert len(json.loads(written[1].read_text())["features"]) == 2


def test_pycocotools_loads_the_file(tmp_path: Path) -> None:
    (path,) = write_annotations(one_mask(tmp_path), tmp_path, ["coco"])
    coco = COCO(str(path))
    union = np.any([coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds())], axis=0)
    assert np.array_equal(union, MASK > 0)


@pytest.mark.parametrize("kind", ["coco", "labelme", "geojson"])
def test_a_wrong_outline_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def shifted(labels: Labels, *_: object) -> Labels:
        return np.roll(labels, 1, axis=1)

    wrong = kinds.AnnotatedImage("a", shifted(np.asarray(MASK > 0, np.int32)))
    trees = {
        "coco_image": kinds.coco_image(wrong, 1, 1),
        "labelme_file": kinds.labelme_file(wrong),
        "geojson_file": kinds.geojson_file(wrong),
    }
    for name, tree in trees.items():
        monkeypatch.setattr(kinds, name, lambda *_, tree=tree: tree)
    out = tmp_path / "out"
    with pytest.raises(CalcoError, match="ANNOTATION_MISMATCH"):
        write_annotations(one_mask(tmp_path), out, [kind])
    assert not [p for p in out.rglob("*") if p.is_file()]


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    masks = one_mask(tmp_path)
    with pytest.raises(CalcoError, match="OUT_WRITE"):
        write_annotations(masks, tmp_path / "m.png", ["coco"])

"""Objects as COCO, labelme and GeoJSON keep them, read back exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as peer

from calco.formats import annotations as kinds
from calco.formats.annotations import AnnotatedImage
from calco.images.objects import Method, split_objects

#   a ring with a hole, and two pixels that touch at a corner
MASK = np.array(
    [
        [1, 1, 1, 0, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ],
    bool,
)


@settings(max_examples=100, deadline=None)
@given(
    mask=arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))),
    method=st.sampled_from(("components", "watershed")),
)
def test_every_format_reads_back(mask: NDArray[np.bool_], method: Method) -> None:
    image = AnnotatedImage("a.png", split_objects(mask, method))
    for tree, back in (
        (kinds.labelme_file(image), kinds.labels_of_labelme),
        (kinds.geojson_file(image), lambda t: kinds.labels_of_geojson(t, image.size)),
    ):
        assert np.array_equal(back(json.loads(json.dumps(tree))), image.labels)
    _, objects = kinds.coco_image(image, 1, 1)
    assert np.array_equal(kinds.labels_of_coco(objects, image.size), image.labels)
    for o in objects:
        encoded = {**o["segmentation"], "counts": o["segmentation"]["counts"].encode()}
        assert o["area"] == peer.area(encoded)
        assert o["bbox"] == peer.toBbox(encoded).tolist()


def test_coco_by_hand() -> None:
    entry, objects = kinds.coco_image(AnnotatedImage("x/a.png", split_objects(MASK)), 7, 3)
    assert entry == {"id": 7, "file_name": "x/a.png", "height": 3, "width": 6}
    assert [(o["id"], o["image_id"], o["area"]) for o in objects] == [(3, 7, 8), (4, 7, 2)]
    assert objects[0]["bbox"] == [0, 0, 3, 3]
    assert objects[1]["bbox"] == [4, 1, 2, 2]


def test_geojson_keeps_holes_and_parts() -> None:
    ring, pair = kinds.geojson_file(AnnotatedImage("a", split_objects(MASK)))["features"]
    assert ring["geometry"] == {
        "type": "Polygon",
        "coordinates": [
            [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]],
            [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]],
        ],
    }
    assert pair["geometry"]["type"] == "MultiPolygon"
    assert len(pair["geometry"]["coordinates"]) == 2


def test_labelme_has_polygons_and_masks_where_there_are_holes() -> None:
    tree = kinds.labelme_file(AnnotatedImage("../a.png", split_objects(MASK)))
    assert [(s["shape_type"], s["group_id"]) for s in tree["shapes"]] == [
        ("mask", 1),
        ("polygon", 2),
        ("polygon", 2),
    ]
    assert tree["shapes"][0]["points"] == [[0, 0], [2, 2]]
    assert (tree["imagePath"], tree["imageHeight"], tree["imageWidth"]) == ("../a.png", 3, 6)


@pytest.mark.parametrize("point", [[0.5, 1], [9, 9]])
def test_outlines_off_the_pixels_are_refused(point: list[float]) -> None:
    tree = kinds.labelme_file(AnnotatedImage("a", np.eye(3, dtype=np.int32)))
    tree["shapes"][0]["points"][0] = point
    with pytest.raises(ValueError, match="along the edges"):
        kinds.labels_of_labelme(tree)

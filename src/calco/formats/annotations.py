"""Objects as other programs keep them, COCO, labelme and GeoJSON; each as a tree, and back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from calco.formats.coco_rle import compress_spans, decompress
from calco.formats.rle import Runs, object_spans
from calco.images.objects import Labels
from calco.images.outlines import Polygon, fill, trace

Tree: TypeAlias = dict[str, Any]
Box: TypeAlias = tuple[slice, slice]  # rows and columns
LABEL = "foreground"


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image and its objects.

    Attributes:
        name: File, as the annotation names it.
        labels: (H, W) int32, the number of each pixel's object from 1, 0 outside.
    """

    name: str
    labels: Labels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[0], self.labels.shape[1]


def coco_image(image: AnnotatedImage, number: int, first: int) -> tuple[Tree, list[Tree]]:
    """Describe an image and its objects as COCO does, each object as compressed runs.

    Args:
        image: What is described.
        number: Of the image, from 1.
        first: Number of its first object.
    """
    height, width = image.size
    entry = {"id": number, "file_name": image.name, "height": height, "width": width}
    objects = [
        {
            "id": n,
            "image_id": number,
            "category_id": 1,
            "segmentation": {
                "size": [height, width],
                "counts": compress_spans(spans, height * width),
            },
            "area": int((spans[:, 1] - spans[:, 0]).sum()),
            "bbox": _box(spans, height),
            "iscrowd": 0,
        }
        for n, spans in enumerate(object_spans(image.labels, "column"), first)
    ]
    return entry, objects


def coco_file(images: Sequence[Tree], objects: Sequence[Tree]) -> Tree:
    """Join what ``coco_image`` described into the tree of one file."""
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    return {"images": list(images), "annotations": list(objects), "categories": categories}


def labels_of_coco(objects: Sequence[Tree], size: tuple[int, int]) -> Labels:
    """Draw the objects of one image again.

    Raises:
        CalcoError: When runs cannot be read.
    """
    return _numbered((decompress(o["segmentation"]["counts"], size) for o in objects), size)


def labelme_file(image: AnnotatedImage) -> Tree:
    """Describe an image as labelme does.

    An object is a polygon along the edges of its pixels, or several of one ``group_id``; labelme's
    polygons have no holes, so an object with holes is a shape of the type ``mask``.
    """
    height, width = image.size
    shapes = []
    for number, (polygons, box) in enumerate(_traced(image.labels), 1):
        shared = {"label": LABEL, "group_id": number, "description": "", "flags": {}}
        if any(len(polygon) > 1 for polygon in polygons):
            shapes.append({**shared, **_mask_shape(image.labels[box] == number, box)})
        else:
            shapes += [
                {**shared, "shape_type": "polygon", "mask": None, "points": ring.tolist()}
                for (ring,) in polygons
            ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image.name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def labels_of_labelme(tree: Mapping[str, Any]) -> Labels:
    """Draw the objects of a labelme file that ``labelme_file`` described.

    Raises:
        ValueError: When it holds other shapes.
    """
    size = tree["imageHeight"], tree["imageWidth"]
    labels = np.zeros(size, np.int32)
    for shape in tree["shapes"]:
        if shape["shape_type"] == "mask":
            left, top = shape["points"][0]
            data = np.frombuffer(base64.b64decode(shape["mask"], validate=True), np.uint8)
            mask = np.zeros(size, bool)
            part = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)) > 0
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        else:
            mask = fill([(np.array(shape["points"], np.int64),)], size)
        labels[mask] = shape["group_id"]
    return labels


def geojson_file(image: AnnotatedImage) -> Tree:
    """Describe an image as GeoJSON features in pixels, x to the right and y down."""
    features = [
        {
            "type": "Feature",
            "id": number,
            "properties": {"label": LABEL, "image": image.name},
            "geometry": _geometry(polygons),
        }
        for number, (polygons, _) in enumerate(_traced(image.labels), 1)
    ]
    return {"type": "FeatureCollection", "features": features}


def labels_of_geojson(tree: Mapping[str, Any], size: tuple[int, int]) -> Labels:
    """Draw the features of a GeoJSON file that ``geojson_file`` described.

    Raises:
        ValueError: When an outline leaves the edges of the pixels.
    """
    masks = []
    for feature in tree["features"]:
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        polygons = [parts] if geometry["type"] == "Polygon" else parts
        rings = [tuple(np.array(ring[:-1], np.int64) for ring in part) for part in polygons]
        masks.append(fill(rings, size))
    return _numbered(masks, size)


UNREADABLE = (ValueError, KeyError, TypeError, IndexError, binascii.Error, cv2.error)
"""What reading back raises when a tree is not what was described."""


def _traced(labels: Labels) -> list[tuple[list[Polygon], Box]]:
    """Trace each object; return its polygons and its box."""
    found: list[tuple[list[Polygon], Box]] = []
    for number, (rows, cols) in enumerate(find_objects(labels), 1):
        offset = (cols.start, rows.start)
        polygons = trace(labels[rows, cols] == number)
        moved = [tuple(ring + offset for ring in rings) for rings in polygons]
        found.append((moved, (rows, cols)))
    return found


def _mask_shape(mask: NDArray[np.bool_], box: Box) -> Tree:
    top, left = box[0].start, box[1].start
    png = cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255))[1]
    return {
        "shape_type": "mask",
        "mask": base64.b64encode(png.tobytes()).decode(),
        # labelme's second point is the last pixel, not the one after
        "points": [[left, top], [left + mask.shape[1] - 1, top + mask.shape[0] - 1]],
    }


def _geometry(polygons: Sequence[Polygon]) -> Tree:
    parts = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}
    return {"type": "MultiPolygon", "coordinates": parts}


def _numbered(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int]) -> Labels:
    labels = np.zeros(size, np.int32)
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
    return labels


def _box(spans: Runs, height: int) -> list[int]:
    """Return [x, y, width, height] of spans down the columns."""
    first, last = spans[:, 0], spans[:, 1] - 1
    left, right = int(first[0] // height), int(last[-1] // height)
    if (first // height != last // height).any():  # a run over the end of a column is as high
        top, bottom = 0, height - 1
    else:
        top, bottom = int((first % height).min()), int((last % height).max())
    return [left, top, right - left + 1, bottom - top + 1]

"""What scores look like in scores.csv: nested records there and back."""

from __future__ import annotations

from collections.abc import Mapping

from calco.records.scores import OBJECT_IOU_PERCENT, ImageScore

_OBJECT_TP = tuple(f"object_tp_{percent}" for percent in OBJECT_IOU_PERCENT)
_PIXELS = ("tp", "fp", "fn", "tn")
_RATIOS = ("dice", "iou", "precision", "recall")
_BOUNDARY = ("hd95_px", "assd_px", "nsd", "boundary_iou")
_OBJECTS = ("n_objects_pred", "n_objects_true", *_OBJECT_TP)
_OBJECT_RATIOS = ("object_f1_50", "object_f1_75", "dsb2018", "tgs")
_DOUBT = ("estimated_dice",)
SCORE_COLUMNS = (
    *("id", "group", "subset"),
    *(_PIXELS + _RATIOS + _BOUNDARY + _OBJECTS + _OBJECT_RATIOS + _DOUBT),
)


def score_row(score: ImageScore) -> tuple[object, ...]:
    """Return the cells of one image, in the order of ``SCORE_COLUMNS``; blank where not counted."""
    objects = score.objects
    return (
        *(score.id, score.group, score.subset),
        *(getattr(score.counts, name) for name in _PIXELS),
        *(getattr(score, name) for name in _RATIOS),
        *(getattr(score.boundary, name) for name in _BOUNDARY),
        *((objects.n_pred, objects.n_true, *objects.tp) if objects else ("",) * len(_OBJECTS)),
        *(getattr(score, name) for name in _OBJECT_RATIOS + _DOUBT),
    )


def score_fields(row: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of one image's score from its cells; older files lack the later columns."""
    given: dict[str, object] = {**row, "counts": row}
    if "hd95_px" in row:
        given["boundary"] = row
    if row.get("n_objects_pred"):
        n_pred, n_true, *tp = (row.get(name) for name in _OBJECTS)
        given["objects"] = {"n_pred": n_pred, "n_true": n_true, "tp": tp}
    return given

"""Draw reports/figures/demo.jpg, the picture of the README, from a finished demo run.

Run ``calco demo -o results/demo1`` first, then ``python scripts/make_figures.py results/demo1``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from calco.formats.truth import read_truth
from calco.images.io import read_image
from calco.images.mask_files import read_mask_file
from calco.images.overlays import overlay
from calco.records import MaskCode
from calco.runs import RunDir

TARGET = Path(__file__).resolve().parents[1] / "reports" / "figures" / "demo.jpg"
TILE_PX = 220
GAP_PX = 8
COLUMNS = 4


def main() -> None:
    """Write the picture."""
    run = RunDir(Path(sys.argv[1]))
    index = {sample.id: sample for sample in run.load_audit().index}
    scores = [s for s in run.load_scores() if s.subset == "test" and s.counts.tp > 0]
    scores.sort(key=lambda s: s.dice)
    places = np.linspace(0.2, 0.9, COLUMNS)  # ordinary images, neither best nor worst
    columns = []
    for place in places:
        score = scores[int(place * (len(scores) - 1))]
        sample = index[score.id]
        image = read_image(sample.image, run.load_audit().index.spec)
        assert sample.mask is not None, "scored samples have a mask"
        true = read_truth(sample.mask, run.load_audit().index.code, image.shape[:2])
        path = run.path / "predictions" / "test" / f"{score.id}.png"
        pred = read_mask_file(path, MaskCode("values", (255,)))
        columns.append([overlay(image, None, None), overlay(image, true, pred)])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    page = cv2.cvtColor(sheet(columns), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(TARGET), page, [cv2.IMWRITE_JPEG_QUALITY, 88])


def sheet(columns: list[list[np.ndarray]]) -> np.ndarray:
    """Return tiles (H, W, 3) uint8 side by side on white."""
    rows = len(columns[0])
    pitch = TILE_PX + GAP_PX
    page = np.full((rows * pitch - GAP_PX, len(columns) * pitch - GAP_PX, 3), 255, np.uint8)
    for i, column in enumerate(columns):
        for j, tile in enumerate(column):
            side = min(tile.shape[:2])
            square = tile[:side, :side]
            square = cv2.resize(square, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
            page[j * pitch :, i * pitch :][:TILE_PX, :TILE_PX] = square
    return page


if __name__ == "__main__":
    main()

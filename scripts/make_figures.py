"""Draw the pictures of the README, reports/figures/demo.jpg and report.png, from a finished run.

Run ``calco demo -o results/demo1`` first, then ``python scripts/make_figures.py results/demo1``.
The second picture is the top of the run's report in Chromium, which has to be installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from calco.formats.truth import read_truth
from calco.images.io import read_image
from calco.images.mask_files import read_mask_file
from calco.images.overlays import overlay
from calco.records import MaskCode
from calco.runs import RunDir

FIGURES = Path(__file__).resolve().parents[1] / "reports" / "figures"
TILE_PX = 220
GAP_PX = 8
COLUMNS = 4
PAGE_PX = (1000, 1590)  # width and height: the headline, outlines and objects
N_COLORS = 128  # a page has few, and the file is a third of the size
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write the pictures."""
    run = RunDir(Path(sys.argv[1]))
    FIGURES.mkdir(parents=True, exist_ok=True)
    page = cv2.cvtColor(sheet(traced(run)), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(FIGURES / "demo.jpg"), page, [cv2.IMWRITE_JPEG_QUALITY, 88])
    photograph(run.report_html, FIGURES / "report.png")


def traced(run: RunDir) -> list[list[np.ndarray]]:
    """Return some ordinary test images, neither best nor worst, each plain and traced."""
    audit = run.load_audit()
    index = {sample.id: sample for sample in audit.index}
    scores = [s for s in run.load_scores() if s.subset == "test" and s.counts.tp > 0]
    scores.sort(key=lambda s: s.dice)
    columns = []
    for place in np.linspace(0.2, 0.9, COLUMNS):
        score = scores[int(place * (len(scores) - 1))]
        sample = index[score.id]
        image = read_image(sample.image, audit.index.spec)
        assert sample.mask is not None, "scored samples have a mask"
        true = read_truth(sample.mask, audit.index.code, image.shape[:2])
        path = run.path / "predictions" / "test" / f"{score.id}.png"
        pred = read_mask_file(path, MaskCode("values", (255,)))
        columns.append([overlay(image, None, None), overlay(image, true, pred)])
    return columns


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


def photograph(page: Path, target: Path) -> None:
    """Write the top of a page as PNG, as Chromium shows it; nothing is fetched.

    Args:
        page: HTML file.
        target: Written.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("install Chromium to photograph the report")
    width, height = PAGE_PX
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars"
    quiet = "--disable-background-networking --disable-component-update --disable-sync"
    with TemporaryDirectory() as profile:
        command = [browser, *flags.split(), *quiet.split(), f"--user-data-dir={profile}"]
        command += [f"--window-size={width},{height}", f"--screenshot={target}"]
        subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True)
    with Image.open(target) as picture:
        few = picture.convert("RGB").quantize(N_COLORS, Image.Quantize.MAXCOVERAGE)
    few.save(target, optimize=True)


if __name__ == "__main__":
    main()

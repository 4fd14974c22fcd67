"""Draw data sets that are nothing like nuclei, to see whether the plan serves them, too.

``python scripts/trial_sets.py /tmp/sets`` writes four folders with images/ and masks/:

- **defects**: small scratches and pits on brushed metal; seven pictures of ten have none.
- **cracks**: thin dark or bright lines of 1 to 3 px on rough ground.
- **sizes**: seeds from 96 to 1600 px a side in one folder.
- **street**: signs along a road; half of the frames have none.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Draw = Callable[[np.random.Generator], tuple[Field, NDArray[np.uint8]]]


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=120, help="pictures per set")
    arguments = parser.parse_args()
    for name, draw in SETS.items():
        write_set(arguments.folder / name, draw, arguments.images)


def write_set(folder: Path, draw: Draw, n: int) -> None:
    """Write ``n`` pictures (uint8 RGB) and masks {0, 255}; each depends on its number alone."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(n):
        picture, mask = draw(np.random.default_rng((len(folder.name), index)))
        name = f"{index:04d}.png"
        cv2.imwrite(str(folder / "images" / name), picture.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / name), mask * np.uint8(255))


def draw_defect(rng: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Draw brushed metal; in three of ten pictures with one to three small defects."""
    size = (256, 256)
    ground = noise(size, (0.7, 12), rng) * 14 + noise(size, (60, 60), rng) * 18 + 130
    mask = np.zeros(size, np.uint8)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 0):
        row, col = (int(v) for v in rng.integers(12, 244, 2))
        if rng.random() < 0.5:
            axes = (int(rng.integers(2, 8)), int(rng.integers(2, 6)))
            cv2.ellipse(mask, (col, row), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        else:
            angle, length = rng.uniform(0, math.pi), rng.uniform(10, 40)
            end = (int(col + length * math.cos(angle)), int(row + length * math.sin(angle)))
            cv2.line(mask, (col, row), end, 1, 2)
    dust = (noise(size, (0.6, 0.6), rng) > 3.4) * 60.0  # looks like pits, but smaller
    depth = rng.choice([-1.0, 1.0]) * rng.uniform(25, 60)
    return coloured(ground + dust + depth * soft(mask, 0.8), rng, tint=4), mask


def draw_crack(rng: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Draw rough ground with branching lines of 1 to 3 px, darker or brighter than it."""
    size = (320, 320)
    ground = noise(size, (1, 1), rng) * 12 + noise(size, (6, 6), rng) * 10 + 120
    ground += noise(size, (50, 50), rng) * 25
    mask = np.zeros(size, np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        point, angle = rng.uniform(0, 320, 2), rng.uniform(0, 2 * math.pi)
        width = int(rng.integers(1, 4))
        for _ in range(int(rng.integers(20, 60))):
            angle += rng.normal(0, 0.35)
            step = point + 8 * np.array([math.cos(angle), math.sin(angle)])
            start, end = ([int(v) for v in p] for p in (point, step))
            cv2.line(mask, start, end, 1, width)
            point = step
    sign = rng.choice([-1.0, 1.0], p=[0.8, 0.2])
    return coloured(ground + sign * rng.uniform(35, 60) * soft(mask, 0.6), rng, tint=6), mask


def draw_size(rng: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Draw seeds of 10 to 24 px on cloth, in pictures of very different size."""
    size = tuple(int(96 * 2 ** rng.uniform(0, 4.05)) for _ in range(2))
    ground = noise(size, (1.5, 1.5), rng) * 10 + noise(size, (40, 40), rng) * 20 + 90
    mask, lumps = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for plane, share in ((mask, 1.0), (lumps, 0.5)):
        for _ in range(int(share * size[0] * size[1] / 4000)):
            centre = (int(rng.integers(size[1])), int(rng.integers(size[0])))
            axes = (int(rng.integers(6, 13)), int(rng.integers(4, 7)))
            if plane is lumps:
                axes = (axes[1], axes[1])  # round crumbs are no seeds
            cv2.ellipse(plane, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    lumps[mask > 0] = 0
    return coloured(ground + 70 * soft(mask, 1) + 70 * soft(lumps, 1), rng, tint=10), mask


def draw_street(rng: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Draw a road between houses; half of the frames have one or two red signs."""
    height, width = 224, 352
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = np.linspace(190, 90, height)[:, None, None] + rng.uniform(-30, 30)
    for _ in range(14):
        col, row = int(rng.integers(width)), int(rng.integers(30, 120))
        shade = tuple(float(v) for v in rng.uniform(40, 200, 3))
        size = rng.integers(15, 60, 2)
        corner = (col + int(size[0]), row + int(size[1]))
        cv2.rectangle(picture, (col, row), corner, shade, -1)
    road = np.array([[60, height], [150, 110], [200, 110], [320, height]], np.int32)
    cv2.fillPoly(picture, [road], (85.0, 85.0, 85.0))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.5 else 0):
        centre = (int(rng.integers(20, width - 20)), int(rng.integers(50, 150)))
        radius = int(rng.integers(5, 16))
        foot = (centre[0], centre[1] + 4 * radius)
        cv2.line(picture, centre, foot, (90.0, 90.0, 90.0), max(1, radius // 4))
        cv2.circle(picture, centre, radius, (40.0, 40.0, 190.0), -1)  # OpenCV's order: blue first
        cv2.circle(picture, centre, int(0.6 * radius), (220.0, 220.0, 220.0), -1)
        cv2.circle(mask, centre, radius, 1, -1)
    light = rng.uniform(0.4, 1.15) + 0.15 * noise((height, width), (60, 60), rng)
    grain = rng.normal(0, 5, picture.shape)
    return (picture * light[..., None] + grain).astype(np.float32), mask


def noise(size: tuple[int, ...], scale_px: tuple[float, float], rng: np.random.Generator) -> Field:
    """Draw smooth noise of mean 0 and deviation 1, (H, W), smoothed by (rows, cols)."""
    rough = rng.standard_normal(size, np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), sigmaX=scale_px[1], sigmaY=scale_px[0])
    return np.asarray(smooth / smooth.std(), np.float32)


def soft(mask: NDArray[np.uint8], sigma_px: float) -> Field:
    """Blur a mask as a lens does: (H, W) float32 in [0, 1]."""
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma_px))


def coloured(grey: Field, rng: np.random.Generator, tint: float) -> Field:
    """Give a grey picture a cast, new light and grain: (H, W, 3)."""
    cast = rng.normal(0, tint, 3)
    light = grey * rng.uniform(0.75, 1.2)
    return np.asarray(light[..., None] + cast + rng.normal(0, 4, (*grey.shape, 3)), np.float32)


SETS: dict[str, Draw] = {
    "defects": draw_defect,
    "cracks": draw_crack,
    "sizes": draw_size,
    "street": draw_street,
}


if __name__ == "__main__":
    main()

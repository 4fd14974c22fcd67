"""A generated data set: microscope pictures of nuclei with exact masks.

Light is uneven, dim nuclei are darker than bright background elsewhere, and fibres, specks, rings
and blurred ghosts must not be traced, so no global threshold solves it; a small network does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZES: tuple[tuple[int, int], ...] = ((128, 160), (192, 192), (160, 256), (256, 256))
EMPTY_EVERY = 20  # such an image holds debris only
TWIN_EVERY = 16  # such an image is a near-copy of the one TWIN_OF indices before
TWIN_OF = 5
_VERTICES = 40
_Field = NDArray[np.float32]


def draw_sample(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one picture and its truth; a pure function of its arguments.

    Args:
        seed: Of the data set, at least 0.
        index: Of the picture, at least 0.

    Returns:
        Image (H, W, 3) uint8, RGB, and mask (H, W) bool, True on nuclei.
    """
    if index % TWIN_EVERY == TWIN_EVERY - 1:
        return _draw_twin(seed, index)
    rng = np.random.default_rng((seed, index))
    size = SIZES[rng.integers(len(SIZES))]
    count = 0 if index % EMPTY_EVERY == EMPTY_EVERY - 1 else _draw_count(size, rng)
    labels = _draw_labels(size, count, rng)
    paint = _LOOKS[rng.choice(len(_LOOKS), p=_SHARES)]
    return _expose(paint(labels, rng), rng), labels > 0


def write_toy(folder: Path, n: int = 160, seed: int = 0) -> Path:
    """Write ``images/*.png`` and ``masks/*.png`` with mask values {0, 255}.

    Args:
        folder: Created if missing; files of the same names are replaced.
        n: Number of pictures.
        seed: Of the data set.

    Returns:
        The folder.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(n):
        image, mask = draw_sample(seed, index)
        name = f"{index:04d}.png"
        _write_png(folder / "images" / name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        _write_png(folder / "masks" / name, mask.astype(np.uint8) * 255)
    return folder


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    # imencode, because imwrite cannot open every Unicode path on Windows.
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _draw_twin(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Repeat an earlier picture slightly brighter and after JPEG, as re-exported files are."""
    image, mask = draw_sample(seed, index - TWIN_OF)
    brighter = cv2.convertScaleAbs(image, alpha=1.04, beta=2)
    jpeg = cv2.imencode(".jpg", brighter, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), dtype=np.uint8), mask


# --- shapes


def _draw_count(size: tuple[int, int], rng: np.random.Generator) -> int:
    """Draw how many nuclei a picture gets, 6 to 30 per 200x200 pixels."""
    return max(3, round(size[0] * size[1] / 40000 * rng.uniform(6, 30)))


def _draw_labels(size: tuple[int, int], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw nuclei that touch but hardly overlap: (H, W) uint8, 0 is background."""
    labels = np.zeros(size, np.uint8)  # (H, W)
    centres, radii = _scatter(size, count, rng)
    for label, outline in enumerate(_outlines(centres, radii, rng), start=1):
        cv2.fillPoly(labels, [outline], label, shift=3)
    return labels


def _scatter(
    size: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place circles, most of them beside an earlier one: centres (N, 2) as x, y and radii (N,)."""
    typical = rng.uniform(7, 12)
    centres, radii = np.empty((0, 2)), np.empty(0)
    for _ in range(4 * count):
        radius = typical * rng.uniform(0.75, 1.3)
        centre = rng.uniform(0, 1, 2) * size[::-1]
        if len(radii) and rng.random() < 0.6:
            mate, angle = rng.integers(len(radii)), rng.uniform(0, 2 * math.pi)
            step = 0.95 * (radius + radii[mate])
            centre = centres[mate] + step * np.array([math.cos(angle), math.sin(angle)])
        apart = np.hypot(*(centres - centre).T) > 0.9 * (radii + radius)
        if apart.all() and (centre > 0).all() and (centre < size[::-1]).all():
            centres, radii = np.vstack([centres, centre]), np.append(radii, radius)
        if len(radii) == count:
            break
    return centres, radii


def _outlines(
    centres: NDArray[np.float64], radii: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int32]:
    """Turn circles into irregular ellipses: (N, vertices, 2) in eighths of a pixel, as x, y."""
    n = len(radii)
    theta = np.linspace(0, 2 * math.pi, _VERTICES, endpoint=False)  # (V,)
    orders = np.arange(2, 6)  # (K,) lobes of the outline; 2 makes the ellipse
    sizes = rng.normal(0, [0.16, 0.05, 0.03, 0.015], (n, 4))  # (N, K)
    phases = rng.uniform(0, 2 * math.pi, (n, 4))  # (N, K)
    waves = np.cos(orders[:, None] * theta + phases[..., None])  # (N, K, V)
    reach = radii[:, None] * (1 + np.clip((sizes[..., None] * waves).sum(axis=1), -0.4, 0.4))
    ring = np.stack([np.cos(theta), np.sin(theta)], axis=1)  # (V, 2)
    return np.asarray(np.rint(8 * (centres[:, None] + reach[..., None] * ring)), np.int32)


# --- fields


def _clouds(size: tuple[int, int], cell_px: float, rng: np.random.Generator) -> _Field:
    """Draw smooth noise of unit variance or a little less, with features of about cell_px."""
    grid = [math.ceil(side / cell_px) + 3 for side in size]
    coarse = rng.standard_normal(grid, dtype=np.float32)
    fine = cv2.resize(coarse, None, fx=cell_px, fy=cell_px, interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine[: size[0], : size[1]])


def _light(size: tuple[int, int], darkest: float, rng: np.random.Generator) -> _Field:
    """Draw uneven light: 1 at a random bright spot, falling to ``darkest`` far from it."""
    row, col = rng.uniform(-0.1, 1.1, 2)
    down = (np.arange(size[0], dtype=np.float32) - np.float32(row * size[0])) ** 2
    across = (np.arange(size[1], dtype=np.float32) - np.float32(col * size[1])) ** 2
    reach = np.float32(0.75 * math.hypot(*size)) ** 2
    fall = np.minimum((down[:, None] + across) / reach, 1)  # (H, W) float32
    return np.asarray(1 - np.float32(1 - darkest) * fall)


def _dome(labels: NDArray[np.uint8]) -> _Field:
    """Rise from 0 at each nucleus' edge, seams between neighbours included, to 1 inside."""
    seams = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    inside = ((labels > 0) & (seams == 0)).astype(np.uint8)
    depth_px = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.asarray(1 - np.exp(-depth_px / 2.5), dtype=np.float32)


def _debris(size: tuple[int, int], rng: np.random.Generator) -> _Field:
    """Draw what is bright but no nucleus: fibres, scratches, specks, rings and ghosts."""
    sharp, soft, ghosts = np.zeros((3, *size), np.float32)  # each (H, W)
    for _ in range(rng.poisson(1.5)):
        cv2.polylines(sharp, [_fibre(size, rng)], False, rng.uniform(0.5, 1), 1, cv2.LINE_4)
    for col, row, radius in _spots(rng.poisson(9), (1, 2.2), size, rng):  # specks
        _stamp(sharp, (col, row), radius, rng.uniform(0.5, 1.1), cv2.FILLED)
    for col, row, radius in _spots(rng.poisson(1.2), (8, 22), size, rng):  # rings
        _stamp(soft, (col, row), radius, rng.uniform(0.6, 1.2), 3)
    for col, row, radius in _spots(rng.poisson(2.5), (7, 13), size, rng):  # nuclei out of focus
        _stamp(ghosts, (col, row), radius, rng.uniform(0.4, 0.9), cv2.FILLED)
    return np.asarray(sharp + cv2.GaussianBlur(soft + cv2.blur(ghosts, (13, 13)), (0, 0), 2.5))


def _spots(
    count: int, radii_px: tuple[float, float], size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw circles anywhere: (N, 3) as x, y, radius."""
    highest = (size[1], size[0], radii_px[1])
    return rng.uniform((0, 0, radii_px[0]), highest, (count, 3))


def _stamp(
    field: _Field, centre: tuple[float, float], radius: float, level: float, thickness: int
) -> None:
    """Draw one circle into the field, to an eighth of a pixel."""
    point = (round(8 * centre[0]), round(8 * centre[1]))
    cv2.circle(field, point, round(8 * radius), level, thickness, shift=3)


def _fibre(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw a gently curling path across the picture: (V, 2) as x, y."""
    steps = 60
    bend = np.cumsum(rng.normal(0, 0.12, steps)) * rng.integers(0, 2)  # half are scratches
    heading = rng.uniform(0, 2 * math.pi) + bend
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * 4
    path += rng.uniform(0, 1, 2) * size[::-1] - path[rng.integers(steps)]
    return np.asarray(np.rint(path), np.int32)


# --- looks: each returns (H, W, 3) float32 in [0, 1]


def _fluorescence(labels: NDArray[np.uint8], rng: np.random.Generator) -> _Field:
    """Glowing nuclei in haze, white or in the colour of a dye."""
    size = labels.shape
    levels = rng.uniform(0.35, 1, 256).astype(np.float32)
    grain = 1 + 0.16 * _clouds(size, 3, rng) + 0.1 * _clouds(size, 7, rng)
    nuclei = (labels > 0) * levels[labels] * (0.55 + 0.45 * _dome(labels)) * grain
    haze = (0.5 + 0.5 * np.tanh(0.8 * _clouds(size, max(size) / 2.2, rng))) ** 2
    glow = cv2.GaussianBlur(nuclei, (0, 0), 6)
    light = _light(size, 0.45, rng)
    shine = light * (0.75 * nuclei + 0.12 * glow + 0.5 * _debris(size, rng))
    return _tinted(cv2.GaussianBlur(0.03 + 0.55 * haze + shine, (0, 0), 0.8), rng)


def _tinted(grey: _Field, rng: np.random.Generator) -> _Field:
    """Colour a grey picture from black through a dye's colour to nearly white."""
    dyes = ((1.0, 1.0, 1.0), (0.2, 0.5, 1.0), (0.15, 1.0, 0.45))
    dye = np.array(dyes[rng.choice(3, p=(0.4, 0.4, 0.2))], np.float32)
    return np.asarray(
        grey[..., None] * (dye + (1 - dye) * 0.8 * np.minimum(grey, 1)[..., None] ** 2)
    )


def _stain(labels: NDArray[np.uint8], rng: np.random.Generator) -> _Field:
    """Purple nuclei in pink tissue, by the absorption of two stains."""
    size = labels.shape
    levels = rng.uniform(0.45, 1, 256).astype(np.float32)
    grain = 1 + 0.2 * _clouds(size, 3, rng)
    nuclei = (labels > 0) * levels[labels] * (1.1 - 0.35 * _dome(labels)) * grain
    tissue = 0.45 + 0.25 * _clouds(size, 28, rng) + 0.12 * _clouds(size, 9, rng)
    purple, pink = np.array([0.95, 1.1, 0.45]), np.array([0.12, 0.65, 0.3])
    dense = cv2.GaussianBlur(nuclei + 0.7 * _debris(size, rng), (0, 0), 0.8)
    absorbed = dense[..., None] * purple + np.clip(tissue, 0, 2)[..., None] * pink
    return np.asarray(0.97 * np.exp(-absorbed) * _light(size, 0.45, rng)[..., None], np.float32)


def _brightfield(labels: NDArray[np.uint8], rng: np.random.Generator) -> _Field:
    """Grey bodies with a bright halo on an unevenly lit field."""
    size = labels.shape
    levels = rng.uniform(0.35, 1, 256).astype(np.float32)
    grain = 1 + 0.25 * _clouds(size, 3, rng)
    nuclei = (labels > 0) * levels[labels] * (1 - 0.4 * _dome(labels)) * grain
    halo = cv2.GaussianBlur(nuclei, (0, 0), 4)
    body = cv2.GaussianBlur(0.6 * nuclei + 0.45 * _debris(size, rng), (0, 0), 0.8)
    shade = 0.015 * _clouds(size, 2.5, rng) + 0.025 * _clouds(size, 14, rng) + 0.3 * halo - body
    grey = _light(size, 0.45, rng) * (0.85 + shade)
    tone = np.array([1.0, 0.98, 0.93], np.float32)
    return np.asarray(grey[..., None] * tone, np.float32)


def _expose(scene: _Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add the sensor's noise and round to (H, W, 3) uint8."""
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    level = np.float32(rng.uniform(0.008, 0.02))
    return np.asarray(np.clip(np.rint(255 * (scene + level * noise)), 0, 255), np.uint8)


_LOOKS: tuple[Callable[[NDArray[np.uint8], np.random.Generator], _Field], ...] = (
    _fluorescence,
    _stain,
    _brightfield,
)
_SHARES = (0.5, 0.3, 0.2)

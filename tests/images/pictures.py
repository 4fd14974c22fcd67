"""Small pictures that the tests of reading images share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calco.errors import CalcoError, Problem

GREY = np.array([[0, 10, 20], [30, 40, 255]], np.uint8)  # (2, 3)
RGB = np.dstack([GREY, GREY[:, ::-1], 255 - GREY])  # (2, 3, 3)


def fault(read: Callable[[], object]) -> Problem:
    """Return the one problem that reading ends with."""
    with pytest.raises(CalcoError) as caught:
        read()
    (problem,) = caught.value.problems
    return problem


def save(path: Path, image: Image.Image | NDArray[Any], **options: Any) -> Path:  # noqa: ANN401
    """Write a picture with Pillow."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(path, **options)
    return path


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Draw (H, W, C) uint8 that compresses badly."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def palette_image(colors: list[int]) -> Image.Image:
    """Draw 2 x 2 palette indices 0, 1, 1, 2."""
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), mode="P")
    image.putpalette(colors)
    return image

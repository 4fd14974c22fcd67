from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calco.images.otsu import otsu_mask


def two_classes(channels: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright disc (about 180) on a darker ground (about 60), with noise."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:64, :48]
    disc = (rows - 30) ** 2 + (cols - 20) ** 2 < 14**2
    grey = np.where(disc, 180, 60) + rng.normal(0, 12, disc.shape)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], channels, axis=2)
    return image, disc


def best_cut(luma: NDArray[np.uint8]) -> int:
    """Maximise the variance between classes by trying every cut."""

    def between(cut: int) -> float:
        low, high = luma[luma <= cut], luma[luma > cut]
        if not low.size or not high.size:
            return -1.0
        return float(low.size * high.size * (low.mean() - high.mean()) ** 2)

    return max(range(256), key=between)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_finds_bright_objects(channels: int) -> None:
    image, disc = two_classes(channels)
    assert np.array_equal(otsu_mask(image, bright=True), disc)


def test_finds_dark_objects() -> None:
    image, disc = two_classes(3)
    assert np.array_equal(otsu_mask(255 - image, bright=False), disc)


def test_polarities_are_complements() -> None:
    image, _ = two_classes(3)
    assert np.array_equal(otsu_mask(image, bright=True), ~otsu_mask(image, bright=False))


def test_agrees_with_trying_every_cut() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        image = rng.normal(rng.choice([40, 120, 200], size=(24, 24)), 15).clip(0, 255)
        luma = image.astype(np.uint8)
        expected = luma > best_cut(luma)
        assert np.array_equal(otsu_mask(luma[:, :, None], bright=True), expected)


def test_colour_is_weighed_as_luma() -> None:
    # pure green is bright to the eye, pure blue dark, though their channel means are equal
    image = np.array([[[0, 255, 0], [0, 0, 255]]], np.uint8)
    assert otsu_mask(image, bright=True).tolist() == [[True, False]]


@pytest.mark.parametrize("value", [0, 100, 255])
@pytest.mark.parametrize("bright", [True, False])
def test_a_constant_image_has_no_objects(value: int, bright: bool) -> None:
    assert not otsu_mask(np.full((5, 7, 3), value, np.uint8), bright).any()


def test_one_pixel() -> None:
    assert otsu_mask(np.array([[[9]]], np.uint8), bright=True).tolist() == [[False]]

"""Otsu's threshold: the classic method without learning that a network has to beat."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def otsu_mask(image: NDArray[np.uint8], bright: bool) -> NDArray[np.bool_]:
    """Separate an image's luma at the threshold that divides it best into two classes.

    Args:
        image: (H, W, C) uint8; C = 3 is RGB, any other C is averaged.
        bright: Whether the objects are the brighter class.

    Returns:
        (H, W) bool; all False for a constant image, which has no two classes.

    Reference:
        Otsu (1979), IEEE Trans. SMC 9(1), https://doi.org/10.1109/TSMC.1979.4310076

    Example:
        >>> otsu_mask(np.array([[[10], [200], [210]]], np.uint8), bright=True)
        array([[False,  True,  True]])
    """
    grey = luma(image)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.bool_)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above: NDArray[np.bool_] = grey > int(threshold)
    return above if bright else ~above


def luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of each pixel, (H, W) uint8, of an (H, W, C) uint8 image.

    Three channels are weighed as the eye does, other numbers of channels alike.
    """
    match image.shape[2]:
        case 1:
            grey = image[:, :, 0]
        case 3:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        case _:
            grey = np.rint(image.mean(axis=2, dtype=np.float32)).astype(np.uint8)
    return np.ascontiguousarray(grey)

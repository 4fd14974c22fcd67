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
    luma = _luma(image)
    if luma.min() == luma.max():
        return np.zeros(luma.shape, np.bool_)
    threshold, _ = cv2.threshold(luma, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    above: NDArray[np.bool_] = luma > int(threshold)
    return above if bright else ~above


def _luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    match image.shape[2]:
        case 1:
            luma = image[:, :, 0]
        case 3:
            luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        case _:
            luma = np.rint(image.mean(axis=2)).astype(np.uint8)
    return np.ascontiguousarray(luma)

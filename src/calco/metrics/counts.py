"""Pixel counts: the integers every score is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.records import Counts


def count(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> Counts:
    """Count the pixels on which a predicted mask and the truth agree and differ.

    Args:
        pred: (H, W) bool.
        true: (H, W) bool.

    Returns:
        Integer counts that add up to H * W.

    Raises:
        CalcoError: When the shapes differ or a mask is not bool; 0/255 masks would count wrongly.

    Example:
        >>> count(np.array([[True, True, False]]), np.array([[True, False, True]]))
        Counts(tp=1, fp=1, fn=1, tn=0)
    """
    require_comparable(pred, true)
    n_pred = int(np.count_nonzero(pred))
    n_true = int(np.count_nonzero(true))
    tp = int(np.count_nonzero(pred & true))
    return Counts(tp=tp, fp=n_pred - tp, fn=n_true - tp, tn=true.size - n_pred - n_true + tp)


def require_comparable(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    """Refuse masks that cannot be compared pixel by pixel.

    Raises:
        CalcoError: When the shapes differ or a mask is not bool.
    """
    if pred.shape != true.shape or true.ndim != 2:
        raise CalcoError(
            Problem(
                "MASK_SIZE",
                "masks to compare are not two planes of one size",
                got=f"predicted {pred.shape} and true {true.shape}",
                expected="(H, W) twice",
                do="predict at the original resolution",
            )
        )
    if pred.dtype != np.bool_ or true.dtype != np.bool_:
        raise CalcoError(
            Problem(
                "MASK_DTYPE",
                "masks to compare are not bool",
                got=f"predicted {pred.dtype} and true {true.dtype}",
                expected="bool",
                do="compare with a threshold first, e.g. mask > 0",
            )
        )

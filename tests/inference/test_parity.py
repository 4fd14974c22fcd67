"""Masks are compared where no rounding decides."""

from __future__ import annotations

import numpy as np
import pytest

from calco.inference.engines import Images, Logits
from calco.inference.parity import compare


class Fixed:
    """An engine that answers the first channel as logits, moved by some error."""

    name = "fixed"

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def with_threads(self, threads: int) -> Fixed:
        return self

    def logits(self, images: Images) -> Logits:
        logits = (images[..., 0].astype(np.float32) - 128) / 100 + self.error
        return logits.astype(np.float32)


def test_pixels_that_part_are_counted_and_near_ones_excused() -> None:
    # logits are (value - 128) / 100: three far from 0 and one within the margin of it
    image = np.array([[100, 127, 128, 200]], np.uint8)[..., None].repeat(3, axis=2)  # (1, 4, 3)
    same = compare(Fixed(), Fixed(), [image], 0.5)
    assert (same.n_px, same.n_unlike, same.n_near, same.max_error) == (4, 0, 0, 0.0)
    near = compare(Fixed(), Fixed(0.015), [image], 0.5)  # -0.01 and 0.0 are above 0 now
    assert (near.n_unlike, near.n_near) == (0, 2)
    far = compare(Fixed(), Fixed(0.5), [image], 0.5)  # so is -0.28
    assert (far.n_unlike, far.n_near) == (1, 2)
    assert far.max_error == pytest.approx(1 / (1 + np.exp(-0.25)) - 1 / (1 + np.exp(0.25)), 0.01)


def test_the_threshold_decides_what_parts() -> None:
    image = np.full((1, 1, 3), 228, np.uint8)  # logit 1, probability 0.73
    assert compare(Fixed(), Fixed(-0.5), [image], 0.5).n_unlike == 0
    assert compare(Fixed(), Fixed(-0.5), [image], 0.7).n_unlike == 1


def test_certainty_of_all_folds_is_no_error() -> None:
    class Certain(Fixed):
        def logits(self, images: Images) -> Logits:
            return np.full(images.shape[:3], np.inf, np.float32)

    parity = compare(Certain(), Certain(), [np.zeros((2, 2, 3), np.uint8)], 0.5)
    assert (parity.max_error, parity.n_unlike) == (0.0, 0)

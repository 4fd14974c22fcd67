"""How well the edges of a mask lie on the edges of its image.

Both are shrunk by a whole number to 255 pixels a side at most, freed of their local mean, and
correlated. What is left of a mask is a band along its outline, positive inside; what is left of an
image is cut off at twice its mean magnitude, so that a few bright specks weigh no more than dim
objects. The correlation is signed: objects may be brighter or darker than what lies around them.

A mask that correlates well, and worse when it is moved by two steps anywhere, lies well. Only the
others are moved, mirrored and turned: on 546 pictures of BBBC038v1 one in twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.records.data import Alignment, Turn

STEP_PX = 256  # images below it are compared as they are, below its double at half the size ...
MIN_SIDE_PX = 24  # of the shrunken image: smaller ones have too few edges to tell
FLAT = 0.01  # grey levels, root of the mean square: what is left of a blank image by rounding
WINDOWS_PER_SIDE = 14  # of the local mean: wider than a nucleus' edge, narrower than a shadow
LIMIT = 2.0  # times the mean magnitude, where the edges of an image are cut off
ENOUGH = 0.35  # correlation from which a mask may lie well; 19 of 20 in BBBC038v1
RING = ((-2, 0), (0, -2), (0, 2), (2, 0))  # a slanting shift shows on two of them
REACH = 8  # masks are moved by up to this part of the longest side

Plane = NDArray[np.float32]

_TURNS: dict[Turn, Callable[[Plane], Plane]] = {
    "mirrored": np.fliplr,
    "upside_down": np.flipud,
    "half_turn": lambda plane: plane[::-1, ::-1],
    "transposed": np.transpose,
    "anti_transposed": lambda plane: plane[::-1, ::-1].T,
    "quarter_left": np.rot90,
    "quarter_right": lambda plane: np.rot90(plane, -1),
}
_OBLONG: tuple[Turn, ...] = ("mirrored", "upside_down", "half_turn")


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of an image and of its mask, small enough to be compared in a moment.

    Attributes:
        image: (h, w) float32 of length 1.
        mask: (h, w) float32 of length 1.
        step_px: Pixels of the image per pixel of these.
    """

    image: Plane
    mask: Plane
    step_px: int


def shrunken_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to at most 255 grey pixels a side.

    Args:
        image: (H, W, C) uint8.

    Returns:
        (h, w) uint8.
    """
    match image.shape[2]:
        case 1:
            grey: NDArray[Any] = image[:, :, 0]
        case 3:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        case _:
            grey = image.mean(axis=2, dtype=np.float32).astype(np.uint8)
    return _shrunken(grey, _step(image.shape[0], image.shape[1]))


def edges_of(small: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Edges | None:
    """Find what is compared of an image and its mask.

    Args:
        small: (h, w) uint8 from ``shrunken_grey``.
        mask: (H, W) bool, of the image's full size.

    Returns:
        None when one of them has no edges, or is too small to say anything.
    """
    if min(small.shape) < MIN_SIDE_PX:
        return None
    step_px = _step(*mask.shape)
    window = max(5, max(small.shape) // WINDOWS_PER_SIDE | 1)
    of_image = _without_mean(small, window)
    limit = LIMIT * cv2.norm(of_image, cv2.NORM_L1) / of_image.size
    np.clip(of_image, -limit, limit, out=of_image)
    drawn = _shrunken(mask.view(np.uint8) * np.uint8(255), step_px)
    of_mask = _without_mean(drawn, window)
    for plane in (of_image, of_mask):
        length = cv2.norm(plane)
        if length < FLAT * small.size**0.5:
            return None
        plane /= np.float32(length)
    return Edges(of_image, of_mask, step_px)


def align(edges: Edges) -> Alignment:
    """Correlate a mask with its image as it lies and, unless it lies well, in other ways too."""
    score = _moved_score(edges, (0, 0))
    if abs(score) >= ENOUGH and all(abs(_moved_score(edges, by)) <= abs(score) for by in RING):
        return Alignment(score, shift_score=score, step_px=edges.step_px)
    scores = _shift_scores(edges)  # (2R + 1, 2R + 1)
    reach = scores.shape[0] // 2
    row, col = (int(i) for i in np.unravel_index(np.abs(scores).argmax(), scores.shape))
    turn, turn_score = max(_turn_scores(edges), key=lambda scored: abs(scored[1]))
    return Alignment(
        score=score,
        shift_px=(
            round(edges.step_px * (row + _peak(scores[:, col], row) - reach)),
            round(edges.step_px * (col + _peak(scores[row], col) - reach)),
        ),
        shift_score=float(scores[row, col]),
        rival=_rival(scores, (row, col), max(edges.image.shape) // WINDOWS_PER_SIDE // 2),
        turn=turn,
        turn_score=turn_score,
        step_px=edges.step_px,
    )


# --- edges


def _step(height: int, width: int) -> int:
    return max(height, width) // STEP_PX + 1


def _shrunken(plane: NDArray[np.uint8], step_px: int) -> NDArray[np.uint8]:
    """Average squares of ``step_px``; what does not fill one is cut off on both sides alike."""
    if step_px == 1:
        return plane
    height, width = (max(side // step_px, 1) for side in plane.shape)  # 1: a line of pixels
    top, left = (
        max(0, side - n * step_px) // 2
        for side, n in zip(plane.shape, (height, width), strict=True)
    )
    inner = plane[top : top + height * step_px, left : left + width * step_px]
    return np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_AREA))


def _without_mean(plane: NDArray[np.uint8], window_px: int) -> Plane:
    window = (window_px, window_px)
    mean = cv2.boxFilter(plane, cv2.CV_32F, window, borderType=cv2.BORDER_REFLECT)
    return np.asarray(np.subtract(plane, mean, dtype=np.float32))


# --- scores


def _moved_score(edges: Edges, by: tuple[int, int]) -> float:
    """Correlate with the mask moved by (rows, columns); what leaves the picture counts nothing."""
    (down, right), (height, width) = by, edges.image.shape
    there = edges.image[max(0, down) : height + down, max(0, right) : width + right]
    here = edges.mask[max(0, -down) : height - down, max(0, -right) : width - right]
    return float(np.einsum("ij,ij", there, here))


def _shift_scores(edges: Edges) -> Plane:
    """Correlate with the mask moved by -R to R rows and columns: (2R + 1, 2R + 1)."""
    height, width = edges.image.shape
    reach = max(height, width) // REACH
    padded = [cv2.getOptimalDFTSize(side + reach) for side in (height, width)]
    of_image, of_mask = (
        cv2.dft(
            cv2.copyMakeBorder(
                plane, 0, padded[0] - height, 0, padded[1] - width, cv2.BORDER_CONSTANT
            )
        )
        for plane in (edges.image, edges.mask)
    )
    product = cv2.mulSpectrums(of_image, of_mask, flags=0, conjB=True)
    scores = cv2.idft(product, flags=cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    centred: Plane = np.roll(scores, (reach, reach), axis=(0, 1))
    return centred[: 2 * reach + 1, : 2 * reach + 1]


def _turn_scores(edges: Edges) -> Iterator[tuple[Turn, float]]:
    height, width = edges.image.shape
    for turn, turned in _TURNS.items():
        if height == width or turn in _OBLONG:
            yield turn, float(np.einsum("ij,ij", edges.image, turned(edges.mask)))


def _peak(line: Plane, at: int) -> float:
    """Return how far beside its largest magnitude a line peaks: the vertex of a parabola."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, here, after = (abs(float(value)) for value in line[at - 1 : at + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _rival(scores: Plane, at: tuple[int, int], near: int) -> float:
    """Return the largest magnitude that does not belong to the peak at a place.

    Of the peak are the values of its sign up to ``near`` steps away. The other sign counts
    everywhere: under light from one side, objects are bright before and dark behind their place.
    """
    (row, col), along = at, scores * np.sign(scores[at])
    rest = np.abs(scores)
    around = slice(max(0, row - near), row + near + 1), slice(max(0, col - near), col + near + 1)
    rest[around] = -np.minimum(along[around], 0)
    return float(rest.max())

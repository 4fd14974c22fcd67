"""Measure the hot parts on one core and write reports/parts.json.

Times are processor time, and both sides of a ratio are timed alternately, so that other work on the
machine spoils them little.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.formats.rle import decode, encode
from calco.images.augment import augment, generator_for
from calco.images.toy import draw_sample
from calco.records import RleDialect

REPORT = Path(__file__).parents[1] / "reports" / "parts.json"
ROUNDS = 15
CROP_PX = 256
DIALECT = RleDialect()


@dataclass(frozen=True)
class Figure:
    """One measured line.

    Attributes:
        part: What was timed.
        case: On what.
        ms: Processor time per call in milliseconds, the fastest of the rounds.
        against: What it is compared with.
        against_ms: The same of that.
        ratio: ``against_ms / ms``; above 1 the part is the faster one.
    """

    part: str
    case: str
    ms: float
    against: str
    against_ms: float
    ratio: float


def main() -> None:
    """Measure, print a table, write the report."""
    cv2.setNumThreads(1)
    figures = [*augmentation(), *run_lengths(), drawing()]
    print(f"{'part':<14}{'case':<34}{'ms':>9}   {'against':<22}{'ms':>9}{'ratio':>8}")
    for f in figures:
        print(
            f"{f.part:<14}{f.case:<34}{f.ms:>9.3f}   "
            f"{f.against:<22}{f.against_ms:>9.3f}{f.ratio:>8.2f}"
        )
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    report = {
        "versions": {**versions, "opencv": cv2.__version__},
        "rounds": ROUNDS,
        "figures": [asdict(f) for f in figures],
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def compare(
    part: str,
    case: str,
    call: Callable[[], object],
    against: str,
    other: Callable[[], object],
    calls: tuple[int, int] = (20, 20),
) -> Figure:
    """Time two calls alternately; the fastest round of each counts."""
    ms, other_ms = float("inf"), float("inf")
    for _ in range(ROUNDS):
        ms = min(ms, milliseconds(call, calls[0]))
        other_ms = min(other_ms, milliseconds(other, calls[1]))
    return Figure(part, case, round(ms, 4), against, round(other_ms, 4), round(other_ms / ms, 2))


def milliseconds(call: Callable[[], object], calls: int) -> float:
    """Return the mean processor time of one call."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return 1000 * (time.process_time() - start) / calls


def augmentation() -> Iterator[Figure]:
    """Compare one augmented sample with the bare warp of its image and mask."""
    matrix = np.array([[0.9, 0.3, 8.0], [-0.3, 0.9, 60.0]])
    warp = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REFLECT_101}
    for height, width in ((256, 256), (1040, 1388)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = (image[..., 0] > 127).astype(np.uint8)

        def bare(image: NDArray[np.uint8] = image, mask: NDArray[np.uint8] = mask) -> None:
            for pixels in (image, mask):
                cv2.warpAffine(pixels, matrix, (CROP_PX, CROP_PX), **warp)

        for strength in (0.0, 0.5, 1.0):
            case = f"{height}x{width}x3 to 256, strength {strength}"
            call = Augmenting(image, mask, strength)
            yield compare("augment", case, call, "warp of image, mask", bare)


@dataclass
class Augmenting:
    """Augments another sample on every call, its generator included."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    strength: float
    index: int = 0

    def __call__(self) -> None:
        """Draw the next sample."""
        rng = generator_for(0, 0, self.index % 20)  # the same samples in each round
        augment(self.image, self.mask, CROP_PX, self.strength, rng)
        self.index += 1


def run_lengths() -> Iterator[Figure]:
    """Compare encoder and decoder with loops over pixels and runs."""
    nuclei = draw_sample(0, 2)[1].astype(np.uint8)
    for height, width in ((256, 256), (1280, 1918)):
        scaled = cv2.resize(nuclei, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        mask = np.asarray(scaled, np.bool_)
        text = encode(mask, DIALECT)
        if text != loop_encode(mask) or not np.array_equal(loop_decode(text, mask.shape), mask):
            raise AssertionError("the loops disagree with calco.formats.rle: compare nothing")
        case, runs = f"{height}x{width}, {len(text.split()) // 2} runs", (10, 1)

        def write(mask: NDArray[np.bool_] = mask) -> str:
            return encode(mask, DIALECT)

        def write_slowly(mask: NDArray[np.bool_] = mask) -> str:
            return loop_encode(mask)

        def read(text: str = text, size: tuple[int, int] = (height, width)) -> object:
            return decode(text, size, DIALECT)

        def read_slowly(text: str = text, size: tuple[int, int] = (height, width)) -> object:
            return loop_decode(text, size)

        yield compare("rle encode", case, write, "loop over pixels", write_slowly, runs)
        yield compare("rle decode", case, read, "loop over runs", read_slowly)


def loop_encode(mask: NDArray[np.bool_]) -> str:
    """Encode column by column from 1, one pixel at a time."""
    runs: list[int] = []
    before = False
    for number, pixel in enumerate(mask.T.ravel().tolist(), start=1):
        if pixel and not before:
            runs += [number, 0]
        if pixel:
            runs[-1] += 1
        before = pixel
    return " ".join(map(str, runs))


def loop_decode(text: str, size: Sequence[int]) -> NDArray[np.bool_]:
    """Decode column by column from 1, one run at a time."""
    flat = np.zeros(size[0] * size[1], np.bool_)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = True
    return flat.reshape(size[1], size[0]).T


def drawing() -> Figure:
    """Time the generated pictures, beside writing each as PNG."""
    drawn = draw_sample(0, 2)[0]
    images = iter(range(10**9))
    return compare(
        "toy picture",
        "next of seed 0",
        lambda: draw_sample(0, next(images) % 20),
        "its PNG encoding",
        lambda: cv2.imencode(".png", drawn),
    )


if __name__ == "__main__":
    main()

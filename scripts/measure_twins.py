"""Measure how well and how fast look-alikes are found: reports/twins.json and its page.

Ten minutes. Altered copies of the real pictures of dsb2018 are hidden among these; time and memory
are measured on generated thumbnails, each number of them in a process of its own.
``--write`` only writes the page from the report there is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import AuditConfig
from calco.images.duplicates import find_twins, signature
from calco.images.io import read_image
from calco.images.neighbours import turned
from calco.images.series import find_series
from calco.images.toy import draw_sample
from calco.records import ImageSpec, SampleFacts, Twins

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
REPORT = ROOT / "reports" / "twins.json"
PAGE = ROOT / "docs" / "explanation" / "look-alikes.md"
BLOCK = re.compile(r"(<!-- twins: (\w+) -->\n).*?(<!-- /twins -->)", re.DOTALL)
SIZES = (10_000, 30_000, 100_000)
COPIED = 20  # of so many generated thumbnails, one has an altered copy
SHUFFLES = 20  # orders in which unrelated pictures are numbered

Image = NDArray[np.uint8]
Array = NDArray[np.float32]
Change = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True)
class Found:
    """Pairs that were found among planted ones.

    Attributes:
        kind: What was done to the copies.
        n: Copies, one of each picture in which this leaves any contrast.
        found: Copies in one group with their originals.
        wrong: Pairs of pictures with other originals that share a group.
    """

    kind: str
    n: int
    found: int
    wrong: int

    @property
    def recall(self) -> float:
        """Share of the copies that were found."""
        return self.found / self.n

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        return self.found / max(self.found + self.wrong, 1)


@dataclass(frozen=True)
class Scale:
    """What one generated set cost.

    Attributes:
        n: Thumbnails.
        seconds: Processor time of ``find_twins`` on one core.
        peak_mb: Of the whole process, its 16 kB per thumbnail included, in 10**6 bytes.
        pairs: The planted ones.
    """

    n: int
    seconds: float
    peak_mb: float
    pairs: Found


@dataclass(frozen=True)
class Series:
    """Neighbours by name that were put together.

    Attributes:
        set: Pictures and their names.
        neighbours: Pairs of them.
        joined: Pairs in one group.
    """

    set: str
    neighbours: int
    joined: int


def main() -> None:
    """Measure, then write the report and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--scale", type=int, help="measure one generated set, print it as JSON")
    arguments = parser.parse_args()
    if arguments.scale:
        print(json.dumps(asdict(measure_scale(arguments.scale))))
        return
    if not arguments.write:
        report = {
            "scale": [scale_apart(n) for n in SIZES],  # first: a child's peak is never below ours
            "planted": [asdict(found) for found in measure_planted()],
            "series": [asdict(series) for series in measure_series()],
        }
        REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables = tables_of(json.loads(REPORT.read_text(encoding="utf-8")))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + tables[m[2]] + m[3], text), encoding="utf-8")


# --- altered copies of real pictures


def same(image: Image, _: np.random.Generator) -> Image:
    """Return the picture itself."""
    return image


def jpeg(image: Image, rng: np.random.Generator) -> Image:
    """Encode and decode at a quality of 30 to 90."""
    code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 91))])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def resized(image: Image, rng: np.random.Generator) -> Image:
    """Scale by 0.5 to 2."""
    factor = 2 ** rng.uniform(-1, 1)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=way), np.uint8)


def cropped(share: float) -> Change:
    """Keep 1 - share of both sides, anywhere."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        height, width = (round(side * (1 - share)) for side in image.shape[:2])
        row = int(rng.integers(0, image.shape[0] - height + 1))
        col = int(rng.integers(0, image.shape[1] - width + 1))
        return image[row : row + height, col : col + width]

    return change


def light(low: float, high: float) -> Change:
    """Multiply by a factor; what exceeds 255 is clipped."""

    def change(image: Image, rng: np.random.Generator) -> Image:
        brighter = np.rint(image * rng.uniform(low, high))
        return np.asarray(np.clip(brighter, 0, 255), np.uint8)

    return change


def gamma(image: Image, rng: np.random.Generator) -> Image:
    """Raise to a power of 0.5 to 2."""
    return np.rint(255 * (image / 255) ** (2 ** rng.uniform(-1, 1))).astype(np.uint8)


def turn(image: Image, rng: np.random.Generator) -> Image:
    """Turn by quarters or mirror."""
    number = int(rng.integers(1, 8))
    quarters = np.rot90(image, number % 4)
    return np.ascontiguousarray(quarters[:, ::-1] if number >= 4 else quarters)


def several(image: Image, rng: np.random.Generator) -> Image:
    """Crop by 5 %, change the light by 20 % and re-encode."""
    return jpeg(light(0.8, 1.2)(cropped(0.05)(image, rng), rng), rng)


CHANGES: dict[str, Change] = {
    "same pixels in another file": same,
    "JPEG of quality 30 to 90": jpeg,
    "resized to 0.5 to 2 times": resized,
    "cropped by 5 %": cropped(0.05),
    "cropped by 10 %": cropped(0.10),
    "light 0.8 to 1.2 times": light(0.8, 1.2),
    "gamma 0.5 to 2": gamma,
    "turned or mirrored": turn,
    "exposed 1/4": light(0.25, 0.25),
    "exposed 1/2": light(0.5, 0.5),
    "exposed 2 times, clipped": light(2, 2),
    "exposed 4 times, clipped": light(4, 4),
    "cropped by 5 %, other light, JPEG": several,
}


def measure_planted() -> list[Found]:
    """Hide one altered copy of each real picture among all of them, one kind at a time."""
    paths = sorted((DATA / "dsb2018/train/images").iterdir())
    images = [read_image(path, ImageSpec()) for path in paths]
    originals = [signature(image) for image in images]
    alone = found_pairs(originals)
    rows = [Found("none, the pictures as they are", len(originals), 0, len(alone))]
    for kind, change in CHANGES.items():
        copies = [signature(change(im, np.random.default_rng(i))) for i, im in enumerate(images)]
        rows.append(judge(kind, originals, copies, alone))
        print(rows[-1], flush=True)
    return rows


def found_pairs(signatures: Sequence[Array]) -> set[tuple[int, int]]:
    """Return all pairs of positions that share a group."""
    names = [f"{i:07d}" for i in range(len(signatures))]
    groups = find_twins(names, signatures, names, AuditConfig())
    members = [sorted(int(name) for name in group.ids) for group in groups]
    return {(a, b) for group in members for a in group for b in group if a < b}


def judge(
    kind: str, originals: Sequence[Array], copies: Sequence[Array], alone: set[tuple[int, int]]
) -> Found:
    """Compare what is found with what was planted.

    Args:
        kind: What was done to the copies.
        originals: Signatures.
        copies: One per original; without contrast where the change left none.
        alone: Pairs that are found among the originals already; they count neither way.
    """
    n = len(originals)
    there = {i for i, copy in enumerate(copies) if copy.any()}
    pairs = found_pairs([*originals, *copies])
    right = sum((i, n + i) in pairs for i in there)
    wrong = sum(
        a % n != b % n and (min(a % n, b % n), max(a % n, b % n)) not in alone for a, b in pairs
    )
    return Found(kind, len(there), right, wrong)


# --- series


def measure_series() -> list[Series]:
    """Count neighbours that are put together: of a stack, and of unrelated numbered pictures."""
    slices = sorted((DATA / "isbi2012").glob("*/images/*.png"), key=lambda path: path.name)
    stack = [signature(read_image(path, ImageSpec())) for path in slices]
    paths = sorted((DATA / "dsb2018/train/images").iterdir())
    pictures = [signature(read_image(path, ImageSpec())) for path in paths]
    names = [f"img_{i:04d}" for i in range(len(pictures))]
    among = [f"stack_{i:02d}" for i in range(len(stack))]
    joined = n_joined(among, grouped(names + among, pictures + stack))
    rows = [Series("30 slices of isbi2012 among 546 pictures of dsb2018", len(among) - 1, joined)]
    false = 0
    for seed in range(SHUFFLES):
        order = np.random.default_rng(seed).permutation(len(pictures))
        false += n_joined(names, grouped(names, [pictures[i] for i in order]))
    what = f"546 pictures of dsb2018, numbered at random {SHUFFLES} times"
    return [*rows, Series(what, SHUFFLES * (len(names) - 1), false)]


def n_joined(names: Sequence[str], groups: Mapping[str, Twins]) -> int:
    """Count the neighbours in a list of names that share a group."""
    return sum(a in groups and groups[a] is groups.get(b) for a, b in pairwise(names))


def grouped(names: Sequence[str], signatures: Sequence[Array]) -> dict[str, Twins]:
    """Return the series of each name that is in one."""
    facts = [SampleFacts(n, 256, 256, 3, "uint8", 0, 255, 90, 0.1, 1, n) for n in names]
    found = find_series(names, facts, signatures, AuditConfig())
    return {name: group for group in found for name in group.ids}


# --- time and memory


def scale_apart(n: int) -> dict[str, object]:
    """Measure one size in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, __file__, "--scale", str(n)]
    one_core = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # what else runs then hardly matters
    output = subprocess.check_output(command, text=True, env=one_core)
    print(output, end="", flush=True)
    return dict(json.loads(output))


def measure_scale(n: int) -> Scale:
    """Time the search among n generated thumbnails, one in ``COPIED`` of them an altered copy."""
    rng = np.random.default_rng(n)
    n_copies = n // COPIED
    pieces = toy_pieces()
    thumbnails = [generated(i, pieces, rng) for i in range(n - n_copies)]
    thumbnails += [altered(thumbnails[i], i, rng) for i in range(n_copies)]
    start = time.process_time()
    pairs = found_pairs(thumbnails)
    seconds = time.process_time() - start
    right = sum((i, n - n_copies + i) in pairs for i in range(n_copies))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    copies = Found("generated, altered in several ways", n_copies, right, len(pairs) - right)
    return Scale(n, round(seconds, 1), round(peak_kb * 1024 / 1e6), copies)


def toy_pieces() -> Array:
    """Return (3200, 16, 16) pieces of generated microscope pictures, each with mean 0."""
    pictures = []
    for index in range(200):
        grey = draw_sample(1, index)[0].mean(axis=2, dtype=np.float32)
        pictures.append(cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA))
    squares = np.stack(pictures).reshape(-1, 4, 16, 4, 16).swapaxes(2, 3).reshape(-1, 16, 16)
    # or sixteen grey levels would be all that tells two thumbnails apart
    return np.asarray(squares - squares.mean(axis=(1, 2), keepdims=True))


def generated(i: int, pieces: Array, rng: np.random.Generator) -> Array:
    """Draw a thumbnail: by turns a smooth random field and pieces of toy pictures at random."""
    if i % 2:
        noise = rng.standard_normal((64, 64), np.float32)
        return standardised(cv2.GaussianBlur(noise, (0, 0), rng.uniform(1.5, 3)))
    squares = pieces[rng.choice(len(pieces), 16)].reshape(4, 4, 16, 16)
    return standardised(squares.swapaxes(1, 2).reshape(64, 64))


def altered(thumbnail: Array, i: int, rng: np.random.Generator) -> Array:
    """Turn, crop by 5 % or change gamma, by turns; then add noise."""
    image = thumbnail.reshape(64, 64)
    match i % 3:
        case 0:
            image = turned(image, int(rng.integers(8)))
        case 1:
            row, col = rng.integers(0, 4, 2)
            image = cv2.resize(image[row : row + 61, col : col + 61], (64, 64))
        case _:
            rising = image - image.min()
            image = (rising / rising.max()) ** np.float32(2 ** rng.uniform(-1, 1))
    noise = rng.standard_normal((64, 64), np.float32)
    return standardised(image + 0.1 * image.std() * noise)


def standardised(image: Array) -> Array:
    """Return (4096,) with mean 0 and length 1."""
    centred = image.ravel() - image.mean()
    return np.asarray(centred / np.linalg.norm(centred), np.float32)


# --- page


def tables_of(report: dict[str, Any]) -> dict[str, str]:
    """Return the tables of the page, by the name of their block."""
    alone, *kinds = (Found(**row) for row in report["planted"])
    copies = [(f.kind, str(f.n), shown(f.recall), shown(f.precision), str(f.wrong)) for f in kinds]
    series = [Series(**row) for row in report["series"]]
    scale = [Scale(**{**row, "pairs": Found(**row["pairs"])}) for row in report["scale"]]
    return {
        "planted": table(
            ("copies", "n", "recall", "precision", "wrong pairs"),
            [*copies, (alone.kind, str(alone.n), "", "", str(alone.wrong))],
        ),
        "series": table(
            ("pictures", "neighbours by name", "put together"),
            [(s.set, f"{s.neighbours:,}", f"{s.joined:,}") for s in series],
        ),
        "scale": table(
            ("thumbnails", "seconds of one core", "peak memory", "recall", "precision"),
            [
                (
                    f"{s.n:,}",
                    f"{s.seconds:.0f}",
                    f"{s.peak_mb / 1000:.2f} GB",
                    shown(s.pairs.recall),
                    shown(s.pairs.precision),
                )
                for s in scale
            ],
        ),
    }


def shown(share: float) -> str:
    """Write a share with four digits, rounded down: 1 means every one."""
    return "1" if share == 1 else f"{math.floor(share * 10_000) / 10_000:.4f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


if __name__ == "__main__":
    main()

"""Time run-length encoding beside pycocotools' C code; write reports/rle_benchmark.json and .md.

Both get the same 2,000 masks of 1,024 x 1,024, each in the memory order that suits it: pycocotools
takes columns (it refuses others), calco takes what a network gives, rows. Each mask is encoded by
one after the other, so that whatever else the machine does meets both; every result is compared
with its mask.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as peer

from calco.files import write_atomic
from calco.formats.coco_rle import compress, decompress
from calco.formats.rle import decode, encode
from calco.records import RleDialect

REPORTS = Path(__file__).resolve().parents[1] / "reports"
SIDE = 1024
LIMIT = 1.5
CODECS = ("pycocotools", "calco COCO", "calco columns", "calco rows")


def ellipses(rng: np.random.Generator, n: int = 40) -> NDArray[np.uint8]:
    """Draw ellipses of 8 to 50 pixels at random places and angles."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(n):
        row, col = (int(v) for v in rng.integers(0, SIDE, 2))
        axes = (int(rng.integers(8, 50)), int(rng.integers(8, 50)))
        cv2.ellipse(mask, (col, row), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask


def codecs() -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """Return how each encodes and decodes."""
    columns, rows, size = RleDialect(), RleDialect(order="row"), (SIDE, SIDE)
    return {
        "pycocotools": (peer.encode, peer.decode),
        "calco COCO": (compress, lambda text: decompress(text, size)),
        "calco columns": (lambda m: encode(m, columns), lambda t: decode(t, size, columns)),
        "calco rows": (lambda m: encode(m, rows), lambda t: decode(t, size, rows)),
    }


def measure(n_masks: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each codec over all masks."""
    rng, seconds = (
        np.random.default_rng(0),
        {name: {"encode": 0.0, "decode": 0.0} for name in CODECS},
    )
    for _ in range(n_masks):
        mask = ellipses(rng)
        for name, (write, read) in codecs().items():
            given = np.asfortranarray(mask) if name == "pycocotools" else mask.view(bool)
            began = time.perf_counter()
            text = write(given)
            between = time.perf_counter()
            back = read(text)
            seconds[name]["decode"] += time.perf_counter() - between
            seconds[name]["encode"] += between - began
            if not np.array_equal(back, mask):
                raise RuntimeError(f"{name} lost pixels")
    return seconds


def page(result: dict[str, Any]) -> str:
    """Write the table for people."""
    peers = result["seconds"]["pycocotools"]
    lines = [
        "# Run lengths beside pycocotools",
        "",
        f"{result['masks']:,} masks of {SIDE:,} x {SIDE:,}, 40 ellipses each, in one run of "
        "`scripts/benchmark_rle.py`; milliseconds a mask, and how",
        "many times as long as pycocotools' C code. It is given its masks by columns, as it wants "
        "them, calco by rows.",
        "",
        "| codec | encode | decode | encode x | decode x | both x |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in result["seconds"].items():
        ratios = [own[k] / peers[k] for k in ("encode", "decode")]
        ratios.append(sum(own.values()) / sum(peers.values()))
        each = [f"{1000 * own[k] / result['masks']:.2f}" for k in ("encode", "decode")]
        lines.append(f"| {name} | {' | '.join([*each, *(f'{r:.2f}' for r in ratios)])} |")
    ours = [sum(own.values()) for own in result["seconds"].values() if own is not peers]
    worst = max(ours) / sum(peers.values())
    told = "met" if worst <= LIMIT else "missed"
    lines += ["", f"The aim, both ways within {LIMIT} times, is {told}: {worst:.2f} at most."]
    slow = [
        f"{way} of {name} takes {own[way] / peers[way]:.2f}"
        for name, own in result["seconds"].items()
        for way in ("encode", "decode")
        if own[way] > LIMIT * peers[way]
    ]
    if slow:
        lines[-1] += f" One way alone it is missed: {', '.join(slow)}."
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--masks", type=int, default=2000)
    count = parser.parse_args().masks
    cv2.setNumThreads(1)  # as pycocotools has one
    result = {"masks": count, "side": SIDE, "cores": os.cpu_count(), "seconds": measure(count)}
    write_atomic(REPORTS / "rle_benchmark.json", json.dumps(result, indent=2) + "\n")
    write_atomic(REPORTS / "rle_benchmark.md", page(result))
    print(page(result))


if __name__ == "__main__":
    main()

"""Measure reports/label_errors.json: how well wrong masks are found in real data.

One mask in twenty of dsb2018 is spoilt in a known way in a copy of the set, calco is trained on
the copy with folds, and its ranking of suspicious masks is compared with what was spoilt. About
twelve minutes on two cores; ``--budget`` changes that.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.files import read_csv
from calco.images.io import read_pixels
from calco.runs import RunDir

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "dsb2018" / "train"  # the real images lie beside
PAGE = ROOT / "reports" / "label_errors.json"
SPOILT_SHARE = 0.05
OBJECT_SHARE = 0.3  # of the objects of a mask that are dropped or added
SHIFT_PX = (5, 12)

Mask = NDArray[np.bool_]
Spoil = Callable[[Mask, np.random.Generator], Mask]


def main() -> None:
    """Spoil, train, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="12m", help="time to train in")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data, run = Path(name) / "data", Path(name) / "run"
        spoilt = spoil_copy(data, np.random.default_rng(arguments.seed))
        settings = ["--folds", str(arguments.folds), "--budget", arguments.budget]
        command = [sys.executable, "-m", "calco", "train", str(data), "-o", str(run), *settings]
        subprocess.run(command, check=True)
        ranking = [row["id"] for row in read_csv(RunDir(run).suspicions_csv)]
        n_masks = len(RunDir(run).load_scores())
    figures = {
        "masks": n_masks,
        "spoilt": len(spoilt),
        "suspected": len(ranking),
        "budget": arguments.budget,
        "folds": arguments.folds,
        "average_precision": average_precision(ranking, set(spoilt)),
        "kinds": {kind: of_kind(ranking, spoilt, kind) for kind in SPOILS},
    }
    PAGE.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


def spoil_copy(data: Path, rng: np.random.Generator) -> dict[str, str]:
    """Copy the set, spoil one mask in twenty, and return the kind of each spoilt one."""
    shutil.copytree(DATA, data)
    paths = sorted((data / "masks").iterdir())
    masks = {path: read_pixels(path).pixels > 0 for path in paths}
    kinds = list(SPOILS)
    spoilt: dict[str, str] = {}
    for i in rng.permutation(len(paths)):
        path, kind = paths[i], kinds[len(spoilt) % len(kinds)]
        if kind == "swapped":
            same = [m for p, m in masks.items() if p != path and m.shape == masks[path].shape]
            if not same:
                continue
            wrong = same[rng.integers(len(same))]
        else:
            wrong = SPOILS[kind](masks[path], rng)
        cv2.imwrite(str(path), wrong.astype(np.uint8) * 255)
        spoilt[path.stem] = kind
        if len(spoilt) >= SPOILT_SHARE * len(paths):
            break
    return spoilt


def drop_objects(mask: Mask, rng: np.random.Generator) -> Mask:
    """Remove a third of the objects, at least one."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    n = max(1, round(OBJECT_SHARE * (count - 1)))
    return mask & ~np.isin(labels, 1 + rng.choice(count - 1, n, replace=False))


def add_objects(mask: Mask, rng: np.random.Generator) -> Mask:
    """Add copies of a third of the objects where nothing is."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    n = max(1, round(OBJECT_SHARE * (count - 1)))
    more = mask.copy()
    for label in 1 + rng.choice(count - 1, n, replace=False):
        for _ in range(40):
            shift = rng.integers(mask.shape[0]), rng.integers(mask.shape[1])
            copy = np.roll(labels == label, shift, (0, 1))
            around = cv2.dilate(more.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            if not (copy & around).any():
                more |= copy
                break
    return more


def shift_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    """Move the mask by a few pixels in any direction."""
    distance, angle = rng.uniform(*SHIFT_PX), rng.uniform(0, 2 * math.pi)
    rows, cols = round(distance * math.sin(angle)), round(distance * math.cos(angle))
    matrix = np.array([[1, 0, cols], [0, 1, rows]], np.float32)
    moved = cv2.warpAffine(mask.astype(np.uint8), matrix, mask.shape[::-1])
    return np.asarray(moved > 0)


def keep(mask: Mask, rng: np.random.Generator) -> Mask:
    """Stand for a swap, which takes another image's mask."""
    return mask


SPOILS: dict[str, Spoil] = {
    "missed objects": drop_objects,
    "extra objects": add_objects,
    "shifted": shift_mask,
    "swapped": keep,
}


def average_precision(ranking: Sequence[str], wanted: set[str]) -> float:
    """Return the mean precision at each one wanted; what is not ranked counts as 0."""
    found, total = 0, 0.0
    for rank, name in enumerate(ranking, start=1):
        if name in wanted:
            found += 1
            total += found / rank
    return total / len(wanted)


def of_kind(ranking: Sequence[str], spoilt: dict[str, str], kind: str) -> dict[str, float]:
    """Return how one kind ranks among the right masks, the other kinds left out."""
    others = {name for name, other in spoilt.items() if other != kind}
    wanted = {name for name, other in spoilt.items() if other == kind}
    kept = [name for name in ranking if name not in others]
    return {
        "n": len(wanted),
        "suspected": len(wanted & set(kept)),
        "average_precision": average_precision(kept, wanted),
    }


if __name__ == "__main__":
    main()

"""Plant faults in real data sets, measure which the audit names, write reports/suspicions.json.

Clean sets are audited first: whatever is named there is counted as a false alarm. Then one kind of
fault at a time is planted in a twentieth of the masks, several times with other masks, and last
in all masks. A planted mask is found when it is named with the code of its fault; precision is the
share of planted masks among all that are named as misplaced. Takes about five minutes.
"""

from __future__ import annotations

import json
import math
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import AuditConfig, DataConfig
from calco.formats.truth import read_truth
from calco.records import Audit, FileMask, Sample, SampleIndex
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
REPORT = ROOT / "reports" / "suspicions.json"
SETS = ("dsb2018", "isbi2012")
SHARE = 0.05
REPEATS = 6
MIN_PLANTED = 60
"""Small sets are repeated until so many masks were spoilt."""
# copies and series have nothing to do with it
QUICK = AuditConfig(twins=False)

Mask = NDArray[np.bool_]
Spoil = Callable[[Mask, np.random.Generator], Mask]
Round = tuple[set[str], dict[str, str]]  # ids of spoilt masks; codes of those that are named


@dataclass(frozen=True)
class Fault:
    """A way to spoil a mask.

    Attributes:
        name: For the report.
        code: By which it is to be named.
        spoil: Does it.
        square_only: Whether oblong masks would give it away by their size.
    """

    name: str
    code: str
    spoil: Spoil
    square_only: bool = False


def shift(length_px: float) -> Spoil:
    """Move masks by a length in any direction; what comes in from outside is background."""

    def spoil(mask: Mask, rng: np.random.Generator) -> Mask:
        angle = rng.uniform(0, 2 * math.pi)
        right, down = round(length_px * math.cos(angle)), round(length_px * math.sin(angle))
        matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
        moved = cv2.warpAffine(mask.view(np.uint8), matrix, mask.shape[::-1])
        return np.asarray(moved > 0)

    return spoil


def flip(mask: Mask, rng: np.random.Generator) -> Mask:
    """Mirror, flip or turn by half."""
    ways = (np.flipud(mask), np.fliplr(mask), np.rot90(mask, 2))
    return ways[rng.integers(3)]


FAULTS = (
    Fault("shifted by 5 px", "MASK_SHIFTED", shift(5)),
    Fault("shifted by 10 px", "MASK_SHIFTED", shift(10)),
    Fault("shifted by 20 px", "MASK_SHIFTED", shift(20)),
    Fault("flipped", "MASK_TURNED", flip),
    Fault("transposed", "MASK_TURNED", lambda mask, _: mask.T, square_only=True),
    Fault("inverted", "MASK_OPPOSITE", lambda mask, _: ~mask),
)
OF_ALL = (
    Fault(
        "all shifted by 10 px to the right",
        "MASKS_SHIFTED",
        lambda mask, _: np.pad(mask, ((0, 0), (10, 0)))[:, :-10],
    ),
    Fault("all flipped", "MASKS_TURNED", lambda mask, _: np.flipud(mask)),
    Fault("all transposed", "MASKS_TURNED", lambda mask, _: mask.T, square_only=True),
)
CODES = {fault.code for fault in FAULTS} | {"MASK_SWAPPED"}


def main() -> None:
    """Measure every set, print as it goes, write the report."""
    found = {name: measure(name) for name in SETS if (DATA / name / "train").is_dir()}
    report = {
        "versions": {"python": platform.python_version(), "opencv": cv2.__version__},
        "share_planted": SHARE,
        "repeats": REPEATS,
        "sets": found,
    }
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(name: str) -> dict[str, object]:
    """Measure one data set."""
    index = index_samples(DATA / name / "train", DataConfig())
    clean = audit(index)
    kinds = Counter(problem.code for problem in clean.problems)
    listed = {p.code: len(p.ids) for p in clean.problems if p.code.endswith("_OUTLIER")}
    result: dict[str, object] = {
        "n": len(index),
        "clean": {
            "masks_named": len(named(clean)),
            "share_named": round(len(named(clean)) / len(index), 4),
            "findings": dict(kinds),
            "files_in_outlier_lists": listed,
        },
    }
    print(name, result)
    with tempfile.TemporaryDirectory() as folder:
        planted = {fault.name: repeated(index, fault, Path(folder)) for fault in FAULTS}
        planted["swapped"] = swapped(index)
        result["planted"] = planted
        result["planted_in_all"] = {f.name: in_all(index, f, Path(folder)) for f in OF_ALL}
    return result


def audit(index: SampleIndex) -> Audit:
    """Audit without looking for copies."""
    return audit_samples(index, DataConfig(), QUICK)


def named(audit: Audit) -> dict[str, str]:
    """Return the code of each mask that is named as misplaced."""
    return {p.where: p.code for p in audit.problems if p.code in CODES}


# --- faults in a few masks


def repeated(index: SampleIndex, fault: Fault, folder: Path) -> dict[str, float]:
    """Plant a fault in a twentieth of the masks, several times."""
    rounds: list[Round] = []
    fit = [sample for sample in index if not fault.square_only or is_square(sample, index)]
    n_spoilt = max(1, round(SHARE * len(fit)))
    for seed in range(max(REPEATS, math.ceil(MIN_PLANTED / n_spoilt))):
        rng = np.random.default_rng(seed)
        picked = rng.choice(len(fit), n_spoilt, replace=False)
        spoilt = {fit[i].id: fit[i] for i in picked}
        replaced = {i: spoil(sample, index, fault, folder, rng) for i, sample in spoilt.items()}
        rounds.append((set(spoilt), named(audit(exchanged(index, replaced)))))
    return scored(fault.name, fault.code, rounds)


def swapped(index: SampleIndex) -> dict[str, float]:
    """Exchange masks between images of one size."""
    rounds: list[Round] = []
    n_pairs = max(1, round(SHARE * len(index) / 2))
    for seed in range(max(REPEATS, math.ceil(MIN_PLANTED / (2 * n_pairs)))):
        rng = np.random.default_rng(seed)
        replaced: dict[str, Sample] = {}
        for first, other in islice(pairs(index, rng), n_pairs):
            replaced[first.id] = replace(first, mask=other.mask)
            replaced[other.id] = replace(other, mask=first.mask)
        rounds.append((set(replaced), named(audit(exchanged(index, replaced)))))
    return scored("swapped", "MASK_SWAPPED", rounds)


def pairs(index: SampleIndex, rng: np.random.Generator) -> Iterator[tuple[Sample, Sample]]:
    """Draw pairs of one size until all are paired."""
    waiting: dict[tuple[int, ...], Sample] = {}
    for i in rng.permutation(len(index)):
        sample = index.samples[i]
        size = truth(sample, index).shape
        if size in waiting:
            yield waiting.pop(size), sample
        else:
            waiting[size] = sample


def scored(name: str, code: str, rounds: Sequence[Round]) -> dict[str, float]:
    """Count over all rounds."""
    n_planted = sum(len(planted) for planted, _ in rounds)
    n_named = sum(len(found) for _, found in rounds)
    right = sum(found.get(i) == code for planted, found in rounds for i in planted)
    planted_named = sum(i in found for planted, found in rounds for i in planted)
    result = {
        "planted": n_planted,
        "named": n_named,
        "recall": round(right / n_planted, 4),
        "recall_by_any_code": round(planted_named / n_planted, 4),
        "precision": round(planted_named / n_named, 4) if n_named else math.nan,
    }
    print(f"{name:<36}{result}")
    return result


# --- faults in all masks


def in_all(index: SampleIndex, fault: Fault, folder: Path) -> dict[str, object]:
    """Plant a fault in every mask and say what is named."""
    rng = np.random.default_rng(0)
    fit = index.only(s.id for s in index if not fault.square_only or is_square(s, index))
    spoilt = {sample.id: spoil(sample, index, fault, folder, rng) for sample in fit}
    found = audit(exchanged(fit, spoilt))
    shared = [problem for problem in found.problems if problem.code == fault.code]
    result = {
        "n": len(fit),
        "found": bool(shared),
        "got": shared[0].got if shared else "",
        "single_masks_named": len(named(found)),
    }
    print(f"{fault.name:<36}{result}")
    return result


# --- samples


def truth(sample: Sample, index: SampleIndex) -> Mask:
    """Read a mask as it is."""
    if sample.mask is None:
        raise ValueError(f"{sample.id} has no mask")
    return read_truth(sample.mask, index.code)


def is_square(sample: Sample, index: SampleIndex) -> bool:
    """Whether a mask keeps its size when it is transposed."""
    height, width = truth(sample, index).shape
    return bool(height == width)


def spoil(
    sample: Sample, index: SampleIndex, fault: Fault, folder: Path, rng: np.random.Generator
) -> Sample:
    """Give a sample a spoilt copy of its mask."""
    mask = np.ascontiguousarray(fault.spoil(truth(sample, index), rng))
    path = folder / f"{sample.id}.png"
    path.write_bytes(cv2.imencode(".png", mask.view(np.uint8) * 255)[1].tobytes())
    return replace(sample, mask=FileMask(path))


def exchanged(index: SampleIndex, samples: dict[str, Sample]) -> SampleIndex:
    """Return the index with some samples replaced."""
    return replace(index, samples=tuple(samples.get(s.id, s) for s in index))


if __name__ == "__main__":
    main()

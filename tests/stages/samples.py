"""Small data sets on disk, to be audited, and what the audit calls out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calco.config import AuditConfig, DataConfig
from calco.errors import Problem
from calco.images.toy import draw_sample
from calco.records import (
    Audit,
    FileMask,
    ImageSpec,
    MaskCode,
    Sample,
    SampleIndex,
    Subset,
)
from calco.stages.audit import audit_samples

CODE = MaskCode("values", values=(255,), background=(0,))


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def add(
    root: Path,
    name: str,
    image: NDArray[np.generic],
    mask: NDArray[np.bool_] | None,
    subset: Subset | None = None,
) -> Sample:
    """Write a sample; the name may hold folders and an extension."""
    source = None
    stem = Path(name).with_suffix("").as_posix()
    if mask is not None:
        path = write(root / "masks" / f"{stem}.png", mask.astype(np.uint8) * 255)
        source = FileMask(path)
    return Sample(stem, write(root / "images" / name, image), source, subset=subset)


def index_of(root: Path, samples: list[Sample], *problems: Problem) -> SampleIndex:
    ordered = tuple(sorted(samples, key=lambda sample: sample.id))
    return SampleIndex(root, "test", ordered, ImageSpec(), CODE, problems)


def run(
    index: SampleIndex, data: DataConfig | None = None, config: AuditConfig | None = None
) -> Audit:
    return audit_samples(index, data or DataConfig(), config or AuditConfig())


def codes(audit: Audit, *severities: str) -> list[str]:
    return [p.code for p in audit.problems if p.severity in (severities or ("error", "warning"))]


def add_ten(root: Path) -> list[Sample]:
    """Write ten samples that nothing is wrong with."""
    return [add(root, f"p{i}.png", *draw_sample(0, i)) for i in range(10)]

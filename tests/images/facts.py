"""Facts of samples that are on no disk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calco.records import SampleFacts

SOUND = SampleFacts(
    id="sound",
    height=100,
    width=80,
    channels=3,
    dtype="uint8",
    low=3,
    high=250,
    mean=90,
    foreground_fraction=0.2,
    n_objects=4,
    image_sha256="sound",
)


def sound(name: str, **changes: Any) -> SampleFacts:  # noqa: ANN401
    """Facts of a sample that nothing is wrong with, but for the changes."""
    return replace(SOUND, **{"id": name, "image_sha256": name, **changes})

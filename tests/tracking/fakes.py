"""Trackers that remember what they are told, or fail at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calco.tracking.tracker import Parameter, Place, TrackerRun


class Remembering:
    """Keeps every call as (method, what)."""

    def __init__(self, place: Place, name: str = "tensorboard") -> None:
        self.place = place
        self.calls: list[tuple[str, Any]] = []
        self.run = TrackerRun(name, place.run_id or "fresh", "look here")

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        self.calls.append(("parameters", dict(values)))

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        self.calls.append(("metrics", (dict(values), epoch)))

    def picture(self, name: str, path: Path, caption: str) -> None:
        assert path.stat().st_size > 0
        self.calls.append(("picture", name))

    def artefact(self, path: Path) -> None:
        self.calls.append(("artefact", path.name))

    def close(self, *, finished: bool) -> None:
        self.calls.append(("close", finished))

    def told(self, method: str) -> list[Any]:
        """What one method was called with."""
        return [what for name, what in self.calls if name == method]


class Failing(Remembering):
    """Breaks at the n-th epoch."""

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        super().metrics(values, epoch)
        raise ConnectionError("nobody there")

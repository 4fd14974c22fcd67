"""What a tracker is: the few things a run tells, whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Parameter = str | int | float | bool


@dataclass(frozen=True)
class Place:
    """Where a tracker keeps a run.

    Attributes:
        folder: Of the run's own files for trackers; it exists.
        project: Name under which runs are gathered.
        name: Of the run.
        run_id: Of the run that goes on; None begins one.
    """

    folder: Path
    project: str
    name: str
    run_id: str | None = None


@dataclass(frozen=True)
class TrackerRun:
    """A run as a tracker knows it.

    Attributes:
        tracker: Its name.
        run_id: By which the tracker finds the run again.
        look: Command or address that shows it.
    """

    tracker: str
    run_id: str
    look: str


class Tracker(Protocol):
    """Hears of one run; each method may raise whatever its program raises."""

    run: TrackerRun

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Note what the run was made with; called again, with the same, when it is resumed."""

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Note finite figures of an epoch, by names like ``validation/dice``."""

    def picture(self, name: str, path: Path, caption: str) -> None:
        """Keep a PNG or JPEG under a name like ``overlays/worst-1``."""

    def artefact(self, path: Path) -> None:
        """Keep a file beside the run, where the tracker keeps files."""

    def close(self, *, finished: bool) -> None:
        """Send what is left and end; False when the run was stopped or failed."""

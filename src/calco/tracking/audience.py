"""All trackers of a run as one, of which any may fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from calco.config import TrackConfig, TrackerName
from calco.errors import Problem
from calco.files import from_json, to_json, write_atomic
from calco.tracking.choose import open_tracker
from calco.tracking.tracker import Place, Tracker, TrackerRun

RUNS_FILE = "runs.json"
MAX_REASON_CHARS = 200


class Audience:
    """Tells every tracker; one that fails is named once and told no more.

    Args:
        folder: Of the files that trackers keep; made when missing.
        name: Of the run, unless the settings say otherwise.
        config: Who is told.
        warn: Hears of a tracker that failed.
    """

    def __init__(
        self, folder: Path, name: str, config: TrackConfig, warn: Callable[[Problem], None]
    ) -> None:
        self.warn = warn
        self.trackers: dict[TrackerName, Tracker] = {}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / RUNS_FILE
        before = _runs_before(path)
        for tracker in dict.fromkeys(config.to):
            place = Place(folder, config.project, config.name or name, before.get(tracker))
            self._guarded(tracker, partial(self._open, tracker, place, config))
        write_atomic(path, to_json(self.runs))

    @property
    def runs(self) -> tuple[TrackerRun, ...]:
        """The runs of all trackers that answer."""
        return tuple(tracker.run for tracker in self.trackers.values())

    def tell(self, say: Callable[[Tracker], None]) -> None:
        """Say something to every tracker that answers."""
        for name, tracker in list(self.trackers.items()):
            self._guarded(name, partial(say, tracker))

    def _open(self, name: TrackerName, place: Place, config: TrackConfig) -> None:
        self.trackers[name] = open_tracker(name, place, config)

    def _guarded(self, name: TrackerName, action: Callable[[], None]) -> None:
        """Do something with a tracker; whatever goes wrong there is no reason to stop training."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - other people's code and networks
            self.trackers.pop(name, None)
            self.warn(
                Problem(
                    "TRACKER_FAILED",
                    "the tracker is told no more; the run goes on",
                    name,
                    got=f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS],
                    do="read history.csv and the report instead, or see docs/how-to/track.md",
                    severity="warning",
                )
            )


def _runs_before(path: Path) -> Mapping[str, str]:
    """Return by tracker the run that goes on; none in a new folder."""
    if not path.exists():
        return {}
    runs: Sequence[TrackerRun] = from_json(
        tuple[TrackerRun, ...], path.read_text(encoding="utf-8"), str(path)
    )
    return {run.tracker: run.run_id for run in runs}

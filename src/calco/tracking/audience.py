"""All trackers of a run as one, of which any may fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from calco.config import TrackConfig, TrackerName
from calco.errors import Problem
from calco.files import from_json, to_json, write_atomic
from calco.tracking.choose import open_tracker
from calco.tracking.tracker import Place, Tracker, TrackerRun
from calco.wording import without_login

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
        path = str(folder / RUNS_FILE)
        known: dict[str, TrackerRun] = {}
        self.attempt(
            lambda: known.update(_runs_before(folder)), path, "trackers may begin new runs"
        )
        for tracker in dict.fromkeys(config.to):
            run_id = known[tracker].run_id if tracker in known else None
            place = Place(folder, config.project, config.name or name, run_id)
            self._guarded(tracker, partial(self._open, tracker, place, config))
        # runs of trackers that do not answer today may go on at the next --resume
        known |= {run.tracker: run for run in self.runs}
        self.attempt(lambda: _keep(folder, known), path, "--resume may begin new runs in trackers")

    @property
    def runs(self) -> tuple[TrackerRun, ...]:
        """The runs of all trackers that answer; addresses without the user's password."""
        runs = (tracker.run for tracker in self.trackers.values())
        return tuple(replace(run, look=without_login(run.look)) for run in runs)

    def tell(self, say: Callable[[Tracker], None]) -> None:
        """Say something to every tracker that answers."""
        for name, tracker in list(self.trackers.items()):
            self._guarded(name, partial(say, tracker))

    def attempt(self, action: Callable[[], None], where: str, loss: str) -> bool:
        """Do something for trackers; whatever goes wrong there is no reason to stop training.

        Args:
            action: What is done.
            where: Tracker or file that it is about.
            loss: What a failure means.

        Returns:
            Whether it went well; a failure has been told.
        """
        try:
            action()
        except Exception as error:  # noqa: BLE001 - other people's code and networks
            self.warn(
                Problem(
                    "TRACKER_FAILED",
                    f"{loss}; the run goes on",
                    where,
                    got=without_login(f"{type(error).__name__}: {error}")[:MAX_REASON_CHARS],
                    do="read history.csv and the report instead, or see docs/how-to/track.md",
                    severity="warning",
                )
            )
            return False
        return True

    def _open(self, name: TrackerName, place: Place, config: TrackConfig) -> None:
        self.trackers[name] = open_tracker(name, place, config)

    def _guarded(self, name: TrackerName, action: Callable[[], None]) -> None:
        if not self.attempt(action, name, "the tracker is told no more"):
            self.trackers.pop(name, None)


def _runs_before(folder: Path) -> dict[str, TrackerRun]:
    """Make the folder where it is missing; return by tracker the runs that go on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUNS_FILE
    if not path.exists():
        return {}
    runs = from_json(tuple[TrackerRun, ...], path.read_text(encoding="utf-8"), str(path))
    return {run.tracker: run for run in runs}


def _keep(folder: Path, runs: dict[str, TrackerRun]) -> None:
    write_atomic(folder / RUNS_FILE, to_json(tuple(runs.values())))

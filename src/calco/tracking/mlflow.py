"""MLflow: a SQLite file in the run folder unless the user names a server."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from calco.tracking.tracker import Parameter, Place, TrackerRun

FLUSH_EVERY_S = 5.0  # a commit to SQLite takes some 30 ms on a busy disk: too much for each epoch
PARAMETERS_PER_CALL, METRICS_PER_CALL = 100, 1000  # what a server takes at once


class MLflow:
    """Logs to one run of MLflow through its client, which notes no user, machine or code.

    Args:
        place: Where files go when no server is named.
        uri: Of a server; None takes ``MLFLOW_TRACKING_URI``, else a file of the run.
    """

    def __init__(self, place: Place, uri: str | None) -> None:
        # read when MLflow is imported; what the user has set is kept
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # its own patience with a server that does not answer is minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # it tells of each table it makes
        # the address with its password; calco prints its own
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        logging.getLogger("alembic").setLevel(logging.ERROR)
        from mlflow.tracking import MlflowClient

        own = place.folder.resolve() / "mlflow.db"
        where = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{own.as_posix()}"
        files = None if uri or os.environ.get("MLFLOW_TRACKING_URI") else own.with_name("mlruns")
        self.client = MlflowClient(tracking_uri=where)
        self.resumed = place.run_id is not None
        if place.run_id is None:
            experiment = self.client.get_experiment_by_name(place.project)
            experiment_id = (
                experiment.experiment_id
                if experiment
                else self.client.create_experiment(place.project, files and files.as_uri())
            )
            run_id = self.client.create_run(experiment_id, run_name=place.name).info.run_id
        else:
            run_id = place.run_id
            self.client.update_run(run_id, status="RUNNING")
        self.waiting: list[tuple[str, float, int, int]] = []
        self.flushed_at_s = time.monotonic()
        look = f"mlflow ui --backend-store-uri {shlex.quote(where)}" if files else where
        self.run = TrackerRun("mlflow", run_id, look)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Note the parameters once: MLflow refuses to change them."""
        if self.resumed:
            return
        from mlflow.entities import Param

        params = [Param(name, str(value)) for name, value in values.items()]
        for first in range(0, len(params), PARAMETERS_PER_CALL):
            some = params[first : first + PARAMETERS_PER_CALL]
            self.client.log_batch(self.run.run_id, params=some)

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Note figures; they are sent together with those of other epochs, every few seconds."""
        now_ms = int(time.time() * 1000)
        self.waiting += [(name, value, now_ms, epoch) for name, value in values.items()]
        if time.monotonic() - self.flushed_at_s > FLUSH_EVERY_S:
            self._flush()

    def picture(self, name: str, path: Path, caption: str) -> None:
        """Keep a picture in the folder that its name begins with."""
        folder = name.rpartition("/")[0] or None
        self.client.log_artifact(self.run.run_id, str(path), folder)

    def artefact(self, path: Path) -> None:
        """Keep a file as an artefact of the run."""
        self.client.log_artifact(self.run.run_id, str(path))

    def close(self, *, finished: bool) -> None:
        """Send what waits and end the run."""
        self._flush()
        self.client.set_terminated(self.run.run_id, "FINISHED" if finished else "KILLED")

    def _flush(self) -> None:
        from mlflow.entities import Metric

        while self.waiting:
            some, self.waiting = self.waiting[:METRICS_PER_CALL], self.waiting[METRICS_PER_CALL:]
            self.client.log_batch(self.run.run_id, [Metric(*row) for row in some])
        self.flushed_at_s = time.monotonic()

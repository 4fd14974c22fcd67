"""Where a study lies: an SQLite file or a PostgreSQL database, one worker choosing at a time."""

from __future__ import annotations

import hashlib
import time
import warnings
from pathlib import Path
from typing import Protocol

import optuna
from filelock import FileLock
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from calco.errors import CalcoError, Problem

POSTGRES_DRIVER = "postgresql+pg8000"
BUSY_S = 60.0  # that a statement waits for another worker's, and a network for its answer
BEATS = 4  # signs of life within the silence after which a worker counts as killed, at least
MOST_BEAT_S = 5.0  # between them, however patient this worker is: others may be less so
MAX_RETRIES = 1  # a trial that kills its worker twice would kill them all


class Turn(Protocol):
    """A worker's turn to choose what it tries; others wait, and a killed one loses it."""

    def acquire(self) -> object:
        """Wait for the turn."""

    def release(self) -> object:
        """Let the next one choose; harmless without a turn."""


def open_storage(url: str, lost_after_s: float) -> optuna.storages.RDBStorage:
    """Open a storage, creating what is missing in it.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        lost_after_s: Silence after which a worker counts as killed; its trial then fails and is
            queued again, once.

    Raises:
        CalcoError: When it is neither, or cannot be reached.
    """
    full = engine_url(url)
    is_file = full.startswith("sqlite:")
    options: dict[str, object] = {"connect_args": {"timeout": BUSY_S}}
    if not is_file:
        options["pool_pre_ping"] = True  # a connection may have been cut between trials
    turn: Turn | None = None
    try:
        turn = turn_in(full, "tables")
        turn.acquire()  # workers that begin together would all create them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                full,
                engine_kwargs=options,
                heartbeat_interval=max(1, int(min(lost_after_s / BEATS, MOST_BEAT_S))),
                grace_period=max(2, int(lost_after_s)),
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    max_retry=MAX_RETRIES
                ),
            )
    except ImportError:
        what, do = "PostgreSQL needs a driver", "pip install 'calco[sweep]'"
        raise CalcoError(Problem("SWEEP_MISSING", what, "pg8000", "not installed", do=do)) from None
    except (SQLAlchemyError, OSError, RuntimeError) as error:
        raise _unreachable(url, error) from None
    finally:
        if turn is not None:
            turn.release()


def engine_url(url: str) -> str:
    """Return a URL with the driver that calco installs.

    Raises:
        CalcoError: When workers cannot share such a storage.

    Example:
        >>> engine_url("postgresql://me@db/sweeps")
        'postgresql+pg8000://me@db/sweeps'
    """
    scheme, colon, rest = url.partition("://")
    if scheme in ("postgres", "postgresql") and rest:
        return f"{POSTGRES_DRIVER}://{rest}"
    if (scheme == "sqlite" and rest.strip("/")) or (scheme == POSTGRES_DRIVER and rest):
        return url
    raise CalcoError(
        Problem(
            "SWEEP_STORAGE",
            "workers cannot share such a storage",
            "--storage",
            got=shown_url(url) if colon else url,
            expected="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE",
            do="correct the URL",
        )
    )


def shown_url(url: str) -> str:
    """Return a URL without its password.

    Example:
        >>> shown_url("postgresql://me:secret@db/sweeps")
        'postgresql://me:***@db/sweeps'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return f"{url.partition(':')[0]}://..."


def turn_in(url: str, name: str) -> Turn:
    """Return a turn that all workers take.

    Without it, two of them may draw the same waiting trial, and neither sees what the other draws.

    Args:
        url: Of the storage, with its driver.
        name: Of what is taken in turns; an SQLite file has one turn for everything.
    """
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        return FileLock(Path(f"{place.database}.lock"))  # the system's own: gone with its process
    return _AdvisoryLock(create_engine(place, poolclass=NullPool), name)


class _AdvisoryLock:
    """A lock of PostgreSQL's; the server frees it when the connection is cut."""

    def __init__(self, engine: Engine, name: str) -> None:
        digest = hashlib.sha256(f"calco sweep {name}".encode()).digest()
        self.key = int.from_bytes(digest[:8], signed=True)
        self.engine = engine
        self.connection: Connection | None = None

    def acquire(self) -> None:
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # asked again and again: a statement that waits would run into the network's time limit
        asked = text("select pg_try_advisory_lock(:key)")
        while not connection.execute(asked, {"key": self.key}).scalar():
            time.sleep(0.05)
        self.connection = connection

    def release(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": self.key})
            connection.close()


def storage_lost(url: str, error: BaseException) -> CalcoError:
    """Say that a storage went away while it was used."""
    cause = error.__cause__ or error
    got = " ".join(str(getattr(cause, "orig", cause)).split())[:200]
    do = "mend it; the same command with --resume goes on"
    return CalcoError(Problem("SWEEP_STORAGE", "the storage was lost", shown_url(url), got, do=do))


def _unreachable(url: str, error: BaseException) -> CalcoError:
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return CalcoError(
        Problem(
            "SWEEP_STORAGE",
            "cannot open the storage",
            shown_url(url),
            got=" ".join(str(cause).split())[:200],
            do="check the URL, and that the database is running and its schema is Optuna's",
        )
    )

"""The three programs themselves: they keep what they are told, here, and send nothing.

Each runs in a process of its own, in which every connection but to this machine's own sockets is
refused and noted, and every proxy is a trap that notes who calls.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

TELL = """
import sys
from pathlib import Path

def refuse(event, details):
    away = event == "socket.connect" and isinstance(details[1], tuple)  # not a file's socket
    if away or event == "socket.getaddrinfo":
        print("CALLED", details, flush=True)
        raise ConnectionRefusedError(str(details))

sys.addaudithook(refuse)
from calco.config import TrackConfig
from calco.tracking.choose import open_tracker
from calco.tracking.tracker import Place

name, folder, run_id = sys.argv[1], Path(sys.argv[2]), sys.argv[3] or None
tracker = open_tracker(name, Place(folder, "cells", "run1", run_id), TrackConfig())
first = 3 if run_id else 1
tracker.parameters({"learning_rate": 0.003, "network.family": "lean", "ema": True})
for epoch in (first, first + 1):
    tracker.metrics({"train/loss": 1 / epoch, "validation/dice": 0.25 * epoch}, epoch)
tracker.picture("overlays/worst-1", folder / "worst-1.png", "disc00: Dice 0.5")
tracker.artefact(folder / "report.html")
tracker.close(finished=bool(run_id))
print("RUN", tracker.run.run_id)
"""


@pytest.fixture
def trap() -> Iterator[tuple[str, list[object]]]:
    """A proxy that serves nobody and counts who came."""
    callers: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:  # closed
                return
            callers.append(address)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", callers
    server.close()


def tell(name: str, folder: Path, proxy: str, run_id: str = "", **more: str) -> str:
    """Tell a tracker of two epochs, in a process of its own; return the id of the run."""
    Image.new("RGB", (8, 6), (200, 0, 0)).save(folder / "worst-1.png")
    (folder / "report.html").write_text("<p>report</p>")
    hidden = ("WANDB", "MLFLOW", "CI", "GITHUB", "DO_NOT_TRACK", "PYTEST")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
    env |= proxies | {k.lower(): v for k, v in proxies.items()} | {"HOME": str(folder)} | more
    command = [sys.executable, "-c", TELL, name, str(folder), run_id]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CALLED" not in done.stdout, done.stdout
    return done.stdout.rpartition("RUN ")[2].strip()


@pytest.mark.slow
def test_tensorboard(tmp_path: Path, trap: tuple[str, list[object]]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    proxy, callers = trap
    run_id = tell("tensorboard", tmp_path, proxy)
    assert tell("tensorboard", tmp_path, proxy, run_id) == run_id
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(e.step, e.value) for e in events.Scalars("validation/dice")]
    assert points == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert (events.Images("overlays/worst-1")[0].width, len(events.Images("overlays/worst-1"))) == (
        8,
        2,
    )
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert not callers


@pytest.mark.slow
def test_mlflow(tmp_path: Path, trap: tuple[str, list[object]]) -> None:
    pytest.importorskip("mlflow")
    import sqlite3

    proxy, callers = trap
    run_id = tell("mlflow", tmp_path, proxy)
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        assert base.execute("select status from runs").fetchall() == [("KILLED",)]
    assert tell("mlflow", tmp_path, proxy, run_id) == run_id
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        runs = base.execute("select run_uuid, name, status, user_id from runs").fetchall()
        points = base.execute(
            "select step, value from metrics where key = 'validation/dice' order by step"
        ).fetchall()
        params = dict(base.execute("select key, value from params").fetchall())
        tags = dict(base.execute("select key, value from tags").fetchall())
    assert [row[:3] for row in runs] == [(run_id, "run1", "FINISHED")]
    assert points == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert params == {"learning_rate": "0.003", "network.family": "lean", "ema": "True"}
    assert tags == {"mlflow.runName": "run1"}  # no user, machine, path or commit
    artefacts = {p.name for p in (tmp_path / "mlruns").rglob("*") if p.is_file()}
    assert artefacts == {"worst-1.png", "report.html"}
    assert not callers


class Answers(http.server.BaseHTTPRequestHandler):
    """A server of MLflow's, as far as one run needs it."""

    logins: ClassVar[set[str]] = set()
    broken = False

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self) -> None:
        self.logins.add(self.headers.get("Authorization", "none"))
        info = {"run_id": "r1", "experiment_id": "1", "run_name": "run1", "status": "RUNNING"}
        known = {
            "get-by-name": {"experiment": {"experiment_id": "1", "name": "cells"}},
            "create": {"run": {"info": info, "data": {}}},
            "get": {"run": {"info": info, "data": {}}},
            "update": {"run_info": info},
        }
        found = known.get(self.path.partition("?")[0].rpartition("/")[2], {})
        body = json.dumps(found).encode()
        self.send_response(500 if self.broken else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


LOG_IN = """
import sys
from pathlib import Path
from calco.config import TrackConfig
from calco.tracking.audience import Audience

heard = Audience(Path(sys.argv[1]), "run1", TrackConfig(to=("mlflow",)), print)
heard.tell(lambda t: t.metrics({"validation/dice": 0.5}, 1))
heard.tell(lambda t: t.close(finished=True))
print(*heard.runs)
"""


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True])
def test_mlflow_takes_a_login_and_shows_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setattr(Answers, "broken", broken)
    Answers.logins.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"127.0.0.1:{server.server_port}"
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
        env |= {"MLFLOW_TRACKING_URI": f"http://me:secret@{where}", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", LOG_IN, str(tmp_path)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert Answers.logins == {"Basic " + base64.b64encode(b"me:secret").decode()}
    assert ("TRACKER_FAILED" in done.stdout) is broken, done.stdout
    assert where in done.stdout
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json"))
    assert not [text for text in (done.stdout, done.stderr, kept) if "secret" in text]


def test_wandb_is_offline_unless_asked(tmp_path: Path, trap: tuple[str, list[object]]) -> None:
    pytest.importorskip("wandb")
    proxy, callers = trap
    run_id = tell("wandb", tmp_path, proxy)
    assert tell("wandb", tmp_path, proxy, run_id) == run_id
    folders = sorted((tmp_path / "wandb").glob(f"offline-run-*-{run_id}"))
    assert folders  # two, unless both began in the same second
    log = b"".join(path.read_bytes() for path in folders[-1].glob("*.wandb"))
    for word in (b"validation/dice", b"network.family", b"disc00: Dice 0.5", b"report.html"):
        assert word in log
    assert socket.gethostname().encode() not in log or len(socket.gethostname()) < 4
    kept = {p.name for p in (folders[-1] / "files").rglob("*") if p.is_file()}
    assert "report.html" in kept
    assert not any("requirements" in name or "metadata" in name for name in kept)
    assert not callers


def test_the_trap_notes_whoever_calls(tmp_path: Path, trap: tuple[str, list[object]]) -> None:
    """Negative control: told to report errors, the same program does call."""
    pytest.importorskip("wandb")
    proxy, callers = trap
    with pytest.raises(AssertionError, match="CALLED"):
        tell("wandb", tmp_path, proxy, WANDB_ERROR_REPORTING="true")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with pytest.raises(OSError, match=r"\w"):
        opener.open("http://calco.invalid")
    assert callers

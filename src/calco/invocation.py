"""What was typed, turned into what the stages take; part of the command line."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from calco.errors import CalcoError, Problem

if TYPE_CHECKING:  # heavy modules are imported by the command that needs them
    from calco.config import Config
    from calco.inference.exported import Format
    from calco.records import RleDialect
    from calco.runs import RunDir

STARTED = time.monotonic()  # a budget counts from here


def share_cores() -> None:
    """Let threads of arithmetic sleep soon when they wait; call it before torch is loaded.

    Threads that spin for long starve each other as soon as another program wants a core: steps
    then took 20 times as long. What the user has set is kept. See docs/explanation/probe.md.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def team_size() -> int:
    """Return how many processes torchrun, or another in its way, has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_helper() -> bool:
    """Tell whether torchrun has started this process beside the one that leads."""
    return os.environ.get("RANK", "0") != "0"


def parse_duration(text: str, option: str = "--budget") -> float:
    """Return the seconds of ``90``, ``90s``, ``20m`` or ``1h30m``.

    Raises:
        CalcoError: On anything else.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    match = re.fullmatch(
        r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?",
        re.sub(r"^[\d.]+$", r"\g<0>s", text.strip()),  # a bare number is seconds
    )
    if not match or not any(match.groups()):
        raise CalcoError(
            Problem("BUDGET", "not a duration", option, repr(text), "90s, 20m or 1h30m")
        )
    hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``768x512``.

    Raises:
        CalcoError: On anything else.

    Example:
        >>> parse_size("768x512")
        (768, 512)
    """
    match = re.fullmatch(r"([1-9]\d{0,6})\s*[xX]\s*([1-9]\d{0,6})", text.strip())
    if not match:
        what = "not a size"
        raise CalcoError(Problem("SIZE", what, "--size", repr(text), "height x width, 768x512"))
    return int(match[1]), int(match[2])


def read_settings(path: Path | None, sets: list[str] | None, **given: object) -> Config:
    """Read a file of settings and what was typed besides; None was not given.

    Raises:
        CalcoError: Lists every unknown setting and wrong value.
    """
    from calco.config import load_config

    own = [f"{key}={value}" for key, value in given.items() if value is not None]
    return load_config(path, (*(sets or ()), *own))


def require_report_name(out: Path | None) -> None:
    """Refuse to begin an audit whose report could not be written.

    Raises:
        CalcoError: When the name or its folder is wrong.
    """
    if out is None:
        return
    if out.suffix.lower() not in (".html", ".json"):
        what, do = "a report is a page or JSON", "name it audit.html or audit.json"
        raise CalcoError(Problem("OUT_NAME", what, str(out), out.suffix, ".html or .json", do))
    if not out.parent.is_dir():
        raise CalcoError(
            Problem("IO_ERROR", "no such folder", str(out.parent), do="create it, or correct -o")
        )


def model_format(out: Path, wanted: str | None, *, int8: bool = False) -> Format:
    """Return the format of a model file, by its ending when none is wanted.

    Raises:
        CalcoError: When there is no such format, the file's name does not say it or is that of a
            folder, or the format has no 8-bit numbers.
    """
    from calco.inference.exported import ENDINGS

    found = ENDINGS.get(out.suffix.lower())
    known = {name: ending for ending, name in ENDINGS.items()}
    if wanted is not None and wanted not in known:
        what, do = "no such format", "choose one of " + ", ".join(known)
        raise CalcoError(Problem("FORMAT", what, "--format", wanted, do=do))
    if found is None or out.is_dir() or wanted not in (None, found):
        what, endings = "a model's name ends as its format wants", ", ".join(ENDINGS)
        do = f"name it model{known.get(wanted or 'onnx')}"
        raise CalcoError(Problem("OUT_NAME", what, str(out), out.suffix, endings, do))
    if int8 and found != "openvino":
        what, do = "8-bit numbers are written for OpenVINO alone", "name it model.xml"
        raise CalcoError(Problem("FORMAT", what, "--int8", found, "openvino", do))
    return found


def run_folder(out: Path | None, stem: str) -> RunDir:
    """Return a folder for a new run; an existing run is never written over.

    Args:
        out: As given; None takes the first free ``results/<stem>N``.
        stem: Of the name.

    Raises:
        CalcoError: When the folder is not empty.
    """
    from calco.runs import RunDir

    if out is None:
        results = Path("results")
        taken = {p.name for p in results.glob(f"{stem}*")} if results.exists() else set()
        out = results / next(f"{stem}{n}" for n in range(1, 10**6) if f"{stem}{n}" not in taken)
    folder = RunDir(out)
    folder.require_new()
    return folder


def existing_run(run: Path) -> Path:
    """Return a run folder or weights file that is there.

    Raises:
        CalcoError: When nothing is.
    """
    if not run.exists():
        raise CalcoError(Problem("RUN_MISSING", "no such run", str(run), do="check the path"))
    return run


def open_run(run: Path) -> RunDir:
    """Return a run folder.

    Raises:
        CalcoError: When it is none.
    """
    from calco.runs import RunDir

    if not (existing_run(run) / "config.yaml").exists():
        raise CalcoError(
            Problem("RUN_MISSING", "not a run folder", str(run), expected="config.yaml in it")
        )
    return RunDir(run)


def dialect_of(name: str | None) -> RleDialect | None:
    """Return the preset of a name, if one was given.

    Raises:
        CalcoError: When there is no such preset.
    """
    if name is None:
        return None
    from calco.formats.dialects import dialect

    return dialect(name)

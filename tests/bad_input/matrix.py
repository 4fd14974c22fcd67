"""What a row of the matrix is: an input, and what must come of it."""

from __future__ import annotations

import json
import math
import resource
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from typer.testing import CliRunner

from calco.cli import app
from calco.config import AuditConfig, DataConfig
from calco.errors import CalcoError, Problem
from calco.formats.truth import read_truth
from calco.images.io import read_pixels
from calco.records import Audit
from calco.stages.audit import audit_samples
from calco.stages.samples import index_samples

from .drawing import MASK, Array, Builder, Mask


@dataclass(frozen=True)
class Refused:
    """The audit ends with just one error, and those that follow from it.

    Attributes:
        code: Of the error.
        where: File, line or setting it names; ``{root}`` stands for the data folder.
        do: Part of the remedy.
        shows: Part of what it says is there or should be.
        also: Codes of the errors that the same input cannot but cause.
        peak_mb: Memory that the refusal may take.
    """

    code: str
    where: str
    do: str
    shows: str = ""
    also: tuple[str, ...] = ()
    peak_mb: float = math.inf


@dataclass(frozen=True, eq=False)
class Accepted:
    """The audit has no error, and a sample is read just as it was drawn.

    Attributes:
        pixels: Of the image, as ``read_pixels`` returns them; None is not looked at.
        mask: None is not looked at.
        code: Of a warning or note that people see.
        told: Part of it.
        within: Levels by which pixels may differ.
        sample: Its id.
    """

    pixels: Array | None = None
    mask: Mask | None = field(default_factory=lambda: MASK)
    code: str = ""
    told: str = ""
    within: int = 0
    sample: str = "x"


@dataclass(frozen=True)
class Raised:
    """Another entry than the audit refuses the input.

    Attributes:
        by: The entry, called with the data folder.
        code: Of the error.
        where: As of ``Refused``.
        do: Part of the remedy.
        shows: Part of what it says is there or should be.
    """

    by: Callable[[Path], object]
    code: str
    where: str
    do: str
    shows: str = ""


@dataclass(frozen=True)
class Holds:
    """Another entry than the audit does as it should; the function asserts it."""

    by: Callable[[Path], object]


Expectation: TypeAlias = Refused | Accepted | Raised | Holds


@dataclass(frozen=True)
class Row:
    """One case of the matrix.

    Attributes:
        number: Row of the matrix.
        name: Of the case within it.
        build: Writes the input.
        expect: What must come of it.
        settings: Of the section ``data``.
        at: Path below the folder that the user gives as data.
        patch: Makes the system behave as files alone cannot make it.
    """

    number: int
    name: str
    build: Builder
    expect: Expectation
    settings: Mapping[str, object] = field(default_factory=dict)
    at: str = ""
    patch: Callable[[pytest.MonkeyPatch], None] | None = None

    def __str__(self) -> str:
        return f"row-{self.number:02}-{self.name}"


def look(data: Path, settings: Mapping[str, object]) -> tuple[Audit | None, tuple[Problem, ...]]:
    """Index and audit a folder; return the audit, if there is one, and all problems."""
    config = DataConfig(**settings)  # type: ignore[arg-type]
    try:
        audit = audit_samples(index_samples(data, config), config, AuditConfig())
    except CalcoError as error:
        return None, error.problems
    return audit, audit.problems


def command(data: Path, settings: Mapping[str, object]) -> tuple[int, str]:
    """Run ``calco audit`` in this process; return its exit code and what it printed."""
    sets = [("--set", f"data.{key}={json.dumps(value)}") for key, value in settings.items()]
    words = ["audit", str(data), *(word for pair in sets for word in pair)]
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def require_problem(expect: Refused | Raised, problems: tuple[Problem, ...], root: Path) -> Problem:
    """Check that an error is the expected one, and says what, where and what to do."""
    errors = [problem for problem in problems if problem.severity == "error"]
    (problem,) = [error for error in errors if error.code == expect.code]
    assert problem.where == expect.where.format(root=root)
    assert problem.what
    assert expect.do in problem.do
    assert expect.shows in f"{problem.what} {problem.got} {problem.expected}"
    rest = sorted(error.code for error in errors if error is not problem)
    assert rest == sorted(expect.also if isinstance(expect, Refused) else ())
    return problem


def require_accepted(expect: Accepted, audit: Audit | None, problems: tuple[Problem, ...]) -> None:
    """Check that nothing is refused and that pixels and mask are the golden ones."""
    assert [str(problem) for problem in problems if problem.severity == "error"] == []
    assert audit is not None
    if expect.code:
        (told,) = [str(problem) for problem in problems if problem.code == expect.code]
        assert expect.told in told
    facts = {f.id: f for f in audit.facts}[expect.sample]
    sample = next(sample for sample in audit.index if sample.id == expect.sample)
    pixels = read_pixels(sample.image, frame=audit.index.spec.frame).pixels
    if expect.pixels is not None:
        assert (pixels.dtype, pixels.shape) == (expect.pixels.dtype, expect.pixels.shape)
        assert np.abs(pixels.astype(float) - expect.pixels).max() <= expect.within
        assert (facts.low, facts.high) == (pixels.min(), pixels.max())
    if expect.mask is not None:
        assert sample.mask is not None
        size = pixels.shape[0], pixels.shape[1]
        np.testing.assert_array_equal(read_truth(sample.mask, audit.index.code, size), expect.mask)


@contextmanager
def memory_below(peak_mb: float) -> Iterator[None]:
    """Check that a block takes no more memory than allowed, of Python and of decoders."""
    if math.isinf(peak_mb):
        yield
        return
    resident_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < peak_mb * 1e6
    finally:
        tracemalloc.stop()
    # decoders take memory that Python does not see
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident_kb
    assert grown_kb < 4 * peak_mb * 1000


def contents(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of change of everything below a folder."""
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        found[str(path)] = state.st_mode, state.st_size, state.st_mtime_ns
    return found

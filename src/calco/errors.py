"""How calco says that something is wrong: one line with what, where, got, expected, do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or worth knowing, with its remedy.

    All its texts are printable: what file names smuggle in is escaped when it is made, so that
    logs, pages and JSON can take it.

    Attributes:
        code: Stable upper-case name, e.g. ``IMG_TRUNCATED``; scripts may match on it.
        what: What is wrong, in words.
        where: File, line or setting concerned; empty when the whole data set is.
        got: The offending value.
        expected: What would have been right.
        do: The next step for the user, in the imperative.
        severity: ``error`` stops training, ``warning`` does not, ``note`` is information.
        ids: All samples concerned, as the index names them; empty when the texts say enough.
    """

    code: str
    what: str
    where: str = ""
    got: str = ""
    expected: str = ""
    do: str = ""
    severity: Severity = "error"
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("what", "where", "got", "expected", "do"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        """Return the problem as one line."""
        place = f" {self.where}" if self.where else ""
        line = f"{self.severity}[{self.code}]{place}: {self.what}"
        if self.got:
            line += f"; got {self.got}"
        if self.expected:
            line += f"; expected {self.expected}"
        if self.do:
            line += f" -- {self.do}"
        return line


class CalcoError(Exception):
    """Bad input: one or more problems, all of them found, each with its remedy.

    Args:
        problems: What is wrong; at least one.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class StoppedError(Exception):
    """A signal asked the run to stop; everything needed to resume is on disk."""


def printable(text: str) -> str:
    r"""Escape control characters, so that a file name cannot forge lines or colours in a log.

    Example:
        >>> printable("a\nb")
        'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

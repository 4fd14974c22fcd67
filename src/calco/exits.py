"""How a command ends: what went wrong as lines on the terminal, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from calco.errors import CalcoError, Problem, StoppedError
from calco.terminal import Terminal

BAD_INPUT, SOME_FAILED, STOPPED = 2, 3, 75


@contextmanager
def speaking(verbose: bool, quiet: bool) -> Iterator[Terminal]:
    """Open the terminal and turn calco's exceptions into lines and exit codes."""
    terminal = Terminal(-1 if quiet else int(verbose))
    try:
        with terminal:
            yield terminal
    except CalcoError as error:
        for problem in error.problems:
            terminal.problem(problem)
        raise typer.Exit(BAD_INPUT) from None
    except StoppedError as error:
        terminal.say(f"{error}; the same command with --resume goes on")
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        terminal.say("stopped")
        raise typer.Exit(STOPPED) from None
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
    except OSError as error:
        what = error.strerror or type(error).__name__
        where = str(error.filename or "")
        terminal.problem(Problem("IO_ERROR", what, where, do="check the path and its permissions"))
        raise typer.Exit(BAD_INPUT) from None

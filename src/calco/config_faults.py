"""What is wrong with a setting, in words, and which setting was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic_core import ErrorDetails

from calco.errors import Problem

MAX_SHOWN_CHARS = 80  # of a wrong value, in a message


def setting_problem(error: ErrorDetails, where: str, known: Sequence[str]) -> Problem:
    """Turn what pydantic found into a problem.

    Args:
        error: One of a ``ValidationError``.
        where: File or flag that the setting comes from.
        known: Every setting as a dotted key.
    """
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        # a right name in the wrong section is the commonest slip
        near = near or [k for k in known if k.split(".")[-1] == key.split(".")[-1]][:1]
        hint = f"did you mean {near[0]}?" if near else "see docs/reference/config.md"
        return Problem("CONFIG_KEY", "unknown setting", where, got=key, do=hint)
    do = f"correct {key or where}"
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        do += ": write it in quotes"  # a folder named 2024
    return Problem(
        "CONFIG_VALUE",
        f"{key or where}: {error['msg'][:1].lower()}{error['msg'][1:]}",
        where,
        got=shown(error["input"]),
        do=do,
    )


def shown(value: object) -> str:
    """Write a wrong value, shortened.

    Example:
        >>> shown("a" * 100)[-5:], len(shown("a" * 100))
        ('aa...', 80)
    """
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 3]}..."

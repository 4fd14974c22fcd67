"""Words that many messages need: numbers of things, the first of many names, places of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

N_NAMED = 10
"""Examples named in a message before the rest is only counted."""


def counted(n: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "mask"), counted(2, "mask")
        ('1 mask', '2 masks')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def name_some(names: Iterable[str], most: int = N_NAMED) -> str:
    """Name the first of many things and count the rest.

    Example:
        >>> name_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def place(path: Path, root: Path) -> str:
    """Write a path as people look for it: from the data folder down, where it lies below.

    Example:
        >>> place(Path("data/images/a.png"), Path("data")), place(Path("b.png"), Path("data"))
        ('images/a.png', 'b.png')
    """
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

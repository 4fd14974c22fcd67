"""Words that many messages need: numbers of things and seconds, some of many names, places.

And what no text may hold: see ``without_login``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

NBSP = "\u00a0"  # no line break between a number and its unit
N_NAMED = 10
"""Examples named in a message before the rest is only counted."""
# an @ before the first slash ends a login; databases allow slashes in passwords, too
_LOGIN = re.compile(r"://(?:[^\s/?#]*|[^\s/:@]*:[^\s@]*)@")


def counted(n: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "mask"), counted(2, "mask")
        ('1 mask', '2 masks')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def duration(seconds: float) -> str:
    """Write seconds in the units that people would use.

    Example:
        >>> [duration(s).replace(NBSP, " ") for s in (7.25, 754, 7260)]
        ['7.2 s', '12 min 34 s', '2 h 1 min']
    """
    whole = round(seconds)
    if whole < 60:
        text = f"{seconds:.1f} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60} min"
    return text.replace(" ", NBSP)


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


def without_login(text: str) -> str:
    """Return a text whose addresses name no user and no password.

    Example:
        >>> without_login("request to https://me:secret@host/api failed")
        'request to https://host/api failed'
    """
    return _LOGIN.sub("://", text)

"""What may go wrong with one image while the others go on, and how that is told."""

from __future__ import annotations

import cv2

from calco.errors import CalcoError, printable

# what networks and resampling raise, out of memory included
IMAGE_FAULTS = (CalcoError, OSError, ValueError, RuntimeError, MemoryError, cv2.error)


def one_line(error: Exception) -> str:
    """Return the first problem of an error, or its class and text, as one printable line.

    Example:
        >>> one_line(ValueError("no such colour"))
        'ValueError: no such colour'
    """
    if isinstance(error, CalcoError):
        return str(error.problems[0])
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

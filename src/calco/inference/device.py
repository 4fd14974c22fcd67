"""Where networks run."""

from __future__ import annotations

import os

import torch

from calco.errors import CalcoError, Problem


def choose_device(name: str) -> torch.device:
    """Choose the device; never another than the one asked for.

    Args:
        name: ``auto`` takes a GPU when there is one; ``cpu``, ``cuda`` or ``cuda:1`` is that.

    Raises:
        CalcoError: When a GPU is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        got, do = repr(name), "use auto, cpu or cuda"
        raise CalcoError(Problem("DEVICE", "no such device", "--device", got, do=do)) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        do = "use --device cpu"
        raise CalcoError(Problem("DEVICE", "no CUDA device is seen", "--device", name, do=do))
    return device


def usable_cores() -> int:
    """Return how many cores this process may use; those of a team share a machine's."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's name for it
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)) // beside)
    return max(1, (os.cpu_count() or 1) // beside)  # systems that cannot bind processes to cores

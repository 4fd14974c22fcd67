"""Several images at a time: each has its own cores, and all of them fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Condition, Lock
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from calco.ahead import in_order
from calco.images.tiles import Tiling
from calco.inference.device import usable_cores
from calco.records import ImageSpec, Postprocess

WHOLE_PX = 2048 * 2048
"""Pixels that networks see at a time, at most; the default U-Net needs about 5 GB for them."""
AHEAD = 2  # results that may wait for an earlier one, where each is a map of an image
ALL = sys.maxsize  # where all results are kept anyway

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Tracer(Protocol):
    """What prediction needs of a model."""

    @property
    def spec(self) -> ImageSpec:
        """How images are read for it."""

    @property
    def params(self) -> Postprocess:
        """From probability to mask."""

    @property
    def tiling(self) -> Tiling | None:
        """How large images are cut; None when it must see whole images."""

    def seen_px(self, height: int, width: int) -> int:
        """Return how many pixels of such an image the network sees at a time."""

    def with_threads(self, threads: int) -> Tracer:
        """Return the same, for calls from several threads that take so many cores each."""

    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the foreground probability of an image.

        Args:
            image: (H, W, C) uint8.

        Returns:
            (H, W) float32 in [0, 1].
        """


class _KeptThreads:
    """Torch's number of threads, as it was before any streams were open, put back after the last.

    The count that any thread has set last is what new threads begin with.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_open = 0
        self._before = 1

    def hold(self) -> None:
        with self._lock:
            if self._n_open == 0:
                self._before = torch.get_num_threads()
            self._n_open += 1

    def release(self) -> None:
        with self._lock:
            self._n_open -= 1
            if self._n_open == 0:
                torch.set_num_threads(self._before)


_KEPT = _KeptThreads()


class Streams:
    """Predicts for several threads, none of which waits for another's arithmetic.

    Small images have a core each: threads that share an image meet after every layer and wait for
    the last, which costs a quarter of the speed on two cores already. Images so large that their
    maps would not fit into memory side by side have more cores each instead. The cores of an image
    depend on its size alone, so that its probabilities never depend on its neighbours.

    Args:
        tracer: The model.
        at_once: Images predicted at a time, at most.
    """

    def __init__(self, tracer: Tracer, at_once: int) -> None:
        self.tracer = tracer
        self.at_once = at_once
        self._cores = usable_cores()
        self._by_threads: dict[int, Tracer] = {}
        self._making = Lock()
        self._free_images, self._free_px = at_once, WHOLE_PX
        self._freed = Condition()

    def __enter__(self) -> Self:
        _KEPT.hold()
        return self

    def __exit__(self, *_: object) -> None:
        _KEPT.release()

    def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (H, W) float32 probabilities of an (H, W, C) uint8 image, when it is its turn."""
        height, width = image.shape[:2]
        n_px = min(self.tracer.seen_px(height, width), WHOLE_PX)
        n_beside = min(self.at_once, WHOLE_PX // n_px)
        tracer = self._with_threads(max(1, self._cores // n_beside))
        with self._taken(n_px):
            return tracer.prob(image)

    def _with_threads(self, threads: int) -> Tracer:
        with self._making:
            if threads not in self._by_threads:
                self._by_threads[threads] = self.tracer.with_threads(threads)
            return self._by_threads[threads]

    @contextmanager
    def _taken(self, n_px: int) -> Iterator[None]:
        """Hold room for an image among those that are predicted."""
        with self._freed:
            self._freed.wait_for(lambda: self._free_images > 0 and self._free_px >= n_px)
            self._free_images -= 1
            self._free_px -= n_px
        try:
            yield
        finally:
            with self._freed:
                self._free_images += 1
                self._free_px += n_px
                self._freed.notify_all()


def abreast(
    tracer: Tracer,
    items: Iterable[_Item],
    work: Callable[[Streams, _Item], _Result],
    at_once: int | None = None,
    ahead: int = AHEAD,
) -> Iterator[_Result]:
    """Yield the result of every item in order, while the next ones are on their way.

    Each item stays with one worker, from its file to its mask for example. There is one worker
    more than images that are predicted at a time: while it reads or writes, all cores compute.

    Args:
        tracer: The model.
        items: What is worked on; drawn one by one, a few ahead of what is yielded.
        work: Called in any thread with the streams to predict with and an item; what it raises
            ends everything.
        at_once: Images predicted at a time; None is as many as there are cores.
        ahead: Results that may wait for an earlier one. While a large image is predicted, cores
            have nothing to do once so many small ones after it are done.
    """
    at_once = at_once or usable_cores()
    with Streams(tracer, at_once) as streams:
        yield from in_order(partial(work, streams), items, at_once + 1, at_once + ahead)

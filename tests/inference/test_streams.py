"""Images side by side: as many as fit, and each as if it were alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock, Timer

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import calco.inference.streams as module
from calco.images.tiles import Tiling
from calco.inference.engines import TorchEngine
from calco.inference.streams import ALL, WHOLE_PX, Streams, abreast
from calco.nets.build import build_network
from calco.records import ImageSpec, NetworkPlan, Postprocess

Image = NDArray[np.uint8]


class Watched:
    """Says an image has a thousand times its pixels; knows who is inside and with how many cores.

    Args:
        meeting: How many calls must be inside at a time before any may leave.
    """

    spec, params = ImageSpec(channels=1), Postprocess()

    def __init__(self, meeting: int = 1) -> None:
        self.barrier, self.watching = Barrier(meeting), Lock()
        self.inside_px: list[int] = []
        self.most_px = self.most_images = 0
        self.threads: list[int] = []

    @property
    def tiling(self) -> Tiling | None:
        return Tiling(64, 16)

    def seen_px(self, height: int, width: int) -> int:
        return 1000 * height * width

    def with_threads(self, threads: int) -> Watched:
        self.threads.append(threads)
        return self

    def prob(self, image: Image) -> NDArray[np.float32]:
        n_px = min(1000 * image[..., 0].size, WHOLE_PX)
        with self.watching:
            self.inside_px.append(n_px)
            self.most_px = max(self.most_px, sum(self.inside_px))
            self.most_images = max(self.most_images, len(self.inside_px))
        self.barrier.wait(timeout=10)  # raises when nobody comes
        time.sleep(0.002)
        with self.watching:
            self.inside_px.remove(n_px)
        return image[..., 0].astype(np.float32)


def drawn(n_px: int) -> Image:
    return np.zeros((1, n_px, 1), np.uint8)


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)


def all_of(tracer: Watched, images: list[Image], at_once: int) -> None:
    with Streams(tracer, at_once) as streams, ThreadPoolExecutor(12) as pool:
        assert len(list(pool.map(streams.prob, images))) == len(images)


def test_small_images_have_a_core_each() -> None:
    tracer = Watched(meeting=8)
    all_of(tracer, [drawn(4)] * 16, at_once=8)
    assert tracer.threads == [1]
    assert tracer.most_images == 8


def test_an_image_that_fills_memory_is_alone_and_has_all_cores() -> None:
    tracer = Watched()
    all_of(tracer, [drawn(WHOLE_PX // 1000 + 1)] * 4, at_once=8)
    assert tracer.threads == [8]
    assert tracer.most_images == 1


def test_cores_are_divided_among_as_many_as_fit() -> None:
    tracer = Watched(meeting=4)
    all_of(tracer, [drawn(WHOLE_PX // 4000)] * 8, at_once=8)
    assert tracer.threads == [2]
    assert tracer.most_images == 4


def test_a_mixture_never_exceeds_memory_or_number() -> None:
    sizes = np.random.default_rng(0).integers(1, WHOLE_PX // 1000 + 2, 60)
    sizes[::3] = 1
    tracer = Watched()
    all_of(tracer, [drawn(int(n)) for n in sizes], at_once=3)
    assert tracer.most_px <= WHOLE_PX
    assert 2 <= tracer.most_images <= 3


def test_others_go_on_behind_a_slow_one_when_results_may_wait() -> None:
    last_is_done = Event()

    def work(_: Streams, number: int) -> int:
        if number == 0:
            assert last_is_done.wait(timeout=10)
        if number == 49:
            last_is_done.set()
        return number

    assert list(abreast(Watched(), range(50), work, at_once=2, ahead=ALL)) == list(range(50))


def test_no_more_results_wait_than_may() -> None:
    begun: list[int] = []
    first_may_end = Event()

    def work(_: Streams, number: int) -> int:
        begun.append(number)
        if number == 0:
            assert first_may_end.wait(timeout=10)
        return number

    def items() -> Iterator[int]:
        for number in range(50):
            if number == 10:  # of 2 at once and 5 ahead, the first seven and two that are handed on
                raise AssertionError("drawn before its turn")
            yield number

    found = abreast(Watched(), items(), work, at_once=2, ahead=5)
    Timer(0.2, first_may_end.set).start()
    assert next(found) == 0
    assert set(begun) <= set(range(9))
    del found  # ends what was begun


def test_room_is_given_back_after_an_error() -> None:
    class Failing(Watched):
        def prob(self, image: Image) -> NDArray[np.float32]:
            raise MemoryError

    with Streams(Failing(), 1) as streams:
        for _ in range(3):
            with pytest.raises(MemoryError):
                streams.prob(drawn(WHOLE_PX // 1000))


def test_threads_of_the_caller_and_of_later_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    network = build_network(NetworkPlan("unet", 1, (0.0,), (255.0,), width=4, depth=1))
    engine = TorchEngine(network)

    class Real(Watched):
        def with_threads(self, threads: int) -> Real:
            self.engine = engine.with_threads(threads)
            return self

        def prob(self, image: Image) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = self.engine.logits(image[None])[0]
            assert torch.get_num_threads() == 1
            return logits

    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    alone = engine.logits(image[None])[0]
    with Streams(Real(), 8) as streams, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(streams.prob, [image] * 4))
        assert pool.submit(torch.get_num_threads).result() == 1  # the control
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before
    for logits in found:
        assert np.abs(logits - alone).max() < 1e-5

"""Real steps of tiny networks: all of a training's step, and nothing left behind."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from calco.config import LossConfig
from calco.errors import CalcoError
from calco.nets.build import build_network
from calco.records import NetworkPlan, Setup
from calco.training import steps
from calco.training.losses import make_loss
from calco.training.steps import (
    Allowance,
    Batches,
    Recipe,
    Rig,
    nothing_left_behind,
    time_steps,
)

NETWORK = NetworkPlan("unet", 1, (0.0,), (255.0,), width=4, depth=2, dropout=0.5)
BASE = Setup(NETWORK, crop_px=32, batch=4, threads=1)
RECIPE = Recipe(make_loss(LossConfig(), "bce_dice"), device="cpu")


def test_steps_are_timed() -> None:
    timing = time_steps(BASE, RECIPE, allowance_s=10.0, n_steps=4)
    assert timing.setup == BASE
    assert timing.n_steps == 4
    assert 0 < timing.step_s < 5
    assert timing.first_s > 0
    assert timing.busy_cores > 0
    assert not timing.growth_mib < 0


def test_a_larger_crop_takes_longer() -> None:
    small = time_steps(BASE, RECIPE, 10.0)
    large = time_steps(replace(BASE, crop_px=256), RECIPE, 10.0)  # 64 times the pixels
    assert large.step_s > 2 * small.step_s


@pytest.mark.parametrize(
    "setup",
    [BASE, replace(BASE, channels_last=False), replace(BASE, precision="bf16")],
    ids=["base", "channels first", "bf16"],
)
def test_the_loss_sees_what_training_would_give_it(setup: Setup) -> None:
    seen = []

    def loss(logits: Tensor, true: Tensor) -> Tensor:
        seen.append((logits.shape, true.shape, sorted(set(true.flatten().tolist()))))
        return RECIPE.loss(logits, true)

    time_steps(setup, replace(RECIPE, loss=loss), 10.0, n_steps=2)
    shape = (4, 1, 32, 32)
    assert seen == [(shape, shape, [0.0, 1.0])] * 3  # one is left out of the median


def test_loading_is_part_of_a_step() -> None:
    asked = []

    def feed(crop_px: int, batch: int) -> Batches:
        asked.append((crop_px, batch))
        for value in itertools.count():
            asked.append((value, value))
            images = torch.full((batch, 1, crop_px, crop_px), value % 256).byte()  # (B, C, H, W)
            yield images, images & 1

    time_steps(BASE, replace(RECIPE, feed=feed), 10.0, n_steps=2)
    assert asked == [(32, 4), (0, 0), (1, 1), (2, 2)]  # one is left out of the median


def test_a_step_does_all_that_training_does() -> None:
    with nothing_left_behind("cpu"):
        rig = Rig(NETWORK, RECIPE)
        rig.timing(BASE, Allowance(0.0))
    assert rig.averaged is not None
    before = next(rig.source.parameters())
    trained, averaged = next(rig.segmenter.parameters()), next(rig.averaged.network.parameters())
    assert not torch.equal(before, trained)  # forward, backward, optimiser
    assert not torch.equal(before, averaged)  # and the average follows
    assert not torch.equal(trained, averaged)
    assert rig.steps == 2


def test_a_runs_weights_and_order_are_not_changed_by_steps_timed_before() -> None:
    torch.manual_seed(3)
    expected = build_network(NETWORK).state_dict()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    time_steps(BASE, RECIPE, 5.0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]
    assert random.getstate() == states[2]
    found = build_network(NETWORK).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_unguarded_steps_would_change_random_numbers() -> None:
    with nothing_left_behind("cpu"):
        state = torch.get_rng_state()  # the negative control of the test above
        Rig(NETWORK, RECIPE).timing(BASE, Allowance(0.0))
        assert not torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_threads_are_restored() -> None:
    time_steps(BASE, RECIPE, 5.0)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_threads_are_restored_after_a_failure() -> None:
    def broken(logits: Tensor, true: Tensor) -> Tensor:
        raise ValueError(f"{torch.get_num_threads()} thread while stepping")

    with pytest.raises(ValueError, match="1 thread while stepping"):
        time_steps(BASE, replace(RECIPE, loss=broken), 5.0)
    assert torch.get_num_threads() == 3


def failing(message: str) -> Recipe:
    def loss(logits: Tensor, true: Tensor) -> Tensor:
        raise RuntimeError(message)

    return replace(RECIPE, loss=loss)


def test_too_little_memory_is_said_with_its_remedy() -> None:
    message = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"
    with pytest.raises(CalcoError, match="needs more memory than there is") as caught:
        time_steps(BASE, failing(message), 5.0)
    assert caught.value.problems[0].code == "PROBE_MEMORY"
    assert "4 crops of 32 px" in caught.value.problems[0].got


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_resident_mib", lambda: math.nan)
    assert math.isnan(time_steps(BASE, RECIPE, 0.0).growth_mib)


def test_memory_is_the_most_that_was_seen_less_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = iter([100.0, 150.0, 120.0, 170.0, 90.0])  # before; maps alive, step done, twice
    monkeypatch.setattr(steps, "_resident_mib", lambda: next(seen))
    assert time_steps(BASE, RECIPE, 0.0).growth_mib == 70.0


def test_other_failures_are_not_called_memory() -> None:
    with pytest.raises(RuntimeError, match="no kernel"):
        time_steps(BASE, failing("no kernel for this"), 5.0)

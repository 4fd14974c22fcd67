"""Validation counts images, not pixels, and is what the predictor gives."""

from __future__ import annotations

import math
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.stages.identity import Identity
from torch import nn

from calco.config import LossConfig
from calco.inference.engines import TorchEngine
from calco.inference.predictor import Predictor
from calco.nets.build import Segmenter
from calco.nets.checkpoint import ModelCard
from calco.records import ImageSpec, NetworkPlan, Postprocess
from calco.training import validate as module
from calco.training.cache import Decoded, Held
from calco.training.losses import make_loss
from calco.training.validate import (
    MIN_IMAGES,
    Pace,
    affordable,
    area_px,
    validate,
)


class Brightness(nn.Module):
    """Foreground is what is brighter than the middle; logits are +-20."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 40 * (x[:, :1] - 0.5)  # (B, 1, H, W)


def predictor() -> Predictor:
    card = ModelCard(NetworkPlan("unet", 1, (0.0,), (255.0,)), ImageSpec(channels=1))
    return Predictor(TorchEngine(Segmenter(Brightness(), 1, (0.0,), (255.0,))), card, Postprocess())


def sample(name: str, bright: int, true: int, side_px: int) -> Decoded:
    """An image whose first rows are bright, and a mask of its first rows."""
    image = np.zeros((side_px, side_px, 1), np.uint8)
    image[:bright] = 255
    mask = np.zeros((side_px, side_px), np.uint8)
    mask[:true] = 1
    return Held(name, image, mask)


def test_every_image_counts_once_whatever_its_size() -> None:
    perfect_and_small = sample("a", bright=4, true=4, side_px=8)  # Dice 1
    missed_and_large = sample("b", bright=0, true=32, side_px=64)  # Dice 0
    half = sample("c", bright=4, true=8, side_px=16)  # 2*4 / (4+8) = 2/3
    result = validate(
        predictor(), [perfect_and_small, missed_and_large, half], make_loss(LossConfig(), "bce")
    )
    assert result.dice == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert result.pred_fraction == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert result.true_fraction == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert result.prob_max == pytest.approx(1.0)
    assert math.isfinite(result.loss)


def test_others_are_predicted_and_not_scored() -> None:
    scored, other = sample("a", bright=4, true=4, side_px=8), sample("b", 0, 32, 64)
    loss = make_loss(LossConfig(), "bce")
    alone, both = (
        validate(predictor(), [scored], loss),
        validate(predictor(), [scored], loss, [other]),
    )
    assert alone == both
    assert [levels.shape for levels in both.levels] == [(8, 8), (64, 64)]
    assert np.array_equal(both.levels[1], validate(predictor(), [other], loss).levels[0])


def test_a_small_allowance_keeps_a_spread_sample() -> None:
    samples = [sample(f"s{i:02d}", 1, 1, 8) for i in range(40)]
    assert affordable(samples, 1e-3, math.inf) == tuple(samples)
    half = affordable(samples, 1e-3, allowance_s=0.75 * 40 * 64e-3)
    assert len(half) == 30
    few = affordable(samples, 1e-3, allowance_s=0.0)
    assert len(few) == MIN_IMAGES
    assert (few[0].id, few[-1].id) == ("s00", "s39")
    assert len(affordable(samples[:3], 1e-3, 0.0)) == 3


def test_pace_times_an_image_of_the_size_that_most_pixels_are_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    now_s, counting = 0.0, Lock()

    class Slow(Identity):
        def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            nonlocal now_s
            with counting:
                seen.append(image.shape[0])
                now_s += 1.0 if len(seen) <= 2 else 0.5  # the first round is slower
            return super().prob(image)

    clocks = SimpleNamespace(perf_counter=lambda: now_s, process_time=lambda: now_s)
    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    many_small = [sample(f"s{i}", 0, 0, 10) for i in range(20)]  # 2,000 px
    samples = [*many_small, sample("large", 0, 0, 60)]  # 3,600 px
    pace = Pace()
    pace.probe(Slow(), samples)
    assert seen == [60, 60, 60, 60]
    assert pace.px_s == pytest.approx(0.5 / 3600)
    assert area_px(samples) == 5600


@pytest.mark.parametrize(("computed", "slowdown"), [(1.0, 1.0), (0.8, 1.0), (0.4, 2.0)])
def test_cores_that_others_have_are_missed(
    monkeypatch: pytest.MonkeyPatch, computed: float, slowdown: float
) -> None:
    now_s = 0.0

    class Slow(Identity):
        def prob(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
            nonlocal now_s
            now_s += 1.0
            return super().prob(image)

    # of every second on one core this process computes a share
    clocks = SimpleNamespace(perf_counter=lambda: now_s, process_time=lambda: computed * now_s)
    monkeypatch.setattr(module, "time", clocks)
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    pace = Pace()
    pace.probe(Slow(), [sample("a", 0, 0, 10)])
    assert pace.slowdown == pytest.approx(slowdown)


def test_a_validation_that_took_longer_is_believed() -> None:
    pace = Pace()
    pace.probes.extend([1e-6, 3e-6, 1e-6])
    assert pace.px_s == 1e-6  # one busy moment is not
    pace.note(2.0, [sample("a", 0, 0, 100)])
    assert pace.px_s == pytest.approx(2e-4)

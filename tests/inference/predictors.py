"""Predictors whose answers are known, and what they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calco.images.tiles import Tiling
from calco.inference.engines import TorchEngine
from calco.inference.predictor import Predictor
from calco.nets.build import Segmenter, build_network
from calco.nets.checkpoint import ModelCard
from calco.records import ImageSpec, NetworkPlan, Postprocess

PLAN = NetworkPlan("unet", 3, (127.0,) * 3, (64.0,) * 3, width=4, depth=3)
SIZES = [(1, 1), (1, 40), (31, 33), (64, 96), (255, 17), (101, 103)]


class Threshold(nn.Module):
    """Foreground where the first channel is bright, with certainty."""

    def forward(self, x: Tensor) -> Tensor:
        return 40 * torch.sign(x[:, :1])


def identity(channels: int = 1, resize_px: int | None = None) -> Predictor:
    """A predictor whose mask is the image itself."""
    plan = replace(PLAN, in_channels=channels, mean=(127.5,) * channels, std=(1.0,) * channels)
    network = Segmenter(Threshold(), 8, plan.mean, plan.std)
    card = ModelCard(plan, ImageSpec(channels=channels), resize_px)
    return Predictor(TorchEngine(network), card, Postprocess())


def trained(seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    network = build_network(PLAN).train()
    network(torch.rand(4, 3, 64, 64) * 255)  # moves the batch statistics
    return Predictor(
        TorchEngine(network), ModelCard(PLAN, ImageSpec(channels=3)), Postprocess(0.4, 3, 2)
    )


def tiled(predictor: Predictor, tile_px: int, overlap_px: int) -> Predictor:
    tiling = Tiling(tile_px, overlap_px)
    return Predictor(predictor.engine, predictor.card, predictor.params, tiling)


def network_of(predictor: Predictor) -> nn.Module:
    assert isinstance(predictor.engine, TorchEngine)
    return predictor.engine.network


def mask_of(size: tuple[int, int], seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(size) > 0.5


def image_of(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)

"""What other engines make of the exported graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calco.inference.engines import OnnxEngine, TorchEngine
from calco.nets.build import Ensemble, Segmenter, build_network
from calco.nets.graph import to_onnx
from calco.records import NetworkPlan

PLAN = NetworkPlan("unet", 3, (120.0, 110.0, 100.0), (60.0, 70.0, 80.0), width=4, depth=2)
SIZES = [(1, 1), (1, 40), (7, 9), (31, 33), (64, 96), (65, 131)]


def built(plan: NetworkPlan, seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    network = build_network(plan).train()
    network(torch.rand(4, plan.in_channels, 64, 64) * 255)  # moves the batch statistics
    return network.eval()


def images(size: tuple[int, int], channels: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, channels), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, in_channels=1, mean=(0.0,), std=(255.0,), scale=2.0, norm="instance"),
        replace(PLAN, scale=0.3, norm="group", width=8),
        replace(PLAN, family="lean", width=8),
    ],
    ids=["enlarged", "shrunken", "lean"],
)
def test_one_graph_serves_every_size(plan: NetworkPlan) -> None:
    network = built(plan)
    engine = OnnxEngine(to_onnx(network, plan.in_channels, {}))
    reference = TorchEngine(network)
    for size in SIZES:
        batch = images(size, plan.in_channels)
        found, wanted = engine.logits(batch), reference.logits(batch)
        assert found.shape == wanted.shape == (2, *size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.slow
def test_folds_become_one_graph_and_exporting_changes_nothing() -> None:
    network = Ensemble([built(PLAN, 0), built(PLAN, 1)]).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    engine = OnnxEngine(to_onnx(network, 3, {"a": "ü"}))
    assert engine.metadata["a"] == "ü"
    batch = images((20, 30), 3)
    np.testing.assert_allclose(engine.logits(batch), TorchEngine(network).logits(batch), atol=2e-4)
    np.testing.assert_allclose(engine.logits(batch)[1], engine.logits(batch[1:])[0], atol=1e-5)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)

"""Devices are never swapped silently."""

import pytest
import torch

from calco.errors import CalcoError
from calco.training.device import make_fabric


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(CalcoError, match="no CUDA device") as caught:
        make_fabric("cuda", "fp32")
    assert caught.value.problems[0].code == "DEVICE"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(CalcoError, match="fp16 needs a GPU"):
        make_fabric("cpu", "fp16")


def test_bf16_computes_on_the_processor() -> None:
    fabric = make_fabric("cpu", "bf16")
    network = fabric.setup_module(torch.nn.Linear(8, 8))
    assert fabric.device.type == "cpu"
    assert network(torch.ones(1, 8)).dtype == torch.float32  # back to the caller's type

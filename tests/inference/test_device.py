"""Devices are never swapped silently."""

from __future__ import annotations

import pytest
import torch

from calco.errors import CalcoError
from calco.inference.device import choose_device


def test_auto_takes_what_there_is() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_refused(name: str) -> None:
    with pytest.raises(CalcoError, match="no CUDA device"):
        choose_device(name)


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(CalcoError, match=r"DEVICE.*got 'gpu' -- use auto, cpu or cuda"):
        choose_device("gpu")

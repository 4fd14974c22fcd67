"""A network as one graph that other programs run: pixels in, logits out, any batch and size."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from calco.errors import CalcoError, Problem

OPSET = 18  # the first whose Resize knows antialiasing
EXAMPLE = (2, 96, 160)  # batch, height, width, none alike, so that none is taken for another


class _ImageToLogit(nn.Module):
    """Channels last on the way in, none on the way out: as images are read and masks written."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, H, W) logits of (B, H, W, C) uint8."""
        logits: Tensor = self.network(image.permute(0, 3, 1, 2))  # (B, 1, H, W)
        return logits[:, 0]


def to_onnx(network: nn.Module, channels: int, metadata: Mapping[str, str]) -> bytes:
    """Write a network as ONNX, with normalisation, scale and padding inside.

    The graph maps ``image``, (batch, height, width, channels) uint8, to ``logits``, (batch, height,
    width) float32; every height and width from 1 is fine.

    Args:
        network: A segmenter or an ensemble of them, on the CPU in evaluation mode.
        channels: Of the images.
        metadata: Texts kept in the file by name.

    Raises:
        CalcoError: When the packages for it are not installed, or ONNX cannot hold the network.
    """
    _refuse_pooling(network)
    try:
        import onnx  # noqa: F401 - torch.onnx needs both and says so less clearly
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise CalcoError(
            Problem(
                "EXPORT_MISSING",
                "export needs packages that are not installed",
                got=str(error.name),
                do="pip install 'calco[export]'",
            )
        ) from None
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own house
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _ImageToLogit(network).eval(),
            (_example(channels),),
            input_names=["image"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(_dims(),),
            verbose=False,
        )
    assert program is not None  # noqa: S101 - only without dynamo
    model = program.model_proto
    for name, text in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    return bytes(model.SerializeToString())


def to_program(network: nn.Module, channels: int, metadata: Mapping[str, str]) -> bytes:
    """Write a network as a program of ``torch.export``, a graph like that of ``to_onnx``.

    Args:
        network: A segmenter or an ensemble of them, on the CPU in evaluation mode.
        channels: Of the images.
        metadata: Texts kept in the file, as ``extra_files`` by name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _ImageToLogit(network).eval(),
            (_example(channels),),
            dynamic_shapes=({dim: torch.export.Dim.AUTO for dim in range(3)},),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        _drop_assertions(program)
        blob = io.BytesIO()
        torch.export.save(program, blob, extra_files=dict(metadata))
    return blob.getvalue()


def _drop_assertions(program: torch.export.ExportedProgram) -> None:
    """Remove what torch asserts of sizes: that they are padded as the example's.

    It saw so while tracing and did not need it; the same graph is right for every size, as its
    twin for onnxruntime shows.
    """
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    program._guards_code.clear()
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(1, int_oo)


def _example(channels: int) -> Tensor:
    return torch.zeros(*EXAMPLE, channels, dtype=torch.uint8)  # (B, H, W, C)


def _dims() -> dict[int, Any]:
    """Return the open dimensions of an image batch."""
    # a size of 1 is not told from a constant by torch, but the graph is right for it, too
    return {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("height", min=2),
        2: torch.export.Dim("width", min=2),
    }


def _refuse_pooling(network: nn.Module) -> None:
    """Refuse a pyramid of pools: ONNX has none whose windows follow the size of the image."""
    pools = [m for m in network.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    if any(pool.output_size not in (1, (1, 1)) for pool in pools):
        raise CalcoError(
            Problem(
                "EXPORT_POOLING",
                "ONNX has no such pooling for images of any size",
                "model.decoder",
                got="upernet's pyramid",
                do="predict with calco, or train with another model.decoder",
            )
        )

"""What runs a network, with the same logits to within rounding: torch, onnxruntime, and OpenVINO.

OpenVINO has a module of its own, ``openvino_engine``.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calco.errors import CalcoError, Problem
from calco.inference.device import choose_device

EngineName = Literal["torch", "onnx", "openvino"]

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Engine(Protocol):
    """A network in evaluation mode, its normalisation and scale inside."""

    @property
    def name(self) -> str:
        """What runs it and where, e.g. ``torch cpu``."""

    def logits(self, images: Images) -> Logits:
        """Return one logit per pixel.

        Args:
            images: (B, H, W, C) uint8, any H, W >= 1.

        Returns:
            (B, H, W) float32.
        """

    def with_threads(self, threads: int) -> Engine:
        """Return the same network, for calls from several threads that take so many cores each."""


class TorchEngine:
    """Runs a network as it was trained.

    Args:
        network: Images (B, C, H, W) uint8 to logits (B, 1, H, W); put into evaluation mode and
            moved to the device.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CalcoError: When a GPU is asked for and there is none.
    """

    def __init__(self, network: nn.Module, device: str | torch.device = "cpu") -> None:
        self.device = choose_device(str(device))
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self.threads: int | None = None  # as many as torch takes

    @property
    def name(self) -> str:
        """``torch`` and the device."""
        return f"torch {self.device}"

    def with_threads(self, threads: int) -> TorchEngine:
        """Return the same network; calling it sets torch's threads of the caller's thread."""
        engine = copy.copy(self)
        engine.threads = threads
        return engine

    @torch.inference_mode()
    def logits(self, images: Images) -> Logits:
        """Return (B, H, W) float32 logits of (B, H, W, C) uint8 images."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)  # every thread of a program has its own count
        # seen as (B, C, H, W), the bytes already are in channels-last order
        batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        logits: Logits = self.network(batch.to(self.device)).float()[:, 0].cpu().numpy()
        return logits


class OnnxEngine:
    """Runs an exported graph on the processor with onnxruntime.

    Args:
        graph: An ONNX file as ``calco.nets.graph`` writes it. Given as bytes, it cannot name
            other files to be read.
        threads: For one image; None takes all cores.

    Raises:
        CalcoError: When onnxruntime is not installed or cannot run the graph.
    """

    name = "onnxruntime cpu"

    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise CalcoError(
                Problem(
                    "ENGINE_MISSING",
                    "this engine needs onnxruntime",
                    "onnxruntime",
                    got="not installed",
                    do="pip install 'calco[export]'",
                )
            ) from None
        onnxruntime.disable_telemetry_events()  # its builds for Windows tell of their use
        self._graph = graph  # for sessions with other threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors are raised; its warnings are for its developers
        try:
            self.session: Any = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - the classes it raises share no other base
            raise CalcoError(
                Problem(
                    "ONNX_READ",
                    "onnxruntime cannot run this graph",
                    got=" ".join(str(error).split())[:200],
                    do="export the model again",
                )
            ) from None

    def with_threads(self, threads: int) -> OnnxEngine:
        """Return another session of the same graph."""
        return OnnxEngine(self._graph, threads)

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote into the file, as texts by name."""
        found: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        return found

    def logits(self, images: Images) -> Logits:
        """Return (B, H, W) float32 logits of (B, H, W, C) uint8 images."""
        logits: Logits = self.session.run(None, {"image": np.ascontiguousarray(images)})[0]
        return logits

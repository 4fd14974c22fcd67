"""Networks on OpenVINO, which is kept from telling anybody that it was used."""

from __future__ import annotations

import copy
import sys
import threading
from typing import Any

import numpy as np

from calco.errors import CalcoError, Problem
from calco.inference.device import usable_cores
from calco.inference.engines import Images, Logits
from calco.inference.signal_stack import signal_stack_kept

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:  # noqa: ANN401 - a module
    """Import OpenVINO without the telemetry that comes along.

    Merely imported, OpenVINO and NNCF send an event each to a server, and write an identity into
    the home folder, unless the user has declined before. Both do without a telemetry package that
    cannot be imported, so it cannot, in the whole process.

    Raises:
        CalcoError: When OpenVINO is not installed.
    """
    sys.modules[TELEMETRY] = None  # type: ignore[assignment] # makes the import fail
    try:
        import openvino
    except ModuleNotFoundError:
        raise CalcoError(
            Problem(
                "ENGINE_MISSING",
                "this engine needs OpenVINO",
                "openvino",
                got="not installed",
                do="pip install 'calco[openvino]'",
            )
        ) from None
    return openvino


class OpenVinoEngine:
    """Runs a network on the processor with OpenVINO.

    Args:
        model: An OpenVINO XML, or an ONNX graph that ``calco.nets.graph`` has just written; never
            one from a file, for OpenVINO reads what other files a graph names, even from bytes.
        weights: Of an XML.
        threads: For one image; None takes all cores.

    Raises:
        CalcoError: When OpenVINO is not installed or cannot run the network.
    """

    name = "openvino cpu"

    def __init__(self, model: bytes, weights: bytes = b"", threads: int | None = None) -> None:
        openvino = import_openvino()
        try:
            self._core = openvino.Core()
            blob = (openvino.Tensor(np.frombuffer(weights, np.uint8)),) if weights else ()
            self._network = self._core.read_model(model, *blob)
        # RuntimeError is its own; others come from what it calls
        except (RuntimeError, ValueError, TypeError) as error:
            raise CalcoError(
                Problem(
                    "OPENVINO_READ",
                    "OpenVINO cannot run this network",
                    got=" ".join(str(error).split())[-200:],
                    do="export the model again",
                )
            ) from None
        self._threads = threads
        self._compiled: dict[int | None, Any] = {}  # by threads; one for all that share a network
        self._compiling = threading.Lock()
        self._own = threading.local()

    def with_threads(self, threads: int) -> OpenVinoEngine:
        """Return the same network, for as many calls at a time as cores allow."""
        engine = copy.copy(self)
        engine._threads, engine._own = threads, threading.local()
        return engine

    @property
    def metadata(self) -> dict[str, str]:
        """What the exporter wrote into an XML, as texts by name."""
        found = self._network.get_rt_info().items()  # texts are wrapped, what is nested is not
        values = {name: getattr(value, "value", value) for name, value in found}
        return {name: value for name, value in values.items() if isinstance(value, str)}

    def logits(self, images: Images) -> Logits:
        """Return (B, H, W) float32 logits of (B, H, W, C) uint8 images."""
        request = getattr(self._own, "request", None)
        if request is None:  # a request serves one thread at a time
            request = self._own.request = self._network_for_threads().create_infer_request()
        with signal_stack_kept():
            logits: Logits = request.infer({0: np.ascontiguousarray(images)})[0]
        return logits

    def _network_for_threads(self) -> Any:  # noqa: ANN401 - untyped package
        """Compile when it is first needed, which takes half a second."""
        cores = usable_cores()
        settings = {
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": max(1, cores // (self._threads or cores)),
            # by itself it takes bf16 where the processor knows it, and masks are others then
            "INFERENCE_PRECISION_HINT": "f32",
        }
        with self._compiling, signal_stack_kept():
            if self._threads not in self._compiled:
                network = self._core.compile_model(self._network, "CPU", settings)
                self._compiled[self._threads] = network
            return self._compiled[self._threads]

"""From an ONNX graph to the two files of OpenVINO, in whole numbers if wanted."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from calco.errors import CalcoError, Problem
from calco.inference.engines import Images
from calco.inference.exported import WEIGHTS_KEY
from calco.inference.openvino_engine import import_openvino


def to_xml(
    graph: bytes, metadata: Mapping[str, str], calibration: Sequence[Images] = ()
) -> tuple[bytes, bytes]:
    """Write a network as OpenVINO does.

    Args:
        graph: As ``calco.nets.graph`` has just written it.
        metadata: Texts kept in the XML by name.
        calibration: (H, W, C) uint8 each. When given, layers work in 8-bit numbers, whose ranges
            are those that appear on these images.

    Returns:
        The XML and the weights.

    Raises:
        CalcoError: When OpenVINO or NNCF is not installed.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(graph)
    if calibration:
        model = _quantised(model, calibration)
    weights = _serialised(openvino, model)[1]
    # of another export, weights of the same size would be read without complaint
    for name, text in {**metadata, WEIGHTS_KEY: hashlib.sha256(weights).hexdigest()}.items():
        model.set_rt_info(text, [name])
    return _serialised(openvino, model)[0], weights


def _serialised(openvino: Any, model: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - untyped package
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, str(xml), str(weights))
        return xml.read_bytes(), weights.read_bytes()


def _quantised(model: Any, images: Sequence[Images]) -> Any:  # noqa: ANN401 - untyped package
    """Let NNCF look at the ranges of all layers on some images, and fix 8-bit numbers to them."""
    for name in ("nncf", "torch.utils.cpp_extension"):  # no compiler, no CUDA: nothing needs them
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):  # its bars
            import nncf
    except ModuleNotFoundError:
        raise CalcoError(
            Problem(
                "EXPORT_MISSING",
                "whole numbers need a package that is not installed",
                "nncf",
                got="not installed",
                do="pip install 'calco[openvino]'",
            )
        ) from None
    with redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(images, lambda image: image[None]),
            # symmetric: by the other preset, MIXED, masks of nuclei lost twice as much
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(images),
        )

"""Exported models: files that hold a network and all that prediction needs besides.

``model.onnx`` is one file. OpenVINO's ``model.xml`` has its weights in ``model.bin`` beside it and
holds the sha256 of them, so that halves of two exports are no model. ``model.pt2`` is not read:
what torch does to load one can run code that a stranger put into it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json
from calco.inference.engines import Engine, OnnxEngine
from calco.inference.openvino_engine import OpenVinoEngine
from calco.nets.checkpoint import ModelCard
from calco.records import Postprocess

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "int8"]

SCHEMA = 1
"""Version of what the file's metadata mean; raised when an older calco could not read them."""
METADATA_KEY = "calco"
WEIGHTS_KEY = "calco_weights"
"""In an XML, the sha256 of its weights."""
ENDINGS: Mapping[str, Format] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
WEIGHTS_ENDING = ".bin"
MAX_MODEL_BYTES = 2**31
"""Largest file read; the format allows no larger one without further files."""


@dataclass(frozen=True)
class ExportCard:
    """What an exported file says of itself.

    Attributes:
        card: How images are read and resized, and what network it is.
        params: From probability to mask, as tuned.
        weights_sha256: Of the run's weights, as ``RunDir.model_sha256`` tells it.
        precision: Of the arithmetic.
        classes: Names of what a mask's values mean, background first.
        calco: Version that wrote the file.
        schema: Of this card.
    """

    card: ModelCard
    params: Postprocess
    weights_sha256: str
    precision: Precision = "fp32"
    classes: tuple[str, ...] = ("background", "foreground")
    calco: str = __version__
    schema: int = SCHEMA


def metadata_of(card: ExportCard) -> dict[str, str]:
    """Return a card as the texts that a file keeps."""
    return {METADATA_KEY: to_json(card)}


def is_exported(path: Path) -> bool:
    """Tell by its name whether a file is an exported model, and not a run or its weights."""
    return path.suffix.lower() in ENDINGS


def read_exported(path: Path) -> tuple[Engine, ExportCard]:
    """Load an exported file; no code in it can run, and no file is read but the weights beside.

    Raises:
        CalcoError: When the file is missing, damaged, not calco's, of another calco, or of a kind
            that cannot be read safely.
    """
    engine: OnnxEngine | OpenVinoEngine
    match ENDINGS[path.suffix.lower()]:
        case "onnx":
            engine = OnnxEngine(_bytes(path))
        case "openvino":
            xml, weights = _bytes(path), _bytes(path.with_suffix(WEIGHTS_ENDING))
            # before OpenVINO sees them: other weights give other shapes, too
            noted = f'<{WEIGHTS_KEY} value="{hashlib.sha256(weights).hexdigest()}"'
            if noted.encode() not in xml:
                raise _foreign(path, f"{WEIGHTS_ENDING} of another model beside it")
            engine = OpenVinoEngine(xml, weights)
        case "torch":
            raise CalcoError(
                Problem(
                    "MODEL_UNSAFE",
                    "torch programs can run code as they are loaded, and calco loads none",
                    str(path),
                    do="predict with the run, or export it as model.onnx",
                )
            )
    return engine, _card_of(engine.metadata, path)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise _foreign(path, f"{path.stat().st_size} bytes")
        return path.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        problem = Problem(
            "MODEL_READ", "cannot read the model", str(path), got, do="check the path"
        )
        raise CalcoError(problem) from None


def _card_of(metadata: Mapping[str, str], path: Path) -> ExportCard:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise _foreign(path, "no card of calco")
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(path, "a card that cannot be read") from None
    if schema != SCHEMA:
        raise _foreign(path, f"schema {schema!r}")
    return from_json(ExportCard, text, str(path))


def _foreign(path: Path, got: str) -> CalcoError:
    return CalcoError(
        Problem(
            "MODEL_CARD",
            "this is no model that calco exported",
            str(path),
            got=got,
            expected=f"a file of calco export, schema {SCHEMA}",
            do="export it again with this calco, or predict with the run",
        )
    )

"""Exported models: one ONNX file that holds the network and all that prediction needs besides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json
from calco.inference.engines import OnnxEngine
from calco.nets.checkpoint import ModelCard
from calco.records import Postprocess

SCHEMA = 1
"""Version of what the file's metadata mean; raised when an older calco could not read them."""
METADATA_KEY = "calco"
MAX_MODEL_BYTES = 2**31
"""Largest file read; the format allows no larger one without further files."""


@dataclass(frozen=True)
class ExportCard:
    """What an exported file says of itself.

    Attributes:
        card: How images are read and resized, and what network it is.
        params: From probability to mask, as tuned.
        weights_sha256: Of the run's weights, as ``RunDir.model_sha256`` tells it.
        classes: Names of what a mask's values mean, background first.
        calco: Version that wrote the file.
        schema: Of this card.
    """

    card: ModelCard
    params: Postprocess
    weights_sha256: str
    classes: tuple[str, ...] = ("background", "foreground")
    calco: str = __version__
    schema: int = SCHEMA


def metadata_of(card: ExportCard) -> dict[str, str]:
    """Return a card as the texts that an ONNX file keeps."""
    return {METADATA_KEY: to_json(card)}


def read_exported(path: Path) -> tuple[OnnxEngine, ExportCard]:
    """Load an exported file; no code in it can run, and no other file is read.

    Raises:
        CalcoError: When the file is missing, damaged, not calco's, or of another calco.
    """
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise _foreign(path, f"{path.stat().st_size} bytes")
        blob = path.read_bytes()
    except OSError as error:
        problem = Problem(
            "ONNX_READ",
            "cannot read the model",
            str(path),
            got=error.strerror or str(error),
            do="check the path",
        )
        raise CalcoError(problem) from None
    engine = OnnxEngine(blob)
    text = engine.metadata.get(METADATA_KEY)
    if text is None:
        raise _foreign(path, "no card of calco")
    try:
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(path, "a card that cannot be read") from None
    if schema != SCHEMA:
        raise _foreign(path, f"schema {schema!r}")
    return engine, from_json(ExportCard, text, str(path))


def _foreign(path: Path, got: str) -> CalcoError:
    return CalcoError(
        Problem(
            "ONNX_CARD",
            "this is no model that calco exported",
            str(path),
            got=got,
            expected=f"a file of calco export, schema {SCHEMA}",
            do="export it again with this calco, or predict with the run",
        )
    )

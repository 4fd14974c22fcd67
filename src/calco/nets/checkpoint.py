"""Models to share and states to resume from; loading either cannot run code.

A model is a safetensors file whose header holds the card that says how to build the network and
how to read images; its seal lies beside it (see ``sealed``). A resume state is one file whose name
holds its number and sha256, written by torch and read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.files import from_json, to_json, write_atomic
from calco.nets.build import Segmenter, build_skeleton
from calco.nets.sealed import foreign, read_sealed, remove_leftovers, write_sealed
from calco.records import ImageSpec, NetworkPlan

SCHEMA = 1
"""Version of the model file's layout; raised when an older calco could not read it rightly."""
MAX_HEADER_BYTES = 1_000_000
"""Largest header parsed; ours have 40 kB, the format allows a JSON bomb of 100 MB."""
MAX_RESIZE_PX = 16_384
"""Largest square that a card may ask images to be resized to."""
KEPT_STATES = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCard:
    """All that prediction needs besides the weights.

    Attributes:
        network: What to build; its mean and std normalise the input.
        spec: How image files become network input.
        resize_px: Side of the square that images are resized to first; None keeps their size.
    """

    network: NetworkPlan
    spec: ImageSpec
    resize_px: int | None = None


@dataclass(frozen=True)
class _Header:
    """What calco writes into the metadata of a weights file."""

    schema: int
    calco: str
    card: ModelCard


@dataclass(frozen=True)
class _StateFile:
    """A resume state by its name."""

    path: Path
    number: int
    sha256: str


# --- models --------------------------------------------------------------------------------------


def save_model(path: Path, network: nn.Module | Mapping[str, Tensor], card: ModelCard) -> None:
    """Replace the model at a path; dying midway leaves the old or the new one.

    Args:
        path: Of the weights, ``*.safetensors``.
        network: A segmenter or its state dict; wrappers' prefixes are removed from the names.
        card: How to build the network again.

    Raises:
        CalcoError: When a weight is not finite; the model on disk stays.
        OSError: When the disk is full; the model on disk stays.
    """
    state = network.state_dict() if isinstance(network, nn.Module) else network
    tensors = {_bare(name): t.detach().cpu().contiguous() for name, t in state.items()}
    _refuse_not_finite(tensors, path)
    # where its encoder's weights once lay is nobody else's business
    shared = replace(card, network=replace(card.network, weights=None))
    header = to_json(_Header(SCHEMA, __version__, shared))
    write_sealed(path, safetensors.torch.save(tensors, metadata={"calco": header}))


def load_model(path: Path) -> tuple[Segmenter, ModelCard]:
    """Load a model after checking its seal, its card and every tensor; no code in it can run.

    Torch's random numbers are left as they were.

    Args:
        path: Of the weights; the seal lies beside them.

    Returns:
        The network on the CPU in evaluation mode, and its card.

    Raises:
        CalcoError: When the file is missing, of another kind, damaged, from another calco, for
            another network, or holds weights that are not finite.
    """
    blob = read_sealed(path)
    card = _read_card(blob, path)
    _refuse_impossible(card, path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(blob)
    except safetensors.SafetensorError as error:
        raise foreign(path, str(error)) from None
    # shapes are compared on a network without memory: a card may claim any size
    plan, skeleton = card.network, build_skeleton(card.network)
    _refuse_mismatch(tensors, skeleton.state_dict(), path)
    _refuse_not_finite(tensors, path)
    skeleton.load_state_dict(tensors, assign=True)
    # wrapped again outside the meta device, for a normalisation that has values
    network = Segmenter(skeleton.network, skeleton.stride, plan.mean, plan.std, plan.scale)
    return network.eval(), card


def _bare(name: str) -> str:
    """Remove what DistributedDataParallel and torch.compile put before the names of weights."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _read_card(blob: bytes, path: Path) -> ModelCard:
    """Return the card in the header, whose size is checked before it is parsed."""
    length = int.from_bytes(blob[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(blob) - 8):
        raise foreign(path, f"a header of {length} bytes")
    try:
        text = json.loads(blob[8 : 8 + length])["__metadata__"]["calco"]
        schema = json.loads(text)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise foreign(path, "no card in its header") from None
    if schema != SCHEMA:
        problem = Problem(
            "CKPT_SCHEMA",
            "the model was written by another version of calco",
            str(path),
            got=f"schema {schema!r}",
            expected=f"schema {SCHEMA}",
            do="install the calco that wrote it",
        )
        raise CalcoError(problem)
    return from_json(_Header, text, str(path)).card


def _refuse_impossible(card: ModelCard, path: Path) -> None:
    """Check what concerns images; the network's own settings are checked when it is built."""
    spec, side_px = card.spec, card.resize_px
    faults = []
    if spec.channels != card.network.in_channels:
        faults.append(f"{spec.channels} channels for a network of {card.network.in_channels}")
    if not (math.isfinite(spec.low) and math.isfinite(spec.high) and spec.low < spec.high):
        faults.append(f"pixel values from {spec.low:g} to {spec.high:g}")
    if not spec.max_megapixels > 0:
        faults.append(f"images of at most {spec.max_megapixels:g} megapixels")
    if side_px is not None and not 1 <= side_px <= MAX_RESIZE_PX:
        faults.append(f"images resized to {side_px} px")
    if faults:
        problem = Problem(
            "CKPT_CARD",
            "the model's card asks for what cannot be",
            str(path),
            got="; ".join(faults),
            do="restore the file from a copy, or train again",
        )
        raise CalcoError(problem)


def _refuse_mismatch(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Compare names, shapes and types of all tensors; a part of them is never loaded."""
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in wanted]
    for name, want in wanted.items():
        have = found.get(name, want)
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            faults.append(f"{name} is {_kind(have)}, not {_kind(want)}")
    if faults:
        problem = Problem(
            "CKPT_MISMATCH",
            f"the weights do not fit the network of their card, {len(faults)} differences",
            str(path),
            got="; ".join(faults[:5]),
            do="restore the file from a copy, or train again",
        )
        raise CalcoError(problem)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _refuse_not_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        problem = Problem(
            "CKPT_NAN",
            f"{len(bad)} tensors hold NaN or infinite weights",
            str(path),
            got=", ".join(bad[:5]),
            do="train again with a smaller fit.learning_rate and fit.precision: fp32",
        )
        raise CalcoError(problem)


# --- resume states -------------------------------------------------------------------------------

_STATE_NAME = re.compile(r"state-(\d{1,18})-([0-9a-f]{64})\.pt")


def save_state(folder: Path, state: Mapping[str, Any]) -> Path:
    """Write a resume state beside the one before, then remove older ones.

    Args:
        folder: Made when missing; the run's ``last``.
        state: Tensors and plain values, nested in lists and dicts.

    Returns:
        The file written.

    Raises:
        TypeError: When the state holds something that could not be loaded safely.
        OSError: When the disk is full; the states on disk stay.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    blob = buffer.getvalue()
    _refuse_unloadable(blob)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, "state-")
    before = _states(folder)
    number = before[0].number + 1 if before else 1
    path = folder / f"state-{number}-{hashlib.sha256(blob).hexdigest()}.pt"
    write_atomic(path, blob)  # a whole file with a matching name, before anything is removed
    for stored in before[KEPT_STATES - 1 :]:
        stored.path.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """Load the newest intact resume state; damaged ones are passed over with a logged warning.

    Returns:
        What ``save_state`` got, tensors on the CPU; None when nothing was ever saved.

    Raises:
        CalcoError: When there are states but none is intact.
    """
    damaged: list[Problem] = []
    for stored in _states(folder):
        blob = stored.path.read_bytes()
        if hashlib.sha256(blob).hexdigest() == stored.sha256:
            for problem in damaged:
                log.warning("%s", problem)
            return _unpack(blob, stored.path)
        damaged.append(
            Problem(
                "CKPT_HASH",
                f"resume state {stored.number} is damaged",
                str(stored.path),
                do="an older state is used; what was trained since is trained again",
                severity="warning",
            )
        )
    if not damaged:
        return None
    do = "restore one from a copy, or train into a new folder"
    raise CalcoError(*(replace(problem, severity="error", do=do) for problem in damaged))


def _states(folder: Path) -> list[_StateFile]:
    """List the states, newest first; by number, since as text "9" comes after "10"."""
    names = [(path, _STATE_NAME.fullmatch(path.name)) for path in folder.glob("state-*.pt")]
    found = [_StateFile(path, int(name[1]), name[2]) for path, name in names if name]
    return sorted(found, key=lambda stored: stored.number, reverse=True)


def _refuse_unloadable(blob: bytes) -> None:
    """Fail when saving, not hours later when resuming, on values that safe loading refuses."""
    try:
        # on the meta device the tensors' bytes are not copied
        torch.load(io.BytesIO(blob), weights_only=True, map_location="meta")
    except Exception as error:  # noqa: BLE001 - pickle's, zip's and torch's own kinds
        reason = str(error).splitlines()[-1]
        raise TypeError(f"a state holds tensors and plain values only: {reason}") from None


def _unpack(blob: bytes, path: Path) -> dict[str, Any]:
    try:
        state = torch.load(io.BytesIO(blob), weights_only=True, map_location="cpu")
    except Exception as error:  # noqa: BLE001 - pickle's, zip's and torch's own kinds
        state = type(error).__name__
    if isinstance(state, dict):
        return state
    problem = Problem(
        "CKPT_UNSAFE",
        "the resume state was not written by calco and is not loaded",
        str(path),
        got=str(state)[:40],
        expected="tensors and plain values",
        do="train into a new folder",
    )
    raise CalcoError(problem)

"""Export stage: a file for other programs, written only when it predicts like the run."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from numpy.typing import NDArray

from calco.archives import is_there
from calco.errors import CalcoError, Problem
from calco.files import to_json, write_atomic
from calco.formats.inputs import find_images
from calco.images.augment import resized
from calco.images.io import read_image
from calco.inference.engines import Engine, Images, Logits, OnnxEngine, TorchEngine
from calco.inference.exported import (
    WEIGHTS_ENDING,
    ExportCard,
    Format,
    metadata_of,
)
from calco.inference.networks import load_networks
from calco.inference.openvino_engine import OpenVinoEngine
from calco.inference.openvino_files import to_xml
from calco.inference.parity import Parity, compare
from calco.inference.postprocess import clean
from calco.inference.predictor import Predictor, predict_maps
from calco.metrics.summary import score_image
from calco.nets.checkpoint import ModelCard
from calco.nets.graph import to_onnx, to_program
from calco.records import SampleIndex
from calco.runs import RunDir

N_COMPARED = 16
N_CALIBRATION = 128  # from 30 to 100, Dice on nuclei rose by 0.0008
N_SCORED = 200
COMPARED_PX = 1024  # side of what is compared of larger images
ROUNDS = 3  # of timing
CERTIFICATE_ENDING = ".parity.json"

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class ExportOptions:
    """What to write.

    Attributes:
        format: Of the file.
        images: Files, folders or patterns to compare on; by default the run's validation images.
            ``N_COMPARED`` of them are read, spread evenly.
        int8: Whether layers work in 8-bit numbers, calibrated on training images.
        max_drop: Largest loss of mean validation Dice by them.
    """

    format: Format = "onnx"
    images: Sequence[str | Path] = ()
    int8: bool = False
    max_drop: float = 0.005


@dataclass(frozen=True)
class Int8:
    """What 8-bit numbers cost and gain.

    Attributes:
        n_calibration: Training images that the ranges are from.
        n_scored: Validation images behind the scores.
        dice_before: Mean Dice of their masks, cleaned up as tuned.
        dice_after: The same with 8-bit numbers.
        speed_ratio: How many times as fast they are, on the images compared.
    """

    n_calibration: int
    n_scored: int
    dice_before: float
    dice_after: float
    speed_ratio: float

    @property
    def drop(self) -> float:
        """Dice lost."""
        return self.dice_before - self.dice_after


@dataclass(frozen=True)
class Certificate:
    """What lies beside an exported file: what it is made of and how it was tried.

    Attributes:
        parity: How like the run it predicts.
        file_sha256: Of the file.
        weights_sha256: Of the run's weights.
        int8: None for a file of 32-bit numbers.
    """

    parity: Parity
    file_sha256: str
    weights_sha256: str
    int8: Int8 | None = None


@dataclass(frozen=True)
class _Made:
    """Files by their endings, the one that is named last; what runs these; what they are from."""

    files: Mapping[str, bytes]
    engine: Engine
    graph: bytes = b""


class _ProgramEngine:
    """Runs a torch program that was written a moment ago; one from elsewhere could run code."""

    name = "torch program cpu"

    def __init__(self, blob: bytes) -> None:
        self._module = torch.export.load(io.BytesIO(blob)).module()

    def with_threads(self, threads: int) -> _ProgramEngine:
        return self

    @torch.inference_mode()
    def logits(self, images: Images) -> Logits:
        """Return (B, H, W) float32 logits of (B, H, W, C) uint8 images."""
        logits: Logits = self._module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return logits


def export_run(folder: RunDir, out: Path, options: ExportOptions | None = None) -> Certificate:
    """Write a run as a file for other programs, and beside it the proof that it predicts alike.

    Args:
        folder: A finished run; its folds become one graph.
        out: File to write. The weights of an XML go beside it, as ``.bin``.
        options: What to write.

    Returns:
        The proof, as in ``<out>.parity.json``.

    Raises:
        CalcoError: When packages or images are missing, or the file predicts otherwise; no file
            is left then.
    """
    options = options or ExportOptions()
    network, card = load_networks(folder.path)
    params, weights_sha256 = folder.load_postprocess(), folder.model_sha256()
    compared = _read(_chosen(folder, options.images), card)
    calibration = _read(_training_images(folder), card) if options.int8 else []
    about = ExportCard(card, params, weights_sha256, "int8" if options.int8 else "fp32")
    reference, plain = TorchEngine(network), _make(network, about, options.format)
    if options.int8:
        made = _in_int8(plain, about, calibration)
        int8 = _score(folder, about, (plain.engine, made.engine), compared, len(calibration))
        _refuse_drop(int8, options.max_drop, out)
    else:
        made, int8 = plain, None
    parity = compare(reference, made.engine, compared, params.threshold)
    if int8 is None:
        _refuse_unlike(parity, out)
    main = list(made.files.values())[-1]
    certificate = Certificate(parity, hashlib.sha256(main).hexdigest(), weights_sha256, int8)
    _write(out, made.files, certificate)
    return certificate


def _make(network: torch.nn.Module, about: ExportCard, format: Format) -> _Made:
    channels, metadata = about.card.spec.channels, metadata_of(about)
    match format:
        case "onnx":
            graph = to_onnx(network, channels, metadata)
            return _Made({"": graph}, OnnxEngine(graph))
        case "openvino":
            graph = to_onnx(network, channels, {})
            return _of_pair(*to_xml(graph, metadata), graph)
        case "torch":
            program = to_program(network, channels, metadata)
            return _Made({"": program}, _ProgramEngine(program))


def _in_int8(plain: _Made, about: ExportCard, calibration: Sequence[Image]) -> _Made:
    return _of_pair(*to_xml(plain.graph, metadata_of(about), calibration), plain.graph)


def _of_pair(xml: bytes, weights: bytes, graph: bytes) -> _Made:
    return _Made({WEIGHTS_ENDING: weights, "": xml}, OpenVinoEngine(xml, weights), graph)


def _write(out: Path, files: Mapping[str, bytes], certificate: Certificate) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # an XML comes after its weights: dying between the two leaves halves that are refused
        for ending, blob in files.items():
            write_atomic(out.with_suffix(ending or out.suffix), blob)
        write_atomic(out.with_name(out.name + CERTIFICATE_ENDING), to_json(certificate))
    except OSError as error:
        got, do = error.strerror or str(error), "make room or choose another file"
        raise CalcoError(
            Problem("EXPORT_WRITE", "cannot write the model", str(out), got=got, do=do)
        ) from None


def _refuse_unlike(parity: Parity, out: Path) -> None:
    if parity.n_unlike:
        raise CalcoError(
            Problem(
                "EXPORT_PARITY",
                "the exported model predicts otherwise than the run and was not kept",
                str(out),
                got=f"{parity.n_unlike} of {parity.n_px} pixels differ",
                expected="none",
                do=f"update {parity.engine.split()[0]}, or predict with the run",
            )
        )


def _refuse_drop(int8: Int8, max_drop: float, out: Path) -> None:
    if not int8.drop <= max_drop:
        raise CalcoError(
            Problem(
                "EXPORT_DROP",
                "8-bit numbers cost too much and the model was not kept",
                str(out),
                got=f"Dice {int8.dice_before:.4f} before, {int8.dice_after:.4f} after",
                expected=f"a drop of at most {max_drop:g}",
                do="export without --int8, or allow more with --max-drop",
            )
        )


def _score(
    folder: RunDir,
    about: ExportCard,
    engines: tuple[Engine, Engine],
    compared: Sequence[Image],
    n_calibration: int,
) -> Int8:
    """Score engines before and after on validation images, and time them in turns."""
    index, groups = folder.load_split().part_and_groups("validation")
    group_of = {sample.id: group for sample, group in zip(index, groups, strict=True)}
    ids = [sample.id for sample in index]
    some = index.only(ids[place] for place in _spread(len(ids), N_SCORED))
    before, after = (_dice(engine, about, some, group_of) for engine in engines)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for engine, taken in zip(engines, times, strict=True):
            began = time.perf_counter()
            for image in compared:
                engine.logits(image[None])
            taken.append(time.perf_counter() - began)
    ratio = median(times[0]) / median(times[1])
    return Int8(n_calibration, len(some), before, after, ratio)


def _dice(
    engine: Engine, about: ExportCard, index: SampleIndex, group_of: Mapping[str, str]
) -> float:
    predictor = Predictor(engine, about.card, about.params)
    maps = predict_maps(predictor, index, [group_of[sample.id] for sample in index])
    return fmean(
        score_image(m.id, m.group, "validation", clean(m.levels, about.params), m.true).dice
        for m in maps
    )


def _chosen(folder: RunDir, images: Sequence[str | Path]) -> list[Path]:
    if images:
        found = [image.source for image in find_images(images)]
    else:
        found = [sample.image for sample in folder.load_split().part("validation")]
    return [found[place] for place in _spread(len(found), N_COMPARED)]


def _training_images(folder: RunDir) -> list[Path]:
    found = [sample.image for sample in folder.load_split().part("train")]
    return [found[place] for place in _spread(len(found), N_CALIBRATION)]


def _spread(count: int, wanted: int) -> list[int]:
    """Choose places among many, evenly."""
    return [int(place) for place in np.linspace(0, count - 1, min(wanted, count)).round()]


def _read(paths: Sequence[Path], card: ModelCard) -> list[Image]:
    """Read images as the network sees them, of large ones a corner."""
    missing = [path for path in paths if not is_there(path)]
    if missing or not paths:
        raise CalcoError(
            Problem(
                "EXPORT_IMAGES",
                "there are no images to try the exported model on",
                str(missing[0]) if missing else "",
                got=f"{len(missing)} of {len(paths)} are missing",
                do="give some with --images",
            )
        )
    return [_as_seen(read_image(path, card.spec), card.resize_px) for path in paths]


def _as_seen(image: Image, side_px: int | None) -> Image:
    if side_px is not None:
        image = resized(image, np.zeros(image.shape[:2], np.uint8), side_px)[0]
    return image[:COMPARED_PX, :COMPARED_PX]

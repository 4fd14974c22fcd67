"""Export stage: one file for other programs, written only when it predicts like the run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calco.errors import CalcoError, Problem
from calco.files import to_json, write_atomic
from calco.formats.inputs import find_images
from calco.images.io import read_image
from calco.inference.engines import Engine, OnnxEngine, TorchEngine
from calco.inference.exported import ExportCard, metadata_of
from calco.inference.predictor import load_networks
from calco.nets.graph import to_onnx
from calco.records import ImageSpec
from calco.runs import RunDir

MARGIN = 0.01  # of a logit: nearer to the threshold, rounding may decide
N_COMPARED = 16
COMPARED_PX = 1024  # side of what is compared of larger images
LARGEST_LOGIT = 30.0  # beyond it a probability is 0 or 1 in float32
CERTIFICATE_ENDING = ".parity.json"

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """How alike two engines predict.

    Attributes:
        engine: What ran the exported file.
        reference: What ran the run.
        n_images: Real images that both predicted, at most ``COMPARED_PX`` of each side.
        n_px: Their pixels.
        max_error: Largest difference of two probabilities.
        n_unlike: Pixels on different sides of the threshold, though both logits are further than
            ``margin`` from it.
        n_near: Pixels on different sides of it, a logit being that near.
        margin: As above.
    """

    engine: str
    reference: str
    n_images: int
    n_px: int
    max_error: float
    n_unlike: int
    n_near: int
    margin: float = MARGIN


@dataclass(frozen=True)
class Certificate:
    """What lies beside an exported file: what it is made of and how it was tried.

    Attributes:
        parity: How like the run it predicts.
        file_sha256: Of the file.
        weights_sha256: Of the run's weights.
    """

    parity: Parity
    file_sha256: str
    weights_sha256: str


def export_onnx(folder: RunDir, out: Path, images: Sequence[str | Path] = ()) -> Certificate:
    """Write a run as one ONNX file, and beside it the proof that it predicts alike.

    Args:
        folder: A finished run; its folds become one graph.
        out: File to write.
        images: Files, folders or patterns to compare on; by default the run's validation images.
            ``N_COMPARED`` of them are read, spread evenly.

    Returns:
        The proof, as in ``<out>.parity.json``.

    Raises:
        CalcoError: When packages or images are missing, or the file predicts otherwise; no file
            is left then.
    """
    network, card = load_networks(folder.path)
    compared = _read(_chosen(folder, images), card.spec)
    params, weights_sha256 = folder.load_postprocess(), folder.model_sha256()
    metadata = metadata_of(ExportCard(card, params, weights_sha256))
    graph = to_onnx(network, card.spec.channels, metadata)
    parity = compare(TorchEngine(network), OnnxEngine(graph), compared, params.threshold)
    if parity.n_unlike:
        raise CalcoError(
            Problem(
                "EXPORT_PARITY",
                "the exported model predicts otherwise than the run and was not kept",
                str(out),
                got=f"{parity.n_unlike} of {parity.n_px} pixels differ",
                expected="none",
                do="update onnxruntime, or predict with the run",
            )
        )
    certificate = Certificate(parity, hashlib.sha256(graph).hexdigest(), weights_sha256)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, graph)
        write_atomic(out.with_name(out.name + CERTIFICATE_ENDING), to_json(certificate))
    except OSError as error:
        got, do = error.strerror or str(error), "make room or choose another file"
        raise CalcoError(
            Problem("EXPORT_WRITE", "cannot write the model", str(out), got=got, do=do)
        ) from None
    return certificate


def compare(reference: Engine, engine: Engine, images: Sequence[Image], threshold: float) -> Parity:
    """Let two engines predict the same images and count where they part.

    Args:
        reference: What is believed.
        engine: What is tried.
        images: (H, W, C) uint8 each.
        threshold: Probability above which a pixel is foreground, in (0, 1).
    """
    cut = float(np.log(threshold) - np.log1p(-threshold))  # the logit of the threshold
    max_error, n_px, n_unlike, n_near = 0.0, 0, 0, 0
    for image in images:
        wanted, found = _logits(reference, image), _logits(engine, image)  # (H, W)
        differ = (wanted > cut) != (found > cut)
        near = np.minimum(np.abs(wanted - cut), np.abs(found - cut)) <= MARGIN
        n_px += wanted.size
        n_unlike += int(np.count_nonzero(differ & ~near))
        n_near += int(np.count_nonzero(differ & near))
        max_error = max(max_error, float(np.abs(_prob(wanted) - _prob(found)).max()))
    return Parity(engine.name, reference.name, len(images), n_px, max_error, n_unlike, n_near)


def _logits(engine: Engine, image: Image) -> NDArray[np.float64]:
    # several networks that are all certain have a mean probability of 1, whose logit is infinite
    logits = engine.logits(image[None])[0].astype(np.float64)  # (H, W)
    finite: NDArray[np.float64] = np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    return finite


def _prob(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    prob: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return prob


def _chosen(folder: RunDir, images: Sequence[str | Path]) -> list[Path]:
    if images:
        found = [image.source for image in find_images(images)]
    else:
        found = [sample.image for sample in folder.load_split().part("validation")]
    places = np.linspace(0, len(found) - 1, min(N_COMPARED, len(found))).round().astype(int)
    return [found[place] for place in places]


def _read(paths: Sequence[Path], spec: ImageSpec) -> list[Image]:
    missing = [path for path in paths if not path.exists()]
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
    return [read_image(path, spec)[:COMPARED_PX, :COMPARED_PX] for path in paths]

"""Which engine predicts: the one asked for, or the fastest of those installed, as measured."""

from __future__ import annotations

import copy
import logging
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import torch

from calco import __version__
from calco.errors import CalcoError, Problem
from calco.files import from_json, sha256_of, to_json, write_atomic
from calco.images.io import read_image
from calco.images.tiles import Window
from calco.images.windowed import opened
from calco.inference.device import usable_cores
from calco.inference.engines import Engine, EngineName, Images, OnnxEngine, TorchEngine
from calco.inference.openvino_engine import OpenVinoEngine
from calco.inference.parity import compare
from calco.inference.predictor import Predictor
from calco.nets.graph import to_onnx
from calco.records import ImageSpec
from calco.runs import RunDir

SCHEMA: Literal[1] = 1
FILE_NAME = "engines.json"
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PACKAGES = ("torch", "onnxruntime", "openvino")
NEEDED: Mapping[EngineName, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnxruntime", "onnxscript"),
    "openvino": ("openvino", "onnxscript"),
}
WORTH_S = 30.0
"""Less work than this is done by torch: another engine's graph takes seconds to make."""
N_TIMED = 6
TIMED_PX = 1024  # side of what is timed of larger images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineTimes:
    """What engines took for a run's network on one machine; others measure again.

    Attributes:
        machine: Processor and cores.
        versions: Of calco and the engines.
        weights_sha256: Of the run's weights.
        px_s: Pixels per second by engine, of those whose masks are alike.
        schema: Of this record.
    """

    machine: str
    versions: Mapping[str, str]
    weights_sha256: str
    px_s: Mapping[EngineName, float]
    schema: Literal[1] = SCHEMA

    @property
    def best(self) -> EngineName:
        """The fastest; torch when nothing was measured."""
        return max(self.px_s, key=lambda name: self.px_s[name], default="torch")


def engine_name(text: str) -> EngineName | None:
    """Return the engine of a name; None for ``auto``.

    Raises:
        CalcoError: When there is no such engine.
    """
    for name in ENGINES:
        if text == name:
            return name
    if text == "auto":
        return None
    do = "choose one of auto, " + ", ".join(ENGINES)
    raise CalcoError(Problem("ENGINE", "no such engine", "--engine", text, do=do))


def open_predictor(
    run: Path,
    device: str,
    engine: EngineName | None,
    images: Callable[[], Sequence[Path]],
    tell: Callable[[str], object] = log.info,
    more: Sequence[Path] = (),
) -> Predictor:
    """Load a model on an engine.

    Args:
        run: As for ``Predictor.from_run``. The ending of an exported file says its engine.
        device: ``auto``, ``cpu`` or ``cuda``; engines other than torch run on the processor.
        engine: None times those installed on some of the images, when there is enough to predict,
            and remembers it in ``engines.json`` of the run.
        images: Finds what will be predicted; called when it matters.
        tell: Hears what was chosen.
        more: Runs that predict together with it; on torch unless another engine is asked for.

    Raises:
        CalcoError: When the model cannot be loaded, or the engine is not installed or not for it.
    """
    predictor = Predictor.from_run(run, device, more)
    found = predictor.engine
    if not isinstance(found, TorchEngine):
        _refuse_other(run, found, engine)
        return predictor
    if engine == "torch" or (engine is None and (more or found.device.type != "cpu")):
        return predictor
    if engine is None:
        return _with_fastest(predictor, found, run, images(), tell)
    if device not in ("auto", "cpu"):
        what, do = f"{engine} runs on the processor", "use --device cpu, or --engine torch"
        raise CalcoError(Problem("DEVICE", what, "--device", device, do=do))
    found = TorchEngine(found.network, "cpu")
    return _on(predictor, _engine(engine, _graph(predictor, found)))


def _refuse_other(run: Path, found: Engine, wanted: EngineName | None) -> None:
    if wanted is None or found.name.startswith(wanted):  # "onnx" begins "onnxruntime cpu"
        return
    raise CalcoError(
        Problem(
            "ENGINE",
            f"this file is for {found.name.split()[0]}",
            str(run),
            got=f"--engine {wanted}",
            do="leave --engine out, or predict with the run",
        )
    )


def _with_fastest(
    predictor: Predictor,
    reference: TorchEngine,
    run: Path,
    images: Sequence[Path],
    tell: Callable[[str], object],
) -> Predictor:
    candidates = [name for name in ENGINES if all(map(find_spec, NEEDED[name]))]
    samples, mean_px = _samples(predictor, images)
    if len(candidates) == 1 or not samples:
        return predictor
    file, known = run / FILE_NAME, _blank(run)
    times = _remembered(file, known)
    torch_px_s = times.px_s["torch"] if times else px_per_second(reference, samples)
    is_little = len(images) * mean_px < WORTH_S * torch_px_s
    if is_little or (times and times.best == "torch"):
        return predictor
    graph = _graph(predictor, reference)
    if times is None:
        px_s: dict[EngineName, float] = {"torch": torch_px_s}
        for name in candidates[1:]:
            engine = _engine(name, graph)
            if compare(reference, engine, samples, predictor.params.threshold).n_unlike:
                tell(f"engine    {name} is left out: its masks are others")
            else:
                px_s[name] = px_per_second(engine, samples)
        times = EngineTimes(known.machine, known.versions, known.weights_sha256, px_s)
        if run.is_dir():
            _remember(file, times)
    rates = ", ".join(f"{name} {rate / 1e6:.1f}" for name, rate in times.px_s.items())
    tell(f"engine    {times.best}; millions of pixels per second: {rates}")
    return predictor if times.best == "torch" else _on(predictor, _engine(times.best, graph))


def px_per_second(engine: Engine, images: Sequence[Images]) -> float:
    """Time an engine as it is used for small images: each has a core.

    Args:
        engine: On the processor.
        images: (H, W, C) uint8 each, at least one.

    Returns:
        Pixels per second, the first images left out.
    """
    cores, before = usable_cores(), torch.get_num_threads()
    alone = engine.with_threads(1)
    work = [image for image in images for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda image: alone.logits(image[None]), work))  # kernels are made
        began = time.perf_counter()
        list(pool.map(lambda image: alone.logits(image[None]), work))
        seconds = time.perf_counter() - began
    torch.set_num_threads(before)  # the engine's count would be that of new threads
    return sum(image[..., 0].size for image in work) / seconds


def _samples(predictor: Predictor, images: Sequence[Path]) -> tuple[list[Images], float]:
    """Read some images, spread evenly; return what is timed of them and their mean size in pixels.

    Those that cannot be read are told of when they are predicted.
    """
    found, n_px = [], 0
    for path in images[:: max(1, len(images) // N_TIMED)][:N_TIMED]:
        with suppress(CalcoError, OSError):
            image, size = _corner(path, predictor.spec)
            n_px += math.prod(size)
            found.append(image)
    return found, n_px / max(1, len(found))


def _corner(path: Path, spec: ImageSpec) -> tuple[Images, tuple[int, ...]]:
    """Return what is timed of an image, (h, w, C) uint8, and its whole (height, width)."""
    with opened(path, spec) as large:
        if large is None:
            image = read_image(path, spec)  # (H, W, C)
            return image[:TIMED_PX, :TIMED_PX], image.shape[:2]
        height, width = large.size
        return large.read(Window(0, 0, min(height, TIMED_PX), min(width, TIMED_PX))), large.size


def _graph(predictor: Predictor, reference: TorchEngine) -> bytes:
    return to_onnx(reference.network, predictor.spec.channels, {})


def _engine(name: EngineName, graph: bytes) -> Engine:
    return OnnxEngine(graph) if name == "onnx" else OpenVinoEngine(graph)


def _on(predictor: Predictor, engine: Engine) -> Predictor:
    moved = copy.copy(predictor)
    moved.engine = engine
    return moved


def _blank(run: Path) -> EngineTimes:
    """Say what remembered times must be of."""
    versions = {"calco": __version__}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    weights = RunDir(run).model_sha256() if run.is_dir() else sha256_of(run)
    return EngineTimes(f"{_processor()}, {usable_cores()} cores", versions, weights, {})


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _remembered(file: Path, known: EngineTimes) -> EngineTimes | None:
    """Read times measured before; anything odd means that they are measured again."""
    try:
        times = from_json(EngineTimes, file.read_text(encoding="utf-8"), str(file))
    except (OSError, ValueError, CalcoError):
        return None
    same = (times.machine, times.versions, times.weights_sha256) == (
        known.machine,
        known.versions,
        known.weights_sha256,
    )
    # "torch" is always measured; a rate that is no positive number would win or divide by 0
    whole = "torch" in times.px_s and all(0 < rate < 1e15 for rate in times.px_s.values())
    installed = all(find_spec(package) for name in times.px_s for package in NEEDED[name])
    return times if same and whole and installed else None


def _remember(file: Path, times: EngineTimes) -> None:
    try:
        write_atomic(file, to_json(times))
    except OSError as error:  # a run that cannot be written to predicts all the same
        log.info(
            "%s",
            Problem(
                "ENGINE_TIMES",
                "not remembered",
                str(file),
                error.strerror or "",
                do="make the run writable",
            ),
        )

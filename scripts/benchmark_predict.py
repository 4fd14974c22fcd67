"""Measure reports/predict_benchmark.json: what is left of a network's speed from file to mask.

Ten minutes on two cores. The usual loop opens an image, scales its values, runs the network on it
alone, thresholds and saves, one after the other. All sides of a ratio take turns over the same 500
images with the same weights. ``--run RUN`` takes a run instead of training one for a minute,
``--quick OUT`` does all of it in seconds on a drawn set.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import torch

from calco.api import load
from calco.images.io import read_image
from calco.inference.predictor import Predictor, load_networks
from calco.stages.predict import predict_files
from contenders.records import THREADS, Figures, hold_to_threads
from contenders.rows import Row, fill

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "predict_benchmark.json"
DSB2018 = ROOT.parent / "shared" / "data" / "dsb2018" / "train"
N_IMAGES = 500
ROUNDS = 3


@dataclass(frozen=True)
class Setting:
    """What everything is measured on.

    Attributes:
        run: Trained run.
        files: Images.
        work: Folder for what is written.
    """

    run: Path
    files: Sequence[Path]
    work: Path


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; else one is trained")
    parser.add_argument("--only", help="one row, e.g. torch")
    parser.add_argument("--again", action="store_true", help="measure even what is there")
    parser.add_argument("--quick", type=Path, metavar="OUT", help="try all on a drawn set")
    arguments = parser.parse_args()
    hold_to_threads()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        work, data, report = Path(folder), DSB2018, REPORT
        if arguments.quick:
            data, report = toy(work), arguments.quick / REPORT.name
        run = arguments.run or train(data, work / "run", 20 if arguments.quick else 60)
        files = sorted((data / "images").iterdir())[:N_IMAGES]
        for name, row in rows(Setting(run, files, work)).items():
            if arguments.only in (None, name):
                fill(report, name, row, again=arguments.again)


def toy(work: Path) -> Path:
    """Draw a small set."""
    from calco.images.toy import write_toy

    return write_toy(work / "toy", 24)


def train(data: Path, out: Path, budget_s: float) -> Path:
    """Let the command make a run."""
    command = [sys.executable, "-m", "calco", "train", str(data), "-o", str(out), "--quiet"]
    subprocess.run([*command, "--budget", f"{budget_s:g}s"], check=True)
    return out


def rows(setting: Setting) -> dict[str, Row]:
    """Return a row for every way to run the network."""
    exports = {"torch": (), "onnx": ("--format", "onnx"), "openvino": ("--format", "openvino")}
    wanted = {"torch": 2.0, "onnx": 2.0, "openvino": 2.0, "int8": 3.5}
    exports["int8"] = ("--format", "openvino", "--int8")
    return {
        name: Row(
            f"calco predict, {name}: images per second / bare network; / the usual loop",
            f"≥ 0.9; ≥ {wanted[name]:g}",
            {"of_bare": partial(measure, setting, name, options)},
            partial(verdict, wanted[name]),
        )
        for name, options in exports.items()
    }


def verdict(wanted: float, figures: Figures) -> tuple[str, bool]:
    """Say what was found and whether both ratios are enough."""
    found = (
        f"{figures['of_bare']:.2f}; {figures['of_loop']:.2f} ({figures['files']:.1f} per second)"
    )
    return found, figures["of_bare"] >= 0.9 and figures["of_loop"] >= wanted


def measure(setting: Setting, name: str, export: Sequence[str]) -> Figures:
    """Let the usual loop, the bare network and calco predict take turns."""
    model = exported(setting, name, export) if export else setting.run
    predictor = load(model)
    predictor.params = replace(predictor.params, flips=False)
    sides: dict[str, Callable[[], float]] = {
        "loop": usual_loop(setting),
        "bare_in_turn": partial(in_turn, predictor, setting),
        "bare_abreast": partial(abreast, predictor, setting),
        "files": partial(files_to_masks, predictor, setting),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, call in sides.items():
            rates[side].append(len(setting.files) / call())
    found = {side: median(values) for side, values in rates.items()}
    bare = max(found["bare_in_turn"], found["bare_abreast"])
    ratios = {"of_bare": found["files"] / bare, "of_loop": found["files"] / found["loop"]}
    return {key: round(value, 3) for key, value in (ratios | found).items()}


def exported(setting: Setting, name: str, options: Sequence[str]) -> Path:
    """Export the run once."""
    ending = {"onnx": ".onnx"}.get(name, ".ovz")
    out = setting.work / f"{name}{ending}"
    command = [sys.executable, "-m", "calco", "export", str(setting.run), "-o", str(out)]
    subprocess.run([*command, *options, "--quiet"], check=True)
    return out


def usual_loop(setting: Setting) -> Callable[[], float]:
    """Return the loop of most scripts, with the run's weights, as a call that returns seconds."""
    network = load_networks(setting.run)[0].eval()  # contiguous, as most scripts leave it
    out = setting.work / "loop"
    out.mkdir(exist_ok=True)

    def loop() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for file in setting.files:
                image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)  # (H, W, 3)
                # values are scaled inside this network
                batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
                prob = torch.sigmoid(network(batch))[0, 0].numpy()  # (H, W)
                cv2.imwrite(str(out / file.name), (prob > 0.5).astype("uint8") * 255)
        return time.perf_counter() - began

    return loop


def in_turn(predictor: Predictor, setting: Setting) -> float:
    """Run the network alone on decoded images, one after the other on all cores."""
    images = [read_image(file, predictor.spec) for file in setting.files]
    began = time.perf_counter()
    for image in images:
        predictor.engine.logits(image[None])
    return time.perf_counter() - began


def abreast(predictor: Predictor, setting: Setting) -> float:
    """Run the network alone on decoded images, one on each core."""
    images = [read_image(file, predictor.spec) for file in setting.files]
    engine = predictor.engine.with_threads(1)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda image: engine.logits(image[None]), images[:THREADS]))  # sets up
        began = time.perf_counter()
        list(pool.map(lambda image: engine.logits(image[None]), images))
        seconds = time.perf_counter() - began
    torch.set_num_threads(THREADS)  # the engine's count would be that of new threads
    return seconds


def files_to_masks(predictor: Predictor, setting: Setting) -> float:
    """Do what calco predict does, into an empty folder."""
    with tempfile.TemporaryDirectory(dir=setting.work) as out:
        began = time.perf_counter()
        done = predict_files(predictor, [str(file) for file in setting.files], Path(out) / "masks")
        seconds = time.perf_counter() - began
    if any(prediction.status != "done" for prediction in done):
        raise RuntimeError("images failed: their time says nothing")
    return seconds


if __name__ == "__main__":
    main()

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

import cv2
import torch

from calco.api import load
from calco.files import from_json, write_atomic
from calco.images.io import read_image
from calco.inference.networks import load_networks
from calco.inference.parity import compare
from calco.inference.predictor import Predictor
from calco.stages.export import CERTIFICATE_ENDING, Certificate
from calco.stages.predict import predict_files
from contenders.records import THREADS, Figures, hold_to_threads, this_machine
from contenders.rows import Row, fill, read

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "predict_benchmark.json"
PAGE = "predict.md"
DSB2018 = ROOT.parent / "shared" / "data" / "dsb2018" / "train"
N_IMAGES = 500
PARTS = 2  # in which all sides take turns


@dataclass(frozen=True)
class Setting:
    """What everything is measured on.

    Attributes:
        run: Trained run.
        files: Images.
        work: Folder for what is written.
        models: Folder of exported models; what is there is not exported again.
    """

    run: Path
    files: Sequence[Path]
    work: Path
    models: Path


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; else one is trained")
    parser.add_argument("--models", type=Path, help="folder to keep exported models in")
    parser.add_argument("--only", nargs="+", help="some rows, e.g. torch")
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
        for name, row in rows(Setting(run, files, work, arguments.models or work)).items():
            if not arguments.only or name in arguments.only:
                fill(report, name, row, again=arguments.again)
    write_page(report)


def write_page(report: Path) -> None:
    """Write the table of all rows beside the result file."""
    machine = this_machine()
    lines = [
        "# Prediction, from file to mask",
        f"Written by `scripts/benchmark_predict.py` from `{report.name}`. {machine.processor}, "
        f"{machine.threads} cores, torch {machine.versions['torch']}; {N_IMAGES} images of DSB "
        "2018 in their own sizes. The usual loop opens an image, runs the network of the same "
        "weights on it alone by torch, thresholds and saves; all sides of a ratio took turns.",
        "",
        "| measure | wanted | found | met |",
        "|---|---|---|---|",
    ]
    for measured in read(report).values():
        target = measured.target
        met = "yes" if target.met else "no"
        lines.append(f"| {target.measure} | {target.wanted} | {target.found} | {met} |")
    write_atomic(report.with_name(PAGE), "\n".join(lines) + "\n")


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
    wanted = {"torch": 2.0, "onnx": 2.0, "openvino": 2.0, "int8": 3.5}
    found = {
        name: Row(
            f"calco predict, {name}: images per second / bare network; / the usual loop",
            f"≥ 0.9; ≥ {least:g}",
            {"of_bare": partial(measure, setting, name)},
            partial(verdict, least),
        )
        for name, least in wanted.items()
    }
    for name in ("onnx", "openvino"):
        found[f"{name}_masks"] = Row(
            f"{name}: pixels on another side of the threshold than torch has them",
            "0 of those 0.01 of a logit from it",
            {"n_unlike": partial(masks_alike, setting, name)},
            lambda f: (f"{f['n_unlike']:.0f} of {f['n_px']:.0f}", f["n_unlike"] == 0),
        )
    found["int8_dice"] = Row(
        "int8: mean Dice of validation images, before and after",
        "a drop ≤ 0.005",
        {"dice_before": partial(dice_of_int8, setting)},
        lambda f: (
            f"{f['dice_before']:.4f}, {f['dice_after']:.4f}",
            f["dice_before"] - f["dice_after"] <= 0.005,
        ),
    )
    return found


def verdict(wanted: float, figures: Figures) -> tuple[str, bool]:
    """Say what was found and whether both ratios are enough."""
    found = (
        f"{figures['of_bare']:.2f}; {figures['of_loop']:.2f} ({figures['files']:.1f} per second)"
    )
    return found, figures["of_bare"] >= 0.9 and figures["of_loop"] >= wanted


def measure(setting: Setting, name: str) -> Figures:
    """Let the usual loop, the bare network and calco predict take turns, part by part."""
    predictor = load(exported(setting, name))
    predictor.params = replace(predictor.params, flips=False)
    sides: dict[str, Callable[[Sequence[Path]], float]] = {
        "loop": usual_loop(setting),
        "bare_in_turn": partial(in_turn, predictor),
        "bare_abreast": partial(abreast, predictor),
        "files": partial(files_to_masks, predictor, setting.work),
    }
    seconds = dict.fromkeys(sides, 0.0)
    for part in range(PARTS):
        files = setting.files[part::PARTS]
        for side, call in sides.items():
            if not part:
                call(files[:8])  # kernels are made
            seconds[side] += call(files)
    found = {side: len(setting.files) / taken for side, taken in seconds.items()}
    bare = max(found["bare_in_turn"], found["bare_abreast"])
    ratios = {"of_bare": found["files"] / bare, "of_loop": found["files"] / found["loop"]}
    return {key: round(value, 3) for key, value in (ratios | found).items()}


def masks_alike(setting: Setting, name: str) -> Figures:
    """Compare an engine with torch on every fifth image."""
    reference, predictor = load(setting.run), load(exported(setting, name))
    images = [read_image(file, reference.spec) for file in setting.files[::5]]
    threshold = reference.params.threshold
    parity = compare(reference.engine, predictor.engine, images, threshold)
    return {"n_unlike": parity.n_unlike, "n_px": parity.n_px, "max_error": parity.max_error}


def dice_of_int8(setting: Setting) -> Figures:
    """Read what the export measured."""
    out = exported(setting, "int8")
    text = out.with_name(out.name + CERTIFICATE_ENDING).read_text(encoding="utf-8")
    int8 = from_json(Certificate, text, str(out)).int8
    return {name: float(value) for name, value in vars(int8).items()}


def exported(setting: Setting, name: str) -> Path:
    """Export the run once for an engine; torch has the run itself."""
    options = {"onnx": ("model.onnx",), "openvino": ("model.xml",), "int8": ("int8.xml", "--int8")}
    if name not in options:
        return setting.run
    file, *others = options[name]
    out = setting.models / file
    if not out.exists():
        command = [sys.executable, "-m", "calco", "export", str(setting.run), "-o", str(out)]
        subprocess.run([*command, *others, "--quiet"], check=True)
    return out


def usual_loop(setting: Setting) -> Callable[[Sequence[Path]], float]:
    """Return the loop of most scripts, with the run's weights, as a call that returns seconds."""
    network = load_networks(setting.run)[0].eval()  # contiguous, as most scripts leave it
    out = setting.work / "loop"
    out.mkdir(exist_ok=True)

    def loop(files: Sequence[Path]) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for file in files:
                image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)  # (H, W, 3)
                # values are scaled inside this network
                batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
                prob = torch.sigmoid(network(batch))[0, 0].numpy()  # (H, W)
                cv2.imwrite(str(out / file.name), (prob > 0.5).astype("uint8") * 255)
        return time.perf_counter() - began

    return loop


def in_turn(predictor: Predictor, files: Sequence[Path]) -> float:
    """Run the network alone on decoded images, one after the other on all cores."""
    images = [read_image(file, predictor.spec) for file in files]
    began = time.perf_counter()
    for image in images:
        predictor.engine.logits(image[None])
    return time.perf_counter() - began


def abreast(predictor: Predictor, files: Sequence[Path]) -> float:
    """Run the network alone on decoded images, one on each core."""
    images = [read_image(file, predictor.spec) for file in files]
    engine = predictor.engine.with_threads(1)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda image: engine.logits(image[None]), images[:THREADS]))  # sets up
        began = time.perf_counter()
        list(pool.map(lambda image: engine.logits(image[None]), images))
        seconds = time.perf_counter() - began
    torch.set_num_threads(THREADS)  # the engine's count would be that of new threads
    return seconds


def files_to_masks(predictor: Predictor, work: Path, files: Sequence[Path]) -> float:
    """Do what calco predict does, into an empty folder."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        began = time.perf_counter()
        done = predict_files(predictor, [str(file) for file in files], Path(out) / "masks")
        seconds = time.perf_counter() - began
    if any(prediction.status != "done" for prediction in done):
        raise RuntimeError("images failed: their time says nothing")
    return seconds


if __name__ == "__main__":
    main()

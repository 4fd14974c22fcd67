"""Measure reports/big_images.json: the memory and time of images that are never whole in memory.

    python scripts/benchmark_big.py RUN --case 5000 network     # or 10000, 20000; or stub
    python scripts/benchmark_big.py --page                      # reports/big_images.md

Each case is predicted by a process of its own, as ``calco predict`` does it, on a tiled JPEG TIFF
that is written by window. The figure is the peak of the resident set above what the process held
when the model was loaded. A process is killed after ``--limit`` seconds, and the next one goes on
with what it left; the highest peak of them counts. The ``stub`` is one threshold in the place of
the network, so that everything else is measured at full size in little time.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from calco.images.toy import draw_sample

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "big_images.json"
PAGE = REPORT.with_suffix(".md")
TILE_PX = 512
LIMIT_S = 225


def main() -> None:
    """Measure one case, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="trained run")
    parser.add_argument("--case", nargs=2, metavar=("SIDE", "NETWORK"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/calco-big"))  # noqa: S108
    parser.add_argument("--limit", type=float, default=LIMIT_S)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page(json.loads(REPORT.read_text("utf-8"))), "utf-8")
        return
    side, network = int(given.case[0]), given.case[1]
    image = given.work / f"{side}.tif"
    if given.child:
        predict(given.run, image, given.child, network)
        return
    if not image.exists():
        write_slide(image, side)
    case = measure(given.run, image, given.work / f"out-{side}-{network}", given)
    known = json.loads(REPORT.read_text("utf-8")) if REPORT.exists() else {}
    REPORT.write_text(
        json.dumps(known | {f"{side} {network}": merged(known, side, network, case)}, indent=2)
        + "\n"
    )
    print(json.dumps(case))


def write_slide(path: Path, side: int) -> None:
    """Write an RGB slide of drawn nuclei, tile by tile; JPEG as slides are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = [cv2.resize(draw_sample(0, i)[0], (TILE_PX, TILE_PX)) for i in range(12)]

    def tiles() -> Iterator[NDArray[np.uint8]]:
        rng = np.random.default_rng(0)
        for _ in range((-(-side // TILE_PX)) ** 2):
            yield np.ascontiguousarray(drawn[rng.integers(12)][:: rng.choice([1, -1])])

    partial = path.with_suffix(".part")
    with tifffile.TiffWriter(partial, bigtiff=True) as tiff:
        tiff.write(
            tiles(),
            shape=(side, side, 3),
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="rgb",
            compression="jpeg",
        )
    partial.rename(path)


def predict(run: Path, image: Path, out: Path, network: str) -> None:
    """Predict one image, and print what the process holds and how far it is."""
    from calco.inference.predictor import Predictor
    from calco.stages.predict import PredictOptions, predict_files

    predictor = Predictor.from_run(run)
    if network == "stub":
        predictor.engine = Stub()
    idle = resident_mb("VmRSS")

    def tell(done: float, _: int, note: str) -> None:
        print(json.dumps({"idle": idle, "peak": resident_mb("VmHWM"), "note": note}), flush=True)

    options = PredictOptions(prob=True, overlay=True, model=network)
    predict_files(predictor, [image], out, options, on_tile=tell)
    tell(1, 1, "done")


class Stub:
    """Foreground where the image is bright."""

    name = "stub"

    def with_threads(self, threads: int) -> Stub:
        """Return itself."""
        return self

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, H, W) float32 of (B, H, W, C) uint8."""
        return images[..., 0].astype(np.float32) / np.float32(16) - np.float32(8)


def resident_mb(name: str) -> float:
    """Return VmRSS, what is resident now, or VmHWM, the most that ever was, in MB."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def measure(run: Path, image: Path, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run one process until it is done or killed."""
    command = [sys.executable, __file__, str(run), "--case", *given.case]
    command += ["--work", str(given.work), "--child", str(out)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            text, _ = process.communicate(timeout=given.limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            text, _ = process.communicate()
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return {
        "idle_mb": lines[-1]["idle"],
        "peak_mb": lines[-1]["peak"],
        "seconds": round(time.monotonic() - began, 1),
        "processes": 1,
        "state": lines[-1]["note"],
    }


def merged(known: dict[str, Any], side: int, network: str, case: dict[str, Any]) -> dict[str, Any]:
    """Add a process to those that it continued."""
    before = known.get(f"{side} {network}")
    if before is None or before["state"] == "done":
        return case
    return case | {
        "peak_mb": max(before["peak_mb"], case["peak_mb"]),
        "seconds": round(before["seconds"] + case["seconds"], 1),
        "processes": before["processes"] + 1,
    }


def page(cases: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    rows = [
        f"| {name.split()[0]} | {name.split()[1]} | {c['idle_mb']:.0f} |"
        f" {c['peak_mb'] - c['idle_mb']:.0f} | {c['seconds']:.0f} | {c['processes']} |"
        f" {c['state']} |"
        for name, c in sorted(
            cases.items(), key=lambda kv: (kv[0].split()[1], int(kv[0].split()[0]))
        )
    ]
    head = (
        "# Images larger than memory\n\n"
        "Peak resident set of a process that predicts one square RGB slide (tiled JPEG TIFF)\n"
        "with `--prob --overlay`: its VmHWM, above what it held when the model was loaded.\n"
        "Two cores. `network` is a trained EfficientNet-lite0 U-Net; `stub` is one threshold in\n"
        "its place, everything else the same. A process is killed (SIGKILL) after its limit and\n"
        "the next one goes on. Written by `scripts/benchmark_big.py` from `big_images.json`.\n\n"
        "| Side, px | Runs | Idle, MB | Peak above idle, MB | Seconds | Processes | State |\n"
        "|---:|---|---:|---:|---:|---:|---|\n"
    )
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()

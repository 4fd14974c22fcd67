"""Compare the audit with bare decoding of the same files and write reports/audit_benchmark.json.

A folder of generated pictures is written: 1,000 images of 128 x 160 to 1024 x 1024 pixels, three
quarters PNG and the rest JPEG, and their PNG masks; the real pictures are used too where they are.
Each task runs in a process of its own, all tasks in turn, and the smallest processor time of three
rounds counts. Peak memory is also measured on an index that lists every file ten times. Takes about
five minutes, on Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calco.images.toy import draw_sample

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "audit_benchmark.json"
REAL = ROOT.parent / "shared" / "data" / "dsb2018" / "train"  # beside the repository
PAIRS = 1000
ROUNDS = 3
TIMES = 10
TASKS = ("decode with Pillow", "decode with OpenCV", "index", "audit")
MEMORY_TASK = f"audit, every file {TIMES} times"
SCALES = (1, 1, 2, 4)
SEED = 7


def main() -> None:
    """Write the files, run all tasks, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="images to write, with masks")
    parser.add_argument("--task", choices=[*TASKS, MEMORY_TASK], help="for the script's own use")
    parser.add_argument("--folder", type=Path, help="for the script's own use")
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(timed(arguments.task, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), arguments.pairs)
        sets = {"generated": compared(Path(folder))}
        memory = started(MEMORY_TASK, Path(folder))
    if REAL.is_dir():
        sets["dsb2018"] = compared(REAL)
    report = {
        "versions": {"python": platform.python_version(), "opencv": cv2.__version__},
        "processors": len(os.sched_getaffinity(0)),
        "sets": sets,
        MEMORY_TASK: memory,
    }
    print(json.dumps(report, indent=2))
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def compared(folder: Path) -> dict[str, object]:
    """Run all tasks on one folder, several times in turn."""
    rounds = [{task: started(task, folder) for task in TASKS} for _ in range(ROUNDS)]
    best = {task: min((r[task] for r in rounds), key=lambda m: m["cpu_s"]) for task in TASKS}
    return {
        "files": len(files_of(folder)),
        "tasks": best,
        "audit_cpu_over_pillow": ratio(best, "decode with Pillow"),
        "audit_cpu_over_opencv": ratio(best, "decode with OpenCV"),
        "audit_processors_used": round(best["audit"]["cpu_s"] / best["audit"]["wall_s"], 2),
    }


def ratio(best: dict[str, dict[str, float]], task: str) -> float:
    """Return the audit's processor time over that of a task."""
    return round(best["audit"]["cpu_s"] / best[task]["cpu_s"], 3)


def started(task: str, folder: Path) -> dict[str, float]:
    """Run a task in a fresh process."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    print(f"{task:<30}{result}")
    return result


def timed(task: str, folder: Path) -> dict[str, float]:
    """Do a task; return its times and the process' peak memory."""
    work = prepared(task, folder)
    before_mb = peak_mb()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return {
        "cpu_s": round(time.process_time() - cpu_s, 3),
        "wall_s": round(time.perf_counter() - wall_s, 3),
        "peak_mb": peak_mb(),
        "peak_before_mb": before_mb,
    }


def files_of(folder: Path) -> list[Path]:
    """List images and masks."""
    return sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    # ru_maxrss would hold that of the process that started this one, too
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(kilobytes) / 1024, 1)


def prepared(task: str, folder: Path) -> Callable[[], object]:
    """Import what a task needs, and return it."""
    paths = files_of(folder)
    cv2.setNumThreads(1)
    match task:
        case "decode with Pillow":
            return lambda: on_all_processors(load, paths)
        case "decode with OpenCV":
            return lambda: on_all_processors(read, paths)
    from calco.config import AuditConfig, DataConfig
    from calco.stages.audit import audit_samples
    from calco.stages.samples import index_samples

    if task == "index":
        return lambda: index_samples(folder, DataConfig())
    index = index_samples(folder, DataConfig())
    if task == MEMORY_TASK:
        samples = (replace(s, id=f"{s.id}-{i}") for s in index for i in range(TIMES))
        index = replace(index, samples=tuple(samples))
    return lambda: audit_samples(index, DataConfig(), AuditConfig())


def on_all_processors(decode: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """Decode all files and keep nothing."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(decode, paths):
            pass


def load(path: Path) -> None:
    """Decode as Pillow does."""
    with Image.open(path) as image:
        image.load()


def read(path: Path) -> None:
    """Decode as OpenCV does."""
    cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


# --- files


def write_files(folder: Path, n: int) -> None:
    """Write ``images`` and ``masks``."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda i: write_pair(folder, i), range(n)):
            pass


def write_pair(folder: Path, number: int) -> None:
    """Draw a picture, enlarge it, add noise that a camera would, and write it with its mask."""
    image, mask = draw_sample(SEED, number)
    rng = np.random.default_rng((SEED, number))
    scale = SCALES[number % len(SCALES)]
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    noisy = large + rng.normal(0, 1.5, large.shape) * (scale > 1)
    pixels = np.rint(noisy).clip(0, 255).astype(np.uint8)
    drawn = cv2.resize(
        mask.view(np.uint8) * 255, pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    suffix = ".jpg" if number % 16 < 4 else ".png"
    write(folder / "images" / f"{number:05d}{suffix}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    write(folder / "masks" / f"{number:05d}.png", drawn)


def write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Encode by the suffix."""
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


if __name__ == "__main__":
    main()

"""Measure reports/trust.md: what the data checks find, and what stands behind the scores.

About an hour on two cores for the trainings that are missing; a finished run in results/trust/ is
not repeated, ``--write`` only writes the page. The other figures are those that the scripts
measure_suspicions, measure_twins, measure_label_errors, benchmark_audit and benchmark_scores left
in reports/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calco.runs import RunDir

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"  # the real images lie beside the repository
RUNS = ROOT / "results" / "trust"
REPORTS = ROOT / "reports"
PAGE = REPORTS / "trust.md"


@dataclass(frozen=True)
class Training:
    """One run: a data set and how it is divided."""

    name: str
    data: str
    arguments: tuple[str, ...]
    leak: bool = False

    @property
    def folder(self) -> RunDir:
        """Run folder."""
        return RunDir(RUNS / self.name)


TRAININGS = (
    Training("dsb2018_folds", "dsb2018/train", ("--folds", "5", "--budget", "12m")),
    Training("isbi2012_folds", "isbi2012", ("--folds", "5", "--budget", "5m")),
    Training("dsb2018", "dsb2018/train", ("--budget", "3m"), leak=True),
    Training("isbi2012", "isbi2012/train", ("--budget", "3m"), leak=True),
)


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="train nothing, write the page")
    arguments = parser.parse_args()
    if not arguments.write:
        for training in TRAININGS:
            make(training)
    sections = (runs_section(), leak_section(), labels_section(), masks_section())
    page = INTRODUCTION + "\n".join((*sections, twins_section(), speed_section()))
    PAGE.write_text(page, encoding="utf-8")


def make(training: Training) -> None:
    """Train, and once more on a random split, unless that was done before."""
    calco = (sys.executable, "-m", "calco")
    folder = training.folder
    if not folder.summary_json.exists():
        command = ("train", str(DATA / training.data), "-o", str(folder.path), *training.arguments)
        subprocess.run((*calco, *command), check=True)
    if training.leak and not folder.leak_json.exists():
        subprocess.run((*calco, "report", str(folder.path), "--show-leak"), check=True)


def runs_section() -> str:
    """Tell what tuning and doubt are worth in each run."""
    header = (
        "run",
        "command",
        "validation Dice, tuned",
        "the same, nested",
        "test Dice (95 % interval)",
        "mirror images",
        "estimated and true Dice, rank correlation",
    )
    rows = [header]
    for training in TRAININGS:
        folder = training.folder
        if not folder.summary_json.exists():
            continue
        summary = folder.load_summary()
        test = summary["test"]
        low, high = test["dice_ci95"]
        interval = "no interval" if low is None else f"{low:.4f} to {high:.4f}"
        nested = summary["tuning"]["nested_dice_mean"]
        rows.append(
            (
                training.name,
                " ".join(("train", training.data, *training.arguments)),
                f"{summary['validation']['dice_mean']:.4f}",
                "" if nested is None else f"{nested:.4f}",
                f"{test['dice_mean']:.4f} ({interval}), {test['n_images']} images",
                "used" if folder.load_postprocess().flips else "not used",
                f"{test['estimate_correlation']:.2f}",
            )
        )
    return "## Folds, tuning, doubt\n\n" + RUNS_NOTE + table(rows)


def leak_section() -> str:
    """Compare the grouped split with a random one."""
    header = ("data", "images together with others", "grouped test Dice", "random test Dice")
    rows = [header]
    for training in TRAININGS:
        if training.leak and training.folder.leak_json.exists():
            leak = read(training.folder.leak_json)
            rows.append(
                (
                    training.data,
                    str(leak["n_together"]),
                    f"{leak['grouped_dice']:.4f}",
                    f"{leak['random_dice']:.4f}",
                )
            )
    return "## What a random split would have scored\n\n" + LEAK_NOTE + table(rows)


def labels_section() -> str:
    """Tell how well spoilt masks are found by training."""
    labels = read(REPORTS / "label_errors.json")
    rows = [("kind", "spoilt masks", "among the suspected", "average precision")]
    for kind, found in labels["kinds"].items():
        precision = f"{found['average_precision']:.2f}"
        rows.append((kind, str(found["n"]), str(found["suspected"]), precision))
    text = (
        f"{labels['spoilt']} of the {labels['masks']} masks of dsb2018 were spoilt, then calco "
        f"trained with {labels['folds']} folds in {labels['budget']}. It suspects "
        f"{labels['suspected']} masks; the ranking has an average precision of "
        f"**{labels['average_precision']:.2f}**. Per kind the other spoilt masks are left out, so "
        "that a few true masks ranked above weigh more. Some of those may be wrong, too: nobody "
        "has checked all true masks.\n\n"
    )
    return "## Wrong masks, by training\n\n" + text + table(rows)


def masks_section() -> str:
    """Tell how well displaced masks are found by the audit, before training."""
    suspicions = read(REPORTS / "suspicions.json")
    sets = suspicions["sets"]
    rows = [("planted fault", *(f"{name}: recall, precision" for name in sets))]
    for kind in next(iter(sets.values()))["planted"]:
        cells = []
        for found in (of["planted"].get(kind) for of in sets.values()):
            cells.append(f"{found['recall']:.2f}, {found['precision']:.2f}" if found else "")
        rows.append((kind, *cells))
    clean = ", ".join(f"{of['clean']['masks_named']} of {of['n']} ({n})" for n, of in sets.items())
    share = f"{suspicions['share_planted']:.0%}"
    text = f"{share} of the masks were spoilt; masks named in the sets as they are: {clean}.\n\n"
    return "## Displaced masks, by the audit\n\n" + text + table(rows)


def twins_section() -> str:
    """Tell how well and how fast look-alikes are found."""
    twins = read(REPORTS / "twins.json")
    rows = [("copy", "planted", "found", "wrong pairs")]
    rows += [(t["kind"], *(str(t[k]) for k in ("n", "found", "wrong"))) for t in twins["planted"]]
    times = [("thumbnails", "seconds", "peak MB")]
    times += [(str(t["n"]), str(t["seconds"]), str(t["peak_mb"])) for t in twins["scale"]]
    text = "One copy of each picture of dsb2018 hidden among them.\n\n"
    return "## Look-alikes\n\n" + text + table(rows) + "\n" + table(times)


def speed_section() -> str:
    """Tell what the audit and the scores cost."""
    rows = [("files", "audit / Pillow decoding", "audit / OpenCV decoding")]
    for name, of in read(REPORTS / "audit_benchmark.json")["sets"].items():
        pillow, opencv = of["audit_cpu_over_pillow"], of["audit_cpu_over_opencv"]
        rows.append((f"{of['files']} ({name})", f"{pillow:.2f}", f"{opencv:.2f}"))
    scores = read(REPORTS / "scores_benchmark.json")
    text = (
        f"HD95, ASSD and NSD of {scores['n_pairs']} pairs of {scores['side_px']} px: "
        f"{scores['ratio']:.1f} times as fast as MONAI on {scores['threads']} thread; the largest "
        f"difference is {scores['largest_difference']:.0e} px.\n"
    )
    return "## Speed\n\nProcessor time of the audit.\n\n" + table(rows) + "\n" + text


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of them the header, as Markdown."""
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


INTRODUCTION = """# What the checks find, and what stands behind the scores

Written by `scripts/measure_trust.py` from real runs and from the figures of the other scripts, on
two processor cores without a GPU. How to read the scores: [docs](../docs/explanation/scores.md).

"""
RUNS_NOTE = """Tuned: threshold and clean-up were chosen on these images. Nested: each fold is
scored with what the others chose; the difference is the optimism of tuning. The test part was read
once.

"""
LEAK_NOTE = """`calco report RUN --show-leak` trains once more, in the same time, on a split that
ignores look-alikes and series. The two test parts are different images: small differences say
nothing.

"""


if __name__ == "__main__":
    main()

"""Reports of runs that lack something: files, images, a test part, scores of later versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.stages.finished import finish_run, page_of

from calco.formats.run_files import read_run
from calco.runs import RunDir
from calco.stages.report import write_report


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return finish_run(RunDir(tmp_path / "run"), tmp_path / "my nuclei")


def make_older(run: RunDir) -> None:
    """Take away what runs before outlines, objects and calibration did not have."""
    (run.path / "calibration.json").unlink()
    path = run.path / "scores.csv"
    rows = [line.split(",")[:11] for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    summary = run.load_summary()
    for subset in ("test", "validation"):
        kept = list(summary[subset])[: list(summary[subset]).index("n_one_empty")]
        summary[subset] = {name: summary[subset][name] for name in kept}
    run.summary_json.write_text(json.dumps(summary))


def test_older_runs_are_shown_without_what_they_lack(run: RunDir) -> None:
    make_older(run)
    page = page_of(run)
    assert f"Dice on the test part {run.load_summary()['test']['dice_mean']:.3f}" in page.text
    assert "This run is not complete" not in page.text
    assert "Outlines and objects" not in page.text
    assert "Probabilities" not in page.text
    assert sum((a.get("alt") or "").endswith("traced") for _, a in page.tags) == 10


@pytest.mark.parametrize("n_test", [1, 2, 3, 7])
def test_few_test_images_are_shown_without_repetition(tmp_path: Path, n_test: int) -> None:
    folder = finish_run(RunDir(tmp_path / "run"), tmp_path / "data", n_test)
    shown = [a["alt"] for _, a in page_of(folder).tags if (a.get("alt") or "").endswith("traced")]
    assert len(shown) == len(set(shown)) == n_test


def test_without_a_test_part_it_says_so_and_shows_validation(tmp_path: Path) -> None:
    page = page_of(finish_run(RunDir(tmp_path / "run"), tmp_path / "data", n_test=0))
    assert "There is no test part" in page.text
    assert "Images of the validation part" in page.text
    assert "Otsu" not in page.text


def test_runs_before_the_other_intervals_are_shown_without_them(run: RunDir) -> None:
    summary = run.load_summary()
    for subset in ("test", "validation"):
        kept = (n for n in summary[subset] if n == "dice_ci95" or not n.endswith("_ci95"))
        summary[subset] = {name: summary[subset][name] for name in kept}
    run.summary_json.write_text(json.dumps(summary))
    text = page_of(run).text
    test, validation = summary["test"], summary["validation"]
    assert f"NSD, 2 px {test['nsd_mean']:.3f} {validation['nsd_mean']:.3f} Share" in text
    assert f"95 % interval {test['dice_ci95'][0]:.3f} to " in text


def test_one_group_has_no_intervals(run: RunDir) -> None:
    summary = run.load_summary()
    for name in summary["test"]:
        if name.endswith("_ci95"):
            summary["test"][name] = [None, None]
    run.summary_json.write_text(json.dumps(summary))
    text = page_of(run).text
    assert "no interval: too few groups" in text
    assert (
        f"HD95 {summary['test']['hd95_px_mean']:.1f} px {summary['validation']['hd95_px_mean']:.1f}"
        in text
    )


def test_an_empty_folder_yields_a_page_that_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    page = page_of(RunDir(tmp_path / "run"))
    assert "This run is not complete" in page.text
    assert "the audit, the split, the plan, the end of training" in page.text
    assert "No scores yet" in page.text
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


# absent, they read as empty and as defaults
OPTIONAL = ["history.csv", "postprocess.json", "calibration.json"]
REMOVABLE = [
    "config.yaml",
    "manifest.json",
    "audit.json",
    "split.csv",
    "plan.yaml",
    "history.csv",
    "fit.json",
    "postprocess.json",
    "scores.csv",
    "calibration.json",
    "summary.json",
]


@pytest.mark.parametrize("name", REMOVABLE)
def test_any_file_may_be_missing(run: RunDir, name: str) -> None:
    (run.path / name).unlink()
    page = page_of(run)
    assert "my nuclei" in page.text or name == "audit.json"
    assert ("This run is not complete" in page.text) == (name not in OPTIONAL)


@pytest.mark.parametrize("name", REMOVABLE)
def test_a_file_cut_short_counts_as_missing(run: RunDir, name: str) -> None:
    path = run.path / name
    text = path.read_text()
    end = int(0.7 * len(text))
    if path.suffix == ".yaml":  # what ends with a line is whole YAML
        end = text.index(":", end)
    path.write_text(text[:end])
    assert len(read_run(run).missing) == (2 if name == "audit.json" else 1)  # the split needs it


def test_vanished_pictures_leave_a_note(run: RunDir) -> None:
    worst = min((s for s in run.load_scores() if s.subset == "test"), key=lambda s: s.dice)
    (run.path / "predictions" / "test" / f"{worst.id}.png").unlink()
    page = page_of(run)
    assert page.text.count("no picture:") == 1
    assert worst.id in page.text


def test_interrupted_run_marks_the_best_epoch_so_far(run: RunDir) -> None:
    for name in ("fit.json", "scores.csv", "summary.json"):
        (run.path / name).unlink()
    files = read_run(run)
    assert files.trainings[0].fit is None
    assert files.missing == ("the end of training", "the scores of the images", "the headline")
    assert len(files.trainings[0].history) == 9
    assert "Loss of training and validation over the epochs" in write_report(run).read_text()

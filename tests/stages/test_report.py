import base64
import json
import math
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.stages.pages import Page, write_png

from calco.config import Config
from calco.errors import Problem
from calco.formats.run_files import read_run
from calco.metrics.calibration import calibrate, count_levels
from calco.metrics.summary import score_image, score_shapes, summarise
from calco.records import (
    SUBSETS,
    Assignment,
    Audit,
    Box,
    Epoch,
    FileMask,
    FitResult,
    ImageScore,
    ImageSpec,
    LabelSuspicion,
    MaskCode,
    NetworkPlan,
    Plan,
    Postprocess,
    Reference,
    Sample,
    SampleFacts,
    SampleIndex,
    Scores,
    Split,
    Subset,
    Twins,
)
from calco.runs import RunDir
from calco.stages.label_errors import write_suspicions
from calco.stages.report import write_report

HOSTILE = "<img src=x onerror=alert(1)>"  # a legal file name
N_TRAIN, N_VALIDATION = 4, 5
SIZE = (48, 64)


def disc(seed: int, shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    center = 12 + seed % 20
    near: np.ndarray = (rows - center) ** 2 + (columns - center - shift) ** 2 < 8**2
    return near


def make_audit(root: Path, ids: list[str]) -> Audit:
    samples, facts = [], []
    for number, name in enumerate(ids):
        true = disc(number)
        write_png(root / "images" / f"{name}.png", np.where(true, 200, 40).astype(np.uint8))
        write_png(root / "masks" / f"{name}.png", true.astype(np.uint8) * 255)
        mask = FileMask(root / "masks" / f"{name}.png")
        samples.append(Sample(name, root / "images" / f"{name}.png", mask))
        facts.append(SampleFacts(name, *SIZE, 1, "uint8", 0, 255, 60.0, 0.06, 1, "0" * 64))
    code = MaskCode("values", (255,), note="0 is background, 255 is foreground")
    layout = "images/ beside masks/"
    index = SampleIndex(root, layout, tuple(samples), ImageSpec(channels=1), code)
    problems = tuple(
        Problem("IMG_DARK", "image is almost black", f"images/{i}.png", do="check the exposure")
        for i in range(5)
    )
    return Audit(
        index,
        tuple(facts),
        (Twins((ids[0], ids[1]), "near"),),
        tuple(Problem(p.code, p.what, p.where, do=p.do, severity="warning") for p in problems),
    )


def make_plan() -> Plan:
    return Plan(
        network=NetworkPlan("unet", 1, (120.0,), (60.0,), width=16),
        crop_px=128,
        resize_px=None,
        batch=8,
        epochs=30,
        budget_s=60.0,
        loss="bce_dice",
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="cosine",
        ema=True,
        clip_norm=1.0,
        augment=0.5,
        precision="fp32",
        reasons={"crop_px": "many cheap steps", "batch": "small steps gained most"},
    )


def make_history(n: int = 9) -> tuple[Epoch, ...]:
    rows = []
    for epoch in range(1, n + 1):
        validated = epoch % 3 == 0
        dice = 1 - 0.8 * math.exp(-epoch / 4)
        rows.append(
            Epoch(
                epoch=epoch,
                step=10 * epoch,
                train_loss=math.exp(-epoch / 4),
                train_dice=dice,
                validation_loss=math.exp(-epoch / 5) if validated else math.nan,
                validation_dice=dice - 0.03 if validated else math.nan,
                learning_rate=1e-3,
                seconds=2.0 * epoch,
            )
        )
    return tuple(rows)


def make_scores(audit: Audit, split: Split, folder: Path) -> Scores:
    images: list[ImageScore] = []
    levels: dict[str, list[np.ndarray]] = {}
    for number, given in enumerate(split.assignments):
        if given.subset != "train":
            pred = disc(number, shift=number % 7)
            write_png(
                folder / "predictions" / given.subset / f"{given.id}.png",
                pred.astype(np.uint8) * 255,
            )
            pixels = score_image(given.id, given.group, given.subset, pred, disc(number))
            images.append(score_shapes(pixels, pred, disc(number), tolerance_px=2))
            soft = np.where(pred, 220, 30).astype(np.uint8)
            levels.setdefault(given.subset, []).append(count_levels(soft, disc(number)))
    parts = {s: [i for i in images if i.subset == s] for s in ("validation", "test")}
    summaries = {
        s: replace(summarise(part, bootstrap=100), nsd_tolerance_px=2.0)
        for s, part in parts.items()
        if part
    }
    calibrations = {s: calibrate(np.sum(part, axis=0)) for s, part in levels.items()}
    return Scores(tuple(images), summaries, calibrations)


def finish_run(folder: RunDir, root: Path, n_test: int = 12) -> RunDir:
    """Write all that a finished training leaves, but weights and pages."""
    folder.path.mkdir()
    sizes: dict[Subset, int] = {"train": N_TRAIN, "validation": N_VALIDATION, "test": n_test}
    subsets = [subset for subset, size in sizes.items() for _ in range(size)]
    ids = [f"cell{number:02d}" for number in range(len(subsets))]
    if n_test:
        ids[-1] = HOSTILE
    audit = make_audit(root, ids)
    given = tuple(Assignment(i, i, s) for i, s in zip(ids, subsets, strict=True))
    split = Split(audit.index, given)
    advice = Problem("LR_HIGH", "the loss jumped", do="lower fit.learning_rate", severity="warning")
    fit = FitResult(make_history(), 9, "the budget was used", 20.0, 15.0, 2.0, (advice,))
    scores = make_scores(audit, split, folder.path)
    folder.save_config(Config())
    folder.save_manifest({"calco": "0.1.0", "seed": 3, "command": "calco train data --seed 3"})
    folder.save_audit(audit)
    folder.save_split(split)
    folder.save_plan(make_plan())
    folder.save_history(fit.history)
    folder.save_fit(fit)
    folder.save_postprocess(Postprocess(0.45, 12, note="best of 19 thresholds on validation"))
    folder.save_scores(scores)
    folder.save_summary(scores, [fit], Reference(otsu_dice=0.321), seconds_total=31.0)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return finish_run(RunDir(tmp_path / "run"), tmp_path / "my nuclei")


def page_of(folder: RunDir) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_page_states_the_headline_with_its_interval_counts_and_baseline(run: RunDir) -> None:
    text = page_of(run).text
    test = run.load_summary()["test"]
    low, high = test["dice_ci95"]
    assert f"Dice on the test part {test['dice_mean']:.3f}" in text
    assert f"95 % interval {low:.3f} to {high:.3f}" in text
    assert "12 images in 12 groups, 0 of them with an empty truth" in text
    assert "Otsu's threshold, which needs no training: 0.321" in text
    assert "Definition. dice_mean: per-image Dice at original resolution" in text
    assert "tuned on, so optimistic" in text


def test_page_tells_how_to_read_outlines_and_objects(run: RunDir) -> None:
    page = page_of(run)
    summary = run.load_summary()
    test, validation = summary["test"], summary["validation"]
    for label, field in (
        ("NSD, 2 px", "nsd_mean"),
        ("Boundary IoU", "boundary_iou_mean"),
        ("Object F1", "object_f1_50_mean"),
        ("Object F1, strict", "object_f1_75_mean"),
        ("DSB 2018", "dsb2018_mean"),
        ("TGS", "tgs_mean"),
    ):
        assert f"{label} {test[field]:.3f} {validation[field]:.3f} " in page.text
    for label in ("HD95", "ASSD"):
        field = f"{label.lower()}_px_mean"
        assert f"{label} {test[field]:.1f} px {validation[field]:.1f} px" in page.text
    assert "95 % of each outline lies within this distance of the other; 0 is perfect" in page.text
    assert "Test: 12 true objects, 12 traced. Validation: 5 true objects, 5 traced." in page.text


def test_page_counts_the_images_that_only_one_mask_is_empty_in(run: RunDir) -> None:
    summary = run.load_summary()
    summary["test"]["n_one_empty"] = 3
    run.summary_json.write_text(json.dumps(summary))
    assert "12 traced; in 3 images only one of the two masks is empty" in page_of(run).text


def test_page_shows_what_probabilities_are_worth(run: RunDir) -> None:
    page = page_of(run)
    texts = [a.get("alt") for tag, a in page.tags if tag == "img"]
    assert "Share of foreground against predicted probability" in texts
    assert "Precision against recall over all thresholds" in texts
    assert f"All {12 * SIZE[0] * SIZE[1]:,} pixels of the test part" in page.text


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


def test_page_tells_what_was_found_chosen_and_how_long_it_took(run: RunDir) -> None:
    page = page_of(run)
    for words in (
        "my nuclei",
        "IMG_DARK × 5 image is almost black",
        "images/0.png, images/1.png, images/2.png …",
        "What to do: check the exposure",
        "1 group of look-alikes (0 exact, 1 near)",
        "train 4 4",
        "validation 5 5",
        "test 12 12",
        "crop_px 128 many cheap steps",
        "The loss jumped",
        "What to do: lower fit.learning_rate.",
        "75 % forward, backward and step",
        "10 % validation",
        "15 % loading, saving and the rest",
        "Stopped because the budget was used",
        "above a probability of 0.45; objects below 12 px are removed; holes stay open",
        "best of 19 thresholds on validation",
        "calco train data --seed 3",
    ):
        assert words in page.text


def test_page_is_self_contained_and_small(run: RunDir) -> None:
    page = page_of(run)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    sources = page.images() + [a["srcset"] or "" for t, a in page.tags if t == "source"]
    assert all(source.startswith("data:image/") for source in sources)
    assert all(len(base64.b64decode(source.split(",", 1)[1])) < 100_000 for source in page.images())
    assert run.report_html.stat().st_size < 1_500_000


def test_hostile_names_are_text(run: RunDir) -> None:
    markup = write_report(run).read_text(encoding="utf-8")
    page = Page(markup)
    assert "<img src=x" not in markup
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert HOSTILE in page.text


def test_paths_of_the_machine_stay_out(run: RunDir, tmp_path: Path) -> None:
    assert str(tmp_path) not in write_report(run).read_text(encoding="utf-8")


def test_best_median_and_worst_images_are_traced_once_each(run: RunDir) -> None:
    page = page_of(run)
    shown = [a["alt"] for _, a in page.tags if (a.get("alt") or "").endswith("traced")]
    assert len(shown) == len(set(shown)) == 10  # 3 best, 3 median, 4 worst of 12
    scores = sorted((s.dice, s.id) for s in run.load_scores() if s.subset == "test")
    # captions follow the pictures: the first is the best, the last the fourth worst
    captions = re.findall(r"(\d\.\d{3}) (\S+)", page.text.split("Best", 1)[1])
    assert float(captions[0][0]) == pytest.approx(scores[-1][0], abs=5e-4)
    assert float(captions[6][0]) == pytest.approx(scores[0][0], abs=5e-4)


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


def test_a_model_below_the_baseline_is_called_so(run: RunDir) -> None:
    summary = run.load_summary()
    run.summary_json.write_text(json.dumps({**summary, "baseline": {"otsu_dice_mean": 0.999}}))
    assert "The model does not beat it: do not use it yet." in page_of(run).text


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
    path.write_text(text[: int(0.7 * len(text))])
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


def test_same_run_same_bytes(run: RunDir) -> None:
    first = write_report(run).read_bytes(), run.curves_png.read_bytes()
    assert (write_report(run).read_bytes(), run.curves_png.read_bytes()) == first


def test_report_is_quick(run: RunDir) -> None:
    write_report(run)
    began = time.process_time()  # by the wall, a busy machine would fail it
    write_report(run)
    assert time.process_time() - began < 5


def test_parts_are_listed_in_the_order_of_the_pipeline(run: RunDir) -> None:
    text = page_of(run).text
    places = [
        text.index(f"{subset} {n} {n}") for subset, n in zip(SUBSETS, (4, 5, 12), strict=True)
    ]
    assert places == sorted(places)


def test_doubt_says_what_a_person_could_gain(run: RunDir) -> None:
    assert "went to a person" not in page_of(run).text  # these scores have no estimate
    scores = run.load_scores()
    guessed = tuple(replace(s, estimated_dice=s.dice**2) for s in scores)  # the same ranks
    run.save_scores(Scores(guessed, {}))
    text = page_of(run).text
    tested = sorted(s.dice for s in scores if s.subset == "test")
    n_sent = max(1, round(0.1 * len(tested)))
    assert "correlation of 1.000" in text
    assert f"instead of {sum(tested) / len(tested):.3f}" in text
    assert f"would be {sum(tested[n_sent:]) / (len(tested) - n_sent):.3f}" in text


def test_every_fold_has_its_curves_and_its_end(run: RunDir) -> None:
    for number in range(3):
        fold = run.fold(number, 3)
        fold.path.mkdir(parents=True)
        for name in ("history.csv", "fit.json"):
            shutil.copy(run.path / name, fold.path / name)
        fold.weights.write_bytes(b"")
    for name in ("history.csv", "fit.json"):
        (run.path / name).unlink()
    page = page_of(run)
    assert page.text.count("the weights of epoch") == 3
    assert "Fold 3: 9 epochs" in page.text
    assert write_report(run).read_text().count("Loss of training and validation") == 3
    assert run.fold(2, 3).curves_png.exists()
    assert not read_run(run).missing


def test_masks_to_check_are_shown_with_their_kind_and_place(run: RunDir) -> None:
    assert "Masks to check" not in page_of(run).text
    shown = next(s for s in run.load_scores() if s.subset == "test")
    found = (
        LabelSuspicion(shown.id, "extra object", 9.0, 0.5, 0.9, "nothing here", Box(3, 4, 5, 6)),
        LabelSuspicion("gone", "shifted", 4.0, 0.5, 0.9, "moved"),
    )
    write_suspicions(found, run.suspicions_csv)
    assert run.load_suspicions() == found
    page = page_of(run)
    assert "extra object" in page.text
    assert "at row 3, column 4" in page.text
    assert "shifted" not in page.text  # no picture of it was scored

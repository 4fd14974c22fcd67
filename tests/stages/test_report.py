import base64
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.stages.finished import HOSTILE, SIZE, finish_run, page_of
from tests.stages.pages import Page

from calco.formats.run_files import read_run
from calco.records import SUBSETS, Box, LabelSuspicion, Scores, Twins
from calco.runs import RunDir
from calco.stages.label_errors import write_suspicions
from calco.stages.report import write_report


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return finish_run(RunDir(tmp_path / "run"), tmp_path / "my nuclei")


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
    for label, name, digits, unit in (
        ("HD95", "hd95_px", 1, " px"),
        ("ASSD", "assd_px", 1, " px"),
        ("NSD, 2 px", "nsd", 3, ""),
        ("Boundary IoU", "boundary_iou", 3, ""),
        ("Object F1", "object_f1_50", 3, ""),
        ("Object F1, strict", "object_f1_75", 3, ""),
        ("DSB 2018", "dsb2018", 3, ""),
        ("TGS", "tgs", 3, ""),
    ):
        cells = []
        for part in (test, validation):
            low, high = part[f"{name}_ci95"]
            mean = f"{part[f'{name}_mean']:.{digits}f}{unit}"
            cells.append(f"{mean} {low:.{digits}f} to {high:.{digits}f}")
        assert " ".join([label, *cells]) in page.text
    low, high = test["iou_ci95"]
    assert f"mean per image {low:.3f} to {high:.3f}" in page.text
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


def test_a_model_below_the_baseline_is_called_so(run: RunDir) -> None:
    summary = run.load_summary()
    run.summary_json.write_text(json.dumps({**summary, "baseline": {"otsu_dice_mean": 0.999}}))
    assert "The model does not beat it: do not use it yet." in page_of(run).text


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


def test_a_series_that_was_cut_is_told_with_what_follows(run: RunDir) -> None:
    assert "was cut" not in page_of(run).text
    audit = run.load_audit()
    ids = [sample.id for sample in audit.index]
    blocks = tuple(Twins(tuple(ids[i : i + 4]), "series", 5) for i in range(0, 20, 4))
    run.save_audit(replace(audit, twins=blocks))
    text = page_of(run).text
    assert "0 near), 5 blocks of a series that was cut; each stays on one side" in text
    mixed = replace(audit, twins=(Twins((ids[20], ids[0]), "series"), *blocks[1:]))
    run.save_audit(mixed)
    assert "0 near), 1 series of pictures, 4 blocks of a series" in page_of(run).text
    assert "other places in the same series, not of another series" in text


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

"""One process writes a run, and every record comes back as it was."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from calco.config import Config
from calco.errors import CalcoError, Problem
from calco.records import (
    Assignment,
    Audit,
    BoundaryScore,
    Calibration,
    Counts,
    CurvePoint,
    Epoch,
    FileMask,
    FitResult,
    ImageScore,
    ImageSpec,
    MaskCode,
    NetworkPlan,
    ObjectCounts,
    ObjectMasks,
    Plan,
    Postprocess,
    Reference,
    ReliabilityBin,
    RleDialect,
    RleMask,
    Sample,
    SampleFacts,
    SampleIndex,
    Scores,
    Split,
    SubsetSummary,
    Twins,
)
from calco.runs import RunDir

# --- the lock --------------------------------------------------------------------------------


HOLD = """
import sys, time
from pathlib import Path
from calco.runs import RunDir
with RunDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CalcoError, match="RUN_LOCKED"), RunDir(tmp_path).locked():
            pass
        holder.kill()
    with RunDir(tmp_path).locked():  # a killed process holds nothing
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_file_that_nobody_holds_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1")
    with RunDir(tmp_path).locked():
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunDir(tmp_path).locked():
        raise ZeroDivisionError
    with RunDir(tmp_path).locked():
        pass


# --- records ---------------------------------------------------------------------------------


def an_index(root: Path) -> SampleIndex:
    rle = RleMask(("1 3", "7 2"), RleDialect(empty="-1"), "m.csv:2")
    samples = (
        Sample("a", root / "images/a.png", FileMask(root / "masks/a.png"), "g1", "train"),
        Sample("b", root / "images/b.png", ObjectMasks((root / "o/1.png", root / "o/2.png"))),
        Sample("c=ü", root / "images/c=ü.png", rle),
        Sample("d", root / "images/d.png"),
    )
    code = MaskCode("values", (255,), note="two values")
    return SampleIndex(root, "images and masks", samples, ImageSpec(frame=2), code)


def an_audit(root: Path) -> Audit:
    facts = tuple(
        SampleFacts(s.id, 4, 5, 3, "uint8", 0.0, 255.0, 12.5, share, n, "0" * 64)
        for s, share, n in zip(
            an_index(root), (0.1, 0.0, 1.0, math.nan), (1, 0, 1, -1), strict=True
        )
    )
    problems = (Problem("X", "what", "a.png", "got", "want", "do", "warning"),)
    return Audit(an_index(root), facts, (Twins(("a", "b"), "near"),), problems)


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    path = tmp_path / "home" / "runs" / "r1"
    path.mkdir(parents=True)
    return RunDir(path)


def same(one: object, other: object) -> bool:
    """Compare records in which NaN equals NaN."""
    return repr(one) == repr(other)


def test_settings_of_an_older_calco_come_back(folder: RunDir) -> None:
    old = {"threshold": 0.4, "min_area_px": 3, "max_hole_px": 0, "min_peak": 0.9, "flips": True}
    (folder.path / "postprocess.json").write_text(json.dumps(old | {"note": "tuned"}))
    assert folder.load_postprocess() == Postprocess(0.4, 3, 0, 0.9, True, "tuned")


def test_views_come_back_and_impossible_ones_are_refused(folder: RunDir) -> None:
    chosen = Postprocess(flips=True, turns=True, scales=(0.8, 1.25), mean="logit")
    folder.save_postprocess(chosen)
    assert folder.load_postprocess() == chosen
    for fault in ({"scales": [1e9]}, {"mean": "median"}):
        (folder.path / "postprocess.json").write_text(json.dumps(fault))
        with pytest.raises(CalcoError, match=r"RUN_FILE.*postprocess\.json") as caught:
            folder.load_postprocess()
        assert "\n" not in str(caught.value)


def test_config_and_postprocess_come_back(folder: RunDir) -> None:
    config = Config(seed=3, data={"group": r"^(\d+)"})  # type: ignore[arg-type]
    folder.save_config(config)
    assert folder.load_config() == config
    assert folder.load_postprocess() == Postprocess()
    chosen = folder.save_postprocess(Postprocess(0.37, 12, 5, 0.8, True, "validation"))
    assert folder.load_postprocess() == chosen


def test_images_known_at_the_start_come_back(folder: RunDir) -> None:
    assert folder.load_start_images() == frozenset()
    folder.save_start_images({"b" * 64, "a" * 64})
    assert folder.load_start_images() == {"a" * 64, "b" * 64}


def test_an_audit_comes_back_with_its_nan(folder: RunDir) -> None:
    root = folder.path.parents[1] / "data"
    root.mkdir()
    audit = folder.save_audit(an_audit(root))
    assert same(folder.load_audit(), audit)
    assert str(root) not in (folder.path / "audit.json").read_text()


def test_data_and_run_can_move_together(folder: RunDir, tmp_path: Path) -> None:
    home = folder.path.parents[1]
    (home / "data").mkdir()
    folder.save_audit(an_audit(home / "data"))
    home.rename(tmp_path / "moved")
    moved = RunDir(tmp_path / "moved/runs/r1").load_audit()
    assert same(moved, an_audit(tmp_path / "moved/data"))


def test_a_split_comes_back(folder: RunDir) -> None:
    root = folder.path.parents[1] / "data"
    root.mkdir()
    folder.save_audit(an_audit(root))
    assignments = (
        Assignment("a", "=g", "train"),
        Assignment("b", "0001", "validation"),
        Assignment("c=ü", "NA", "test", 2),
    )
    split = Split(an_index(root).only(["a", "b", "c=ü"]), assignments)
    assert folder.save_split(split) is split
    assert same(folder.load_split(), split)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("b,gb,validation,0\na,ga,train,0\n", ""),  # sorted by hand
        ("a,ga,train,0\nx,gx,test,0\n", "got x"),
        ("a,ga,train,0\na,ga,test,0\n", "an id twice"),
    ],
)
def test_a_split_fits_its_samples(folder: RunDir, rows: str, message: str) -> None:
    root = folder.path.parents[1] / "data"
    root.mkdir()
    folder.save_audit(an_audit(root))
    (folder.path / "split.csv").write_text(f"id,group,subset,fold\n{rows}")
    if message:
        with pytest.raises(CalcoError, match=rf"RUN_FILE.*split\.csv.*{message}"):
            folder.load_split()
        return
    split = folder.load_split()
    assert [(s.id, a.group) for s, a in zip(split.index, split.assignments, strict=True)] == [
        ("a", "ga"),
        ("b", "gb"),
    ]


@pytest.mark.parametrize("threshold", ["NaN", -0.1, 1.5])
def test_a_threshold_is_a_probability(folder: RunDir, threshold: object) -> None:
    (folder.path / "postprocess.json").write_text(json.dumps({"threshold": threshold}))
    with pytest.raises(CalcoError, match=r"RUN_FILE.*postprocess\.json"):
        folder.load_postprocess()


def a_plan() -> Plan:
    network = NetworkPlan("unet", 3, (120.5, 1, 2), (50, 1, 2), width=16, dropout=0.1)
    reasons = {"batch": "fits: 8 x 'small' {images}", "crop_px": "# not a comment"}
    return Plan(
        network, 128, None, 8, 30, 60.0, "bce_dice", "adamw", 1e-3, 1e-5, "cosine",
        ema=True, clip_norm=1.0, augment=0.5, precision="fp32", reasons=reasons,
    )  # fmt: skip


def test_a_plan_comes_back(folder: RunDir) -> None:
    plan = folder.save_plan(a_plan())
    assert folder.load_plan() == plan


@pytest.mark.parametrize(
    ("line", "edited", "message"),
    [
        ("batch: 8", "batch: 16", ""),
        ("batch: 8", "batch: 0", r"fit\.batch.*greater than or equal to 1; got 0"),
        ("batch: 8", "batch: 8\nbtach: 4", r"got btach -- did you mean batch\?"),
        ("  width: 16", "  widht: 16", r"got widht -- did you mean width\?"),
        ("budget_s: 60.0", "budget_s: .nan", "budget_s.*number"),
        ("learning_rate: 0.001", "learning_rate: -1", r"fit\.learning_rate"),
        ("optimizer: adamw", "optimizer: adamax", "optimizer"),
    ],
)
def test_an_edited_plan_is_checked(folder: RunDir, line: str, edited: str, message: str) -> None:
    folder.save_plan(a_plan())
    path = folder.path / "plan.yaml"
    assert path.read_text().count(f"{line}\n") == 1
    path.write_text(path.read_text().replace(f"{line}\n", f"{edited}\n"))
    if not message:
        assert folder.load_plan().batch == 16
        return
    with pytest.raises(CalcoError, match=rf"plan\.yaml.*{message}"):
        folder.load_plan()


def test_history_and_fit_come_back_with_their_nan(folder: RunDir) -> None:
    assert folder.load_history() == ()
    history = (
        Epoch(1, 4, 0.5, 0.25, math.nan, math.nan, 1e-3, 2.5),
        Epoch(2, 8, 0.25, 0.5, 1.0, 1.0, 0.0, 5.0),
    )
    folder.save_history(history)
    loaded = folder.load_history()
    assert [e.epoch for e in loaded] == [1, 2]
    assert math.isnan(loaded[0].validation_dice)
    assert loaded[1] == history[1]
    fit = FitResult(history, 2, "patience", 5.0, 3.0, 1.0, (Problem("SLOW", "slow loader"),))
    folder.save_fit(fit)
    assert same(folder.load_fit(), replace(fit, history=(history[0], history[1])))


def some_scores() -> Scores:
    images = (
        ImageScore("0001", "g", "test", Counts(2, 1, 1, 5), 2 / 3, 0.5, 2 / 3, 2 / 3),
        ImageScore("=b", "g", "test", Counts(0, 0, 0, 9), 1.0, 1.0, math.nan, math.nan),
    )
    summary = SubsetSummary(
        2, 1, 1, 0.8333, (0.6, 1.0), 0.75, 2 / 3, 0.5, math.nan, 2 / 3, 2 / 3, 0.0
    )
    return Scores(images, {"test": summary})


def test_scores_come_back_to_six_digits(folder: RunDir) -> None:
    scores = folder.save_scores(some_scores())
    loaded = folder.load_scores()
    assert [s.id for s in loaded] == ["0001", "=b"]
    assert [s.counts for s in loaded] == [s.counts for s in scores.images]
    assert loaded[0].dice == pytest.approx(2 / 3, abs=1e-6)
    assert math.isnan(loaded[1].precision)


def test_outlines_and_objects_come_back_with_what_was_not_counted(folder: RunDir) -> None:
    plain, empty = some_scores().images
    objects = ObjectCounts(3, 2, (2, 2, 2, 1, 1, 1, 1, 0, 0, 0))
    full = replace(
        plain,
        boundary=BoundaryScore(12.5, 3.25, 0.5, 0.125),
        objects=objects,
        object_f1_50=0.8,
        object_f1_75=0.4,
        dsb2018=0.25,
        tgs=0.5,
    )
    folder.save_scores(Scores((full, empty), {}))
    loaded = folder.load_scores()
    assert (loaded[0].boundary, loaded[0].objects) == (full.boundary, objects)
    ratios = (loaded[0].object_f1_50, loaded[0].object_f1_75, loaded[0].dsb2018, loaded[0].tgs)
    assert ratios == (0.8, 0.4, 0.25, 0.5)
    assert loaded[1].objects is None
    assert math.isnan(loaded[1].boundary.hd95_px)
    header = (folder.path / "scores.csv").read_text().splitlines()[0]
    older = "id,group,subset,tp,fp,fn,tn,dice,iou,precision,recall"
    assert header.startswith(older + ",hd95_px,assd_px,nsd,boundary_iou,n_objects_pred")
    assert ",object_tp_90,object_tp_95,object_f1_50,object_f1_75,dsb2018,tgs" in header


def test_scores_of_an_older_run_can_be_read(folder: RunDir) -> None:
    (folder.path / "scores.csv").write_text(
        "id,group,subset,tp,fp,fn,tn,dice,iou,precision,recall\n"
        "0001,g,test,2,1,1,5,0.666667,0.5,0.666667,0.666667\n"
    )
    (score,) = folder.load_scores()
    assert (score.dice, score.counts) == (0.666667, Counts(2, 1, 1, 5))
    assert same(score.boundary, BoundaryScore())
    assert score.objects is None
    assert math.isnan(score.dsb2018)
    assert folder.load_calibrations() == {}


def test_calibrations_come_back_and_go_with_the_scores(folder: RunDir) -> None:
    empty_bin = ReliabilityBin(0.5, 1.0, 0, math.nan, math.nan)
    bins = (ReliabilityBin(0.0, 0.5, 9, 0.1, 0.0), empty_bin)
    calibration = Calibration(9, 0, 0.1, math.nan, bins, (CurvePoint(25, 0.0, math.nan),))
    folder.save_scores(replace(some_scores(), calibrations={"test": calibration}))
    assert same(folder.load_calibrations(), {"test": calibration})
    folder.save_scores(some_scores())  # masks alone: the older table is not theirs
    assert folder.load_calibrations() == {}


def test_the_summary_has_the_keys_that_scripts_read(folder: RunDir) -> None:
    fit = FitResult((), 0, "budget", 1.0, 1.0, 0.0)
    folder.save_summary(some_scores(), [fit], Reference(otsu_dice=math.nan), seconds_total=12.34)
    summary = folder.load_summary()
    assert summary["test"]["dice_mean"] == 0.8333
    assert summary["test"]["dice_ci95"] == [0.6, 1.0]
    assert summary["test"]["n_images"] == 2
    assert summary["test"]["precision"] is None  # JSON has no NaN
    assert summary["baseline"]["otsu_dice_mean"] is None
    assert summary["seconds_total"] == 12.3
    assert summary["stopped_because"] == "budget"


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("audit.json", RunDir.load_audit),
        ("fit.json", RunDir.load_fit),
        ("postprocess.json", RunDir.load_postprocess),
        ("plan.yaml", RunDir.load_plan),
        ("summary.json", RunDir.load_summary),
        ("manifest.json", RunDir.load_manifest),
        ("history.csv", RunDir.load_history),
        ("scores.csv", RunDir.load_scores),
        ("calibration.json", RunDir.load_calibrations),
        ("split.csv", RunDir.load_split),
    ],
)
@pytest.mark.parametrize("content", [b"id\nx\n", b"{\n1", b"[1]\n1", b"\xff\xfe"])
def test_a_damaged_file_is_named(folder: RunDir, name: str, load: object, content: bytes) -> None:
    (folder.path / name).write_bytes(content)
    with pytest.raises(CalcoError, match=name.replace(".", r"\.")):
        load(folder)  # type: ignore[operator]

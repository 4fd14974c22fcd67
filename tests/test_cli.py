"""Commands as a user types them: output, exit codes, and no traceback ever."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from calco import cli
from calco.cli import app
from calco.errors import CalcoError
from calco.invocation import parse_duration

TINY = [
    *("--set", "model.family=unet", "--set", "model.width=4", "--set", "model.depth=2"),
    *("--set", "fit.crop_px=32", "--set", "fit.batch=4", "--set", "evaluate.bootstrap=100"),
]


def calco(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all it printed, on one line."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2m5s", 125)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "20 minutes", "-5", "1d", "h", "1h30", "1.2.3"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(CalcoError, match="20m or 1h30m"):
        parse_duration(text)


def test_train_predict_submit_evaluate_report(discs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output = calco("train", discs, "-o", run, "--epochs", "2", *TINY)
    assert code == 0
    assert "20 usable samples" in output
    assert "report.html" in output
    for name in ("config.yaml", "manifest.json", "samples.csv", "audit.json", "plan.yaml"):
        assert (run / name).exists()
    for name in ("split.csv", "history.csv", "best.safetensors", "postprocess.json"):
        assert (run / name).exists()
    for name in ("scores.csv", "summary.json", "report.html", "curves.png"):
        assert (run / name).exists()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test"]["n_images"] == 3
    assert summary["epochs"] == 2
    assert 0 <= summary["test"]["dice_ci95"][0] <= summary["test"]["dice_mean"] <= 1

    out = tmp_path / "traced"
    images = discs / "images"
    like = tmp_path / "sample_submission.csv"
    ids = sorted((p.stem for p in images.iterdir()), reverse=True)
    like.write_text("id,rle_mask\n" + "".join(f"{i},1 1\n" for i in ids))
    submission = tmp_path / "submission.csv"
    code, output = calco(
        "predict", run, images, "-o", out, "--submission", submission, "--like", like
    )
    assert code == 0
    rows = list(csv.reader(submission.open()))
    assert rows[0] == ["id", "rle_mask"]
    assert [row[0] for row in rows[1:]] == ids
    mask = cv2.imread(str(out / "disc00.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (48, 48)
    assert set(np.unique(mask)) <= {0, 255}

    code, output = calco("evaluate", "--pred", out, "--truth", discs / "masks", "--json")
    assert code == 0
    assert '"n_images": 20' in output
    code, output = calco("evaluate", run, "--subset", "test")
    assert code == 0
    assert f"{summary['test']['dice_mean']:.4f}" in output  # the score can be had again
    code, output = calco("report", run, run)
    assert code == 0
    assert f"{summary['test']['dice_mean']:.4f}" in output


def test_folds_are_one_option(discs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, output = calco("train", discs, "-o", run, "--epochs", "1", "--folds", "2", *TINY)
    assert code == 0
    assert "17 in 2 folds, 3 test" in output
    code, output = calco("predict", run, discs / "images" / "disc00.png", "-o", tmp_path / "out")
    assert code == 0
    code, output = calco("train", discs, "-o", tmp_path / "none", "--folds", "1", *TINY)
    assert code == 2
    assert "split.folds" in output
    assert not (tmp_path / "none").exists()


def test_runs_are_compared_in_a_sentence(finished_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    code, output = calco("report", finished_run, other)
    assert code == 0
    assert "other against discs: 0.0 Dice points" in output
    assert "not shown" in output
    code, output = calco("report", finished_run, other, "--json")
    tree = json.loads(output)
    assert [row["run"] for row in tree["runs"]] == ["discs", "other"]
    assert tree["pairs"][0]["p_value"] == 1.0


def test_scores_are_json_without_nan(finished_run: Path) -> None:
    code, output = calco("evaluate", finished_run, "--quiet", "--json")
    assert code == 0
    assert json.loads(output)["test"]["n_images"] == 3
    assert "NaN" not in output


def test_a_finished_run_is_not_trained_again(discs: Path, finished_run: Path) -> None:
    before = (finished_run / "best.safetensors").read_bytes()
    code, output = calco("train", discs, "-o", finished_run, "--resume")
    assert code == 0
    assert "nothing to resume" in output
    assert (finished_run / "best.safetensors").read_bytes() == before


def test_an_output_that_cannot_be_written_is_one_line(discs: Path, tmp_path: Path) -> None:
    code, output = calco("audit", discs, "-o", tmp_path / "nowhere" / "audit.json")
    assert code == 2
    assert "error[IO_ERROR]" in output


def test_a_bad_image_fails_alone(finished_run: Path, discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    shutil.copytree(discs / "images", folder)
    (folder / "broken.png").write_bytes(b"<html>not found</html>")
    code, output = calco("predict", finished_run, folder, "-o", tmp_path / "out")
    assert code == 3
    assert "broken.png" in output
    assert len(list((tmp_path / "out").glob("*.png"))) == 20


@pytest.mark.parametrize(
    "option",
    [
        *(["--prob"], ["--overlay"], ["--overwrite"], ["--tile", "512"], ["--overlap", "64"]),
        *(["--level", "1"], ["--as", "coco"], ["--submission", "a.csv"], ["--like", "b.csv"]),
        *(["--engine", "openvino"], ["--objects", "watershed"]),
    ],
    ids=lambda option: option[0],
)
def test_a_cluster_refuses_what_it_would_not_do(
    finished_run: Path, discs: Path, tmp_path: Path, option: list[str]
) -> None:
    line = ("predict", finished_run, discs / "images", "-o", tmp_path / "out")
    code, said = calco(*line, "--cluster", "ray", *option)
    assert (code, "error[CLUSTER]" in said, option[0] in said) == (2, True, True)
    assert not (tmp_path / "out").exists()


def test_objects_are_written_for_other_programs(
    finished_run: Path, discs: Path, tmp_path: Path
) -> None:
    image, out = discs / "images" / "disc00.png", tmp_path / "out"
    formats = ("--as", "coco", "--as", "geojson", "--objects", "watershed")
    for _ in range(2):  # again over its own files, too
        code, output = calco("predict", finished_run, image, "-o", out, *formats)
        assert code == 0
        assert "objects for coco, geojson: 2 files" in output
    tree = json.loads((out / "annotations.coco.json").read_text())
    assert [i["file_name"] for i in tree["images"]] == [os.path.relpath(image, out)]
    assert (out / "geojson" / "disc00.geojson").exists()
    code, output = calco("predict", finished_run, image, "-o", out, "--as", "cocoa")
    assert code == 2
    assert "labelme" in output


def test_results_are_numbered_when_no_folder_is_given(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "run1").mkdir(parents=True)
    code, _ = calco("train", discs, "--epochs", "1", *TINY)
    assert code == 0
    assert (tmp_path / "results" / "run2" / "report.html").exists()


BAD = {
    "an empty folder": (["train", "{empty}"], "no images"),
    "a folder that is not there": (["train", "{tmp}/nowhere"], "nowhere"),
    "an unknown key": (["train", "{discs}", "--set", "fit.leraning_rate=1"], "fit.learning_rate"),
    "a wrong type": (["train", "{discs}", "--set", "fit.epochs=many"], "fit.epochs"),
    "a value out of range": (["train", "{discs}", "--epochs", "0"], "fit.epochs"),
    "a budget that is none": (["train", "{discs}", "--budget", "soon"], "20m"),
    "the folder of another run": (["train", "{discs}", "-o", "{run}"], "--resume"),
    "resume without a run": (["train", "{discs}", "-o", "{tmp}/x", "--resume"], "no such run"),
    "resume with settings": (
        ["train", "{discs}", "-o", "{run}", "--resume", "--seed", "3"],
        "seed",
    ),
    "a missing config": (["train", "{discs}", "--config", "{tmp}/no.yaml"], "no.yaml"),
    "predict without a run": (["predict", "{tmp}/x", "{discs}", "-o", "{tmp}/o"], "no such run"),
    "an unknown dialect": (
        ["predict", "{run}", "{discs}", "-o", "{tmp}/o", "--dialect", "tsg"],
        "tgs",
    ),
    "an unknown engine": (
        ["predict", "{run}", "{discs}", "-o", "{tmp}/o", "--engine", "onx"],
        "auto, torch, onnx, openvino",
    ),
    "a model of no known ending": (["export", "{run}", "-o", "{tmp}/model.bin"], "model.onnx"),
    "a format with another's ending": (
        ["export", "{run}", "-o", "{tmp}/model.onnx", "--format", "openvino"],
        "name it model.xml",
    ),
    "an unknown format": (
        ["export", "{run}", "-o", "{tmp}/model.onnx", "--format", "tflite"],
        "onnx, openvino, torch",
    ),
    "8-bit numbers for another engine": (
        ["export", "{run}", "-o", "{tmp}/model.onnx", "--int8"],
        "name it model.xml",
    ),
    "evaluate with nothing": (["evaluate"], "--pred and --truth"),
    "an unknown part": (["evaluate", "{run}", "--subset", "tset"], "train | validation | test"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(
    name: str, discs: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    arguments, told = BAD[name]
    places = {"empty": tmp_path / "empty", "tmp": tmp_path, "discs": discs, "run": finished_run}
    code, output = calco(*(a.format(**places) for a in arguments))
    assert code == 2
    assert output.count("error[") == 1
    assert told in output
    assert not (tmp_path / "results").exists()  # nothing half-written


def test_audit_exit_codes(discs: Path, tmp_path: Path) -> None:
    assert calco("audit", discs)[0] == 0
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    (data / "images" / "disc03.png").write_bytes(b"")
    code, output = calco("audit", data)
    assert code == 2
    assert "IMG_EMPTY" in output
    shutil.copy(discs / "images" / "disc04.png", data / "images" / "disc03.png")
    assert calco("audit", data)[0] == 0
    assert calco("audit", data, "--strict")[0] == 1  # twins


def test_audit_writes_a_page_with_its_twin_or_json_alone(discs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code, output = calco("audit", discs, "-o", out / "audit.html")
    assert code == 0
    assert f"report    {out / 'audit.html'}" in output
    assert sorted(p.name for p in out.iterdir()) == ["audit.html", "audit.json"]
    twin = (out / "audit.json").read_text()
    assert calco("audit", discs, "-o", out / "alone.json")[0] == 0
    assert not (out / "alone.html").exists()
    assert (out / "alone.json").read_text() == twin
    assert len(json.loads(twin)["facts"]) == 20


def test_a_page_is_written_whatever_the_exit_code(discs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    shutil.copy(data / "images" / "disc04.png", data / "images" / "disc03.png")
    page = tmp_path / "audit.html"
    assert calco("audit", data, "-o", page, "--strict")[0] == 1
    assert "Ready to train, but look at" in page.read_text()
    (data / "images" / "disc03.png").write_bytes(b"")
    assert calco("audit", data, "-o", page)[0] == 2
    assert "Not ready" in page.read_text()


@pytest.mark.parametrize("name", ["audit.pdf", "audit", "audit.html.txt"])
def test_an_audit_of_another_ending_is_refused_before_it_begins(tmp_path: Path, name: str) -> None:
    code, output = calco("audit", tmp_path / "nowhere", "-o", tmp_path / name)
    assert code == 2
    assert output.count("error[") == 1
    assert "audit.html or audit.json" in output
    assert not list(tmp_path.iterdir())


def test_an_audit_without_o_writes_nothing(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(discs.rglob("*"))
    assert calco("audit", discs)[0] == 0
    assert not list(tmp_path.iterdir())
    assert sorted(discs.rglob("*")) == before


def test_a_damaged_model_is_named_and_not_run(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    blob = bytearray((run / "best.safetensors").read_bytes())
    blob[len(blob) // 2] ^= 1
    (run / "best.safetensors").write_bytes(blob)
    code, output = calco("predict", run, finished_run, "-o", tmp_path / "out")
    assert code == 2
    assert "CKPT_HASH" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_module_and_the_script_are_the_same_command() -> None:
    told = [
        subprocess.run([*command, "version"], capture_output=True, text=True, check=True).stdout
        for command in (
            [sys.executable, "-m", "calco"],
            [str(Path(sys.executable).parent / "calco")],
        )
    ]
    assert told[0] == told[1]


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "share_cores", lambda: None)
    monkeypatch.setattr(cli, "app", lambda: signal.raise_signal(signal.SIGTERM))
    try:
        with pytest.raises(KeyboardInterrupt):
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)

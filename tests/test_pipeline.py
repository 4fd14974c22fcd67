"""Stages in order, on disk before the next begins, and again from disk."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from calco.config import Config
from calco.errors import CalcoError, StoppedError
from calco.pipeline import Listener, resume, run, score_run
from calco.records import Audit, FitResult, Plan, Postprocess, SampleIndex, Scores, Split
from calco.runs import RunDir
from calco.stages.fit import Watch
from calco.training.budget import Clock


def test_every_record_is_told_in_order(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    heard: list[object] = []
    folder = RunDir(tmp_path)
    run(discs, tiny_config, folder, Clock(), Listener(heard.append))
    kinds = [SampleIndex, Audit, Split, Plan, FitResult, Postprocess, Scores]
    assert [type(record) for record in heard] == kinds
    split = heard[2]
    assert isinstance(split, Split)
    assert folder.load_split().assignments == split.assignments
    assert folder.load_split().index.samples == split.index.samples  # paths found again
    assert folder.load_plan() == heard[3]
    assert folder.load_postprocess() == heard[5]


def test_bad_data_stops_before_training(discs: Path, tiny_config: Config, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    for name in ("disc01.png", "disc02.png"):
        (data / "images" / name).write_bytes(b"")
    folder = RunDir(tmp_path / "run")
    with pytest.raises(CalcoError) as caught:
        run(data, tiny_config, folder, Clock(), Listener())
    assert [p.code for p in caught.value.problems] == ["IMG_EMPTY", "IMG_EMPTY"]  # both, not one
    assert not folder.path.exists()


def test_a_stopped_run_has_a_report_and_resumes(
    discs: Path,
    tiny_config: Config,
    tmp_path: Path,
    stop_at: Callable[[int, signal.Signals], Watch],
) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    folder = RunDir(tmp_path / "run")
    listener = Listener(watch=stop_at(5, signal.SIGINT))
    with pytest.raises(StoppedError, match="SIGINT"):
        run(data, tiny_config, folder, Clock(), listener)
    assert folder.report_html.exists()
    assert not folder.summary_json.exists()

    shutil.copy(data / "images" / "disc03.png", tmp_path / "kept.png")
    shutil.copy(data / "images" / "disc04.png", data / "images" / "disc03.png")
    with pytest.raises(CalcoError, match="disc03"):  # the data changed: not the same run
        resume(folder, Clock(), Listener())
    shutil.copy(tmp_path / "kept.png", data / "images" / "disc03.png")

    scores = resume(folder, Clock(), Listener())
    assert scores.summaries["test"].n_images == 3
    assert folder.load_summary()["epochs"] == 2


def test_a_run_scores_other_data(finished_run: Path, tmp_path: Path) -> None:
    from tests.conftest import draw_discs

    other = draw_discs(tmp_path / "other", 4, side_px=64, seed=9)
    scores = score_run(RunDir(finished_run), other, "test")
    assert scores.summaries["other"].n_images == 4


def test_outputs_do_not_name_the_machine(finished_run: Path) -> None:
    """No home folder, host or absolute data path in anything meant to be passed on."""
    for path in finished_run.iterdir():
        if path.suffix in (".json", ".yaml", ".csv", ".html"):
            text = path.read_text(encoding="utf-8")
            assert str(Path.home()) not in text
            assert str(finished_run) not in text, path.name

"""What finished runs tell of their split."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calco.config import Config
from calco.errors import CalcoError
from calco.inference.predictor import Predictor
from calco.pipeline import Listener, run
from calco.runs import RunDir
from calco.studies import measure_leak
from calco.training.budget import Clock


def test_what_a_random_split_scores_is_shown(
    discs: Path, tiny_config: Config, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(discs, data)
    for part in ("images", "masks"):
        for number in range(8):  # a second time under another name: known to the audit
            name = f"disc{number:02d}.png"
            shutil.copy(data / part / name, data / part / f"again {name}")
    folder = RunDir(tmp_path / "run")
    scores = run(data, tiny_config, folder, Clock(), Listener())
    leak = measure_leak(folder, Listener())
    assert leak.n_together == 16
    assert leak.grouped_dice == pytest.approx(scores.summaries["test"].dice_mean)
    assert 0 < leak.random_dice <= 1
    assert f"instead of {leak.grouped_dice:.3f}" in folder.report_html.read_text(encoding="utf-8")
    own = RunDir(folder.path / "random_split")
    assert Predictor.from_run(own.path).params == own.load_postprocess()


def test_without_groups_there_is_no_leak_to_show(finished_run: Path) -> None:
    with pytest.raises(CalcoError, match="LEAK_NONE"):
        measure_leak(RunDir(finished_run), Listener())

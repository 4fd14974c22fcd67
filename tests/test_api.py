"""The public names, imported lazily, do what the README says."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import pytest

import calco

ROOT = Path(__file__).resolve().parents[1]


def test_importing_calco_loads_nothing_heavy() -> None:
    script = "import sys, calco; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_loaded_run_traces_files_and_arrays_alike(finished_run: Path, discs: Path) -> None:
    model = calco.load(finished_run)
    path = discs / "images" / "disc05.png"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    mask = model.predict(path)
    assert mask.shape == (48, 48)
    assert mask.dtype == bool
    assert (mask == model.predict(image)).all()


def test_the_examples_of_the_page_run(
    finished_run: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    assert len(blocks) == 7
    for number in (1, 2):
        shutil.copytree(finished_run, tmp_path / "results" / f"run{number}")
    (tmp_path / "new").mkdir()
    for name in "abc":
        shutil.copy(discs / "images" / "disc05.png", tmp_path / "new" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    told = io.StringIO()
    with redirect_stdout(told):
        exec("\n".join(blocks), known)  # noqa: S102 - the page's own code
    [printed] = re.findall(r"^    (error.*)$", page, flags=re.M)
    assert told.getvalue().splitlines()[-1] == printed
    assert known["mask"].shape == known["prob"].shape == (48, 48)
    assert (known["mask"] == known["first"]).all()  # a run with its copy is that run
    assert len(known["masks"]) == 3


def test_several_runs_are_loaded_as_one(finished_run: Path, discs: Path) -> None:
    image = discs / "images" / "disc05.png"
    one, both = calco.load(finished_run), calco.load([finished_run, str(finished_run)])
    assert both.prob(image) == pytest.approx(one.prob(image), abs=1e-6)
    with pytest.raises(calco.CalcoError, match="no run was given"):
        calco.load([])
    with pytest.raises(calco.CalcoError, match="nowhere"):
        calco.load("nowhere")


def test_training_is_refused_where_torchrun_has_started_several(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(calco.CalcoError, match=r"TEAM_STARTED.*-m calco train"):
        calco.train(discs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = calco.tarin

"""The public names, imported lazily, do what the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import calco


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


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = calco.tarin

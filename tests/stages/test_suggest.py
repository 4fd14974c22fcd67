"""What to label next: doubtful and diverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import draw_discs
from typer.testing import CliRunner

from calco.cli import app
from calco.errors import CalcoError
from calco.files import read_csv
from calco.inference.predictor import Predictor
from calco.stages.suggest import choose_diverse, suggest


def signatures(*kinds: int) -> NDArray[np.float32]:
    """Unit vectors: images of one kind look the same, of two kinds nothing alike."""
    return np.eye(max(kinds) + 1, dtype=np.float32)[list(kinds)]


def test_doubt_decides_among_images_that_are_nothing_alike() -> None:
    chosen = choose_diverse(np.array([0.9, 0.3, 0.8, 0.5]), signatures(0, 1, 2, 3), 3)
    assert [i for i, _ in chosen] == [1, 3, 2]
    assert [likeness for _, likeness in chosen] == [0, 0, 0]


def test_copies_of_a_doubtful_image_come_last() -> None:
    estimates = np.array([0.1, 0.1, 0.1, 0.8, 0.9])
    chosen = choose_diverse(estimates, signatures(0, 0, 0, 1, 2), 5)
    assert [i for i, _ in chosen] == [0, 3, 4, 1, 2]
    assert [likeness for _, likeness in chosen] == [0, 0, 0, 1, 1]


def test_variety_decides_where_there_is_no_doubt() -> None:
    chosen = choose_diverse(np.ones(4), signatures(0, 0, 1, 1), 2)
    assert [i for i, _ in chosen] == [0, 2]


def test_there_are_no_more_than_there_are() -> None:
    assert len(choose_diverse(np.array([0.5]), signatures(0), 20)) == 1


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_discs(tmp_path_factory.mktemp("new") / "data", 6, seed=5) / "images"


def test_every_image_is_ranked_once(finished_run: Path, unlabelled: Path) -> None:
    predictor = Predictor.from_run(finished_run)
    found, problems = suggest(predictor, [unlabelled], 10)
    assert sorted(s.id for s in found) == [f"disc{i:02d}" for i in range(6)]
    assert [s.rank for s in found] == [1, 2, 3, 4, 5, 6]
    assert found[0].estimated_dice == min(s.estimated_dice for s in found)
    assert problems == ()


def test_an_unreadable_image_is_named_and_the_others_are_ranked(
    finished_run: Path, unlabelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "next.csv"
    arguments = ["suggest", str(finished_run), str(unlabelled), str(tmp_path), "-n", "3"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(out)])
    assert result.exit_code == 3
    assert "bad.png" in result.stderr
    assert [row["rank"] for row in read_csv(out)] == ["1", "2", "3"]
    assert len(result.stdout.splitlines()) == 3


def test_nothing_readable_is_an_error(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(CalcoError, match=r"bad\.png"):
        suggest(Predictor.from_run(finished_run), [tmp_path], 3)

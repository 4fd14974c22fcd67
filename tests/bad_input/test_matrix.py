"""Every bad input that is known: accepted as it should be, or refused in one line with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from calco.errors import CalcoError

from .drawing import MASK, RGB, encoded, image
from .matrix import (
    Accepted,
    Holds,
    Raised,
    Refused,
    Row,
    command,
    contents,
    look,
    memory_below,
    require_accepted,
    require_problem,
)
from .rows_folders import FOLDERS
from .rows_images import IMAGES
from .rows_masks import MASKS
from .rows_outputs import OUTPUTS
from .rows_tables import TABLES

MATRIX = (*IMAGES, *FOLDERS, *MASKS, *TABLES, *OUTPUTS)


@pytest.fixture
def data(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the input of a row; commands run in an empty folder beside it."""
    root, beside = tmp_path / "data", tmp_path / "here"
    root.mkdir()
    beside.mkdir()
    row.build(root)
    if row.patch:
        row.patch(monkeypatch)
    monkeypatch.chdir(beside)
    return root


def rows(*kinds: type) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "row", [r for r in MATRIX if isinstance(r.expect, kinds)], ids=str
    )


@rows(Refused)
def test_refused(row: Row, data: Path) -> None:
    """The same error from the library and, on one line, from the command, which leaves no trace."""
    assert isinstance(row.expect, Refused)
    before = contents(data.parent)
    with memory_below(row.expect.peak_mb):
        _, problems = look(data / row.at, row.settings)
    problem = require_problem(row.expect, problems, data)
    exit_code, output = command(data / row.at, row.settings)
    assert exit_code == 2
    errors = [line for line in output.splitlines() if line.startswith("error[")]
    assert errors.count(str(problem)) == 1
    assert len(errors) == 1 + len(row.expect.also)
    assert contents(data.parent) == before


@rows(Accepted)
def test_accepted(row: Row, data: Path) -> None:
    """Read as it was drawn; what is worth knowing is said by the command as well."""
    assert isinstance(row.expect, Accepted)
    audit, problems = look(data / row.at, row.settings)
    require_accepted(row.expect, audit, problems)
    if row.expect.code:
        exit_code, output = command(data / row.at, row.settings)
        assert exit_code == 0
        (line,) = [line for line in output.splitlines() if f"[{row.expect.code}]" in line]
        assert row.expect.told in line


@rows(Raised)
def test_refused_by_another_entry(row: Row, data: Path) -> None:
    assert isinstance(row.expect, Raised)
    with pytest.raises(CalcoError) as caught:
        row.expect.by(data)
    require_problem(row.expect, caught.value.problems, data)


@rows(Holds)
def test_done_right_by_another_entry(row: Row, data: Path) -> None:
    assert isinstance(row.expect, Holds)
    row.expect.by(data)


def test_no_row_is_missing_and_no_case_stands_twice() -> None:
    assert {row.number for row in MATRIX} == set(range(1, 63))
    names = [str(row) for row in MATRIX]
    assert len(set(names)) == len(names)


# --- negative controls: a judge who accepts anything would prove nothing


@pytest.mark.parametrize(
    "wrong",
    [
        Refused("IMG_FORMAT", "images/x.png", "copy it again"),
        Refused("IMG_EMPTY", "images/a.png", "copy it again"),
        Refused("IMG_EMPTY", "images/x.png", "draw it again"),
        Refused("IMG_EMPTY", "images/x.png", "copy it again", "half a file"),
        Refused("IMG_EMPTY", "images/x.png", "copy it again", also=("ORPHAN_MASK",)),
    ],
)
def test_another_verdict_does_not_pass(wrong: Refused, tmp_path: Path) -> None:
    image(b"")(tmp_path)
    audit, problems = look(tmp_path, {})
    require_problem(Refused("IMG_EMPTY", "images/x.png", "copy it again"), problems, tmp_path)
    with pytest.raises((AssertionError, ValueError)):
        require_problem(wrong, problems, tmp_path)
    with pytest.raises(AssertionError):
        require_accepted(Accepted(sample="a", mask=None), audit, problems)


@pytest.mark.parametrize("change", ["pixels", "mask"])
def test_other_pixels_do_not_pass(change: str, tmp_path: Path) -> None:
    image(encoded(RGB))(tmp_path)
    audit, problems = look(tmp_path, {})
    require_accepted(Accepted(RGB), audit, problems)
    other = Accepted(RGB[..., ::-1]) if change == "pixels" else Accepted(RGB, ~MASK)
    with pytest.raises(AssertionError):
        require_accepted(other, audit, problems)


def test_memory_that_is_taken_is_seen() -> None:
    with pytest.raises(AssertionError), memory_below(1):
        bytearray(2_000_000)

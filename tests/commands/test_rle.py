"""``calco rle``: both ways, and one line for what was typed wrongly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from calco.cli import app


def calco(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, " ".join(result.output.split())


def test_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 255
    cv2.imwrite(str(tmp_path / "m" / "a.png"), mask)
    csv = tmp_path / "t.csv"
    code, output = calco("rle", "encode", tmp_path / "m", "-o", csv, "--dialect", "severstal")
    assert (code, csv.read_text()) == (0, "ImageId_ClassId,EncodedPixels\na,10 2 14 2 18 2\n")
    assert "1 mask, 0 empty, 1 row;" in output
    out = tmp_path / "o"
    code, _ = calco("rle", "decode", csv, "--size", "4x6", "--dialect", "severstal", "-o", out)
    back = cv2.imread(str(out / "a.png"), cv2.IMREAD_UNCHANGED)
    assert code == 0
    assert back is not None
    assert np.array_equal(back, mask)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--images DIR or --size HxW"),
        (("--size", "4"), "height x width"),
        (("--size", "4x6", "--dialect", "tgs", "--base", "0"), "leave out --dialect"),
        (("--size", "4x6", "--dialect", "tsg"), "did you mean tgs"),
        (("--size", "4x6"), "there is no such table"),
    ],
)
def test_what_was_typed_wrongly_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    code, output = calco("rle", "decode", tmp_path / "t.csv", "-o", tmp_path / "o", *arguments)
    assert code == 2
    assert output.count("error[") == 1
    assert told in output
    assert not list(tmp_path.iterdir())

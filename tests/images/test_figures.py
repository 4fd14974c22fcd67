import io
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calco.images.figures import (
    draw_coverage,
    draw_curve,
    draw_curves,
    draw_histogram,
    draw_precision_recall,
    draw_reliability,
    draw_sheet,
)
from calco.records import Calibration, CurvePoint, Epoch, ReliabilityBin

NAN = math.nan


def epoch(number: int, train: float, validation: float) -> Epoch:
    return Epoch(number, number, 1 - train, train, 1 - validation, validation, 1e-3, 1.0)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def inked(data: bytes, color: str) -> int:
    """Count pixels of a colour such as ``0b6e75``."""
    rgb = tuple(bytes.fromhex(color))
    return int((pixels(data) == rgb).all(axis=-1).sum())


HISTORY = [epoch(1, 0.3, NAN), epoch(2, 0.5, 0.4), epoch(3, 0.6, NAN), epoch(4, 0.7, 0.6)]
VALIDATION_INK, TRAIN_INK = "0b6e75", "9aa3aa"


@pytest.mark.parametrize("history", [[], HISTORY[:1], HISTORY, [epoch(1, NAN, NAN)]])
def test_any_history_can_be_drawn(history: list[Epoch]) -> None:
    data = draw_curves(history, best_epoch=4)
    assert data.startswith(b"\x89PNG")
    assert len(data) < 200_000


def test_validated_epochs_are_connected_over_those_in_between() -> None:
    """With NaN in between there is a line, not two lone points: more ink than two epochs apart."""
    lone = draw_curve(HISTORY[1:2], "dice")
    assert inked(draw_curve(HISTORY, "dice"), VALIDATION_INK) > 2 * inked(lone, VALIDATION_INK)


def test_a_history_that_was_never_validated_shows_training_alone() -> None:
    data = draw_curve([epoch(1, 0.2, NAN), epoch(2, 0.9, NAN)], "loss")
    assert inked(data, TRAIN_INK) > 100
    assert inked(data, VALIDATION_INK) == 0


def test_best_epoch_is_marked_only_when_it_was_validated() -> None:
    plain = draw_curves(HISTORY)
    assert draw_curves(HISTORY, best_epoch=3) == plain
    assert draw_curves(HISTORY, best_epoch=4) != plain


def test_infinite_losses_are_left_out() -> None:
    assert draw_curve([epoch(1, -math.inf, 0.5), epoch(2, 0.4, 0.6)], "loss").startswith(b"\x89PNG")


def test_transparent_paper() -> None:
    image = Image.open(io.BytesIO(draw_curve(HISTORY, "loss", paper="none")))
    assert image.getpixel((1, 1)) == (255, 255, 255, 0)


@pytest.mark.parametrize("dices", [[], [1.0], [0.0, 0.5, 1.0], [NAN, 0.3]])
def test_histogram_takes_any_scores(dices: list[float]) -> None:
    assert draw_histogram(dices).startswith(b"\x89PNG")


def test_histogram_leaves_out_what_is_not_finite() -> None:
    assert draw_histogram([0.2, NAN, 0.9]) == draw_histogram([0.2, 0.9])
    assert draw_histogram([0.2, 0.9]) != draw_histogram([0.2, 0.8])


BINS = (
    ReliabilityBin(0.0, 0.5, 90, 0.1, 0.05),
    ReliabilityBin(0.5, 0.75, 0, NAN, NAN),
    ReliabilityBin(0.75, 1.0, 10, 0.9, 0.7),
)
POINTS = (CurvePoint(230, 0.9, 0.5), CurvePoint(100, 0.7, 0.8), CurvePoint(20, 0.12, 1.0))
CALIBRATION = Calibration(100, 12, 0.065, 0.684, BINS, POINTS)
NO_FOREGROUND = Calibration(
    90, 0, 0.1, NAN, BINS[:1], tuple(CurvePoint(p.level, 0.0, NAN) for p in POINTS)
)
NO_PIXELS = Calibration(0, 0, NAN, NAN, BINS[1:2], ())


@pytest.mark.parametrize("calibration", [CALIBRATION, NO_FOREGROUND, NO_PIXELS])
def test_any_calibration_can_be_drawn(calibration: Calibration) -> None:
    for data in (draw_reliability(calibration), draw_precision_recall(calibration, 0.5)):
        assert data.startswith(b"\x89PNG")
        assert len(data) < 100_000


def test_bins_without_pixels_have_no_dot() -> None:
    without = replace(CALIBRATION, bins=(BINS[0], BINS[2]))
    assert draw_reliability(without) == draw_reliability(CALIBRATION)
    assert draw_reliability(replace(CALIBRATION, bins=BINS[:1])) != draw_reliability(CALIBRATION)


def test_without_foreground_there_is_no_curve() -> None:
    assert inked(draw_precision_recall(CALIBRATION), VALIDATION_INK) > 500
    assert inked(draw_precision_recall(NO_FOREGROUND), VALIDATION_INK) == 0


def test_the_threshold_in_use_is_marked_where_it_lies() -> None:
    plain = draw_precision_recall(CALIBRATION)
    assert draw_precision_recall(CALIBRATION, 0.5) != plain
    # level 230 is above 0.90 * 255 = 229.5, and nothing above 0.91 * 255: no pixel, no point
    assert draw_precision_recall(CALIBRATION, 0.90) != plain
    assert draw_precision_recall(CALIBRATION, 0.91) == plain


def test_same_input_same_bytes() -> None:
    assert draw_curves(HISTORY, 4) == draw_curves(HISTORY, 4)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_sheet_grows_by_rows(count: int, rows: int) -> None:
    tile = np.full((20, 30, 3), 120, np.uint8)
    sheet = pixels(draw_sheet([(f"picture {n}", tile) for n in range(count)]))
    assert sheet.shape[0] == rows * 336  # 2.8 inches at 120 dots


def test_captions_are_text_whatever_they_hold() -> None:
    tile = np.zeros((8, 8, 3), np.uint8)
    assert draw_sheet([("$\\frac{a$.png", tile), ("x" * 500, tile)]).startswith(b"\xff\xd8")


def test_an_empty_sheet_is_blank() -> None:
    assert (pixels(draw_sheet([])) > 250).all()


def test_neither_pyplot_nor_torch_is_imported() -> None:
    code = (
        "import sys, calco.images.figures as f; f.draw_curves(())\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_coverage_shows_how_far_doubt_is_from_ideal() -> None:
    ideal = np.linspace(1.0, 0.8, 20)
    good, useless = draw_coverage(0.5 * ideal + 0.4, ideal), draw_coverage(0 * ideal + 0.8, ideal)
    assert good.startswith(b"\x89PNG")
    assert good != useless
    assert draw_coverage(np.array([0.7]), np.array([0.7])).startswith(b"\x89PNG")  # one image

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calco.errors import CalcoError
from calco.formats.pictures import draw_samples, draw_scored, trace, trace_scored
from calco.images.overlays import PRED_COLOR, TRUE_COLOR
from calco.metrics.summary import score_image
from calco.records import FileMask, ImageScore, ImageSpec, MaskCode, Sample, SampleIndex

TRUE = np.zeros((40, 60), bool)
TRUE[10:20, 10:20] = True
PRED = np.zeros_like(TRUE)
PRED[10:20, 35:50] = True


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


@pytest.fixture
def index(tmp_path: Path) -> SampleIndex:
    """Three samples of one picture; the last is unlabelled."""
    image = write_png(tmp_path / "image.png", np.full((40, 60), 150, np.uint8))
    mask = FileMask(write_png(tmp_path / "mask.png", TRUE.astype(np.uint8) * 255))
    samples = (Sample("a", image, mask), Sample("b", image, mask), Sample("c", image))
    return SampleIndex(
        tmp_path, "by hand", samples, ImageSpec(channels=1), MaskCode("values", (255,))
    )


@pytest.fixture
def score(tmp_path: Path) -> ImageScore:
    write_png(tmp_path / "predictions/test/a.png", PRED.astype(np.uint8) * 255)
    return score_image("a", "a", "test", PRED, TRUE)


def colors(picture: np.ndarray) -> set[str]:
    """Name the lines in a picture; they are smooth, so their colours are approximate."""
    named = {"true": TRUE_COLOR, "pred": PRED_COLOR}
    return {n for n, c in named.items() if (np.abs(picture - np.array(c)) < 60).all(axis=-1).any()}


def test_trace_draws_what_there_is(index: SampleIndex) -> None:
    assert colors(trace(index, index.samples[0])) == {"true"}
    assert colors(trace(index, index.samples[0], PRED)) == {"true", "pred"}
    assert colors(trace(index, index.samples[2])) == set()


def test_trace_scored_reads_the_mask_that_was_scored(
    index: SampleIndex, score: ImageScore, tmp_path: Path
) -> None:
    traced = trace_scored(index, score, tmp_path / "predictions")
    assert np.array_equal(traced, trace(index, index.samples[0], PRED))


def test_trace_scored_names_what_is_not_there(
    index: SampleIndex, score: ImageScore, tmp_path: Path
) -> None:
    with pytest.raises(CalcoError, match="not in the audit"):
        trace_scored(index.only(["b"]), score, tmp_path / "predictions")
    with pytest.raises(CalcoError):
        trace_scored(index, score, tmp_path / "elsewhere")


@pytest.mark.parametrize("n", [1, 2, 9])
def test_samples_on_one_sheet(index: SampleIndex, n: int) -> None:
    sheet = Image.open(io.BytesIO(draw_samples(index, n)))
    assert sheet.width == min(n, 3) * 312  # 2.6 inches at 120 dots


def test_scored_images_on_one_sheet(index: SampleIndex, score: ImageScore, tmp_path: Path) -> None:
    assert draw_scored(index, [score], tmp_path / "predictions").startswith(b"\xff\xd8")

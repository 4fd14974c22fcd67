"""Masks of the input's exact size, every input accounted for."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.stages.identity import ALL, Gray, Identity, gray, read, save, save_ten, statuses

import calco.inference.outputs as outputs
import calco.stages.predict as stage
from calco.files import read_csv
from calco.images.io import read_image
from calco.records import ImageSpec, Prediction
from calco.stages.predict import PredictOptions, mask_files, predict_files


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_ten(tmp_path / "in")


# --- exactness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (31, 33), (255, 255), (256, 97)])
def test_the_identity_gives_the_image_back(tmp_path: Path, size: tuple[int, int]) -> None:
    true = gray(*size)
    save(tmp_path / "in/a.png", true)
    (prediction,) = predict_files(Identity(), [tmp_path / "in"], tmp_path / "out", ALL)
    written = read(tmp_path / "out/a.png")
    assert written.dtype == np.uint8
    assert np.array_equal(written, true)
    assert prediction.foreground_fraction == pytest.approx((true > 0).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_upright_for_every_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = gray(31, 33)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    predict_files(Identity(), [tmp_path / "a.png"], tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out/a.png"), upright)


def test_thresholding_the_saved_probability_gives_the_saved_mask(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(tmp_path / "in/a.png", ramp)
    predict_files(Identity(threshold=0.37), [tmp_path / "in"], tmp_path / "out", ALL)
    levels = read(tmp_path / "out/prob/a.png")
    assert np.array_equal(levels, ramp)
    mask = read(tmp_path / "out/a.png")
    assert np.array_equal(mask == 255, levels > 0.37 * 255)
    assert set(np.unique(mask)) == {0, 255}


def test_what_was_not_asked_for_is_not_written(images: Path, tmp_path: Path) -> None:
    predict_files(Identity(), [images], tmp_path / "out")
    assert not (tmp_path / "out/prob").exists()
    assert not (tmp_path / "out/overlay").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_overlays_are_pictures_of_a_sensible_size(tmp_path: Path, channels: int) -> None:
    save(tmp_path / "in/small.png", gray(20, 30))
    save(tmp_path / "in/large.png", np.zeros((30, 3000), np.uint8))
    options = PredictOptions(overlay=True)
    predict_files(Identity(channels=channels), [tmp_path / "in"], tmp_path / "out", options)
    assert read(tmp_path / "out/overlay/small.jpg").shape == (20, 30, 3)
    assert read(tmp_path / "out/overlay/large.jpg").shape[1] == 1024


def test_no_metadata_follows_into_the_outputs(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"  # GPS latitude reference
    exif.get_ifd(0x8825)[2] = (59.0, 55.0, 0.0)
    source = tmp_path / "in.jpg"
    Image.fromarray(gray(16, 16)).save(source, exif=exif)
    assert b"SecretCamera" in source.read_bytes()  # the control
    predict_files(Identity(), [source], tmp_path / "out", ALL)
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in {".png", ".jpg"}:
            assert not Image.open(path).getexif()
            assert b"SecretCamera" not in path.read_bytes()
            assert b"Exif" not in path.read_bytes()


# --- accounting --------------------------------------------------------------------------------


def test_one_bad_image_fails_alone_and_is_named(images: Path, tmp_path: Path) -> None:
    (images / "0003.png").write_text("<html>not found</html>")
    predictions = predict_files(Identity(), [images], tmp_path / "out")
    assert statuses(predictions).count("done") == 9
    (failed,) = [p for p in predictions if p.status == "failed"]
    assert failed.id == "0003"
    assert math.isnan(failed.foreground_fraction)
    assert failed.message.startswith("error[")
    assert len(failed.message.splitlines()) == 1
    assert not (tmp_path / "out/0003.png").exists()
    row = read_csv(tmp_path / "out/manifest.csv")[3]
    assert (row["id"], row["status"], row["message"]) == ("0003", "failed", failed.message)
    assert "0003" not in mask_files(predictions, tmp_path / "out")


def test_the_manifest_has_every_input_once(images: Path, tmp_path: Path) -> None:
    predictions = predict_files(Identity(), [images], tmp_path / "out")
    rows = read_csv(tmp_path / "out/manifest.csv")
    assert tuple(rows[0]) == outputs.MANIFEST_COLUMNS
    assert [float(row["estimated_dice"]) for row in rows] == pytest.approx(
        [p.estimated_dice for p in predictions], abs=1e-5, nan_ok=True
    )
    assert [row["id"] for row in rows] == [p.id for p in predictions]
    assert rows[-1]["id"] == "sub/0009"
    assert rows[-1]["source"] == str(images / "sub/0009.png")
    for name, path in mask_files(predictions, tmp_path / "out").items():
        assert path.is_file(), name


def test_hostile_names_stay_inside_and_inert(tmp_path: Path) -> None:
    names = ["=cmd()", "a\nb", "{id}", "-rf", "..x", "a..b", "%s", "é", "con"]
    for name in names:
        save(tmp_path / "x.png", gray(4, 4))
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / "in" / f"{name}.png")
    before = {p for p in tmp_path.rglob("*") if "out" not in p.parts}
    predictions = predict_files(Identity(), [tmp_path / "in"], tmp_path / "out", ALL)
    assert set(statuses(predictions)) == {"done"}
    assert {p.id for p in predictions} == set(names)
    assert {row["id"] for row in read_csv(tmp_path / "out/manifest.csv")} == set(names)
    after = {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "out")}
    assert after == before


@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of memory"), ValueError("bad"), MemoryError(), cv2.error("-4: no memory")],
)
def test_what_the_network_raises_fails_one_image(
    images: Path, tmp_path: Path, error: Exception
) -> None:
    class Moody(Identity):
        def prob(self, image: Gray) -> NDArray[np.float32]:
            if image.shape[1] == 11:
                raise error
            return super().prob(image)

    predictions = predict_files(Moody(), [images], tmp_path / "out")
    assert statuses(predictions).count("failed") == 1
    assert predictions[4].message.startswith(type(error).__name__)


def test_a_network_that_changes_the_size_is_refused(images: Path, tmp_path: Path) -> None:
    class Shrinking(Identity):
        def prob(self, image: Gray) -> NDArray[np.float32]:
            return super().prob(image)[:-1]

    predictions = predict_files(Shrinking(), [images], tmp_path / "out")
    assert set(statuses(predictions)) == {"failed"}
    assert "PRED_SIZE" in predictions[0].message


def test_progress_is_told_in_order(images: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    predict_files(
        Identity(), [images], tmp_path / "out", None, lambda i, n, p: told.append((i, n, p.id))
    )
    assert [t[:2] for t in told] == [(i, 10) for i in range(1, 11)]
    assert told[0][2] == "0000"


def test_images_overlap_but_not_all_of_them(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    ahead: list[int] = []
    told = 0

    def watched_read(path: Path, spec: ImageSpec) -> Gray:
        started.append(path)
        ahead.append(len(started) - told)
        return read_image(path, spec)

    def tell(i: int, n: int, prediction: Prediction) -> None:
        nonlocal told
        told = i

    class Slow(Identity):
        def prob(self, image: Gray) -> NDArray[np.float32]:
            time.sleep(0.02)  # long enough for the others to run as far as they may
            return super().prob(image)

    monkeypatch.setattr(stage, "read_image", watched_read)
    monkeypatch.setattr(stage, "FILES_AHEAD", 2)
    options = PredictOptions(at_once=2)
    predict_files(Slow(), [images], tmp_path / "out", options, tell)
    assert 2 <= max(ahead) <= 2 + 2 + 1

"""Masks of the input's exact size, restartable, every input accounted for."""

from __future__ import annotations

import hashlib
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import calco.inference.outputs as outputs
import calco.stages.predict as stage
from calco.errors import CalcoError
from calco.files import read_csv, write_atomic
from calco.images.io import read_image
from calco.records import ImageSpec, Postprocess, Prediction
from calco.runs import RunDir
from calco.stages.predict import PredictOptions, mask_files, predict_files

Gray = NDArray[np.uint8]
ALL = PredictOptions(prob=True, overlay=True, model="m1")


class Identity:
    """Sees the image's first channel as the probability; counts what it was asked."""

    def __init__(self, threshold: float = 0.5, channels: int = 1) -> None:
        self.spec = ImageSpec(channels=channels)
        self.params = Postprocess(threshold)
        self.n_asked = 0

    def prob(self, image: Gray) -> NDArray[np.float32]:
        self.n_asked += 1
        return image[..., 0].astype(np.float32) / np.float32(255)


def gray(height: int, width: int, seed: int = 0) -> Gray:
    random = np.random.default_rng(seed)
    return (random.random((height, width)) < 0.4).astype(np.uint8) * np.uint8(255)


def save(path: Path, image: Gray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def read(path: Path) -> Gray:
    return np.asarray(Image.open(path))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images, the last two in a sub-folder."""
    folder = tmp_path / "in"
    for i in range(10):
        name = f"sub/{i:04}.png" if i > 7 else f"{i:04}.png"
        save(folder / name, gray(9, 7 + i, seed=i))
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Hash every file for people, times aside."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != outputs.JOURNAL:
            data = path.read_bytes()
            if path.name == outputs.MANIFEST:
                rows = [{**row, "seconds": ""} for row in read_csv(path)]
                data = repr(rows).encode()
            hashes[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return hashes


def statuses(predictions: Sequence[Prediction]) -> list[str]:
    return [p.status for p in predictions]


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
            if self.n_asked == 4:
                self.n_asked += 1
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


def test_images_are_read_ahead_but_not_all_at_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    ahead: list[int] = []

    def slow_read(path: Path, spec: ImageSpec) -> Gray:
        started.append(path)
        return read_image(path, spec)

    class Watching(Identity):
        def prob(self, image: Gray) -> NDArray[np.float32]:
            time.sleep(0.02)  # long enough for the reader to run as far as it may
            self.n_asked += 1
            ahead.append(len(started) - self.n_asked)
            return image[..., 0].astype(np.float32)

    monkeypatch.setattr(stage, "read_image", slow_read)
    predict_files(Watching(), [images], tmp_path / "out")
    assert max(ahead) == stage.AHEAD


# --- again, after a kill, with another model ---------------------------------------------------


def test_a_rerun_keeps_what_is_done(images: Path, tmp_path: Path) -> None:
    first = predict_files(Identity(), [images], tmp_path / "out", ALL)
    before, again = tree(tmp_path / "out"), Identity()
    assert predict_files(again, [images], tmp_path / "out", ALL) == first
    assert again.n_asked == 0
    assert tree(tmp_path / "out") == before


def test_without_a_model_identity_everything_is_done_again(images: Path, tmp_path: Path) -> None:
    predict_files(Identity(), [images], tmp_path / "out")
    again = Identity()
    predict_files(again, [images], tmp_path / "out")
    assert again.n_asked == 10


def test_a_changed_a_missing_and_a_new_file_are_done(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    save(images / "0001.png", gray(5, 5, seed=99))
    (out / "prob/0002.png").unlink()
    save(images / "new.png", gray(5, 5, seed=98))
    again = Identity()
    predict_files(again, [images], out, ALL)
    assert again.n_asked == 3
    fresh = tmp_path / "fresh"
    predict_files(Identity(), [images], fresh, ALL)
    assert tree(out) == tree(fresh)


def test_asking_for_more_does_the_images_again(images: Path, tmp_path: Path) -> None:
    predict_files(Identity(), [images], tmp_path / "out", PredictOptions(model="m1"))
    again = Identity()
    predict_files(again, [images], tmp_path / "out", ALL)
    assert again.n_asked == 10


def test_a_file_that_turns_bad_loses_its_old_mask(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    (images / "0001.png").write_bytes(b"")
    predictions = predict_files(Identity(), [images], out, ALL)
    assert predictions[1].status == "failed"
    assert not list(out.rglob("0001.*"))


@pytest.mark.parametrize("change", ["weights", "threshold"])
def test_another_model_is_refused_unless_overwriting(
    images: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, PredictOptions(model="m1"))
    before = tree(out)
    other = Identity(threshold=0.3) if change == "threshold" else Identity()
    model = "m2" if change == "weights" else "m1"
    with pytest.raises(CalcoError, match="OUT_OTHER_MODEL"):
        predict_files(other, [images], out, PredictOptions(model=model))
    assert tree(out) == before
    predict_files(other, [images], out, PredictOptions(model=model, overwrite=True))
    assert other.n_asked == 10


def test_predictions_of_other_images_are_neither_mixed_nor_lost(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    before = tree(out)
    with pytest.raises(CalcoError, match=r"OUT_OTHER_IMAGES.*0000, 0001"):
        predict_files(Identity(), [images / "sub"], out, ALL)
    assert tree(out) == before
    options = PredictOptions(prob=True, overlay=True, model="m1", overwrite=True)
    predict_files(Identity(), [images / "sub"], out, options)
    assert sorted(p.name for p in out.glob("*.png")) == ["0008.png", "0009.png"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_predict import ALL, Identity
from calco.stages.predict import predict_files
import calco.inference.outputs as outputs

whole, count, limit, where = outputs.write_atomic, 0, int(sys.argv[4]), sys.argv[5]

def dying(path, data):
    global count
    count += path.suffix in (".png", ".jpg")
    if count > limit:
        if where == "before":
            path.with_name(f".{path.name}.{os.getpid()}-00000000.tmp").write_bytes(data[:9])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(path, data)
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, data)

outputs.write_atomic = dying
predict_files(Identity(), [Path(sys.argv[1])], Path(sys.argv[2]), ALL)
"""


@pytest.mark.parametrize(
    ("limit", "where"), [(0, "before"), (7, "after"), (13, "before"), (29, "after")]
)
def test_a_killed_run_continues_to_the_same_tree(
    images: Path, tmp_path: Path, limit: int, where: str
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = [images, out, Path(__file__).parent, limit, where]
    run = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (out / "manifest.csv").exists()  # what is not complete does not look complete
    for path in out.rglob("[0-9]*.png"):
        assert read(path).size  # and nothing has half a file
    again = Identity()
    predict_files(again, [images], out, ALL)
    assert again.n_asked == 10 - limit // 3
    predict_files(Identity(), [images], whole, ALL)
    assert tree(out) == tree(whole)


def test_no_stale_overlay_stays_beside_a_new_mask(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    save(images / "0001.png", gray(5, 5, seed=99))
    predict_files(Identity(), [images], out, PredictOptions(model="m1"))
    assert not (out / "overlay/0001.jpg").exists()
    assert (out / "overlay/0002.jpg").exists()  # still true of its mask


def test_a_hostile_journal_removes_nothing_outside(images: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.png"
    predict_files(Identity(), [images], out, ALL)
    victim.write_bytes(b"precious")
    line = (
        '{"id": "ID", "size": 1, "mtime_ns": 1, "outputs": ["mask"],'
        ' "foreground_fraction": 0, "estimated_dice": 1, "seconds": 0}\n'
    )
    with (out / outputs.JOURNAL).open("a") as journal:
        for name in ("../victim", str(tmp_path / "victim"), "x/../../victim"):
            journal.write(line.replace("ID", name))
    options = PredictOptions(overwrite=True, model="m2")
    predict_files(Identity(), [images], out, options)
    assert victim.read_bytes() == b"precious"


def test_a_torn_or_foreign_journal_only_costs_time(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(Identity(), [images], out, ALL)
    journal = out / outputs.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30] + b'\n{"id": 3}\nnonsense\n')
    again = Identity()
    predict_files(again, [images], out, ALL)
    assert again.n_asked == 1


def test_a_full_disk_stops_with_advice(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "0004.png":
            raise OSError(28, "No space left on device")
        write_atomic(path, data)

    monkeypatch.setattr(outputs, "write_atomic", full)
    with pytest.raises(CalcoError, match=r"OUT_WRITE.*0004.*No space left.*make room"):
        predict_files(Identity(), [images], tmp_path / "out", PredictOptions(model="m1"))
    monkeypatch.undo()
    again = Identity()
    predict_files(again, [images], tmp_path / "out", PredictOptions(model="m1"))
    assert again.n_asked == 6


# --- where outputs may go ----------------------------------------------------------------------


def test_the_input_folder_is_no_output(images: Path) -> None:
    for out in (images, images / "sub" / ".."):
        with pytest.raises(CalcoError, match="OUT_IS_INPUT"):
            predict_files(Identity(), [images], out)


def test_no_prediction_replaces_an_input_even_when_overwriting(tmp_path: Path) -> None:
    save(tmp_path / "a.png", gray(4, 4))
    before = (tmp_path / "a.png").read_bytes()
    options = PredictOptions(overwrite=True)
    with pytest.raises(CalcoError, match="OUT_IS_INPUT"):
        predict_files(Identity(), [tmp_path / "a.png"], tmp_path, options)
    assert (tmp_path / "a.png").read_bytes() == before


def test_an_output_below_the_input_is_fine_and_stable(images: Path) -> None:
    for _ in range(2):
        predictions = predict_files(Identity(), [images], images / "traced", ALL)
        assert len(predictions) == 10


def test_a_folder_with_other_files_is_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(CalcoError, match=r"OUT_NOT_EMPTY.*thesis\.txt"):
        predict_files(Identity(), [images], out)
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    predict_files(Identity(), [images], out, PredictOptions(overwrite=True))
    assert (out / "thesis.txt").read_text() == "precious"


def test_a_file_is_no_folder(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(CalcoError, match="OUT_IS_FILE"):
        predict_files(Identity(), [images], tmp_path / "out")


def test_a_folder_that_takes_no_file_is_named_before_work(images: Path) -> None:
    tracer = Identity()
    with pytest.raises(CalcoError, match="OUT_WRITE"):
        predict_files(tracer, [images], images / "0000.png" / "out")
    assert tracer.n_asked == 0


def test_a_linked_sub_folder_leads_nowhere_else(images: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    save(images / "sub/deep/x.png", gray(3, 3))
    with pytest.raises(CalcoError, match="OUT_ESCAPES"):
        predict_files(Identity(), [images], out, PredictOptions(overwrite=True))
    assert not list(elsewhere.iterdir())


def test_two_predictions_into_one_folder_exclude_each_other(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with RunDir(out).locked(), pytest.raises(CalcoError, match="RUN_LOCKED"):
        predict_files(Identity(), [images], out)
    assert predict_files(Identity(), [images], out)


def test_an_id_below_prob_does_not_meet_a_probability(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", gray(4, 4))
    save(tmp_path / "in/prob/a.png", gray(4, 4))
    with pytest.raises(CalcoError, match="DUP_ID"):
        predict_files(Identity(), [tmp_path / "in"], tmp_path / "out", ALL)


def test_nothing_is_created_when_inputs_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(CalcoError, match="INPUT_MISSING"):
        predict_files(Identity(), [tmp_path / "gone"], tmp_path / "out")
    assert not (tmp_path / "out").exists()

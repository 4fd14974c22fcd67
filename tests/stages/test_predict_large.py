"""Large images: by window, in bounded memory, with the mask that the whole image would get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.stages.identity import ALL, Gray, Identity, gray, read, save, statuses, tree

import calco.images.windowed as windowed
import calco.inference.big as big
from calco.errors import CalcoError
from calco.files import read_csv
from calco.formats.rle import decode
from calco.images.tiles import Tiling
from calco.inference.outputs import OutputError
from calco.inference.postprocess import clean, to_levels
from calco.inference.quality import estimate_dice
from calco.records import ImageSpec, Postprocess
from calco.stages.annotations import write_annotations
from calco.stages.predict import mask_files, predict_files
from calco.stages.submission import write_submission

SMALL = ImageSpec(channels=1, max_megapixels=0.02)  # larger masks are written as TIFF


class Large(Identity):
    """The identity for slides of up to 0.02 megapixels in one piece; stops when told to."""

    def __init__(self, params: Postprocess | None = None, stop_at: int = 10**9) -> None:
        super().__init__()
        self.spec = SMALL
        self.params = params or Postprocess()
        self.stop_at = stop_at

    def with_threads(self, threads: int) -> Large:
        return self

    def prob(self, image: Gray) -> NDArray[np.float32]:
        assert max(image.shape) <= 64  # a tile, never more
        if self.n_asked >= self.stop_at:
            raise KeyboardInterrupt
        return super().prob(image)


@pytest.fixture(autouse=True)
def _by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowed, "WINDOWED_PX", 64 * 64)
    monkeypatch.setattr(big, "STRIP_PX", 3000)


def noise(height: int, width: int) -> Gray:
    rough = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(rough, (5, 5), 1)) // 2 * 2


def slide(path: Path, values: Gray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, tile=(32, 32), compression="zlib")
    return path


@pytest.mark.parametrize("size", [(65, 64), (100, 99), (150, 201), (1, 4200), (4200, 1)])
def test_the_identity_gives_a_slide_back(tmp_path: Path, size: tuple[int, int]) -> None:
    true = gray(*size)
    slide(tmp_path / "in/a.tif", true)
    (done,) = predict_files(Large(), [tmp_path / "in"], tmp_path / "out", ALL)
    ending = "tif" if true.size > 20_000 else "png"
    assert done.status == "done", done.message
    assert mask_files([done], tmp_path / "out") == {"a": tmp_path / f"out/a.{ending}"}
    assert np.array_equal(read(tmp_path / f"out/a.{ending}"), true)
    assert np.array_equal(read(tmp_path / f"out/prob/a.{ending}"), true)
    assert done.foreground_fraction == (true > 0).mean()
    assert not (tmp_path / "out/.partial").exists()
    assert read(tmp_path / "out/overlay/a.jpg").shape[2] == 3


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([(66, 90), (131, 70)]),
    st.builds(
        Postprocess,
        st.just(0.5),
        st.sampled_from([0, 5, 60]),
        st.sampled_from([0, 5, 60]),
        min_peak=st.sampled_from([0.0, 0.6]),
    ),
    st.integers(60, 5000),
)
def test_masks_are_cleaned_as_whole_ones(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    params: Postprocess,
    strip_px: int,
) -> None:
    tmp_path, values = tmp_path_factory.mktemp("large"), noise(*size)
    slide(tmp_path / "a.tif", values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(big, "STRIP_PX", strip_px)
        (done,) = predict_files(Large(params), [tmp_path / "a.tif"], tmp_path / "out")
    mask = clean(values, params)
    assert np.array_equal(read(tmp_path / "out/a.png") > 0, mask)
    assert done.estimated_dice == pytest.approx(estimate_dice(values, mask))


class Blur(Large):
    """Looks 3 px around, beyond the border at zeros: the same computation wherever it lies."""

    def __init__(self, tiling: Tiling | None = None) -> None:
        super().__init__()
        self.chosen = tiling or Tiling(64, 16)

    @property
    def tiling(self) -> Tiling | None:
        return self.chosen

    def prob(self, image: Gray) -> NDArray[np.float32]:
        self.n_asked += 1
        seen = image[..., 0].astype(np.float32) / np.float32(255)
        return np.asarray(cv2.GaussianBlur(seen, (7, 7), 1.5, borderType=cv2.BORDER_CONSTANT))


@pytest.mark.parametrize("tiling", [Tiling(64, 16), Tiling(48, 20), Tiling(96, 32)])
def test_no_tile_leaves_a_seam(tmp_path: Path, tiling: Tiling) -> None:
    values = noise(150, 201)
    slide(tmp_path / "a.tif", values)
    predict_files(Blur(tiling), [tmp_path / "a.tif"], tmp_path / "out", ALL)
    whole = to_levels(Blur().prob(values[..., None]))
    assert np.array_equal(read(tmp_path / "out/prob/a.tif"), whole)


@pytest.mark.parametrize("stop_at", [0, 1, 4, 9, 11])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    slide(tmp_path / "in/a.tif", noise(150, 201))  # 3 rows of 4 tiles
    save(tmp_path / "in/b.png", gray(20, 30))
    params = Postprocess(0.5, 10, 5)
    predict_files(Large(params), [tmp_path / "in"], tmp_path / "whole", ALL)
    first = Large(params, stop_at=stop_at + 1)  # b is predicted before
    with pytest.raises(KeyboardInterrupt):
        predict_files(first, [tmp_path / "in"], tmp_path / "out", ALL)
    assert not (tmp_path / "out/manifest.csv").exists()
    assert not (tmp_path / "out/a.tif").exists()
    second = Large(params)
    done = predict_files(second, [tmp_path / "in"], tmp_path / "out", ALL)
    assert statuses(done) == ["done", "done"]
    ours, theirs = tree(tmp_path / "out"), tree(tmp_path / "whole")
    assert ours == theirs
    if stop_at >= 9:  # two rows of tiles were whole; the second reaches into the third
        assert second.n_asked == 8


def test_rows_of_another_model_or_another_file_are_not_continued(tmp_path: Path) -> None:
    source = slide(tmp_path / "in/a.tif", noise(150, 201))
    with pytest.raises(KeyboardInterrupt):
        predict_files(Large(stop_at=9), [source], tmp_path / "out", ALL)
    slide(source, gray(150, 201))
    predictor = Large()
    predict_files(predictor, [source], tmp_path / "out", ALL)
    assert predictor.n_asked == 12
    assert np.array_equal(read(tmp_path / "out/a.tif"), gray(150, 201))
    with pytest.raises(KeyboardInterrupt):
        predict_files(Large(stop_at=9), [source], tmp_path / "other", ALL)
    predictor = Large()
    options = replace(ALL, model="m2", overwrite=True)
    predict_files(predictor, [source], tmp_path / "other", options)
    assert predictor.n_asked == 12


def test_done_slides_are_kept(tmp_path: Path) -> None:
    slide(tmp_path / "in/a.tif", noise(150, 201))
    predict_files(Large(), [tmp_path / "in"], tmp_path / "out", ALL)
    again = Large()
    (done,) = predict_files(again, [tmp_path / "in"], tmp_path / "out", ALL)
    assert again.n_asked == 0
    assert done.ending == ".tif"


def test_a_damaged_tile_fails_its_slide_alone(tmp_path: Path) -> None:
    slide(tmp_path / "in/a.tif", noise(150, 201))
    source = slide(tmp_path / "in/b.tif", noise(150, 201))
    save(tmp_path / "in/c.png", gray(20, 30))
    with tifffile.TiffFile(source) as tiff:
        start = tiff.pages[0].dataoffsets[20]
    data = bytearray(source.read_bytes())
    data[start : start + 40] = b"\x00" * 40
    source.write_bytes(data)
    done = predict_files(Large(), [tmp_path / "in"], tmp_path / "out", ALL)
    assert statuses(done) == ["done", "failed", "done"]
    assert "b.tif, window at row " in done[1].message
    rows = read_csv(tmp_path / "out/manifest.csv")
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["message"] == done[1].message
    assert not list((tmp_path / "out").rglob("b.*"))
    assert not (tmp_path / "out/.partial").exists()


def test_small_formats_keep_their_limit(tmp_path: Path) -> None:
    save(tmp_path / "a.png", gray(150, 201))
    (done,) = predict_files(Large(), [tmp_path / "a.png"], tmp_path / "out")
    assert "IMG_SIZE" in done.message


def test_levels_are_chosen(tmp_path: Path) -> None:
    levels = [gray(150, 200), gray(75, 100, seed=1)]
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in/a.tif") as tiff:
        tiff.write(levels[0], subifds=1, tile=(32, 32))
        tiff.write(levels[1], subfiletype=1, tile=(32, 32))
    save(tmp_path / "in/b.png", gray(20, 30))
    done = predict_files(Large(), [tmp_path / "in"], tmp_path / "out", replace(ALL, level=1))
    assert statuses(done) == ["done", "failed"]
    assert "no pyramid" in done[1].message
    assert np.array_equal(read(tmp_path / "out/a.png"), levels[1])


def test_zarr_in_zarr_out(tmp_path: Path) -> None:
    true = gray(150, 201)
    (tmp_path / "in/sub").mkdir(parents=True)
    array = zarr.create_array(
        str(tmp_path / "in/sub/a.zarr"), shape=true.shape, chunks=(32, 32), dtype="u1"
    )
    array[:] = true
    for _ in range(2):  # the second time it is kept
        (done,) = predict_files(Large(), [tmp_path / "in"], tmp_path / "out", ALL)
        assert done.message == ""
        assert done.id == "sub/a"
        for place in ("out/sub/a.zarr", "out/prob/sub/a.zarr"):
            found = zarr.open_array(str(tmp_path / place), mode="r")
            assert np.array_equal(np.asarray(found[:]), true)
    assert np.array_equal(read(tmp_path / "out/overlay/sub/a.jpg").shape[:2], (764, 1024))


def test_a_model_that_sees_whole_images_says_so(tmp_path: Path) -> None:
    class Whole(Large):
        @property
        def tiling(self) -> Tiling | None:
            return None

    slide(tmp_path / "a.tif", gray(150, 201))
    (done,) = predict_files(Whole(), [tmp_path / "a.tif"], tmp_path / "out")
    assert "shrunk to one size" in done.message


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = slide(tmp_path / "a.tif", gray(150, 201))
    before = source.read_bytes()
    options = replace(ALL, overwrite=True)
    (done,) = predict_files(Large(), [source], tmp_path, options)
    assert "OUT_IS_INPUT" in done.message
    assert source.read_bytes() == before


def test_a_full_disk_stops_all_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = slide(tmp_path / "a.tif", noise(150, 201))
    note = big.Scratch.note

    def refused(self: big.Scratch, rows: int) -> None:
        if rows > 100:
            raise OSError(28, "No space left on device")
        note(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(big.Scratch, "note", refused)
        with pytest.raises(OutputError, match="No space left"):
            predict_files(Large(), [source], tmp_path / "out", ALL)
    predictor = Large()
    (done,) = predict_files(predictor, [source], tmp_path / "out", ALL)
    assert done.status == "done"
    assert predictor.n_asked == 8


def test_tiles_are_told(tmp_path: Path) -> None:
    slide(tmp_path / "in/a.tif", gray(150, 201))
    save(tmp_path / "in/b.png", gray(20, 30))
    told: list[tuple[float, int, str]] = []
    predict_files(
        Large(), [tmp_path / "in"], tmp_path / "out", on_tile=lambda *what: told.append(what)
    )
    assert len(told) == 12
    assert told[5] == (1.5, 2, "a: 6 of 12 tiles")
    assert told[-1][0] < 2


def test_masks_of_slides_reach_submissions_and_annotations(tmp_path: Path) -> None:
    values = noise(150, 201)
    slide(tmp_path / "in/a.tif", values)
    array = zarr.create_array(str(tmp_path / "in/b.zarr"), shape=(201, 150), dtype="u1")
    array[:] = values.T
    save(tmp_path / "in/c.png", values[:40, :50])
    out = tmp_path / "out"
    masks = mask_files(predict_files(Large(), [tmp_path / "in"], out), out)
    assert sorted(path.suffix for path in masks.values()) == [".png", ".tif", ".zarr"]
    true = {"a": values > 127, "b": values.T > 127, "c": values[:40, :50] > 127}
    report = write_submission(masks, out / "rows.csv", max_megapixels=SMALL.max_megapixels)
    assert report.n_images == 3
    for row in read_csv(out / "rows.csv"):
        mask = true[row[report.dialect.columns[0]]]
        assert np.array_equal(
            decode(row[report.dialect.columns[1]], mask.shape, report.dialect), mask
        )
    pairs = {name: (path, tmp_path / f"{name}.png") for name, path in masks.items()}
    (coco,) = write_annotations(pairs, out, ["coco"], max_megapixels=SMALL.max_megapixels)
    found = json.loads(coco.read_text())
    sizes = {
        Path(image["file_name"]).stem: (image["height"], image["width"])
        for image in found["images"]
    }
    assert sizes == {name: mask.shape for name, mask in true.items()}
    assert sum(one["area"] for one in found["annotations"]) == sum(
        int(m.sum()) for m in true.values()
    )


def test_a_slide_that_is_no_mask_makes_no_submission(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif", noise(150, 201))
    with pytest.raises(CalcoError, match="not a predicted mask"):
        write_submission({"a": tmp_path / "a.tif"}, tmp_path / "rows.csv", max_megapixels=0.02)
    assert not (tmp_path / "rows.csv").exists()
